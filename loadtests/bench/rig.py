"""What benches stand on: servers as processes on one core, and in this one, on another, a client and raw listeners.

The listeners are bare sockets, because a WebSocket library here would cost more than the server that is measured.
"""

import json
import os
import re
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from vigil.actors.core.errors import VigilError
from vigil.scenarios.play import tied
from vigil.server.ops.serve import raise_descriptor_limit

BASE = "/api/messaging/sessions"
KEY = "bench-key-0123456789abcdef"
NO_LIMITS = (
    "--session-limit=1000000/minute",
    "--user-limit=100000000/hour",
    "--agent-limit=100000000/hour",
)
_AGENTS = """agents:
  - {id: silent, name: Silent, kind: none}
  - {id: echo, name: Echo, kind: echo}
"""
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-API-KEY: {key}\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_TEXT = 0x81
_SHORT_MAX = 125  # bytes of a frame whose length is one byte


class BenchError(VigilError):
    """Something could not be measured; the text says why and what to do."""


class Arrival(NamedTuple):
    """An event at a listener. `at_s` is of `time.perf_counter`."""

    listener: int
    at_s: float
    event: dict[str, Any]


class Address(NamedTuple):
    """Where a server listens, and the processes that it is."""

    host: str
    port: int
    pids: tuple[int, ...]


@contextmanager
def generator_pinned() -> Iterator[int]:
    """This process, and what it starts, on the first core. Gives the last one, for servers.

    With one core both share it.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield cores[-1]
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def on_core(
    command: Sequence[str], core: int, ready: str, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[int, str]]:
    """A process on this core. Gives its id, and what of its output matched `ready`. Raises BenchError."""
    raise_descriptor_limit()
    process = subprocess.Popen(  # noqa: S603  our own
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        text=True,
    )
    try:
        os.sched_setaffinity(process.pid, {core})
        assert process.stdout is not None  # piped
        matches = (re.search(ready, line) for line in process.stdout)
        match = next((one for one in matches if one), None)
        if match is None:
            raise BenchError(f"this did not start, see its words above: {' '.join(command)}")
        yield process.pid, match[0]
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def server_on_core(
    command: Sequence[str], core: int, environ: Mapping[str, str] | None = None
) -> Iterator[Address]:
    """A server that prints its URL. Raises BenchError."""
    with on_core(command, core, r"https?://\S+", environ) as (pid, text):
        url = urlsplit(text)
        yield Address(url.hostname or "", url.port or 0, (pid,))


@contextmanager
def vigil_server(core: int, *flags: str, under: Sequence[str] = ()) -> Iterator[Address]:
    """`vigil serve` on SQLite in a new directory, with the agents `silent` and `echo`, and limits out of reach.

    `under` is a command before it, such as `prlimit`.
    """
    with tempfile.TemporaryDirectory() as directory:
        agents = Path(directory, "agents.yaml")
        agents.write_text(_AGENTS)
        command = [*under, *tied.COMMAND, "vigil", "serve", "--port=0", f"--data-dir={directory}/data"]
        command += [f"--agents={agents}", "--log-level=error", *NO_LIMITS, *flags]
        with server_on_core(command, core, {"VIGIL_API_KEY": KEY}) as address:
            yield address


@contextmanager
def pinned_server(*flags: str) -> Iterator[tuple[str, int]]:
    """`vigil_server` on the last core, while this process keeps to the first. Gives host and port."""
    with generator_pinned() as core, vigil_server(core, *flags) as address:
        yield address.host, address.port


def cpu_s(pids: Sequence[int]) -> float:
    """What processes have had of their core, all threads together, in user and kernel mode."""
    return sum(_cpu_s(Path(f"/proc/{pid}/stat")) for pid in pids)


def loop_cpu_s(pid: int) -> float:
    """What the first thread of a process, in which its event loop runs, has had of its core."""
    return _cpu_s(Path(f"/proc/{pid}/task/{pid}/stat"))


def _cpu_s(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Http:
    """A kept-alive connection. `post` waits for the answer; `send` leaves it to `drain`."""

    def __init__(self, host: str, port: int) -> None:
        self._buffer = b""
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: Any, method: str = "POST") -> Any:
        """The answer's JSON. Raises BenchError for anything but success."""
        self.send(path, body, method)
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self.socket.recv(65_536)
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        size = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
        while len(rest) < size:
            rest += self.socket.recv(65_536)
        self._buffer = rest[size:]
        if head[9:12] not in {b"200", b"201"}:
            raise BenchError(f"the server refused: {rest[:size].decode()}")
        return json.loads(rest[:size])

    def send(self, path: str, body: Any, method: str = "POST") -> None:
        data = json.dumps(body).encode()
        head = f"{method} {BASE}{path} HTTP/1.1\r\nHost: bench\r\nX-API-KEY: {KEY}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)

    def drain(self) -> None:
        """Throw away what has come."""
        self.socket.recv(65_536)


class Ears:
    """Many listeners. `hear` gives what arrives at any of them."""

    def __init__(self, host: str, port: int, session_ids: Sequence[str]) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [self._open(host, port, n, one) for n, one in enumerate(session_ids)]
        self._unread = [b""] * len(session_ids)

    def hear(self, until_s: float, drained: Http | None = None) -> Iterator[Arrival]:
        """Everything until this instant of `time.perf_counter`, and what is there when it has passed already.

        What `drained` gets is thrown away meanwhile.
        """
        if drained is not None:
            self._selector.register(drained.socket, selectors.EVENT_READ, None)
        left = 1.0
        while left > 0:
            left = until_s - time.perf_counter()
            for key, _ in self._selector.select(max(left, 0)):
                if key.data is None:
                    assert drained is not None  # only it has no number
                    drained.drain()
                else:
                    yield from self._read(key.data)
        if drained is not None:
            self._selector.unregister(drained.socket)

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def _open(self, host: str, port: int, n: int, session_id: str) -> socket.socket:
        one = socket.create_connection((host, port))
        one.sendall(_UPGRADE.format(path=f"{BASE}/{session_id}/events", key=KEY).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += one.recv(1)  # by one, so that no frame is taken with it
        if not head.startswith(b"HTTP/1.1 101"):
            raise BenchError(f"a listener was refused: {head.decode()}")
        self._selector.register(one, selectors.EVENT_READ, n)
        return one

    def _read(self, n: int) -> Iterator[Arrival]:
        data = self._sockets[n].recv(65_536)
        at_s = time.perf_counter()
        if not data:
            self._selector.unregister(self._sockets[n])
        frames, self._unread[n] = _frames(self._unread[n] + data)
        for first, payload in frames:
            if first == _TEXT:
                yield Arrival(n, at_s, json.loads(payload))


def percentiles(values_s: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max of durations in seconds, in milliseconds."""
    if not values_s:
        raise BenchError("nothing was measured")
    ordered = [round(value * 1000, 2) for value in sorted(values_s)]
    return {
        "ms_p50": ordered[len(ordered) // 2],
        "ms_p99": ordered[len(ordered) * 99 // 100],
        "ms_max": ordered[-1],
    }


def _frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames in what a server sent, each as its first byte and its payload, and the rest."""
    found = []
    while len(data) > 1:
        size, start = (data[1], 2) if data[1] <= _SHORT_MAX else (int.from_bytes(data[2:4]), 4)
        if len(data) < start + size:
            break
        found.append((data[0], data[start : start + size]))
        data = data[start + size :]
    return found, data
