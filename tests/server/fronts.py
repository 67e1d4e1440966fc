"""The two ways in beside each other: the same bytes to the hot path and to Hypercorn alone, on sites that are alike."""

import re
from collections.abc import Sequence

import trio
import trio.testing
from trio.testing import MockClock

from tests.harness import BASE, OWNER, fake_ids, running_api
from vigil.server.front.fast_path import FastPath
from vigil.server.front.quart_app import make_app
from vigil.server.http.connection import Server

_ids = fake_ids()
_ids()  # the request's, when the session is created
SESSION_ID = _ids()
_QUIET_S = 1.0  # in virtual time
_HEAD = re.compile(rb"(HTTP/1\.1 \d{3}[^\r\n]*\r\n)(.*?\r\n)\r\n", re.DOTALL)


def request(
    method: str, path: str, body: bytes | None = None, *lines: str, version: str = "1.1", key: str = OWNER
) -> bytes:
    """A good request; `path` is under the base, with `{id}` for the session's id."""
    head = [
        f"{method} {BASE}{path.format(id=SESSION_ID)} HTTP/{version}",
        "Host: localhost",
        f"X-API-KEY: {key}",
    ]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1") + (body or b"")


def answers(*connections: Sequence[bytes], hot: bool) -> list[list[bytes]]:
    """What comes back to each connection, one after another, on which these pieces are sent and then the end.

    Each answer is its status line, its headers in order and lower case, and its body; Date left out.
    """
    return trio.run(_exchange, connections, hot, clock=MockClock(autojump_threshold=0))


async def _exchange(connections: Sequence[Sequence[bytes]], hot: bool) -> list[list[bytes]]:
    async with running_api() as api:
        await api.create()
        server = Server(make_app(api.site), first=FastPath(api.site) if hot else None)
        return [_normal(await _connect(server, pieces)) for pieces in connections]


async def _connect(server: Server, pieces: Sequence[bytes]) -> bytes:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    async with trio.open_nursery() as nursery, ours:
        nursery.start_soon(server.serve_connection, theirs)
        return await _talk(ours, pieces)


async def _talk(stream: trio.SocketStream, pieces: Sequence[bytes]) -> bytes:
    came = bytearray()

    async def listen() -> None:
        try:
            async for data in stream:
                came.extend(data)
        except trio.BrokenResourceError:
            came.extend(b"(reset)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        try:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(
                _QUIET_S
            )  # whether the end comes before or after the answer is not left to chance
            await stream.send_eof()
        except trio.BrokenResourceError:
            pass
    return bytes(came)


def _normal(came: bytes) -> list[bytes]:
    parts = _HEAD.split(came)
    heads = zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    return [parts[0], *(status + _sorted(lines) + body for status, lines, body in heads)]


def _sorted(lines: bytes) -> bytes:
    fields = [line.partition(b":") for line in lines.split(b"\r\n") if line]
    kept = [b"%b:%b\n" % (name.lower(), value) for name, _, value in fields if name.lower() != b"date"]
    return b"".join(sorted(kept))
