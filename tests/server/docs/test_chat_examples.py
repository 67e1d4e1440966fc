"""The chats of the documentation, run as they stand against a server."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests import ROOT
from tests.process import BASE, KEY, ServerProcess, running_server

DOCS = ROOT / "docs"
NODE_MIN = (20, 10)  # from here on node has the browser's WebSocket, at first behind a flag

# What the page needs of a browser beside fetch and WebSocket. Each line of standard input is typed into the form;
# each message, note and warning that is shown is a line of standard output. An answer that is still being made is
# a line with ~ for each of its pieces.
BROWSER = r"""
import { createInterface } from "node:readline";
class Element {
  constructor(tag) { Object.assign(this, { tag, className: "", children: [], hidden: false, scrollHeight: 0 }); }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(""); }
  set textContent(text) { this.children = [text]; }
  get lastChild() { return this.children.at(-1); }
  set innerHTML(_) { throw new Error("Error: text became markup"); }
  append(...nodes) { for (const node of nodes) { if (node.tag) node.parent = this; this.children.push(node); } }
  replaceChildren(...nodes) {
    this.children = [];
    this.append(...nodes);
    if (this.parent?.className.includes("streaming")) console.log(`~${this.textContent}`);
  }
  remove() { this.parent.children = this.parent.children.filter((child) => child !== this); }
}
const shown = (node) => node.tag === "article"
  ? node.children.map((child) => child.textContent).join(": ") : node.textContent;
