"""A whole site in virtual time, behind any of the ways in. What contract tests and scenarios of failure stand on."""

import json
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import unquote
from uuid import UUID

import h11
import httpx
import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import Store
from vigil.actors.stores.memory import MemoryStore
from vigil.server.api.auth import SCOPES, Principal
from vigil.server.api.call import Site
from vigil.server.front.direct import Direct
from vigil.server.front.fast_path import FastPath
from vigil.server.front.quart_app import make_app
from vigil.server.http.connection import Server
from vigil.server.ops import site as sites

BASE = "/api/messaging/sessions"
START_MS = 1_795_338_000_000  # 2026-11-22T09:00:00.000Z
OWNER = "owner-key-0123456789"
AGENTS = {
    "agent-123": AgentEntry("agent-123", "Echo", EchoAgent()),
    "silent": AgentEntry("silent", "Silent", None),
}


def only(scope: str) -> str:
    """The API key that has this scope alone."""
    return scope.replace("sessions:", "only-")


KEYS = {
    OWNER: Principal("owner", "owner", frozenset(SCOPES)),
    "other-key-0123456789": Principal("other", "other", frozenset(SCOPES)),
    **{only(scope): Principal(scope, scope, frozenset({scope})) for scope in SCOPES},
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The error's code; "" for a success."""
        return str(self.json.get("code", ""))


class WayIn(Protocol):
    """How requests reach a site."""

    async def __call__(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes
    ) -> Answer: ...


def quart_way(site: Site) -> WayIn:
    """Through Quart-Trio as an ASGI application, without a socket."""
    app = make_app(site)

    async def send(method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes) -> Answer:
        path, _, query = target.partition("?")
        sent = [("Host", "localhost"), *headers]
        if content and ("Transfer-Encoding", "chunked") not in sent:
            sent.append(("Content-Length", str(len(content))))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent],
            "client": ("127.0.0.1", 40_000),
            "server": ("127.0.0.1", 3000),
            "extensions": {},
        }
        return await _over_asgi(app, scope, content)

    return send


async def _over_asgi(app: Any, scope: dict[str, Any], content: bytes) -> Answer:
    to_come = [{"type": "http.request", "body": content, "more_body": False}]
    came: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not to_come:
            await trio.sleep_forever()
        return to_come.pop()

    async def send(event: dict[str, Any]) -> None:
        came.append(event)

    await app(scope, receive, send)
    head, *rest = came
    body = b"".join(event.get("body", b"") for event in rest)
    return Answer(head["status"], httpx.Headers(head["headers"]), body)


def direct_way(site: Site) -> WayIn:
    """As values, without bytes: what scenarios and simulations use."""
    direct = Direct(site)

    async def send(method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes) -> Answer:
        answer = await direct.request(method, target, [("Host", "localhost"), *headers], content)
        return Answer(answer.status, httpx.Headers(list(answer.headers)), answer.body)

    return send


def hot_way(site: Site) -> WayIn:
    """Through the hot path and, for what it hands on, Hypercorn and Quart: real bytes over a pair of sockets."""
    server = Server(make_app(site), first=FastPath(site))

    async def send(method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes) -> Answer:
        ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
        async with trio.open_nursery() as nursery, ours:
            nursery.start_soon(server.serve_connection, theirs)
            await ours.send_all(_as_bytes(method, target, headers, content))
            return await _answer(ours, method)

    return send


