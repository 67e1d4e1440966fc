"""What Vigil takes from Hypercorn: its HTTP/1.1 protocol, made strict by subclassing, and what all of them share.

It knows messages on the wire and the sizes they may have. It refuses to know sockets and what the app does.
The names of Hypercorn's that it overrides are listed, and checked, in the tests.

What a client sends is processed in small pieces; between them everybody else has a turn (`server.http.budget`).

Off are h2c (an upgrade is ignored, prior knowledge is a 400), WebSockets over HTTP/2 (clients then open one
over HTTP/1.1) and permessage-deflate, which Hypercorn inflates without a bound.
"""

import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from math import inf
from pathlib import Path
from typing import Any

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.logging import Logger
from hypercorn.protocol import h11 as hypercorn_h11
from hypercorn.protocol.events import EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from vigil.server.http.budget import TURN_UNITS, Share, Traffic
from vigil.server.http.request_heads import plain, refusal
from vigil.server.http.websocket import WebSocket

_log = structlog.get_logger()

_SEND_BYTES_PER_S = 64 * 1024  # the slowest that a long answer may be read, beyond its first send_s
PIECE_BYTES = 64 * 1024
_GOODBYE_S = 0.1  # for an app that is not reading to take the event that its client has gone
UNITS_BURST = 2000  # of work for one connection, see `Share`
UNITS_PER_S = 200.0
UNITS_FOR_ANSWER = 16  # its request, and the frames that a client sends while it reads
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
USEFUL_BYTES = 64  # a piece of a body that is no smaller is no flood

# Hypercorn makes its WebSockets where nothing can be overridden.
hypercorn_h11.WSStream = WebSocket  # type: ignore[attr-defined, assignment]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a client, or a handler without one, may take, in seconds, and what a client may send, in bytes."""

    handshake_s: float = 10.0  # TLS
    idle_s: float = 75.0  # between requests, and before the first
    head_s: float = 10.0  # a request's line and headers, from their first byte (HTTP/1.1)
    body_s: float = 30.0  # a request's whole body
    send_s: float = (
        30.0  # to take an answer: one send, or all that is left when the client has closed its side
    )
    listen_s: float = 90.0  # to take a WebSocket frame: one who slept for a minute still hears why it was cut
    linger_s: float = 2.0  # to close its side after an answer that came before the end of its request
    aftermath_s: float = 5.0  # what a handler may still do when its client has gone
    grace_s: float = 10.0  # requests under way at shutdown
    ping_s: float = 30.0  # between pings on a WebSocket
    head_bytes: int = 16 * 1024
    message_bytes: int = 4 * 1024  # a message from a WebSocket client


DEFAULTS = Limits()


class ProtocolConfig(Config):
    """Hypercorn's settings as the limits have them."""

    def __init__(self, limits: Limits, traffic: Traffic) -> None:
        self.limits = limits
        self.traffic = traffic
        self.include_server_header = False
        self.keep_alive_max_requests = sys.maxsize  # a busy client keeps its connection
        self.h11_max_incomplete_size = limits.head_bytes
        self.h2_max_header_list_size = limits.head_bytes
        self.websocket_max_message_size = limits.message_bytes
        self.websocket_ping_interval = limits.ping_s
        self.shutdown_timeout = limits.grace_s

    @property
    def log(self) -> Logger:
        return _Log(self)


