"""The chats of the documentation, run as they stand against a server."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process import BASE, KEY, ServerProcess, running_server

DOCS = Path(__file__).parent.parent.parent / "docs"
NODE_MIN = (20, 10)  # from here on node has the browser's WebSocket, at first behind a flag

# What the page needs of a browser beside fetch and WebSocket. Each line of standard input is typed into the form;
# each line shown is a line of standard output.
BROWSER = """
import { createInterface } from "node:readline";
const form = { elements: { content: { value: "" } }, reset() {} };
const log = { append: ({ textContent }) => console.log(textContent), replaceChildren: () => console.log("---") };
globalThis.document = { getElementById: (id) => ({ form, log })[id], createElement: () => ({}) };
createInterface({ input: process.stdin }).on("line", function type(line) {
  if (!form.onsubmit) return setTimeout(type, 20, line);
  form.elements.content.value = line;
  form.onsubmit({ preventDefault() {} });
});
"""


def test_the_chat_in_python_says_what_the_agent_says(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--log-level=error") as server:
        chat = subprocess.run(
            [sys.executable, "-W", "error", DOCS / "chat.py"],
            input="hello\nhow are you?\n\n",
            env={**os.environ, "VIGIL_URL": server.url, "VIGIL_API_KEY": KEY},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (chat.stderr, chat.returncode) == ("", 0)
    assert chat.stdout == "you: hello\nyou: how are you?\nyou: "


def run_chat(url: str, key: str | None, typed: str) -> "subprocess.CompletedProcess[str]":
    environ = {name: value for name, value in os.environ.items() if name != "VIGIL_API_KEY"}
    return subprocess.run(
        [sys.executable, "-W", "error", DOCS / "chat.py"],
        input=typed,
        env={**environ, "VIGIL_URL": url, **({"VIGIL_API_KEY": key} if key else {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_chat_in_python_ends_at_the_end_of_its_input_and_says_what_is_wrong_in_one_line(
    tmp_path: Path,
) -> None:
    with running_server(tmp_path / "data", "--log-level=error") as server:
        ended = run_chat(server.url, KEY, "hello\n")
        wrong = run_chat(server.url, "0123456789-not-a-key", "")
        without = run_chat(server.url, None, "")
        illegal = run_chat(server.url, "schlüssel", "")
        server.stop(signal.SIGTERM)
        nobody = run_chat(server.url, KEY, "")
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "you: hello\nyou: \n")
    assert wrong.stderr.startswith("401: These credentials are not valid")
    assert "VIGIL_API_KEY" in without.stderr
    assert server.url in nobody.stderr
    for chat in (wrong, without, nobody, illegal):
        assert (chat.returncode, chat.stderr.count("\n")) == (1, 1), chat.stderr


def page_script(url: str) -> str:
    """The page's script, for this server."""
    match = re.search(r'<script type="module">\n(.*)</script>', (DOCS / "chat.html").read_text(), re.DOTALL)
    assert match is not None
    script = match[1].replace("http://localhost:3000", url).replace("YOUR_API_KEY", KEY)
    assert script.count(url) == script.count(KEY) == 1
    return script


def node_command() -> list[str]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("the chat in the browser is run by node, which is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = (int(part) for part in version.removeprefix("v").split(".")[:2])
    if (major, minor) < NODE_MIN:
        pytest.skip(f"node {version.strip()} has no WebSocket: the chat in the browser needs 20.10 or newer")
    return [node, *(["--experimental-websocket"] if major < 22 else [])]


@contextmanager
def running_page(tmp_path: Path, url: str) -> Iterator["subprocess.Popen[str]"]:
    browser, script = tmp_path / "browser.mjs", tmp_path / "page.mjs"
    browser.write_text(BROWSER)
    script.write_text(page_script(url))
    command = [*node_command(), "--import", browser.as_uri(), str(script)]
    with (tmp_path / "page.log").open("w") as log:
        page = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield page
    finally:
        page.kill()
        page.communicate()


def type_in(page: "subprocess.Popen[str]", text: str) -> None:
    assert page.stdin is not None
    page.stdin.write(f"{text}\n")
    page.stdin.flush()


def shown(page: "subprocess.Popen[str]", count: int) -> list[str]:
    """The next lines of the page."""
    assert page.stdout is not None
    return [page.stdout.readline().rstrip("\n") for _ in range(count)]


@pytest.mark.timeout(300)
def test_the_chat_in_the_browser_goes_on_after_restarts_and_misses_nothing(tmp_path: Path) -> None:
    """What was said while it was away it gets as events or, when these are lost, it reads it anew."""
    flags = ["--log-level=error"]
    with running_server(tmp_path / "data", *flags) as server, running_page(tmp_path, server.url) as page:
        type_in(page, "one")
        assert shown(page, 2) == ["user-456: one", "agent-123: one"]
        flags.append(f"--port={server.url.rpartition(':')[2]}")
        page.send_signal(signal.SIGSTOP)
        server.stop(signal.SIGKILL)
        with running_server(tmp_path / "data", *flags) as again:
            say(again, "two")
            page.send_signal(signal.SIGCONT)
            assert shown(page, 2) == ["user-456: two", "agent-123: two"]
            page.send_signal(signal.SIGSTOP)
            again.stop(signal.SIGKILL)
        with running_server(tmp_path / "data", *flags) as again:
            say(again, "three")
            again.stop(signal.SIGKILL)
        with running_server(tmp_path / "data", *flags) as again:
            page.send_signal(signal.SIGCONT)
            everything = [
                f"{who}: {word}" for word in ("one", "two", "three") for who in ("user-456", "agent-123")
            ]
            assert shown(page, 7) == ["---", *everything]
            type_in(page, "four")
            assert shown(page, 2) == ["user-456: four", "agent-123: four"]
            end(again)
            assert shown(page, 1) == ["The session is over"]
    assert "Error" not in (tmp_path / "page.log").read_text()


def say(server: ServerProcess, content: str) -> None:
    """To the only session, as another page would."""
    with server.client() as http:
        path = f"{BASE}/{http.get(BASE).json()['sessions'][0]['sessionId']}/messages"
        assert http.post(path, json={"content": content, "transport": "http"}).status_code == 201


def end(server: ServerProcess) -> None:
    with server.client() as http:
        http.delete(f"{BASE}/{http.get(BASE).json()['sessions'][0]['sessionId']}")
