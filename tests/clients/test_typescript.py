"""The TypeScript client: in Node against real servers, through a proxy that does harm; made from what is there now."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests import ROOT
from tests.clients.python.conftest import AGENTS, FRONTS
from tests.clients.python.proxy import Proxy, cut_at_once, cut_behind, lose_the_answer, repeat, running_proxy
from tests.process import BASE, KEY, NO_LIMITS, ServerProcess, running_server
from vigil.server.api.routes import ROUTES
from vigil.server.docs import openapi

CLIENT = ROOT / "clients" / "typescript"
TOOLS = CLIENT / "node_modules" / ".bin"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium")
README = CLIENT / "README.md"


def node_version() -> tuple[int, int]:
    if NODE is None:
        return (0, 0)
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = told.strip().removeprefix("v").split(".")[:2]
    return int(major), int(minor)


in_node = pytest.mark.skipif(
    node_version() < (20, 10),
    reason="needs Node 20.10 or newer: apt install nodejs, or see https://nodejs.org",
)
with_tools = pytest.mark.skipif(
    NODE is None or not (TOOLS / "tsc").exists(), reason="needs `npm ci` in clients/typescript"
)


@pytest.fixture(scope="module", params=FRONTS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    yield from serve(tmp_path_factory.mktemp("server"), *FRONTS[request.param])


@pytest.fixture(scope="module")
def fast_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Five minutes of a session take a second."""
    yield from serve(tmp_path_factory.mktemp("fast"), "--time-scale=300")


def serve(directory: Path, *flags: str) -> Iterator[ServerProcess]:
    (directory / "agents.yaml").write_text(AGENTS)
    agents = f"--agents={directory / 'agents.yaml'}"
    with running_server(directory / "data", "--log-level=error", agents, *NO_LIMITS, *flags) as server:
        yield server


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    with running_proxy(server.url) as proxy:
        yield proxy


PREAMBLE = """
import assert from "node:assert/strict";
import { ApiError, NoAnswer, SessionGone, Vigil } from %(client)s;
const [url, apiKey, direct] = process.argv.slice(-3);
const vigil = new Vigil(url, { apiKey });
const begin = (agentId, more = {}) => vigil.create({ agentId, userId: "user-1", ...more });
const all = async (parts) => { const found = []; for await (const part of parts) found.push(part); return found; };
"""


def run(code: str, url: str, direct: str = "") -> str:
    """What the program prints. It fails when it throws, or does not end by itself."""
    client = json.dumps((CLIENT / "dist" / "vigil.js").as_uri())
    program = PREAMBLE % {"client": client} + code
    command = [
        NODE or "node",
        "--no-warnings",
        "--experimental-websocket",
        "--input-type=module",
        "-",
        url,
        KEY,
        direct,
    ]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@in_node
def test_a_message_is_sent_and_answered(server: ServerProcess) -> None:
    run(
        """
        const session = await begin("agent-123", { timeoutConfig: { timeoutMinutes: 10 } });
        const sent = await session.send("Hello", { wait: true, metadata: { mood: "glad" } });
        assert.equal(sent.agentResponse.content, "Hello");
        assert.deepEqual(sent.metadata, { mood: "glad" });
        assert.deepEqual((await all(session.messages({ oldestFirst: true }))).map((one) => one.isAgent), [false, true]);
        const own = new Vigil(url).session(session.id, session.token);
        assert.equal((await own.renew()).renewalCount, 2);
        assert.equal((await own.retime({ autoRenew: false })).timeoutConfig.timeoutMinutes, 10);
        assert.equal((await own.heartbeat()).renewalCount, 2);
        assert((await all(vigil.sessions({ userId: "user-1" }))).some((one) => one.sessionId === session.id));
        assert.notEqual((await vigil.health()).status, "unhealthy");
        await own.end();
        await assert.rejects(own.get(), SessionGone);
        """,
        server.url,
    )


@in_node
def test_every_error_says_what_where_and_which_request(server: ServerProcess) -> None:
    run(
        """
        const error = await begin("nobody").catch((error) => error);
        assert(error instanceof ApiError && error.requestId);
        assert.deepEqual([error.code, error.status, error.details], ["AGENT_NOT_FOUND", 404, { agentId: "nobody" }]);
        await assert.rejects(new Vigil("http://127.0.0.1:1", { retries: 0 }).health(), NoAnswer);
        """,
        server.url,
    )


