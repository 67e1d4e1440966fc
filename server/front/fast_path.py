"""The listener's first reader: the frequent requests, from the socket straight to the gateway and back.

It serves what it knows to the last byte (`server.front.fast_request`) and hands on the rest: the first request that is
anything else takes the whole connection, with every byte from there on, to the protocols behind it
(`server.http.connection`). So does one that does not come whole and soon: slow clients are theirs, and big bodies.
It refuses to know what a request asks for; the gateway decides, as for every other way in.

A connection is what it needs next, and `_step` goes from one need to the next without waiting. What most need most of
the time, bytes to read or an answer to come, takes no task's turn: one task looks at all sockets at once (`FastPath`),
and an answer comes when its commit is done. For everything else the connection's own task is woken.
"""

import os
import select
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

import structlog
import trio
from hypercorn.config import Config

from vigil.server.api import gateway
from vigil.server.api.call import Reply, Site
from vigil.server.front.fast_request import NotFastPath, read, request_lines
from vigil.server.http.budget import Waiting
from vigil.server.http.connection import GONE, Server, handshake, send_in_time, socket_of
from vigil.server.http.protocols import STATUS_LINES
from vigil.server.http.tls_wire import Stream, receive

PATIENCE_S = 0.1  # for the rest of a request that has begun

_RECV_BYTES = 16 * 1024  # held for each client that sends on while it does not read
_BEGINNING_BYTES = 512  # of a new client's first request: more than a root path takes
_BATCH_MAX = 16  # answers to pipelined requests that are sent together, and made in one turn
_READY_MAX = 4096  # sockets that are seen to be ready at once
_LOOK_S = 0.004  # for so long, while there is something: what these looks bring shares a commit
_NEWCOMERS_MAX = 8  # that are served first, in as long as a look

_log = structlog.get_logger()

Need = Literal["read", "answer", "turn", "send", "later", "rest", "hand off", "end"]
"""What comes next: more bytes; the answer under way; somebody else's turn first; to send what the socket did not take;
to wait for an answer that takes time of its own; the rest of a request; another reader; or nothing any more."""


