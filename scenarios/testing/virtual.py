"""A whole server in virtual time, for tests of any kind: plain ones, asyncio's and Trio's.

It lives in a thread of its own, on a clock that stands still until `advance`, or until an answer needs time to pass.
Each call returns when all that it brings about has happened. It is the real server but for the transport, which is
httpx's. Knows nothing of pytest.
"""

import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import trio
from trio.testing import wait_all_tasks_blocked

from vigil.actors.agents.base import AgentEntry, Reply, Turn
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.core.quotas import Limit
from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language import durations
from vigil.scenarios.virtual.determinism import SteppedClock
from vigil.scenarios.virtual.in_process import KEY, Disconnected, InProcessServer, virtual_plan

URL = "http://vigil.virtual"
BASE = "/api/messaging/sessions"
SWITCHING = 101

T = TypeVar("T")
Answering = Callable[[Turn], str | Awaitable[str]]
"""An agent: from what it is asked (`turn.message.content`, `turn.session.user_id`) to what it says. May be `async`,
on Trio; what it raises fails the turn."""


class VirtualVigil:
    """A server of one's own; a context manager. `agents` gives each agent a function, a text or None (never answers).

    `settings` are the plan's: `session_limit="5/minute"`, `user_limit`, `agent_limit`, `content_policy`, `root_path`.
    """

    url = URL
    api_key = KEY

    def __init__(self, agents: Mapping[str, Answering | str | None] | None = None, **settings: Any) -> None:
        self._agents = {"agent-123": AgentEntry("agent-123", "Echo", EchoAgent())}
        self._agents |= {name: _entry(name, agent) for name, agent in (agents or {}).items()}
        self._settings = _read(settings)
        self._clock = SteppedClock()
        self._up: Future[trio.lowlevel.TrioToken] = Future()
        self._thread = threading.Thread(target=self._live, name="virtual Vigil", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._token = self._up.result()
        return self

    def __exit__(self, *_error: object) -> None:
        self._token.run_sync_soon(self._done.set)
        self._thread.join()

    # --- time

    @property
    def now(self) -> datetime:
        """Session time."""
        return datetime.fromtimestamp(self._server.now / 1000, UTC)

    def advance(self, time: str) -> None:
        """Let session time pass: `25m`, `1h30m`, `250ms`. All that falls due meanwhile happens, in its order."""
        self._ask(partial(self._advance, durations.parse(time) / 1000))

    # --- what is asked of it

    @property
    def transport(self) -> "Transport":
        """For httpx, sync and async: whatever an application sends through it comes here, whatever the host."""
        return Transport(self.handle)

    def client(self) -> httpx.Client:
        """With an API key that has all scopes."""
        return httpx.Client(base_url=URL, transport=self.transport, headers=self._headers())

    def async_client(self) -> httpx.AsyncClient:
        """The same for asyncio and Trio."""
        return httpx.AsyncClient(base_url=URL, transport=self.transport, headers=self._headers())

    def handle(
        self, method: str, target: str, headers: list[tuple[str, str]], content: bytes
    ) -> httpx.Response:
        """One request; time passes while it waits for its answer. Raises httpx.ConnectError when it is down."""
        try:
            answer = self._ask(
                partial(self._server.request, method, target, headers, content), lets_time_pass=True
            )
        except Disconnected:
            raise httpx.ConnectError("the virtual server is down, or went down meanwhile") from None
        return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body)

    @contextmanager
    def listening(self, session_id: str, token: str = KEY) -> Iterator[list[dict[str, Any]]]:
        """The events of a session until the block is left: the list grows as they come. Raises ScenarioError."""
        heard: list[dict[str, Any]] = []
        stop = trio.CancelScope()
        self._ask(partial(self._nursery.start, self._listen, session_id, token, heard, stop))
        try:
            yield heard
        finally:
            self._ask(partial(_cancel, stop))

    # --- what happens to it

    def agent(self, name: str, answering: Answering | str | None) -> None:
        """Add an agent, or let one answer in another way from now on."""
        self._agents = {**self._agents, name: _entry(name, answering)}
        self._ask(self._use_agents)

    def restart(self, *, crash: bool = False, **settings: Any) -> None:
        """Stop cleanly, or not, and come back with the same sessions, with `settings` changed."""
        changes = {**_read(settings), "agents": self._agents}
        self._ask(partial(self._come_back, crash=crash, changes=changes), lets_time_pass=True)

    # --- in the thread

    def _live(self) -> None:
        try:
            trio.run(self._main, clock=self._clock)
        except BaseException as error:
            if self._up.done():
                raise
            self._up.set_exception(error)

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            plan = virtual_plan(agents=self._agents, **self._settings)
            self._server = InProcessServer(plan, self._nursery)
            await self._server.start()
            self._be_quiet()
            self._done = trio.Event()
            self._up.set_result(trio.lowlevel.current_trio_token())
            await self._done.wait()
            self._clock.waiting += 1
            await self._server.stop()
            self._nursery.cancel_scope.cancel()

    def _ask(self, job: Callable[[], Awaitable[T]], *, lets_time_pass: bool = False) -> T:
        """Have it done there, and wait: for virtual time that is moments, so an event loop may wait with us."""
        future: Future[T] = Future()
        doing = partial(self._do, job, future, lets_time_pass=lets_time_pass)
        try:
            self._token.run_sync_soon(partial(trio.lowlevel.spawn_system_task, doing))
        except trio.RunFinishedError:
            raise ScenarioError("the virtual server has ended") from None
        return future.result()

    async def _do(
        self, job: Callable[[], Awaitable[T]], future: "Future[T]", *, lets_time_pass: bool
    ) -> None:
        self._clock.waiting += lets_time_pass
        try:
            result = await job()
            self._clock.waiting -= lets_time_pass
            lets_time_pass = False
            await wait_all_tasks_blocked()
        except trio.Cancelled:
            future.set_exception(ScenarioError("the virtual server has ended"))
            raise
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            self._clock.waiting -= lets_time_pass

    async def _advance(self, seconds: float) -> None:
        self._clock.until_s = trio.current_time() + seconds
        await trio.sleep_until(self._clock.until_s)

    async def _come_back(self, *, crash: bool, changes: dict[str, Any]) -> None:
        await self._server.restart(crash=crash, **changes)
        self._be_quiet()

    def _be_quiet(self) -> None:
        """A line a request would drown what the test prints."""
        self._server.site.logs_requests = False

    async def _use_agents(self) -> None:
        self._server.site.directory.use_agents(self._agents)

    async def _listen(
        self,
        session_id: str,
        token: str,
        heard: list[dict[str, Any]],
        stop: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        headers = [("Host", "vigil.virtual"), ("Authorization", f"Bearer {token}")]
        with stop:
            async with self._server.listen(f"{BASE}/{session_id}/events", headers) as listener:
                if listener.answer.status != SWITCHING:
                    raise ScenarioError(f"no events of {session_id}: {listener.answer.json()['message']}")
                task_status.started()
                async for frame in listener:
                    heard.append(json.loads(frame))  # noqa: PERF401  as they come

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {KEY}"}


class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """httpx's way to a virtual server: without a socket, for both kinds of client."""

    def __init__(self, handle: Callable[[str, str, list[tuple[str, str]], bytes], httpx.Response]) -> None:
        self._handle = handle

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answered(request, request.read())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answered(request, await request.aread())

    def _answered(self, request: httpx.Request, content: bytes) -> httpx.Response:
        url = urlsplit(request.url.raw_path.decode())
        target = f"{url.path}?{url.query}" if url.query else url.path
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        return self._handle(request.method, target, headers, content)


class _FunctionAgent:
    def __init__(self, answering: Answering | str) -> None:
        self._answering = answering

    async def reply(self, turn: Turn) -> Reply:
        said = self._answering if isinstance(self._answering, str) else self._answering(turn)
        text = await said if inspect.isawaitable(said) else said
        turn.say(text)
        return Reply(text)


def _entry(name: str, answering: Answering | str | None) -> AgentEntry:
    return AgentEntry(name, name, None if answering is None else _FunctionAgent(answering))


def _read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Limits may be written as settings are: `5/minute`."""
    return {
        name: Limit.parse(value) if name.endswith("_limit") and isinstance(value, str) else value
        for name, value in settings.items()
    }


async def _cancel(scope: trio.CancelScope) -> None:
    scope.cancel()