@in_node
def test_a_stream_is_pieces_and_then_the_message(server: ServerProcess) -> None:
    run(
        """
        const session = await begin("talker");
        const parts = await all(session.stream("Count!"));
        const message = parts.pop().message;
        assert.equal(parts.map((part) => part.text).join(""), message.content);
        assert.equal(message.content, "One two three four five six.");
        const said = "one\\u2028two\\n\\nthree";
        assert.equal((await (await begin("agent-123")).stream(said).message()).content, said);
        await assert.rejects((await begin("broken")).stream("Hello?").message(), { code: "AGENT_FAILED" });
        """,
        server.url,
    )


@in_node
def test_what_is_aborted_throws_the_reason_and_stops(server: ServerProcess) -> None:
    run(
        """
        const session = await begin("sleeper");
        const reason = new Error("enough");
        const { signal } = { signal: AbortSignal.abort(reason) };
        await assert.rejects(session.get({ signal }), reason);
        const late = new AbortController();
        const waiting = session.send("Wake up!", { wait: true, signal: late.signal });
        const events = session.events({ signal: late.signal });
        await events.opened;
        late.abort(reason);
        await assert.rejects(waiting, reason);
        await assert.rejects(all(events), reason);
        """,
        server.url,
    )


@in_node
def test_what_is_cut_and_repeated_is_done_once(proxy: Proxy) -> None:
    proxy.faults += [lose_the_answer, repeat, cut_at_once, lose_the_answer, repeat]
    run(
        """
        const session = await begin("silent");
        const sent = await session.send("Once.");
        assert.deepEqual((await all(session.messages())).map((one) => one.id), [sent.id]);
        """,
        proxy.url,
    )


@in_node
def test_a_stream_that_breaks_goes_on_where_it_was(proxy: Proxy) -> None:
    proxy.faults += [cut_behind(b'"sessionToken"'), cut_behind(b"event: chunk\n"), cut_at_once]
    run(
        """
        const session = await begin("talker");
        assert.equal((await all(session.stream("Count!").text())).join(""), "One two three four five six.");
        assert.equal((await all(session.messages())).length, 2);
        """,
        proxy.url,
    )


@in_node
def test_events_go_on_after_a_cut_until_the_session_ends(proxy: Proxy, server: ServerProcess) -> None:
    proxy.faults += [cut_behind(b'"one"'), cut_at_once]
    told = run(
        """
        const other = new Vigil(direct, { apiKey });
        const mine = await other.create({ agentId: "silent", userId: "user-1", timeoutConfig: { autoRenew: false } });
        const events = vigil.session(mine.id).events();
        await events.opened;
        for (const content of ["one", "two", "three"]) await mine.send(content);
        for await (const event of events) {
          console.log(event.id, event.type, event.data.content ?? "");
          if (event.data.content === "three") await mine.end();
        }
        """,
        proxy.url,
        server.url,
    )
    heard = [line.split() for line in told.splitlines()]
    assert [words[2] for words in heard[:3]] == ["one", "two", "three"]
    assert [words[0] for words in heard[:3]] == ["2", "3", "4"]
    assert heard[3][1:] == ["sessionEnded"]


@in_node
def test_events_that_cannot_be_had_say_why(server: ServerProcess) -> None:
    run(
        """
        await assert.rejects(all(vigil.session(crypto.randomUUID()).events()), SessionGone);
        """,
        server.url,
    )


@in_node
def test_heartbeats_warn_once_and_say_when_it_is_lost(fast_server: ServerProcess) -> None:
    run(
        """
        const session = await begin("silent", { timeoutConfig: { timeoutMinutes: 5, warningThresholdMinutes: 10 } });
        let warnings = 0;
        const lost = await new Promise((resolve) => {
          const alive = session.keepAlive({ onWarning: () => { warnings += 1; }, onLost: resolve });
          (async () => {
            let renewed = 0;
            for await (const event of session.events()) {
              renewed += event.type === "sessionRenewed";
              if (renewed === 5) break;
            }
            await session.end();
          })();
        });
        assert(lost instanceof SessionGone);
        assert.equal(warnings, 1);
        """,
        fast_server.url,
    )


