"""One client on one stream: who may wait for whom, for how long, and what happens when it goes wrong.

It knows streams, deadlines and Hypercorn's protocol objects. It refuses to know listening sockets, the app, and
what a first reader (`server.front.fast_path`) serves before those protocols get a connection. Hypercorn's own
TCPServer is not used: in it one hostile connection ends the process, and a client that does not read holds up a
shutdown.

Each connection has one reading task under one cancel scope, and the scope's deadline is when the client must
have sent what it owes: a request (idle_s), the rest of a head (head_s) or of a body (body_s), or nothing,
while the app works. A WebSocket owes nothing. Every send has a deadline of its own.
"""

from collections.abc import Callable
from contextlib import suppress
from heapq import nsmallest
from math import inf
from typing import Any, Protocol

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from vigil.server.http.budget import Traffic, Waiting
from vigil.server.http.http2 import Http2
from vigil.server.http.protocols import (
    DEFAULTS,
    Http1,
    Limits,
    ProtocolConfig,
    Tasks,
    pieces,
    send_deadlines,
    summary,
)
from vigil.server.http.tls_wire import Stream, receive

_log = structlog.get_logger()

_RECV_BYTES = 64 * 1024
_LINGER_BYTES = 1024 * 1024  # read and thrown away after an early answer
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
GONE = (OSError, trio.TooSlowError, *_BROKEN)


class Serving(Protocol):
    """A connection as the server keeps it. While it is `idle`, `deadline` is when the client must have sent more."""

    @property
    def idle(self) -> bool: ...

    @property
    def deadline(self) -> float: ...

    async def run(self) -> bytes | None:
        """Serve until the connection is over: None. Or until it is for others to serve, from these bytes on."""

    def finish(self) -> None:
        """Close it, idle as it is."""

    def cut(self) -> None:
        """Close the socket now. Whoever sends or receives on it gets an error, shielded or not."""