def _as_bytes(method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes) -> bytes:
    sent = [("Host", "localhost"), *headers]
    if ("Transfer-Encoding", "chunked") in sent:
        content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
    elif content and "Content-Length" not in dict(sent):
        sent.append(("Content-Length", str(len(content))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent)
    return f"{method} {target.replace(' ', '%20')} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + content


async def _answer(stream: trio.SocketStream, method: str) -> Answer:
    """One answer, and no more bytes than its own."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    reader.send(
        h11.Request(method=method, target="/", headers=[("Host", "localhost"), ("Connection", "close")])
    )
    reader.send(h11.EndOfMessage())
    events: list[Any] = []
    while not events or type(events[-1]) is not h11.EndOfMessage:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            reader.receive_data(await stream.receive_some(1 << 20))
        else:
            events.append(event)
    head, *rest, _end = events
    assert reader.trailing_data[0] == b""
    headers = httpx.Headers(
        [header for header in head.headers if header[0] != b"date"]
    )  # real time's, not the site's
    return Answer(head.status_code, headers, b"".join(event.data for event in rest))


WAYS: Mapping[str, Callable[[Site], WayIn]] = {"quart": quart_way, "hot": hot_way, "direct": direct_way}
FRAMED_WAYS = [way for way in WAYS.values() if way is not direct_way]  # the ones on which a body has a length


def fake_ids(seed: int = 1) -> Callable[[], str]:
    """UUIDs, the same ones in every run."""
    stream = random.Random(seed)
    return lambda: str(UUID(int=stream.getrandbits(128), version=4))


@dataclass
class Api:
    """A site with a client of its own. Times are session time; `sleep` lets them pass."""

    plan: sites.Plan
    way: Callable[[Site], WayIn]
    nursery: trio.Nursery
    site: Site = field(init=False)
    _send: WayIn = field(init=False)
    _stop: trio.Event = field(init=False)
    _scope: trio.CancelScope = field(init=False)
    _ended: trio.Event = field(init=False)

    async def start(self) -> None:
        self._stop, self._ended = trio.Event(), trio.Event()
        self.site = await self.nursery.start(self._run)
        self._send = self.way(self.site)

    async def stop(self) -> None:
        """A clean stop."""
        self._stop.set()
        await self._ended.wait()

    async def crash(self) -> None:
        """What the store does not have is lost."""
        self._scope.cancel()
        await self._ended.wait()

    async def restart(self, *, crash: bool = False, **changes: Any) -> None:
        """Come back with the same store, with `changes` to the plan."""
        await (self.crash() if crash else self.stop())
        clock = ScaledClock(self.plan.clock.now())
        self.plan = replace(self.plan, clock=clock, **changes)
        await self.start()

    async def _run(self, task_status: trio.TaskStatus[Site]) -> None:
        with trio.CancelScope() as self._scope:
            await sites.run(self.plan, stop=self._stop, task_status=task_status)
        self._ended.set()

    @property
    def now(self) -> int:
        return self.plan.clock.now()

    async def request(
        self,
        method: str,
        path: str = "",
        body: object = None,
        *,
        credential: str | None = OWNER,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        content: bytes | None = None,
    ) -> Answer:
        """`path` is under the base unless it begins with `//`; `body` is sent as JSON, `content` as it is."""
        target = path[1:] if path.startswith("//") else BASE + path
        sent = list(headers.items() if isinstance(headers, Mapping) else headers)
        if credential is not None:
            sent.append(("Authorization", f"Bearer {credential}"))
        if body is not None:
            sent.append(("Content-Type", "application/json"))
            content = json.dumps(body).encode()
        return await self._send(method, target, sent, content or b"")

    async def create(self, **fields: Any) -> Any:
        """A new session of the silent agent, or whatever `fields` say. Gives the 201's body."""
        answer = await self.request("POST", "", {"agentId": "silent", "userId": "user-456", **fields})
        assert answer.status == 201, answer
        return answer.json

    async def get(self, session_id: str) -> Any:
        answer = await self.request("GET", f"/{session_id}")
        assert answer.status == 200, answer
        return answer.json


@asynccontextmanager
async def running_api(
    way: Callable[[Site], WayIn] = quart_way, *, store: Store | None = None, **changes: Any
) -> AsyncIterator[Api]:
    """A site that runs in the test's own virtual time, stopped cleanly at the end."""
    plan = sites.Plan(
        store=store or MemoryStore(),
        clock=ScaledClock(START_MS),
        new_id=fake_ids(),
        find_key=KEYS.get,
        secret=b"s" * 32,
        agents=AGENTS,
    )
    async with trio.open_nursery() as nursery:
        api = Api(replace(plan, **changes), way, nursery)
        await api.start()
        yield api
        await api.stop()