class Tasks(TaskGroup):
    """Hypercorn's task group. It tells which requests wait for a body, and lets no app block on a goodbye."""

    def __init__(self, owe: Callable[[object, bool], None]) -> None:
        super().__init__()
        self._owe = owe
        self._own: set[trio.CancelScope] = set()

    def spawn(self, func: Callable[..., Awaitable[object]], *args: Any) -> None:
        """A task of the connection itself, such as a WebSocket's pings: it ends when the connection closes."""
        scope = trio.CancelScope()
        self._own.add(scope)
        super().spawn(self._run_own, scope, func, *args)

    async def _run_own(
        self, scope: trio.CancelScope, func: Callable[..., Awaitable[object]], *args: Any
    ) -> None:
        with scope:
            await func(*args)
        self._own.discard(scope)

    def end_own(self) -> None:
        """The connection is closed: nothing of its own has anything left to do."""
        for scope in self._own:
            scope.cancel()

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        put = await super().spawn_app(app, config, scope, send)
        request = object()
        self._owe(request, True)

        async def put_event(event: ASGIReceiveEvent) -> None:
            if not event.get("more_body"):
                self._owe(request, False)
            with trio.move_on_after(_GOODBYE_S if event["type"].endswith("disconnect") else inf):
                await put(event)

        return put_event


class _Server(h11.Connection):
    """h11's side of a server. What a client sends after its last request is nobody's (RFC 9112 9.6), and no error that
    could overtake the answer; empty lines before a request are nothing (2.2); status lines say their reason.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._left = 0.0  # bytes of the body that were not read yet; inf while a chunked one has no end
        self._events = 0  # since others had their turn
        self.useful = 0  # events of those that no flood has

    @property
    def waits_for_body(self) -> bool:
        """Whether not all of the request has come."""
        if self.their_state is not h11.SEND_BODY:
            return False
        there = len(self.trailing_data[0])
        return not there if self._left == inf else there < self._left

    @property
    def is_at_last_request(self) -> bool:
        return self.their_state is h11.MUST_CLOSE

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """Never, to Hypercorn: it would send 100 before anybody has looked at the headers."""
        return False

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client waits for `100 Continue` or a final status before it sends the body."""
        return self.client_is_waiting_for_100_continue and self.our_state is h11.SEND_RESPONSE

    @property
    def is_paused(self) -> bool:
        """Whether there may be more in what was received, for a later turn."""
        return self._events >= TURN_UNITS

    def resume(self) -> None:
        self._events = 0

    def refuse(self) -> None:
        """To this client there is nothing more to say but one bare status."""
        self._process_error(h11.CLIENT)

    def next_event(self) -> Any:
        if self.is_paused or (self.is_at_last_request and self.trailing_data[0]):
            return h11.NEED_DATA
        if self.their_state is h11.IDLE and self._is_between_requests():
            return h11.NEED_DATA
        event = super().next_event()
        if event is not h11.NEED_DATA:
            self._events += 1
        if isinstance(event, h11.Request):
            self._left = float(dict(event.headers).get(b"content-length", inf))
        elif isinstance(event, h11.Data):
            self._left -= len(event.data)
            self.useful += len(event.data) >= USEFUL_BYTES
        return event

    def _is_between_requests(self) -> bool:
        """Throw empty lines away. Gives whether the next one may have begun, of which h11 would say that it is bad."""
        waiting = self.trailing_data[0]
        if not waiting.startswith(b"\r"):
            return False
        empty = _EMPTY_LINES.match(waiting)
        if empty and empty[0]:
            self._receive_buffer.maybe_extract_at_most(len(empty[0]))
        return self.trailing_data[0] == b"\r"

    def send(self, event: Any) -> Any:
        data = super().send(event)
        if isinstance(event, h11.Response | h11.InformationalResponse):
            line, end, rest = data.partition(b"\r\n")
            said = STATUS_LINES.get(event.status_code)
            return (said.encode() if said else line + end) + rest
        return data


