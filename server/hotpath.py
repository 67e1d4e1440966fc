"""The listener's first reader: the frequent requests, from the socket straight to the gateway and back.

It serves what it knows to the last byte (`server.hot_request`) and hands on the rest: the first request that is
anything else takes the whole connection, with every byte from there on, to the protocols behind it
(`server.connection`). So does one that does not come whole and soon: slow clients are theirs, and big bodies.
It refuses to know what a request asks for; the gateway decides, as for every other way in.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import trio
from hypercorn.config import Config

from server import gateway
from server.call import Reply, Site
from server.connection import Server, Stream, handshake, send_in_time, socket_of
from server.hot_request import GET_SESSION, NotHot, read

PATIENCE_S = 0.1  # for the rest of a request that has begun

_RECV_BYTES = 64 * 1024
_BATCH_MAX = 64  # answers to pipelined requests that are sent together


class HotConnection:
    """One client. Its requests are answered in their order, one at a time."""

    def __init__(self, site: Site, server: Server, stream: Stream) -> None:
        self.idle = True
        self.deadline = trio.current_time() + server.limits.idle_s
        self._site = site
        self._server = server
        self._stream = stream
        self._socket = socket_of(stream)
        self._is_plain = isinstance(stream, trio.SocketStream)
        self._descriptor = (
            self._socket.fileno()
        )  # -1 once it was cut: the number may be another client's then

    async def run(self) -> bytes | None:
        """Serve until the client has gone or must go: None. Or until a request is not for here: all from it on."""
        if await handshake(self._stream, self._server.limits, trio.CancelScope()) == "h2":
            return b""
        while received := await self._receive():
            self.idle = False
            unserved = await self._serve(received)
            while unserved and not self._server.is_draining:
                received = await self._completed(unserved)
                unserved = await self._serve(received)
                if len(unserved) == len(received):
                    return unserved
            if self._server.is_draining:
                return None
            self.deadline = trio.current_time() + self._server.limits.idle_s
            self.idle = True
        return None

    def finish(self) -> None:
        """Close: nothing is under way."""
        self.cut()

    def cut(self) -> None:
        """Close the socket now. Whoever sends or receives on it is told."""
        self._descriptor = -1
        self._socket.close()

    async def _serve(self, received: bytes) -> bytes:
        """Answer what is whole and for here. Gives the rest."""
        answers: list[bytes] = []
        at = 0
        try:
            while at < len(received) and (request := read(received, at)) is not None:
                if answers and (request.route is not GET_SESSION or len(answers) == _BATCH_MAX):
                    await self._send(answers)  # what is answered does not wait for a commit
                    await trio.lowlevel.checkpoint()
                    answers = []
                reply = await gateway.answer(self._site, request.route, request)
                answers.append(_encoded(reply, _common(self._server.config, int(trio.current_time()))))
                at = request.end
        except NotHot:
            pass
        if answers:
            await self._send(answers)
        return received[at:]

    async def _completed(self, begun: bytes) -> bytes:
        """What has begun, with the rest of its first request if that comes in time."""
        with trio.move_on_after(PATIENCE_S), suppress(NotHot):
            while read(begun, 0) is None and (more := await self._receive()):
                begun += more
        return begun

    async def _receive(self) -> bytes:
        """The next bytes; b"" when the client has closed its side.

        On a plain socket without the checkpoints that Trio's streams make around each call: one wait is enough.
        """
        if not self._is_plain:
            return bytes(await self._stream.receive_some(_RECV_BYTES))
        while self._descriptor >= 0:
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                return os.read(self._descriptor, _RECV_BYTES)
            except BlockingIOError:
                continue
        return b""

    async def _send(self, answers: Sequence[bytes]) -> None:
        data = answers[0] if len(answers) == 1 else b"".join(answers)
        sent = 0
        if self._is_plain:
            with suppress(BlockingIOError):
                sent = os.write(self._descriptor, data)
        if sent < len(data):
            await send_in_time(self._stream, data[sent:], self._server.limits.send_s)


def _encoded(reply: Reply, common: str) -> bytes:
    assert isinstance(reply.body, bytes)  # noqa: S101  requests with another transport are not read here
    lines = "".join([f"{name}: {value}\r\n" for name, value in reply.headers])
    head = f"HTTP/1.1 {reply.status} \r\n{lines}Content-Length: {len(reply.body)}\r\n{common}\r\n"
    return head.encode("latin-1") + reply.body


@lru_cache(maxsize=1)
def _common(config: Config, _second: int) -> str:
    """The headers that Hypercorn gives every answer, Date among them; made once a second."""
    return "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in config.response_headers("h11"))
