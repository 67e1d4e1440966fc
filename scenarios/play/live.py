"""A server that is reached over sockets, in real time: HTTP by httpx, events by trio-websocket.

Its session time runs `scale` times as fast as ours; what it says of the time in its health body sets the clock here.
"""

import json
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import httpx
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language.script import Script, steps_of
from vigil.scenarios.language.settings import Settings
from vigil.scenarios.language.verbs import AgentBehaviour
from vigil.scenarios.play.api_key import api_key_fault
from vigil.scenarios.play.targets import Target, Unreachable
from vigil.scenarios.play.time_scale import HEADER, time_scale
from vigil.scenarios.play.wire import BASE
from vigil.scenarios.virtual.in_process import Disconnected
from vigil.server.api.wire_time import epoch_ms
from vigil.server.front.direct import Answer

ANSWER_S_MAX = 120  # an agent may think for a minute before the server gives up
CONNECT_S_MAX = 10
LOOKS = 5  # at the server's time; the quickest counts
OK, UNAUTHENTICATED, FORBIDDEN, UNHEALTHY = 200, 401, 403, 503

Connection = trio.SocketStream | trio.SSLStream[trio.SocketStream]

_NEEDS_OWN_SERVER = {"restart": "takes the server down", "agent": "spoils an agent"}


class LiveTarget:
    """A server at a URL. Its clock must be set before anything is played."""

    def __init__(
        self, url: str, key: str, scale: float | None, tolerance_ms: int, client: httpx.AsyncClient
    ) -> None:
        """`tolerance_ms` is real time. `scale` is what somebody said; None takes the server's word for it."""
        self.name = url
        self.key = key
        self._said_scale = scale
        self._real_tolerance_ms = tolerance_ms
        self._take_scale(scale or 1.0)
        self._url = httpx.URL(url)
        self._host = self._url.netloc.decode()
        self._client = client

    async def set_clock(self) -> None:
        """Learn what time it is there, and how fast it goes.

        Raises Unreachable, and ScenarioError when the server is not what was said.
        """
        looks = [await self._look() for _ in range(LOOKS)]
        _, self._base_s, self._base_ms = min(looks)

    async def _look(self) -> tuple[float, float, int]:
        """How long it took, when it was here and there."""
        before_s = trio.current_time()
        try:
            response = await self._client.get(
                f"{BASE}/health",
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=CONNECT_S_MAX,
            )
        except httpx.TransportError as error:
            raise Unreachable(
                f"{self.name} cannot be reached: {error or type(error).__name__}. Is the server running there?"
            ) from None
        took_s = trio.current_time() - before_s
        self._check(response)
        return took_s, before_s + took_s / 2, _timestamp(self.name, response)

    def _check(self, response: httpx.Response) -> None:
        if response.status_code in {UNAUTHENTICATED, FORBIDDEN}:
            raise ScenarioError(
                f"{self.name} refuses the API key ({response.status_code}): it needs one with all scopes"
            )
        if response.status_code not in {OK, UNHEALTHY}:
            raise ScenarioError(f"{self.name} is no Sessions API: {BASE}/health gives {response.status_code}")
        self._take_scale(_scale(self.name, response))
        if self._said_scale not in (None, self.scale):
            raise ScenarioError(
                f"{self.name} runs at --time-scale {self.scale:g}, not at {self._said_scale:g}: leave the flag out"
            )

    def _take_scale(self, scale: float) -> None:
        self.scale = scale
        self.tolerance_ms = round(self._real_tolerance_ms * scale)

    def now(self) -> int:
        return self._base_ms + round((trio.current_time() - self._base_s) * 1000 * self.scale)

    def deadline(self, at_ms: int) -> float:
        return self._base_s + (at_ms - self._base_ms) / 1000 / self.scale

    async def settle(self) -> None:
        await trio.lowlevel.checkpoint()

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], content: bytes
    ) -> Answer:
        sent = [(name.encode(), value.encode()) for name, value in headers]
        try:
            response = await self._client.request(method, target, headers=sent, content=content)
        except httpx.TransportError:
            raise Disconnected from None
        return Answer(response.status_code, response.headers.multi_items(), response.content)

    @asynccontextmanager
    async def listen(self, target: str, headers: Iterable[tuple[str, str]]) -> AsyncIterator["LiveListener"]:
        sent = [(name.encode(), value.encode()) for name, value in headers]
        stream = await self._connect()
        refusals: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                socket = await wrap_client_stream(nursery, stream, self._host, target, extra_headers=sent)
                yield LiveListener(Answer(101, _texts(socket.handshake_headers), b""), socket)
                nursery.cancel_scope.cancel()
        except* HandshakeError as group:  # it comes from the library's own task
            refusals += group.exceptions
        finally:
            await trio.aclose_forcefully(stream)
        if refusals:
            yield LiveListener(_refusal(refusals[0]), None)

    async def _connect(self) -> Connection:
        tls = self._url.scheme == "https"
        try:
            with trio.fail_after(CONNECT_S_MAX):
                stream = await trio.open_tcp_stream(self._url.host, self._url.port or (443 if tls else 80))
        except (OSError, trio.TooSlowError):
            raise Disconnected from None
        if not tls:
            return stream
        return trio.SSLStream(stream, ssl.create_default_context(), server_hostname=self._url.host)

    async def restart(self, *, crash: bool, down_ms: int, settings: Settings) -> None:  # noqa: ARG002
        raise ScenarioError(f"{self.name} cannot be taken down by a script")

    async def set_agents(self, behaviours: Mapping[str, AgentBehaviour]) -> None:  # noqa: ARG002
        raise ScenarioError(f"{self.name} has agents of its own")


