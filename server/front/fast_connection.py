"""One client of the fast path, over TCP or TLS: from bytes to answers, and what happens in between.

It knows sockets and the states of a connection (`server.front.fast_states`). It refuses to know what a request asks
for; the gateway decides, as for every other way in.

`_step` goes from state to state without waiting. In the two states in which most connections are most of the time,
IDLE and COMMITTING, no task runs for them: one task looks at all sockets at once (`server.front.readiness`), and an
answer comes when its commit is done. For everything else the connection's own task is woken.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, ClassVar

import structlog
import trio
from hypercorn.config import Config

from vigil.server.api import gateway
from vigil.server.api.call import Reply, Site
from vigil.server.front.fast_request import NotFastPath, RequestLines, read
from vigil.server.front.fast_states import (
    ASKED,
    CLOSED,
    COMMITTING,
    DEFERRED,
    HANDED_OFF,
    IDLE,
    NEW,
    PARTIAL,
    SENDING,
    SENDING_COMMITTING,
    SENDING_DEFERRED,
    SERVING,
    YIELDING,
    Event,
    State,
    after,
)
from vigil.server.front.readiness import Readiness
from vigil.server.http.budget import Waiting
from vigil.server.http.connection import GONE, Server, handshake, send_in_time, socket_of
from vigil.server.http.protocols import STATUS_LINES
from vigil.server.http.tls_wire import Stream, receive

PATIENCE_S = 0.1  # for the rest of a request that has begun

_RECV_BYTES = 16 * 1024  # held for each client that sends on while it does not read
_BEGINNING_BYTES = 512  # of a new client's first request: more than a root path takes
_BATCH_MAX = 16  # answers to pipelined requests that are sent together, and made in one turn

_log = structlog.get_logger()


class FastConnection:
    """One client over TCP. Its requests are answered in their order, one at a time."""

    def __init__(
        self, site: Site, lines: RequestLines, readiness: Readiness, server: Server, stream: Stream
    ) -> None:
        self.deadline = trio.current_time() + server.limits.idle_s
        self._site = site
        self._lines = lines
        self._readiness = readiness
        self._server = server
        self._traffic = server.traffic
        self._stream = stream
        self._socket = socket_of(stream)
        # -1 once it was cut: the number may be another client's then
        self._descriptor = self._socket.fileno()
        self._task: trio.lowlevel.Task | None = None  # while it is parked
        self._state = NEW
        self._received = b""
        self._later: Coroutine[Any, Any, Reply] | None = None  # an answer that a task has to wait for
        self._answers: list[bytes] = []
        self._unsent = b""
        self._waiting: Waiting | None = None  # that, among all that is unsent

    @property
    def idle(self) -> bool:
        return self._state is IDLE or self._state is NEW

    async def run(self) -> bytes | None:
        """Serve until the client has gone or must go: None. Or until a request is not for here: all from it on."""
        if self._server.is_draining:
            self._note(Event.STOPPED)
        try:
            while self._state is not CLOSED and self._state is not HANDED_OFF:
                await self._in_task[self._state](self)
        finally:
            self._readiness.unwatch(self._descriptor)
            if self._waiting is not None:
                self._traffic.unsent.leave(self._waiting)
                self._waiting = None  # it and this hold each other, and the answer: see `Connection.run`
            if self._later is not None:
                self._later.close()
        return self._received if self._state is HANDED_OFF else None

    def finish(self) -> None:
        """Close: nothing is under way."""
        self.cut()

    def cut(self) -> None:
        """Close the socket now. Whoever sends or receives on it is woken with an error."""
        self._readiness.unwatch(self._descriptor)
        self._descriptor = -1
        self._note(Event.CUT)
        self._socket.close()
        self._wake()

    def readable(self) -> None:
        """There is something on the socket, or its end."""
        try:
            self._take(os.read(self._descriptor, _RECV_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self.cut()
        except Exception as bug:  # it is one client's and not everybody's
            _log.exception("connection crashed", exc_info=bug)
            self.cut()

    def _note(self, event: Event) -> None:
        self._state = after(self._state, event)

    # --- without waiting

    def _step(self) -> None:
        """From SERVING as far as there is no need to wait."""
        if self._state is not SERVING:
            return
        left = self._serve(self._received)
        if self._answers:
            self._send()
        if self._state is SERVING:
            self._note(Event.STOPPED if self._server.is_draining else left)
        if self._state is IDLE:
            self.deadline = self._readiness.now_s + self._server.limits.idle_s

    def _serve(self, received: bytes) -> Event:
        """Answer what is whole and for here, up to a request whose answer is not there at once. Gives what is left."""
        at = 0
        left = Event.FULL
        try:
            while self._state is SERVING and at < len(received) and len(self._answers) < _BATCH_MAX:
                request = read(received, at, self._lines)
                if request is None:
                    left = Event.INCOMPLETE
                    break
                at = request.end
                self._note(Event.ASK)
                self._later = gateway.begin(self._site, request.route, request, self._answered)
                if self._state is ASKED:
                    self._note(Event.COMMIT if self._later is None else Event.DEFER)
        except NotFastPath:
            left = Event.UNFIT
        self._received = received[at:]
        return left if self._received else Event.SERVED

    def _answered(self, reply: Reply) -> None:
        """The gateway's callback."""
        before = self._state
        if before is CLOSED:  # the client has gone meanwhile
            return
        if before is not ASKED:
            self._readiness.look_at_the_clock()
        self._answers.append(_encoded(reply, _common(self._server.config, int(self._readiness.now_s))))
        self._note(Event.ANSWERED)
        if before is COMMITTING:
            self._resume()

    def _resume(self) -> None:
        """Step, outside of the task; and wake it for what only a task can do."""
        self._step()
        if self._state is IDLE:
            self._watch()
        elif self._state is not COMMITTING:
            self._readiness.unwatch(self._descriptor)
            self._wake()

    def _watch(self) -> None:
        """Be called when there are bytes to read."""
        self._readiness.watch(self._descriptor, self)

    def _take(self, data: bytes) -> None:
        """What was read; b"" when the client has closed its side, which the socket will say again."""
        if self._state is IDLE:
            self._received = data
            self._begin(data)
        else:
            self._received += data
            if not data or len(self._received) > _RECV_BYTES:
                self._readiness.unwatch(self._descriptor)  # until there is an answer

    def _begin(self, data: bytes) -> None:
        if data:
            self._note(Event.RECEIVED)
            self._resume()
        else:
            self._note(Event.ENDED)
            self._readiness.unwatch(self._descriptor)
            self._wake()

    def _send(self) -> None:
        """Send what is answered, as far as the socket takes it."""
        data = self._answers[0] if len(self._answers) == 1 else b"".join(self._answers)
        self._answers.clear()
        try:
            sent = self._write(data)
        except OSError:
            return self.cut()
        if sent < len(data):
            self._unsent = data[sent:]
            self._note(Event.BLOCKED)
            self._waiting = self._traffic.unsent.enter(self.cut, len(self._unsent))
        return None

    def _write(self, data: bytes) -> int:
        """How many bytes the socket has taken. Raises OSError."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0

    # --- what only a task can do

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def _park(self) -> None:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _wait(self) -> None:
        """Until there is something that only a task can do."""
        if len(self._received) <= _RECV_BYTES:
            self._watch()
        await self._park()

    async def _read_first(self) -> None:
        """A new client does not queue up behind all others that have sent something, unless it is one of a crowd."""
        if await self._is_in_a_crowd():
            self._note(Event.CROWDED)
        else:
            await self._read()

    async def _is_in_a_crowd(self) -> bool:
        """Whether this new client comes with many who want what costs time. `/livez` and its like never wait."""
        begun = await self._socket.recv(_BEGINNING_BYTES, socket.MSG_PEEK)
        return begun.startswith(self._lines.beginnings) and not self._readiness.has_time_for_newcomer()

    async def _read(self) -> None:
        self._received = await receive(self._stream, _RECV_BYTES)
        self._readiness.look_at_the_clock()
        if self._received:
            self._note(Event.RECEIVED)
            self._step()
        else:
            self._note(Event.ENDED)

    async def _let_others_go_first(self) -> None:
        await self._traffic.turns.wait()
        self._note(Event.TURN)
        self._step()

    async def _send_rest(self) -> None:
        data, self._unsent = self._unsent, b""
        assert self._waiting is not None  # it is as long as something is unsent
        try:
            await send_in_time(self._stream, data, self._server.limits.send_s, self._waiting)
        except GONE:  # further up its traceback would keep the answer until the garbage is collected
            self.cut()
        self._traffic.unsent.leave(self._waiting)
        self._waiting = None
        self._note(Event.SENT)
        self._step()

    async def _wait_for_answer(self) -> None:
        assert self._later is not None  # that is this state
        later, self._later = self._later, None
        self._answered(await later)
        self._step()

    async def _receive_rest(self) -> None:
        """The rest of a request that has begun, if it comes in time; else it is handed off."""
        with trio.move_on_after(PATIENCE_S), suppress(NotFastPath):
            while data := await receive(self._stream, _RECV_BYTES):
                self._received += data
                if read(self._received, 0, self._lines) is not None:
                    self._note(Event.RECEIVED)
                    return self._step()
        self._note(Event.STOPPED if self._server.is_draining else Event.UNFIT)
        return None

    _in_task: ClassVar[Mapping[State, Callable[[Any], Awaitable[None]]]] = {
        NEW: _read_first,
        IDLE: _wait,
        COMMITTING: _wait,
        DEFERRED: _wait_for_answer,
        SENDING: _send_rest,
        SENDING_COMMITTING: _send_rest,
        SENDING_DEFERRED: _send_rest,
        PARTIAL: _receive_rest,
        YIELDING: _let_others_go_first,
    }


class FastTlsConnection(FastConnection):
    """One client over TLS, whose bytes only its task can read and write."""

    async def run(self) -> bytes | None:
        if await handshake(self._stream, self._server, trio.CancelScope()) == "h2":
            return b""
        return await super().run()

    def _watch(self) -> None:
        self._wake()

    def _write(self, _data: bytes) -> int:
        return 0

    _in_task: ClassVar[Mapping[State, Callable[[Any], Awaitable[None]]]] = {
        **FastConnection._in_task,
        NEW: FastConnection._read,
        IDLE: FastConnection._read,
        COMMITTING: FastConnection._park,
    }


def _encoded(reply: Reply, common: str) -> bytes:
    status, head, body = reply
    assert isinstance(body, bytes)  # requests with another transport are not read here
    whole_head = f"{STATUS_LINES[status]}{head}Content-Length: {len(body)}\r\n{common}\r\n"
    return whole_head.encode("latin-1") + body


@lru_cache(maxsize=1)
def _common(config: Config, _second: int) -> str:
    """The headers that Hypercorn gives every answer, Date among them; made once a second."""
    return "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in config.response_headers("h11"))