class Http1(H11Protocol):
    """HTTP/1.1 and WebSockets, strict about what would be ambiguous behind a proxy."""

    config: ProtocolConfig
    cut: Callable[[], None]  # the whole connection, at once

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connection = _Server(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)
        self._share = Share(self.config.traffic.turns, burst=UNITS_BURST, per_s=UNITS_PER_S)

    @property
    def has_heads(self) -> bool:
        """Whether there is the beginning of a request's head."""
        return bool(self.connection.trailing_data[0])

    @property
    def send_s(self) -> float:
        """How long a client may take for one send."""
        limits = self.config.limits
        return limits.listen_s if isinstance(self.stream, WebSocket) else limits.send_s

    @property
    def answers_after_eof(self) -> bool:
        """A client may close its side and wait for the answer; not so on a WebSocket."""
        return isinstance(self.connection, h11.Connection)

    @property
    def lingers(self) -> bool:
        """Whether the client may still be sending, so that a plain close could reset its answer away."""
        has_sent_more = isinstance(self.connection, _Server) and bool(self.connection.trailing_data[0])
        return has_sent_more or self.connection.their_state in {h11.SEND_BODY, h11.ERROR, None}

    async def handle(self, event: Event) -> None:
        is_over = isinstance(self.connection, _Server) and self.connection.is_at_last_request
        if is_over and isinstance(event, RawData) and event.data:
            return
        self._share.begin()
        await super().handle(event)
        while isinstance(self.connection, _Server) and self.connection.is_paused:
            await self._resume(self.connection)
        if isinstance(event, Closed):
            self.connection_state.clear()  # it holds this

    async def _resume(self, connection: _Server) -> None:
        """With what was received, after others had their turn."""
        self._share.earn(connection.useful)
        connection.useful = 0
        if not await self._share.spend(TURN_UNITS):
            self.config.traffic.cut("flood")
            connection.refuse()
        connection.resume()
        await self._handle_events()

    async def stream_send(self, event: StreamEvent) -> None:
        """An answer before the end of its request is the last one. Else a client would ask again in vain."""
        if isinstance(event, EndBody):
            self._share.earn(UNITS_FOR_ANSWER)
        if (
            isinstance(event, Response)
            and isinstance(self.connection, _Server)
            and self.connection.waits_for_body
        ):
            last = (b"connection", b"close")
            event = Response(event.stream_id, [*event.headers, last], event.status_code)
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn would switch to h2c here."""

    async def _create_stream(self, request: h11.Request) -> None:
        status = refusal(request, self.config.limits.head_bytes)
        if status is None:
            # What an app finds in its scope's state: Hypercorn's scope has the method in upper case.
            self.connection_state.update(method=request.method.decode(), send_continue=self._send_continue)
            await super()._create_stream(plain(request))
        else:
            await self._send_error_response(status)
            await self.send(Closed())

    async def _send_continue(self) -> None:
        """The app wants the body: say so to a client that waits for that (RFC 9110 10.1.1)."""
        if isinstance(self.connection, _Server) and self.connection.waits_for_continue:
            await self._send_h11_event(
                h11.InformationalResponse(status_code=100, headers=self.config.response_headers("h11"))
            )


def pieces(data: bytes | memoryview) -> Iterator[memoryview]:
    """The data in the sizes that are sent with a deadline each, not copied."""
    whole = memoryview(data)
    return (whole[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))


def send_deadlines(patience_s: float, size: int) -> Callable[[], float]:
    """When the next piece of an answer must have been taken: in `patience_s`, and in time for all of its `size`.

    Without the first a client could stop in the middle of a long answer, without the second read it by drops.
    """
    end = trio.current_time() + patience_s + size / _SEND_BYTES_PER_S
    return lambda: min(end, trio.current_time() + patience_s)


def summary(error: BaseException | None) -> dict[str, str]:
    """What went wrong, and the innermost place in the code, as the fields of one log line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__) if error else []
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return {"error": repr(error), "where": where}


class _Log(Logger):
    """Hypercorn's log: one line for what matters. Called inside the `except` of what it reports."""

    def __init__(self, _config: Config) -> None:
        self.access_logger = self.error_logger = None

    async def warning(self, message: str, *_args: Any, **_kwargs: Any) -> None:
        _log.warning(message, **summary(sys.exception()))

    async def exception(self, message: str, *_args: Any, **_kwargs: Any) -> None:
        _log.error(message, **summary(sys.exception()))


_EMPTY_LINES = re.compile(rb"(?:\r\n)+")
