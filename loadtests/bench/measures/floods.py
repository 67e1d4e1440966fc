"""What one client, or a crowd of them, costs everybody else: `/livez` of new clients while others do their worst.

    python -m vigil.loadtests.bench.measures.floods [--seconds 3] [--only ws-pongs,...]

The server is alone on its core; the attackers (`loadtests.bench.attacks`) share another with the client that asks. It
asks each hundredth of a second on a new connection; a moment in which it could not ask because it still waited counts
as if it had (coordinated omission). Everything is bounded in time.
"""

import argparse
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from typing import Any

from vigil.loadtests.bench import wrk
from vigil.loadtests.bench.attacks import ATTACKS
from vigil.loadtests.bench.measures.http import HEADERS
from vigil.loadtests.bench.rig import (
    BASE,
    KEY,
    Address,
    BenchError,
    Http,
    generator_pinned,
    percentiles,
    vigil_server,
)
from vigil.loadtests.bench.tables import as_text, of_floods
from vigil.loadtests.bench.wrk import Request

EVERY_S = 0.01
SOCKETS = (1, 10)
CROWDS = (32, 2000)
READERS = 2000
DESCRIPTORS = 256
IDLE = 1000
_SESSIONS = 1000
_PATIENCE_S = 30.0
_SETTLE_S = 0.3  # until the last attack is over for the server too
_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
_EMOJI = "\N{GRINNING FACE}" * 10_000
_MIB = 1024 * 1024


def measure(*, seconds: float, only: Sequence[str] = tuple(ATTACKS)) -> dict[str, Any]:
    """Everything. Raises BenchError."""
    return {
        "floods": floods(seconds, only),
        "crowds": crowds(max(4, round(2 * seconds))),
        "readers": readers(2 * seconds),
        "descriptors": descriptors(),
    }


# --- floods


