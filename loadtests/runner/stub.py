"""A server that answers at once and does nothing: what a load generator is measured against.

    python -m vigil.loadtests.runner.stub [--port N] [--time-scale N]

Every request on a session succeeds, with a body and headers of the usual size; it keeps no session, no limit, and
none of the contract beyond what lets people go on. WebSockets are opened and stay silent.
"""

import argparse
import asyncio
import base64
import hashlib
from collections.abc import Sequence
from itertools import count

_NOW = "2026-11-22T09:00:00.000Z"
_CONFIG = '{"timeoutMinutes":30,"autoRenew":true,"maxDurationMinutes":180,"warningThresholdMinutes":5}'
_SESSION = (
    '{"sessionId":"%ID%","channelId":"%ID%","agentId":"agent-123","userId":"user-456","createdAt":"'
    + _NOW
    + '",'
    '"expiresAt":"'
    + _NOW
    + '","maxExpiresAt":"'
    + _NOW
    + '","status":"active","timeoutConfig":'
    + _CONFIG
    + ","
    '"renewalCount":0,"metadata":{},"sessionToken":"%ID%.c2lnbmF0dXJlLW9mLWEtdG9rZW4tb2YtYS1zZXNzaW9u"}'
)
_MESSAGE = (
    '{"id":"%ID%","content":"Hello, is anybody there?","authorId":"user-456","isAgent":false,"createdAt":"' + _NOW
    + '","metadata":{}}'
)  # fmt: skip
_HISTORY = '{"messages":[' + ",".join([_MESSAGE] * 20) + '],"hasMore":false,"cursors":{"before":1,"after":2}}'
_RATES = (
    'RateLimit-Policy: "session";q=60;w=60, "user";q=1000;w=3600, "agent";q=5000;w=3600\r\n'
    'RateLimit: "session";r=59;t=60, "user";r=999;t=3600, "agent";r=4999;t=3600\r\n'
)
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_END = b"\r\n\r\n"


class Stub(asyncio.Protocol):
    """One connection."""

    numbers = count(1)
    scale = "1"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # of a stream server
        self._transport = transport
        self._unread = b""
        self._is_socket = False

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while not self._is_socket and _END in self._unread:
            head, _, rest = self._unread.partition(_END)
            size = int(_header(head, b"content-length") or 0)
            if len(rest) < size:
                return
            self._unread = rest[size:]
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        method, path = head.split(b" ", 2)[:2]
        key = _header(head, b"sec-websocket-key")
        if key is not None:
            self._is_socket = True
            return _upgrade(key)
        status, body = 200, _SESSION
        if b"/messages" in path:
            status, body = (201, _MESSAGE) if method == b"POST" else (200, _HISTORY)
        elif path.endswith(b"/sessions"):
            status = 201
        body = body.replace("%ID%", f"00000000-0000-4000-8000-{next(self.numbers):012x}")
        text = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{_RATES}"
        return f"{text}Vigil-Time-Scale: {self.scale}\r\n\r\n{body}".encode()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.runner.stub", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--time-scale", default="1")
    arguments = parser.parse_args(argv)
    Stub.scale = arguments.time_scale
    asyncio.run(_serve(arguments.port))


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    print(f"A stub is listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def _header(head: bytes, name: bytes) -> bytes | None:
    lower = head.lower()
    begin = lower.find(b"\r\n" + name + b":")
    if begin < 0:
        return None
    begin += len(name) + 3
    end = lower.find(b"\r\n", begin)
    return head[begin : end if end >= 0 else None].strip()


def _upgrade(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


if __name__ == "__main__":
    main()
