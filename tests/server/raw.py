"""A client on a raw socket, and the server under test in the same process.

It knows just enough of HTTP/1.1 to tell one answer from the next, so a test can send what no client library would.
"""

import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from vigil.server.http.budget import Traffic
from vigil.server.http.listener import Endpoint, listen
from vigil.server.http.protocols import DEFAULTS, Limits

PING = 0x89
MIB = 1024 * 1024
SHORT_S = 0.5  # the limit that a test is about; every other one keeps its default
TIMEOUT_S = 60.0  # no test waits longer for one thing, however slow the machine
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes = b""


@dataclass(frozen=True)
class Running:
    """A started server: its URLs, and the event that stops it."""

    urls: list[str]
    shutdown: trio.Event

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2])


class Client:
    """One connection. Every wait fails after TIMEOUT_S."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self.unread = b""

    @property
    def socket(self) -> trio.socket.SocketType:
        return (
            self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else self.stream
        ).socket

    async def send(self, data: bytes) -> None:
        with trio.fail_after(TIMEOUT_S):
            await self.stream.send_all(data)

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def answer(self) -> Answer:
        head = await self.until(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        body = await self.exactly(int(headers.get(b"content-length", b"0")))
        return Answer(int(first.split(b" ")[1]), headers, body)

    async def exactly(self, size: int) -> bytes:
        while len(self.unread) < size:
            await self._more()
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, whether that is a FIN or a RST."""
        try:
            while True:
                await self._more()
        except (EOFError, trio.BrokenResourceError):
            return self.unread

    async def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame that is no ping: its first byte, and a payload below 126 bytes."""
        first, size = await self.exactly(2)
        payload = await self.exactly(size)
        return (first, payload) if first != PING else await self.frame()

    async def end(self) -> None:
        """Close this side only."""
        assert isinstance(self.stream, trio.SocketStream)
        await self.stream.send_eof()

    def reset(self) -> None:
        """Close with a RST."""
        self.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    async def until(self, end: bytes) -> bytes:
        while end not in self.unread:
            await self._more()
        head, _, self.unread = self.unread.partition(end)
        return head

    async def _more(self) -> None:
        with trio.fail_after(TIMEOUT_S):
            data = await self.stream.receive_some(1 << 20)
        if not data:
            raise EOFError(self.unread)
        self.unread += data


async def start(
    nursery: trio.Nursery,
    app: Any,
    limits: Limits = DEFAULTS,
    endpoint: Endpoint | None = None,
    first: Any = None,
    traffic: Traffic | None = None,
) -> Running:
    """Serve `app` in the nursery, after a `first` reader, on a free port of the loopback unless told otherwise."""
    shutdown = trio.Event()
    serve = partial(
        listen,
        app,
        endpoint or Endpoint(port=0),
        shutdown=shutdown,
        limits=limits,
        first=first,
        traffic=traffic,
    )
    with trio.fail_after(TIMEOUT_S):
        return Running(await nursery.start(serve), shutdown)


@asynccontextmanager
async def connect(server: Running) -> AsyncIterator[Client]:
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    try:
        yield Client(stream)
    finally:
        stream.socket.close()


async def get(server: Running, path: str = "/") -> Answer:
    async with connect(server) as client:
        return await client.ask(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())


def masked(first: int, payload: bytes) -> bytes:
    """A WebSocket frame from a client, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + struct.pack(">H", size)
    else:
        length = b"\xff" + struct.pack(">Q", size)
    return bytes([first]) + length + bytes(4) + payload


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


async def assert_serving(server: Running) -> None:
    assert (await get(server)).body == b'{"ok":true}\n'


async def assert_cut(client: Client) -> bytes:
    """The connection ends by itself; what came before."""
    return await client.rest()


async def settle(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces."""
    with trio.fail_after(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def drip(client: Client, data: bytes) -> None:
    """Send a byte at a time, often enough that no pause is ever long."""
    for byte in data:
        await client.send(bytes([byte]))
        await trio.sleep(SHORT_S / 10)


async def flood(client: Client, first: bytes, then: bytes, bytes_max: int = 1024 * MIB) -> int:
    """Send without reading until the server has had enough; how many bytes went."""
    await client.send(first)
    for sent in range(0, bytes_max, len(then)):
        try:
            await client.send(then)
        except trio.BrokenResourceError:
            return sent
    return bytes_max