const box = { value: "" };
const elements = { log: new Element("main"), form: { elements: { content: box }, reset() { box.value = ""; } } };
const { append, replaceChildren } = Element.prototype;
elements.log.append = function (...nodes) {
  append.call(this, ...nodes);
  for (const node of nodes) if (!node.className.includes("streaming")) console.log(shown(node));
};
elements.log.replaceChildren = function () { replaceChildren.call(this); console.log("---"); };
elements.notice = new Element("div");
let isHidden = true;
Object.defineProperty(elements.notice, "hidden", {
  get: () => isHidden,
  set: (value) => {
    if (value !== isHidden) console.log(value ? "no warning" : `warning: ${elements.left.textContent}`);
    isHidden = value;
  },
});
globalThis.document = {
  getElementById: (id) => (elements[id] ??= new Element(id)),
  createElement: (tag) => new Element(tag),
};
createInterface({ input: process.stdin }).on("line", function type(line) {
  if (!elements.form.onsubmit) return setTimeout(type, 20, line);
  if (line === "/stay") return elements.stay.onclick();
  if (line === "/stop") return elements.stop.onclick();
  if (line === "/nodes") {
    const tree = (node) => (node.tag ? [node.tag, node.href ?? "", ...node.children.map(tree)] : node);
    return console.log(JSON.stringify(tree(elements.log.children.at(-1).lastChild)));
  }
  box.value = line.replaceAll("\\n", "\n");
  elements.form.onsubmit({ preventDefault() {} });
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
    lines = [page.stdout.readline() for _ in range(count)]
    assert all(lines), "the page is over: see page.log"
    return [line.rstrip("\n") for line in lines]


def said(page: "subprocess.Popen[str]", count: int) -> list[str]:
    """The next lines that stay: without those of an answer that is still being made."""
    found: list[str] = []
    while len(found) < count:
        found += [line for line in shown(page, 1) if not line.startswith("~")]
    return found


@pytest.mark.timeout(300)
def test_the_chat_in_the_browser_goes_on_after_restarts_and_misses_nothing(tmp_path: Path) -> None:
    """What was said while it was away it gets as events or, when these are lost, it reads it anew."""
    flags = ["--log-level=error"]
    with running_server(tmp_path / "data", *flags) as server, running_page(tmp_path, server.url) as page:
        type_in(page, "one")
        assert said(page, 2) == ["You: one", "agent-123: one"]
        flags.append(f"--port={server.url.rpartition(':')[2]}")
        page.send_signal(signal.SIGSTOP)
        server.stop(signal.SIGKILL)
        with running_server(tmp_path / "data", *flags) as again:
            say(again, "two")
            page.send_signal(signal.SIGCONT)
            assert said(page, 2) == ["You: two", "agent-123: two"]
            page.send_signal(signal.SIGSTOP)
            again.stop(signal.SIGKILL)
        with running_server(tmp_path / "data", *flags) as again:
            say(again, "three")
            again.stop(signal.SIGKILL)
        with running_server(tmp_path / "data", *flags) as again:
            page.send_signal(signal.SIGCONT)
            everything = [
                f"{who}: {word}" for word in ("one", "two", "three") for who in ("You", "agent-123")
            ]
            assert said(page, 7) == ["---", *everything]
            type_in(page, "four")
            assert said(page, 2) == ["You: four", "agent-123: four"]
            end(again)
            assert said(page, 1) == ["The session is over."]
    assert "Error" not in (tmp_path / "page.log").read_text()


def say(server: ServerProcess, content: str) -> None:
    """To the only session, as another page would."""
    with server.client() as http:
        path = f"{BASE}/{http.get(BASE).json()['sessions'][0]['sessionId']}/messages"
        assert http.post(path, json={"content": content, "transport": "http"}).status_code == 201


def end(server: ServerProcess) -> None:
    with server.client() as http:
        http.delete(f"{BASE}/{http.get(BASE).json()['sessions'][0]['sessionId']}")


def test_the_chat_in_the_browser_shows_an_answer_while_it_is_made(tmp_path: Path) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text("agents: [{id: agent-123, kind: scripted, rules: [{reply: one two three}]}]")
    flags = ("--log-level=error", f"--agents={agents}")
    with running_server(tmp_path / "data", *flags) as server, running_page(tmp_path, server.url) as page:
        type_in(page, "hello")
        assert shown(page, 1) == ["You: hello"]
        lines = shown(page, 1)
        while lines[-1].startswith("~"):
            lines += shown(page, 1)
    *pieces, whole = lines
    assert whole == "agent-123: one two three"
    assert len(pieces) > 1
    assert pieces[-1] == "~one two three"
    assert all(later.startswith(earlier) for earlier, later in pairwise(pieces))


def test_the_chat_in_the_browser_stops_an_answer_and_keeps_what_was_said(tmp_path: Path) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text(
        "agents: [{id: agent-123, kind: scripted, piece_delay_ms: {min: 300, max: 300}, "
        f"rules: [{{reply: {'word ' * 600}}}]}}]"
    )
    flags = ("--log-level=error", f"--agents={agents}")
    with running_server(tmp_path / "data", *flags) as server, running_page(tmp_path, server.url) as page:
        type_in(page, "hello")
        assert shown(page, 2) == ["You: hello", "~word "]
        type_in(page, "/stop")
        answer, note = said(page, 2)
    assert re.fullmatch(r"agent-123: (word )+", answer)
    assert note == "You stopped this answer."


def test_the_chat_in_the_browser_warns_before_the_end_and_can_stay(tmp_path: Path) -> None:
    flags = ("--log-level=error", "--time-scale=60", "--session-warning-threshold-minutes=29")
    with running_server(tmp_path / "data", *flags) as server, running_page(tmp_path, server.url) as page:
        assert shown(page, 1) == ["warning: This conversation ends in 29 minutes."]
        type_in(page, "/stay")
        assert shown(page, 1) == ["no warning"]


def test_what_is_written_is_text_and_a_few_marks_and_never_markup(tmp_path: Path) -> None:
    """As nodes: [tag, address, what is inside]."""
    written = r"a <b>&amp; `x<y` **bold** http://a.example/?q=1. javascript:alert\n```py\nprint(1)\n```"
    with (
        running_server(tmp_path / "data", "--log-level=error") as server,
        running_page(tmp_path, server.url) as page,
    ):
        type_in(page, written)
        while not shown(page, 1)[0].startswith("agent-123: "):
            pass
        type_in(page, "/nodes")
        lines = shown(page, 1)
        while not lines[-1].startswith("["):
            lines += shown(page, 1)
    assert json.loads(lines[-1]) == [
        "div",
        "",
        "a <b>&amp; ",
        ["code", "", "x<y"],
        " ",
        ["strong", "", "bold"],
        " ",
        ["a", "http://a.example/?q=1", "http://a.example/?q=1"],
        ". javascript:alert\n",
        ["pre", "", ["code", "", "print(1)"]],
    ]
    assert "Error" not in (tmp_path / "page.log").read_text()


def test_the_page_is_one_file_and_never_reads_text_as_markup() -> None:
    html = (DOCS / "chat.html").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", html
    )
    assert not re.search(r"<script[^>]+src|<link[^>]+href=\"(?!data:)|@import|url\(", html)
    assert "(prefers-color-scheme: dark)" in html
    assert 'name="viewport"' in html
