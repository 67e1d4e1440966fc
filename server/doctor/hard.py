"""`--hard`: what has killed servers of this kind, sent to one on this machine. After each it must still answer.

A table of attacks: bytes to send, over as many connections as it says, and what the answer must begin with. Knows
nothing of how the server defends itself.
"""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import trio

from vigil.server.doctor.findings import Finding, broken, good

_PATIENCE_S = 5.0
_SILENT_S = 0.3
_PATH = "/api/messaging/sessions"
_DEEP = 100_000


class Aim(NamedTuple):
    """Whom an attack meets: an API key and a session that are good."""

    key: str
    session_id: str


class Attack(NamedTuple):
    """`send` makes the bytes; `answer` is a beginning that the reply must have, if it has one."""

    name: str
    send: Callable[[Aim], tuple[bytes, ...]]
    answer: bytes = b""
    connections: int = 1


def _posted(body: bytes) -> Callable[[Aim], tuple[bytes, ...]]:
    def send(aim: Aim) -> tuple[bytes, ...]:
        head = f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {aim.key}\r\n"
        return (
            f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body,
        )

    return send


def _bytes(*pieces: bytes) -> Callable[[Aim], tuple[bytes, ...]]:
    return lambda _aim: pieces


def _upgrade(aim: Aim) -> bytes:
    return (
        f"GET {_PATH}/{aim.session_id}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {aim.key}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def _h2(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _h2(4, 0, 0)
_GET_LIVEZ = b"\x82\x86\x04\x06/livez\x41\x09localhost"  # HPACK, without Huffman coding

ATTACKS = (
    Attack("a stray byte after a WebSocket upgrade", lambda aim: (_upgrade(aim), b"\xff")),
    Attack("a stray byte with the upgrade", lambda aim: (_upgrade(aim) + b"\x00",)),
    Attack(
        "HTTP/2 DATA after the response",
        _bytes(_PREFACE + _h2(1, 5, 1, _GET_LIVEZ), _h2(0, 0, 1, b"late"), _h2(0, 0, 1, b"later")),
    ),
    Attack("64 KiB of empty HTTP/2 frames", _bytes(_PREFACE, _h2(0, 0, 1) * 7281)),
    Attack(
        "rapid resets",
        _bytes(_PREFACE, *((_h2(1, 4, n, _GET_LIVEZ) + _h2(3, 0, n, bytes(4))) for n in range(1, 801, 2))),
    ),
    Attack("bytes that are no HTTP", _bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50)),
    Attack(
        "headers without end",
        _bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n", *([b"X-A: " + b"a" * 8000 + b"\r\n"] * 40)),
    ),
    Attack(
        "a negative length",
        _bytes(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
        b"HTTP/1.1 400",
    ),
    Attack("deep nesting", _posted(b"[" * _DEEP + b"]" * _DEEP), b"HTTP/1.1 400"),
    Attack("a number of 5 000 digits", _posted(b'{"agentId":' + b"9" * 5000 + b"}"), b"HTTP/1.1 400"),
    Attack("NaN", _posted(b'{"agentId":NaN}'), b"HTTP/1.1 400"),
    Attack("an infinite number", _posted(b'{"metadata":{"a":1e999}}'), b"HTTP/1.1 400"),
    Attack("a duplicate key", _posted(b'{"agentId":"a","agentId":"b"}'), b"HTTP/1.1 400"),
    Attack("a lone surrogate", _posted(rb'{"agentId":"\ud800","userId":"u"}'), b"HTTP/1.1 400"),
    Attack("JSON in UTF-16", _posted('{"agentId":"a"}'.encode("utf-16")), b"HTTP/1.1 400"),
    Attack(
        "a body of 1 GiB announced",
        _bytes(
            b"POST /api/messaging/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n"
        ),
    ),
    Attack("200 connections that say nothing", _bytes(b""), connections=200),
    Attack("OPTIONS", _bytes(b"OPTIONS /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), b"HTTP/1.1 405"),
)


async def findings(url: str, key: str, agent_id: str) -> AsyncIterator[Finding]:
    """`url` is http://HOST:PORT of a server that creates sessions for `key`."""
    address = urlsplit(url)
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}) as http:
        created = await http.post(_PATH, json={"agentId": agent_id, "userId": "vigil-doctor"})
        if created.is_error:
            return  # it was told already that none can be created
        session_id = created.json()["sessionId"]
        for attack in ATTACKS:
            yield await _tried(attack, address.hostname or "", address.port or 80, Aim(key, session_id))
        await http.delete(f"{_PATH}/{session_id}")


async def _tried(attack: Attack, host: str, port: int, aim: Aim) -> Finding:
    advice = "this is a bug of the server's: send its log and the name of this test to whoever maintains it"
    came = await _sent(attack, host, port, aim)
    if not await _is_alive(host, port):
        return broken(f"hard: {attack.name}", "the server no longer answers", advice)
    if not came.startswith(attack.answer):
        line = came.partition(b"\r\n")[0].decode("latin-1") or "nothing"
        return broken(f"hard: {attack.name}", f"it answers {line}, not {attack.answer.decode()}", advice)
    return good(f"hard: {attack.name}", "survived")


async def _sent(attack: Attack, host: str, port: int, aim: Aim) -> bytes:
    """What came back on the last connection; all of them are cut off afterwards."""
    streams: list[trio.SocketStream] = []
    came = b""
    try:
        with trio.move_on_after(_PATIENCE_S):
            for _ in range(attack.connections):
                streams.append(await trio.open_tcp_stream(host, port))  # noqa: PERF401  what is open is to be closed
            for piece in attack.send(aim):
                await streams[-1].send_all(piece)
                with trio.move_on_after(0 if attack.answer else _SILENT_S / 10):
                    came += await streams[-1].receive_some()
            with trio.move_on_after(_PATIENCE_S if attack.answer else _SILENT_S):
                came = came or await streams[-1].receive_some()
    except (trio.BrokenResourceError, OSError):
        pass  # cut off, which is a good answer
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)
    return came


async def _is_alive(host: str, port: int) -> bool:
    try:
        with trio.fail_after(_PATIENCE_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    except (OSError, trio.TooSlowError, trio.BrokenResourceError):
        return False