class FastPath:
    """All connections of one site's first reader, and the task that looks at their sockets."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lines = request_lines(site.root_path)
        self.now_s = 0.0  # on Trio's clock, as of the last look at it
        self._newcomers = 0
        self._newcomers_until_s = 0.0
        self._poll: select.epoll | None = None
        self._watched: dict[int, FastConnection] = {}

    def __call__(self, server: Server, stream: Stream) -> "FastConnection":
        """The reader of a new connection."""
        return FastConnection(self, server, stream)

    def has_time_for_newcomer(self) -> bool:
        """Whether one more new client is served before others; when many come at once, most wait like everybody."""
        self.look_at_the_clock()
        if self.now_s >= self._newcomers_until_s:
            self._newcomers, self._newcomers_until_s = 0, self.now_s + _LOOK_S
        self._newcomers += 1
        return self._newcomers <= _NEWCOMERS_MAX

    def watch(self, descriptor: int, connection: "FastConnection") -> None:
        """Have a connection read its socket whenever there is something."""
        if descriptor in self._watched:
            return
        if self._poll is None:
            self._poll = select.epoll()
            trio.lowlevel.spawn_system_task(self._look, self._poll)
        self._watched[descriptor] = connection
        self._poll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None and self._poll is not None:
            self._poll.unregister(descriptor)

    def look_at_the_clock(self) -> None:
        self.now_s = trio.current_time()

    async def _look(self, poll: select.epoll) -> None:
        with poll:
            while True:
                await trio.lowlevel.wait_readable(poll.fileno())
                self.look_at_the_clock()
                until_s = self.now_s + _LOOK_S
                while self.now_s < until_s and (ready := poll.poll(0, _READY_MAX)):
                    await self._read_all(ready, until_s)

    async def _read_all(self, ready: Sequence[tuple[int, int]], until_s: float) -> None:
        """Serve those that have sent something: each once before any is served again, whatever it sends meanwhile.

        When that takes long, whoever else waits for the loop (timers, new clients) has a turn in between.
        """
        for descriptor, _ in ready:
            if self.now_s >= until_s:
                await trio.lowlevel.checkpoint()
                self.look_at_the_clock()
                until_s = self.now_s + _LOOK_S
            if descriptor in self._watched:  # one before it may have ended it
                self._watched[descriptor].readable()
                self.look_at_the_clock()


class FastConnection:
    """One client. Its requests are answered in their order, one at a time."""

    def __init__(self, path: FastPath, server: Server, stream: Stream) -> None:
        self.idle = True
        self.deadline = trio.current_time() + server.limits.idle_s
        self._path = path
        self._site = path.site
        self._server = server
        self._traffic = server.traffic
        self._stream = stream
        self._socket = socket_of(stream)
        self._is_plain = isinstance(stream, trio.SocketStream)
        # -1 once it was cut: the number may be another client's then
        self._descriptor = self._socket.fileno()
        self._task: trio.lowlevel.Task | None = None  # while it is parked
        self._received = b""
        self._has_begun = False  # to send
        self._has_ended = False  # the client has closed its side, or is gone
        self._is_stepping = False
        self._is_under_way = False  # a request whose answer is not there yet
        self._later: Coroutine[Any, Any, Reply] | None = None  # that answer, when a task has to wait for it
        self._was_waited_for = False  # the rest of a request that has begun
        self._answers: list[bytes] = []
        self._unsent = b""
        self._waiting: Waiting | None = None  # that, among all that is unsent

    async def run(self) -> bytes | None:
        """Serve until the client has gone or must go: None. Or until a request is not for here: all from it on."""
        if await handshake(self._stream, self._server, trio.CancelScope()) == "h2":
            return b""
        try:
            while (need := self._step()) != "end":
                if need == "hand off":
                    return self._received
                await _DO[need](self)
        finally:
            self._path.unwatch(self._descriptor)
            if self._waiting is not None:
                self._traffic.unsent.leave(self._waiting)
                self._waiting = None  # it and this hold each other, and the answer: see `Connection.run`
            if self._later is not None:
                self._later.close()
        return None

    def finish(self) -> None:
        """Close: nothing is under way."""
        self.cut()

    def cut(self) -> None:
        """Close the socket now. Whoever sends or receives on it is woken with an error."""
        self._path.unwatch(self._descriptor)
        self._descriptor = -1
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

    # --- from need to need

    def _step(self) -> Need:
        """Go on as far as there is no need to wait, and tell for what there is."""
        need: Need = "read"
        if self._received and not self._is_under_way and not self._unsent:
            need = self._serve(self._received)
        if self._answers:
            self._send()
        if self._descriptor < 0:
            need = "end"
        elif self._unsent:
            need = "send"
        elif self._is_under_way:
            need = "answer" if self._later is None else "later"
        elif self._server.is_draining or (self._has_ended and not self._received):
            need = "end"
        elif not self._received and not self.idle:
            self.idle, self.deadline = True, self._path.now_s + self._server.limits.idle_s
        return need

    def _serve(self, received: bytes) -> Need:
        """Answer what is whole and for here. Gives what the rest needs, if nothing else comes first."""
        at = 0
        need: Need = "turn"
        self.idle = False
        self._is_stepping = True
        try:
            while at < len(received) and not self._is_under_way and len(self._answers) < _BATCH_MAX:
                request = read(received, at, self._path.lines)
                if request is None:
                    need = "hand off" if self._was_waited_for else "rest"
                    break
                at = request.end
                self._is_under_way, self._was_waited_for = True, False
                self._later = gateway.begin(self._site, request.route, request, self._answered)
        except NotFastPath:
            need = "hand off"
        self._is_stepping = False
        self._received = received[at:]
        return need if self._received else "read"

    def _answered(self, reply: Reply) -> None:
        if self._is_stepping:
            self._answer(reply)
        else:
            self._path.look_at_the_clock()
            self._answer(reply)
            self._resume()

    def _answer(self, reply: Reply) -> None:
        self._answers.append(_encoded(reply, _common(self._server.config, int(self._path.now_s))))
        self._is_under_way = False

    def _resume(self) -> None:
        """Step, outside of the task; and wake it for what only a task can do."""
        need = self._step()
        if need == "read" and self._is_plain:
            self._path.watch(self._descriptor, self)
        elif need != "answer":
            self._path.unwatch(self._descriptor)
            self._wake()

    def _take(self, data: bytes) -> None:
        """What was read; b"" when the client has closed its side."""
        self._received += data
        self._has_ended = not data
        if not self._is_under_way:
            self._resume()
        elif not data or len(self._received) > _RECV_BYTES:
            self._path.unwatch(self._descriptor)  # until there is an answer

    def _send(self) -> None:
        """Send what is answered, as far as the socket takes it."""
        data = self._answers[0] if len(self._answers) == 1 else b"".join(self._answers)
        self._answers.clear()
        sent = 0
        if self._is_plain and self._descriptor >= 0:
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                pass
            except OSError:
                return self.cut()
        if sent < len(data):
            self._unsent = data[sent:]
            self._waiting = self._traffic.unsent.enter(self.cut, len(self._unsent))
        return None

    # --- what only a task can do

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def _wait(self) -> None:
        """Until there is something that only a task can do."""
        if self._is_plain and not self._has_ended and len(self._received) <= _RECV_BYTES:
            self._path.watch(self._descriptor, self)
        await self._park()

    async def _park(self) -> None:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _read(self) -> None:
        """A new client does not queue up behind all others that have sent something, unless it is one of a crowd."""
        if self._is_plain and (self._has_begun or await self._is_in_a_crowd()):
            self._has_begun = True
            return await self._wait()
        data = await receive(self._stream, _RECV_BYTES)
        self._has_begun = True
        self._path.look_at_the_clock()
        self._received, self._has_ended = data, not data
        return None

    async def _is_in_a_crowd(self) -> bool:
        """Whether this new client comes with many who want what costs time. `/livez` and its like never wait."""
        begun = await self._socket.recv(_BEGINNING_BYTES, socket.MSG_PEEK)
        return begun.startswith(self._path.lines.beginnings) and not self._path.has_time_for_newcomer()

    async def _let_others_go_first(self) -> None:
        await self._traffic.turns.wait()

    async def _send_rest(self) -> None:
        data, self._unsent = self._unsent, b""
        assert self._waiting is not None  # it is as long as something is unsent
        try:
            await send_in_time(self._stream, data, self._server.limits.send_s, self._waiting)
        except GONE:  # further up its traceback would keep the answer until the garbage is collected
            self.cut()
        self._traffic.unsent.leave(self._waiting)
        self._waiting = None

    async def _wait_for_answer(self) -> None:
        assert self._later is not None  # that was the need
        later, self._later = self._later, None
        reply = await later
        self._path.look_at_the_clock()
        self._answer(reply)

    async def _complete(self) -> None:
        """The rest of a request that has begun, if it comes in time; else it is handed off."""
        lines = self._path.lines
        with trio.move_on_after(PATIENCE_S), suppress(NotFastPath):
            while read(self._received, 0, lines) is None and (
                data := await receive(self._stream, _RECV_BYTES)
            ):
                self._received += data
        self._was_waited_for = True


_DO: Mapping[Need, Callable[[FastConnection], Awaitable[None]]] = {
    "read": FastConnection._read,
    "answer": FastConnection._wait,
    "turn": FastConnection._let_others_go_first,
    "send": FastConnection._send_rest,
    "later": FastConnection._wait_for_answer,
    "rest": FastConnection._complete,
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
