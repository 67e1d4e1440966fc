"""A scripted HTTP server on loopback that does to a client what real servers do on bad days.

Each request takes the next of its answers, the last one for ever. An answer is a function on the connection.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import trio

Answer = Callable[[trio.SocketStream], Awaitable[None]]


class Asked(NamedTuple):
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Loopback:
    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []
        self.connections = 0
        self.cut = trio.Event()  # a client went away before its answer was complete
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        with suppress(trio.ClosedResourceError):
            while asked := await _read_request(stream):
                self.asked.append(asked)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                try:
                    await answer(stream)
                except trio.BrokenResourceError:
                    self.cut.set()
                    return


async def serve(nursery: trio.Nursery, *answers: Answer, port: int = 0) -> Loopback:
    """Listen until the nursery ends."""
    server = Loopback(answers)
    listeners = await nursery.start(partial(trio.serve_tcp, server.serve, port, host="127.0.0.1"))
    server.port = listeners[0].socket.getsockname()[1]
    return server


async def free_port() -> int:
    """A port at which nobody listens."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        return int(listener.socket.getsockname()[1])


# --- answers


def answer(status: int, body: bytes | str | object = b"", **headers: str) -> Answer:
    """A complete answer; `Retry_After="1"` is the header Retry-After."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(raw))} | headers

    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(_head(status, fields))
        await stream.send_all(raw)

    return send


def events(*datas: str | object, then: Answer | None = None, cut_bytes: int = 0) -> Answer:
    """A stream of server-sent events, each `data: ...`; in pieces of `cut_bytes`, if given.

    It ends properly unless `then` does something else instead.
    """
    text = "".join(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n" for data in datas)
    return streamed(text.encode(), then=then, cut_bytes=cut_bytes)


def streamed(
    body: bytes, *, kind: str = "text/event-stream", then: Answer | None = None, cut_bytes: int = 0
) -> Answer:
    """A body of unknown length."""

    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(_head(200, {"Content-Type": kind, "Transfer-Encoding": "chunked"}))
        size = cut_bytes or len(body) or 1
        for start in range(0, len(body), size):
            await stream.send_all(_chunk(body[start : start + size]))
        await (then or end)(stream)

    return send


async def end(stream: trio.SocketStream) -> None:
    await stream.send_all(b"0\r\n\r\n")


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.aclose()


async def stall(stream: trio.SocketStream) -> None:
    """Say no more until the client has gone."""
    while await stream.receive_some():
        pass
    raise trio.BrokenResourceError


def for_ever(piece: bytes) -> Answer:
    async def send(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(_chunk(piece))

    return send


# --- the protocol


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Scripted\r\n{fields}\r\n".encode()


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _read_request(stream: trio.SocketStream) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = await stream.receive_some()
        except trio.BrokenResourceError:
            return None
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += await stream.receive_some()
    return Asked(first.split()[1], headers, body)