class Server:
    """One app behind HTTP on any number of streams, and what reads them first."""

    def __init__(
        self,
        app: ASGIFramework,
        limits: Limits = DEFAULTS,
        first: "Callable[[Server, Stream], Serving] | None" = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.app = ASGIWrapper(app)
        self.limits = limits
        self.traffic = traffic or Traffic()
        self.config = ProtocolConfig(limits, self.traffic)
        self.context = WorkerContext(None)
        self.state: LifespanState = {}
        self.connections: set[Serving] = set()
        self.is_draining = False
        self._first = first
        self._empty = trio.Event()

    async def serve_connection(self, stream: Stream, received: bytes = b"") -> None:
        """Serve one client until it is done or cut, and close the stream. `received` was read from it before.

        What goes wrong on the connection is one log line and never an exception.
        """
        try:
            with self.traffic.connection():
                await self._serve(stream, received)
        except* GONE:
            pass
        except* Exception as crash:
            _log.warning("connection crashed", **summary(crash))
        finally:
            socket_of(stream).close()
            if not self.connections:
                self._empty.set()

    async def _serve(self, stream: Stream, received: bytes) -> None:
        unserved: bytes | None = received
        if self._first is not None and not received:
            unserved = await self._run(self._first(self, stream))
        if unserved is not None:
            await self._run(Connection(self, stream, unserved))

    async def _run(self, serving: Serving) -> bytes | None:
        self.connections.add(serving)
        try:
            return await serving.run()
        finally:
            self.connections.discard(serving)

    async def drain(self) -> None:
        """Take no more requests, close what is idle, and wait up to `grace_s` for the rest."""
        self.is_draining = True
        await self.context.terminated.set()
        self._empty = trio.Event()
        for connection in self._idle():
            connection.finish()
        with trio.move_on_after(self.limits.grace_s):
            if self.connections:
                await self._empty.wait()

    def cut(self) -> None:
        """Close every connection, whatever it is doing."""
        for connection in self.connections:
            connection.cut()

    def shed(self, count: int) -> int:
        """Close those that have been idle longest: new clients need their descriptors. Gives how many there were."""
        longest = nsmallest(count, self._idle(), key=lambda connection: connection.deadline)
        for connection in longest:
            connection.cut()
        if longest:
            self.traffic.cut("idle", len(longest))
        return len(longest)

    async def close_idle(self) -> None:
        """Close whoever was idle for too long: one look over all costs a request less than a timer of its own."""
        while True:
            await trio.sleep(min(1.0, self.limits.idle_s / 8))
            for connection in self._idle():
                if connection.deadline <= trio.current_time():
                    connection.finish()

    def _idle(self) -> list[Serving]:
        return [connection for connection in self.connections if connection.idle]


def socket_of(stream: Stream) -> trio.socket.SocketType:
    return (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket


async def handshake(stream: Stream, server: Server, scope: trio.CancelScope) -> str | None:
    """Agree on TLS, once; gives the protocol that was chosen, None for none.

    Raises TooSlowError, also when `scope`, which nobody has entered yet, is cancelled meanwhile.
    """
    if not isinstance(stream, trio.SSLStream):
        return None
    scope.deadline = trio.current_time() + server.limits.handshake_s
    with scope:
        await server.traffic.handshakes.wait()
        await stream.do_handshake()
    if scope.cancelled_caught:
        raise trio.TooSlowError
    chosen: str | None = stream.selected_alpn_protocol()
    return chosen


async def send_in_time(stream: Stream, data: bytes | memoryview, patience_s: float, waiting: Waiting) -> None:
    """Send an answer piece by piece, each in time. Raises TooSlowError.

    Shielded: a send that is cancelled half way leaves a broken stream. Its deadline ends it.
    """
    next_deadline = send_deadlines(patience_s, len(data))
    with trio.CancelScope(shield=True, deadline=next_deadline()) as scope:
        for piece in pieces(data):
            scope.deadline = next_deadline()
            await stream.send_all(piece)
            waiting.took(len(piece))
    if scope.cancelled_caught:
        raise trio.TooSlowError


def _host_and_port(address: Any) -> tuple[str, int] | None:
    """None for a socket file."""
    return address[:2] if isinstance(address, tuple) else None


class Connection:
    """A client: its stream, the protocol object that speaks with it, and its deadlines."""

    def __init__(self, server: Server, stream: Stream, received: bytes) -> None:
        self.idle = True
        self._received = received
        self._server = server
        self._limits = server.limits
        self._stream = stream
        self._protocol: Http1 | Http2
        self._life = trio.CancelScope()
        self._reading = trio.CancelScope(deadline=trio.current_time() + server.limits.idle_s)
        self._send_lock = trio.Lock()
        self._in_head = False
        self._lingers = False
        self._owed: dict[object, float] = {}  # a request -> when its body must be complete

    @property
    def deadline(self) -> float:
        """When the reading ends unless the client sends what it owes, on Trio's clock."""
        return self._reading.deadline

    async def run(self) -> None:
        """Serve until the client has gone or must go."""
        alpn = await handshake(self._stream, self._server, self._reading)
        self._reading = trio.CancelScope(deadline=trio.current_time() + self._limits.idle_s)
        try:
            await self._speak(Http2 if alpn == "h2" else Http1)
        finally:
            # It and this hold each other, and what the garbage collector has frozen it never frees.
            vars(self).pop("_protocol", None)

    async def _speak(self, protocol: type[Http1 | Http2]) -> None:
        with self._life:
            tasks = Tasks(self._owe)
            async with tasks:
                self._protocol = protocol(*self._arguments(tasks))
                self._protocol.cut = self.cut
                with self._reading, suppress(*_BROKEN):
                    await self._protocol.initiate()
                    await self._read(self._received)
                await self._close()
                tasks.end_own()

    def finish(self) -> None:
        """Read no more, tell the app that the client has gone, and close."""
        self._reading.cancel()

    def cut(self) -> None:
        socket_of(self._stream).close()

    def _arguments(self, tasks: TaskGroup) -> tuple[Any, ...]:
        server = self._server
        secure = isinstance(self._stream, trio.SSLStream)
        state = ConnectionState(server.state.copy())
        socket = socket_of(self._stream)
        peers = _host_and_port(socket.getpeername()), _host_and_port(socket.getsockname())
        return server.app, server.config, server.context, tasks, state, secure, *peers, self._send

    async def _read(self, received: bytes) -> None:
        data = received or await receive(self._stream, _RECV_BYTES)
        while data:
            await self._protocol.handle(RawData(data))
            self._note_head()
            data = await receive(self._stream, _RECV_BYTES)
        await self._protocol.handle(RawData(b""))
        if self._protocol.answers_after_eof and not self.idle:
            self._reading.deadline = trio.current_time() + self._limits.send_s
            await trio.sleep_forever()

    def _note_head(self) -> None:
        if self.idle and self._protocol.has_heads and not self._in_head:
            self._in_head = True
            self._reading.deadline = min(self.deadline, trio.current_time() + self._limits.head_s)

    def _owe(self, request: object, owed: bool) -> None:
        """The client of this request has a body to send, or has sent it."""
        if owed:
            self._owed[request] = trio.current_time() + self._limits.body_s
        else:
            self._owed.pop(request, None)
        if not self.idle:
            self._reading.deadline = min(self._owed.values(), default=inf)

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send_bytes(event.data)
        elif isinstance(event, Updated):
            self._turn(event.idle)
        elif isinstance(event, Closed):
            self._end()

    def _turn(self, idle: bool) -> None:
        self.idle, self._in_head = idle, False
        in_time = trio.current_time() + self._limits.idle_s
        self._reading.deadline = in_time if idle else min(self._owed.values(), default=inf)
        if idle and self._server.context.terminated.is_set():
            self._end()

    def _end(self) -> None:
        self._lingers = self._protocol.lingers
        self.finish()

    async def _send_bytes(self, data: bytes) -> None:
        try:
            with trio.CancelScope(shield=True):
                async with self._send_lock:
                    with self._server.traffic.unsent.holding(self.cut, len(data)) as waiting:
                        await send_in_time(self._stream, data, self._protocol.send_s, waiting)
        except _BROKEN:
            self.finish()
        except trio.TooSlowError:
            self.cut()
            self.finish()

    async def _close(self) -> None:
        self._life.deadline = trio.current_time() + self._limits.aftermath_s
        await self._protocol.handle(Closed())
        if self._lingers:
            await self._linger()
        await self._stream.aclose()

    async def _linger(self) -> None:
        """Closing with bytes unread resets a connection; its client may lose the answer (RFC 9112 9.6)."""
        left = _LINGER_BYTES
        with trio.move_on_after(self._limits.linger_s):
            if isinstance(self._stream, trio.SocketStream):
                await self._stream.send_eof()
            while left > 0 and (data := await receive(self._stream, _RECV_BYTES)):
                left -= len(data)