@in_node
def test_a_session_is_begun_anew_when_that_is_asked_for(server: ServerProcess) -> None:
    run(
        """
        const session = await begin("agent-123", { recreate: true });
        const first = session.id;
        await session.end();
        assert.equal((await session.stream("Still there?").message()).content, "Still there?");
        assert.notEqual(session.id, first);
        const other = await begin("silent");
        await other.end();
        await assert.rejects(other.send("Still there?"), SessionGone);
        """,
        server.url,
    )


PAGE = """<!doctype html><meta charset="utf-8"><script type="module">
import { Vigil, SessionGone } from "./vigil.js";
const [url, id, token] = location.hash.slice(1).split("|");
let told;
try {
  const session = new Vigil(url).session(id, token);
  const events = session.events();
  await events.opened;
  const answer = await session.stream("Hello!").message();
  const heard = [];
  for await (const event of events) {
    heard.push(event.type);
    if (event.type === "messageBroadcast" && event.data.isAgent) await session.end();
  }
  const refused = await session.events().next().catch((error) => error);
  told = { content: answer.content, last: heard.at(-1), isGone: refused instanceof SessionGone };
} catch (error) {
  told = { error: String(error.stack) };
}
await fetch("/told", { method: "POST", body: JSON.stringify(told) });
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")
def test_it_works_in_a_browser_from_another_origin(tmp_path: Path) -> None:
    with serving_page() as page, running_server(tmp_path / "data", f"--allow-origin={page.url}") as server:
        with server.client() as http:
            created = http.post(BASE, json={"agentId": "agent-123", "userId": "user-1"}).json()
        address = f"{page.url}/#{server.url}|{created['sessionId']}|{created['sessionToken']}"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", profile, address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
            try:
                told = page.told.get(timeout=100)
            finally:
                browser.terminate()
    assert told == {"content": "Hello!", "last": "sessionEnded", "isGone": True}


class Page(ThreadingHTTPServer):
    """A page and the client beside it, on an origin that is not the server's; what the page tells is in `told`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.told: Queue[dict[str, Any]] = Queue()


class _Handler(BaseHTTPRequestHandler):
    server: Page

    def do_GET(self) -> None:
        is_script = self.path == "/vigil.js"
        body = (CLIENT / "dist" / "vigil.js").read_bytes() if is_script else PAGE.encode()
        self._answer(body, "text/javascript" if is_script else "text/html")

    def do_POST(self) -> None:
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"", "text/plain")

    def _answer(self, body: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving_page() -> Iterator[Page]:
    with Page() as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        yield page
        page.shutdown()


@in_node
def test_the_readmes_example_runs(server: ServerProcess) -> None:
    (example,) = re.findall(r"```js\n(.*?)```", README.read_text(), re.DOTALL)
    body = re.sub(r"^import .*\n|^const vigil = .*\n", "", example, flags=re.MULTILINE)
    assert "Hello!" in run(body, server.url)


def tool(*command: str, at: Path = CLIENT) -> None:
    done = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]], cwd=at, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower()


@with_tools
def test_it_is_strictly_typed() -> None:
    tool("tsc", "--noEmit")


@with_tools
def test_its_types_are_those_of_the_document_as_it_is_now(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(openapi.document(ROUTES)))
    tool("openapi-typescript", str(tmp_path / "openapi.json"), "--output", str(tmp_path / "api.ts"))
    assert (tmp_path / "api.ts").read_text() == (CLIENT / "src" / "api.ts").read_text(), REBUILD


@with_tools
def test_its_single_file_is_built_from_the_source_as_it_is_now(tmp_path: Path) -> None:
    built = tmp_path / "vigil.js"
    tool(
        "esbuild",
        "src/index.ts",
        "--bundle",
        "--format=esm",
        "--target=es2022",
        f"--outfile={built}",
        "--log-level=error",
    )
    assert built.read_text() == (CLIENT / "dist" / "vigil.js").read_text(), REBUILD
    assert len(built.read_bytes()) < 40_000


REBUILD = "not up to date: run clients/typescript/build"