class Live:
    """Every script against one server that runs at `url`."""

    def __init__(self, url: str, key: str, scale: float | None, tolerance_ms: int) -> None:
        """`scale` None: as fast as the server says."""
        if fault := api_key_fault(key):
            raise ScenarioError(f"the API key {fault}: --api-key KEY, or VIGIL_API_KEY in the environment")
        self._url = url.rstrip("/")
        self._key = key
        self._scale = scale
        self._tolerance_ms = tolerance_ms
        with suppress(httpx.InvalidURL):
            if httpx.URL(url).scheme in {"http", "https"} and httpx.URL(url).host:
                return
        raise ScenarioError(f"--url: {url!r} is not an http:// or https:// URL with a host")

    async def check(self) -> None:
        async with http_client(self._url) as client:
            await LiveTarget(self._url, self._key, self._scale, self._tolerance_ms, client).set_clock()

    def lacks(self, script: Script) -> str:
        if script.settings is not None:
            return "it has settings, and a server at a URL has its own; --serve starts one for it"
        for step in steps_of(script.steps):
            if step.verb in _NEEDS_OWN_SERVER:
                return f"it {_NEEDS_OWN_SERVER[step.verb]}; --serve starts a server of its own for it"
        return ""

    @asynccontextmanager
    async def open(self, script: Script) -> AsyncIterator[Target]:  # noqa: ARG002  it has no settings
        async with http_client(self._url) as client:
            target = LiveTarget(self._url, self._key, self._scale, self._tolerance_ms, client)
            await target.set_clock()
            yield target


class LiveListener:
    """An events WebSocket, or a refused handshake: then there is no `socket`."""

    def __init__(self, answer: Answer, socket: WebSocketConnection | None) -> None:
        self.answer = answer
        self.close_code: int | None = None
        self._socket = socket

    def __aiter__(self) -> "LiveListener":
        return self

    async def __anext__(self) -> str:
        if self._socket is None:
            raise StopAsyncIteration
        try:
            text = await self._socket.get_message()
        except ConnectionClosed as closed:
            self.close_code = closed.reason.code if closed.reason else None
            raise StopAsyncIteration from None
        return text if isinstance(text, str) else text.decode()


def http_client(url: str, *, through_proxies: bool = True) -> httpx.AsyncClient:
    """For many requests at once. `through_proxies` heeds the environment's."""
    return httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(ANSWER_S_MAX, connect=CONNECT_S_MAX),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        trust_env=through_proxies,
    )


def _refusal(error: BaseException) -> Answer:
    if isinstance(error, ConnectionRejected):
        return Answer(error.status_code, _texts(error.headers), error.body or b"")
    raise Disconnected


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _scale(url: str, response: httpx.Response) -> float:
    text = response.headers.get(HEADER, "1")
    scale = time_scale(text)
    if scale is None:
        raise ScenarioError(f"{url} is no Sessions API: it says {HEADER} {text!r}")
    return scale


def _timestamp(url: str, response: httpx.Response) -> int:
    try:
        return epoch_ms(json.loads(response.content)["timestamp"])
    except (ValueError, KeyError, TypeError):
        raise ScenarioError(f"{url} is no Sessions API: its health body tells no time") from None
