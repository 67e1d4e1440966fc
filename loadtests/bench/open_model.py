"""Open-model load: a request is due every so often, whatever became of those before it.

wrk waits for an answer before it asks again, so a server that stalls is asked less and looks better than it is
(coordinated omission), and it has no constant rate. Here a latency counts from the instant at which the request was due
to the one at which its answer is whole; a request for which no connection is free waits, and its wait counts. Bare
sockets and llhttp in one loop that never sleeps: it needs a core of its own, and does about 20 000 requests/s on one
like CI's.
"""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypedDict

import httptools

from vigil.loadtests.bench.rig import Address, BenchError, percentiles
from vigil.loadtests.bench.wrk import CONNECTIONS, Request

_LAST_S = 5.0  # for the last answers


class Latency(TypedDict):
    """At the rate that was kept. Milliseconds."""

    per_s: float
    ms_p50: float
    ms_p99: float
    ms_max: float


class _Connection:
    """Has at most one request under way."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection((address.host, address.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due_s = 0.0
        self.is_done = False
        self._parser = httptools.HttpResponseParser(self)

    def on_message_complete(self) -> None:
        self.is_done = True

    def ask(self, request: bytes, due_s: float) -> None:
        self.due_s, self.is_done = due_s, False
        self.socket.sendall(request)

    def hear(self) -> bool:
        """Whether the answer is whole. Raises BenchError when it is no success."""
        data = self.socket.recv(65_536)
        if not data:
            raise BenchError("the server closed a connection under load")
        self._parser.feed_data(data)
        if self.is_done and self._parser.get_status_code() not in {200, 201}:
            raise BenchError(f"the server answered {self._parser.get_status_code()} under load")
        return self.is_done


def run(
    address: Address, requests: Sequence[Request], headers: Sequence[str], *, per_s: float, seconds: float
) -> Latency:
    """Go round over the requests at this rate. Raises BenchError when answers fail or do not come."""
    raw = [encoded(request, headers) for request in requests]
    count = max(1, round(per_s * seconds))
    with ExitStack() as stack:
        connections = [_Connection(address) for _ in range(CONNECTIONS)]
        for one in connections:
            stack.callback(one.socket.close)
        stack.enter_context(_no_collection())
        began_s = time.perf_counter()
        took_s = _drive(connections, raw, [began_s + n / per_s for n in range(count)])
        lasted_s = time.perf_counter() - began_s
    return {"per_s": round(count / lasted_s), **percentiles(took_s)}  # type: ignore[typeddict-item]


def encoded(request: Request, headers: Sequence[str]) -> bytes:
    """The bytes of a request."""
    body = request.body.encode()
    length = [f"Content-Length: {len(body)}"] if request.method != "GET" else []
    lines = [f"{request.method} {request.path} HTTP/1.1", "Host: bench", *headers, *length]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _drive(connections: Sequence[_Connection], raw: Sequence[bytes], due_s: Sequence[float]) -> list[float]:
    """Ask at each of these instants; seconds from due to answered, in the order of the answers."""
    poll = select.epoll()
    by_fd = {one.socket.fileno(): one for one in connections}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    idle = deque(connections)
    took_s: list[float] = []
    asked, end_s = 0, due_s[-1] + _LAST_S
    with poll:
        while len(took_s) < len(due_s):
            now_s = time.perf_counter()
            while idle and asked < len(due_s) and due_s[asked] <= now_s:
                idle.popleft().ask(raw[asked % len(raw)], due_s[asked])
                asked += 1
            for fd, _ in poll.poll(0):
                if by_fd[fd].hear():
                    took_s.append(time.perf_counter() - by_fd[fd].due_s)
                    idle.append(by_fd[fd])
            if now_s > end_s:
                raise BenchError(f"{len(due_s) - len(took_s)} of {len(due_s)} requests had no answer in time")
    return took_s


@contextmanager
def _no_collection() -> Iterator[None]:
    """A pause of ours is not the server's."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
