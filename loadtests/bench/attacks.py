"""Hostile clients, each a function of an open socket: what they send without pause until the server has had enough.

    python -m vigil.loadtests.bench.attacks NAME SOCKETS SECONDS HOST PORT [SESSION_ID]

A client that is cut comes again at once. It knows bytes on the wire and refuses to know what they cost.
"""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vigil.loadtests.bench.rig import BASE, KEY

_CHUNK = 64 * 1024
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_MASK = bytes(4)
_HEAD = f"Host: bench\r\nX-API-KEY: {KEY}\r\n"
_NOWHERE = subprocess.DEVNULL
_PAUSE_S = 0.002  # after a cut: an attacker's own machine would not let it come faster


@dataclass(frozen=True, slots=True)
class Attack:
    """`first` is sent once, with the session's id in place of {id}; `then` again and again. `alpn` chooses TLS."""

    what: str
    then: bytes
    first: str = ""
    alpn: str = ""

    @property
    def is_secure(self) -> bool:
        return bool(self.alpn)


def _many(piece: bytes) -> bytes:
    return piece * (_CHUNK // len(piece))


def _websocket(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + _MASK + payload


def _http2(kind: int, payload: bytes = b"", stream: int = 0, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _resets() -> bytes:
    """Requests for /livez that are taken back at once."""
    head = b"\x82\x87\x04\x06/livez\x41\x05bench"  # GET, https, :path, :authority
    pairs = (
        _http2(1, head, number, 0x5) + _http2(3, bytes(4), number) for number in range(1, 2 * _RESETS, 2)
    )
    return b"".join(pairs)


_RESETS = 2000
_UPGRADE = (
    f"GET {BASE}/{{id}}/events HTTP/1.1\r\n{_HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_GET = f"GET {BASE}/00000000-0000-4000-8000-000000000000 HTTP/1.1\r\nHost: a\r\n\r\n".encode()
_LIST = f"GET {BASE}?limit=1000 HTTP/1.1\r\n{_HEAD}\r\n".encode()
_CHUNKED = (
    f"POST {BASE} HTTP/1.1\r\n{_HEAD}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_OPEN_POST = _http2(1, b"\x83\x87\x04\x06/livez\x41\x05bench", 1, 0x4)

ATTACKS = {
    "ws-pongs": Attack("WebSocket, empty pongs", _many(_websocket(0x8A)), _UPGRADE),
    "ws-pings": Attack("WebSocket, empty pings, answers unread", _many(_websocket(0x89)), _UPGRADE),
    "ws-continuations": Attack(
        "WebSocket, empty continuations", _websocket(0x01) + _many(_websocket(0x00)), _UPGRADE
    ),
    "ws-texts": Attack("WebSocket, empty texts", _many(_websocket(0x81)), _UPGRADE),
    "h2-pings": Attack("HTTP/2, PING acks", _many(_http2(6, bytes(8), flags=1)), alpn="h2"),
    "h2-priority": Attack("HTTP/2, PRIORITY", _many(_http2(2, bytes(4) + b"\x10", 9)), alpn="h2"),
    "h2-windows": Attack("HTTP/2, WINDOW_UPDATE", _many(_http2(8, b"\0\0\0\1")), alpn="h2"),
    "h2-settings": Attack("HTTP/2, SETTINGS", _many(_http2(4)), alpn="h2"),
    "h2-big-settings": Attack(
        "HTTP/2, SETTINGS of 16 KiB", _http2(4, b"\0\1\0\0\x10\0" * 2730) * 4, alpn="h2"
    ),
    "h2-unknown": Attack("HTTP/2, frames of no known type", _many(_http2(0xBE)), alpn="h2"),
    "h2-resets": Attack("HTTP/2, rapid reset", _resets(), alpn="h2"),
    "h2-data": Attack("HTTP/2, DATA of one byte", _OPEN_POST + _many(_http2(0, b"x", 1)), alpn="h2"),
    "h2-continuations": Attack(
        "HTTP/2, CONTINUATION", _http2(1, b"", 1) + _many(_http2(9, b"", 1)), alpn="h2"
    ),
    "tls-handshakes": Attack("TLS, one handshake after another", b"", alpn="http/1.1"),
    "tls-keys": Attack("TLS 1.3, new keys again and again", b"", alpn="http/1.1"),
    "http-chunks": Attack("HTTP/1.1, chunks of one byte", _many(b"1\r\n \r\n"), _CHUNKED),
    "http-pipeline": Attack("HTTP/1.1, tiny requests in a pipeline, answers unread", _many(_GET)),
    "http-read-pipeline": Attack("HTTP/1.1, tiny requests in a pipeline", _many(_GET)),
    "http-lists": Attack("HTTP/1.1, lists of 1 000 sessions, answers unread", _many(_LIST)),
    "http-read-lists": Attack("HTTP/1.1, lists of 1 000 sessions", _many(_LIST)),
    "http-headers": Attack("HTTP/1.1, 20 KB of headers", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3000),
}
_READERS = {"http-read-pipeline", "http-read-lists"}


def attack(name: str, address: tuple[str, int], session_id: str, until_s: float) -> None:
    """Again and again until this instant of `time.monotonic`."""
    one = ATTACKS[name]
    if name == "tls-keys":
        return change_keys(address, until_s)
    while time.monotonic() < until_s:
        with suppress(OSError), _connected(one, address) as client:
            client.settimeout(max(0.01, until_s - time.monotonic()))
            client.sendall(_PREFACE if one.alpn == "h2" else one.first.format(id=session_id).encode())
            if one.first == _UPGRADE:
                client.recv(1024)
            if name in _READERS:
                threading.Thread(target=_read, args=(client,), daemon=True).start()
            while one.then and time.monotonic() < until_s:
                client.sendall(one.then)
        time.sleep(_PAUSE_S)
    return None


def change_keys(address: tuple[str, int], until_s: float) -> None:
    """With openssl, which does it for a K that it reads alone: so its standard input is a socket of messages."""
    command = (
        "openssl",
        "s_client",
        "-quiet",
        "-no_ign_eof",
        "-tls1_3",
        "-connect",
        f"{address[0]}:{address[1]}",
    )
    while time.monotonic() < until_s:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs, suppress(OSError):
            client = subprocess.Popen(command, stdin=theirs.fileno(), stdout=_NOWHERE, stderr=_NOWHERE)  # noqa: S603
            theirs.close()
            ours.settimeout(max(0.01, until_s - time.monotonic()))
            try:
                while time.monotonic() < until_s:
                    ours.send(b"K\n")
            finally:
                client.kill()
                client.wait()


def _connected(one: Attack, address: tuple[str, int]) -> socket.socket:
    plain = socket.create_connection(address, timeout=5)
    if not one.is_secure:
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([one.alpn])
    return context.wrap_socket(plain)


def _read(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(_CHUNK):
            pass


def main(argv: Sequence[str]) -> None:
    name, sockets, seconds, host, port, *session_ids = argv
    until_s = time.monotonic() + float(seconds)
    run: Callable[..., None] = attack
    ids = session_ids or [""]
    threads = [
        threading.Thread(target=run, args=(name, (host, int(port)), ids[n % len(ids)], until_s), daemon=True)
        for n in range(int(sockets))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until_s + 1 - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1:])