def floods(seconds: float, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each attack and number of sockets, and one before any."""
    with ExitStack() as stack:
        core = stack.enter_context(generator_pinned())
        doors = {False: stack.enter_context(vigil_server(core, "--log-level=error"))}
        if any(ATTACKS[name].is_secure for name in names):
            doors[True] = stack.enter_context(vigil_server(core, *stack.enter_context(_certificate())))
        ids = _sessions(doors[False], _SESSIONS, "silent")[: max(SOCKETS)]
        rows = [_row("nobody", secure, 0, _probe(door, secure, seconds)) for secure, door in doors.items()]
        for name in names:
            secure = ATTACKS[name].is_secure
            for sockets in SOCKETS:
                with _attacked(name, sockets, seconds + 1, doors[secure], ids):
                    time.sleep(0.5)
                    rows.append(_row(name, secure, sockets, _probe(doors[secure], secure, seconds)))
                time.sleep(_SETTLE_S)
    return rows


def _row(name: str, secure: bool, sockets: int, took_s: Sequence[float]) -> dict[str, Any]:
    what = ATTACKS[name].what if name in ATTACKS else f"nobody{', TLS' if secure else ''}"
    return {"attack": name, "what": what, "sockets": sockets, **percentiles(took_s)}


@contextmanager
def _attacked(name: str, sockets: int, seconds: float, door: Address, ids: Sequence[str]) -> Iterator[None]:
    command = [sys.executable, "-m", "vigil.loadtests.bench.attacks", name, str(sockets), str(seconds)]
    command += [door.host, str(door.port), *ids]
    attackers = subprocess.Popen(command, preexec_fn=_step_back)  # noqa: S603  our own, before any thread
    try:
        yield
    finally:
        attackers.kill()
        attackers.wait()


def _step_back() -> None:
    """The client that asks comes first on the core that they share."""
    os.nice(10)


@contextmanager
def _certificate() -> Iterator[tuple[str, str]]:
    """Flags for a server that speaks TLS. Raises BenchError."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise BenchError("openssl is not installed: `apt-get install openssl`; it makes the certificate")
    with tempfile.TemporaryDirectory() as directory:
        cert, key = f"{directory}/cert.pem", f"{directory}/key.pem"
        new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        subprocess.run([openssl, *new.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)  # noqa: S603
        yield f"--tls-cert={cert}", f"--tls-key={key}"


# --- one who asks


def _probe(door: Address, secure: bool, seconds: float) -> list[float]:
    until_s = time.perf_counter() + seconds
    return list(_asking(door, secure, lambda: time.perf_counter() < until_s))


def _asking(door: Address, secure: bool, goes_on: Callable[[], bool]) -> Iterator[float]:
    """How long each /livez took on a new connection, in seconds."""
    due_s = time.perf_counter()
    while goes_on():
        time.sleep(max(0.0, due_s - time.perf_counter()))
        _ask(door, secure)
        answered_s = time.perf_counter()
        while due_s < answered_s:
            yield answered_s - due_s
            due_s += EVERY_S


def _ask(door: Address, secure: bool) -> None:
    """Raises BenchError for anything but 200."""
    answer = b""
    with suppress(OSError), socket.create_connection((door.host, door.port), timeout=_PATIENCE_S) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = _CONTEXT.wrap_socket(plain) if secure else plain
        client.sendall(_LIVEZ)
        while b"\r\n\r\n" not in answer and (more := client.recv(4096)):
            answer += more
        client.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"/livez was not answered in {_PATIENCE_S:g} s, but with {answer[:80]!r}")


_CONTEXT = ssl.create_default_context()
_CONTEXT.check_hostname, _CONTEXT.verify_mode = False, ssl.CERT_NONE


@contextmanager
def _asked_meanwhile(door: Address, found: list[float]) -> Iterator[None]:
    stopped = Event()
    asker = Thread(target=lambda: found.extend(_asking(door, False, lambda: not stopped.is_set())))
    asker.start()
    try:
        yield
    finally:
        stopped.set()
        asker.join()


# --- crowds


def crowds(seconds: int) -> list[dict[str, Any]]:
    """Sends to the echo agent, each connection with its next as soon as the last is answered."""
    wrk.find()
    rows = []
    for connections in CROWDS:
        took_s: list[float] = []
        with generator_pinned() as core, vigil_server(core) as door:
            url = f"http://{door.host}:{door.port}"
            sends = [
                Request("POST", f"{BASE}/{one}/messages", '{"content":"The quick brown fox."}')
                for one in _sessions(door, _SESSIONS, "echo")
            ]
            with _asked_meanwhile(door, took_s):
                sample = wrk.run(url, sends, HEADERS, seconds, connections)
        rows.append({"connections": connections, "sample": asdict(sample), "livez": percentiles(took_s)})
    return rows


def _sessions(door: Address, count: int, agent: str) -> list[str]:
    http = Http(door.host, door.port)
    bodies = ({"agentId": agent, "userId": f"user-{n}"} for n in range(count))
    ids = [str(http.post("", body)["sessionId"]) for body in bodies]
    http.socket.close()
    return ids


# --- those who do not read


def readers(seconds: float) -> dict[str, Any]:
    """Memory of the server while many ask for 1.7 MB each and take nothing of it."""
    took_s: list[float] = []
    with generator_pinned() as core, vigil_server(core) as door, ExitStack() as stack:
        (session_id,) = _sessions(door, 1, "silent")
        http = Http(door.host, door.port)
        for _ in range(100):
            http.post(f"/{session_id}/messages", {"content": _EMOJI})
        ask = (
            f"GET {BASE}/{session_id}/messages?limit=100 HTTP/1.1\r\nHost: bench\r\nX-API-KEY: {KEY}\r\n\r\n"
        )
        before = _rss(door)
        with _asked_meanwhile(door, took_s):
            for _ in range(READERS):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect((door.host, door.port))
                client.sendall(ask.encode())
            time.sleep(seconds)
            after = _rss(door)
        peak = _rss(door, "VmHWM")
    return {
        "sockets": READERS,
        "mib_before": before,
        "mib_at_most": peak,
        "mib_after": after,
        **percentiles(took_s),
    }


def _rss(door: Address, line: str = "VmRSS") -> int:
    """In MiB."""
    status = Path(f"/proc/{door.pids[0]}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) * 1024 // _MIB


# --- descriptors


def descriptors() -> dict[str, Any]:
    """A server with few descriptors: idle clients and then one who asks; likewise with WebSockets."""
    found: dict[str, Any] = {"descriptors": DESCRIPTORS, "idle": IDLE}
    limit = ("prlimit", f"--nofile={DESCRIPTORS}")
    with generator_pinned() as core:
        for name, meet in (("clients", _meet_idle), ("websockets", _meet_websockets)):
            with vigil_server(core, under=limit) as door, ExitStack() as stack:
                found |= meet(door, stack)
                asked_s = time.perf_counter()
                _ask(door, False)
                found[f"ms_beside_{name}"] = round((time.perf_counter() - asked_s) * 1000, 1)
    return found


def _meet_idle(door: Address, stack: ExitStack) -> dict[str, Any]:
    for _ in range(IDLE):
        stack.enter_context(socket.create_connection((door.host, door.port)))
    return {}


def _meet_websockets(door: Address, stack: ExitStack) -> dict[str, Any]:
    (session_id,) = _sessions(door, 1, "silent")
    upgrade = ATTACKS["ws-pongs"].first.format(id=session_id).encode()
    heads = []
    for _ in range(DESCRIPTORS):
        client = stack.enter_context(socket.create_connection((door.host, door.port), timeout=_PATIENCE_S))
        client.sendall(upgrade)
        heads.append(client.recv(1024)[9:12])
    return {"websockets_open": heads.count(b"101"), "websockets_refused": heads.count(b"503")}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.floods")
    parser.add_argument("--only", default=",".join(ATTACKS), help="floods, with commas between them")
    parser.add_argument("--part", choices=["floods", "crowds", "readers", "descriptors"], help="only this")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each flood (3)")
    typed = parser.parse_args(argv)
    parts: dict[str, Callable[[], Any]] = {
        "floods": lambda: floods(typed.seconds, typed.only.split(",")),
        "crowds": lambda: crowds(max(4, round(2 * typed.seconds))),
        "readers": lambda: readers(2 * typed.seconds),
        "descriptors": descriptors,
    }
    names = [typed.part] if typed.part else list(parts)
    print(*map(as_text, of_floods({name: parts[name]() for name in names})), sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
