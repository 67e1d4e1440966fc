"""The processes of a load test: a server of its own, and Locust. Starts them, hears them, stops them.

Locust runs on gevent, which patches the standard library on import: that is why it gets a process of its own. Each
leads a session of its own: a terminal's Ctrl-C reaches `vigil load` alone, which ends them in order, and with a
process goes whatever it has forked.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from vigil.loadtests.people.collection import Batch
from vigil.loadtests.runner.interrupts import SIGNALS
from vigil.loadtests.runner.options import END_VARIABLE, PIPE_VARIABLE, LoadError
from vigil.scenarios.play import tied

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
STOP_S = 30.0
END_S_MAX = 15.0  # that Locust gets to end an interrupted run
TICK_S = 0.5  # a batch, or word that none came

_LISTENING = re.compile(r"Vigil is listening on (\S+)")
_ROOT = Path(__file__).parents[3]  # what holds the package
_TAIL_LINES = 12
_READ_BYTES = 1 << 20

Process = subprocess.Popen[bytes]


class OwnServer(NamedTuple):
    """A server that lives as long as the load test."""

    url: str
    pid: int


class Children:
    """The processes that were started and have not been stopped yet."""

    def __init__(self) -> None:
        self._processes: list[Process] = []

    def start(self, command: Sequence[str], **options: Any) -> Process:
        """Start one. No signal comes between its start and its being known here."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        unblock = partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        try:
            process: Process = subprocess.Popen(  # noqa: S603  our own
                command, start_new_session=True, preexec_fn=unblock, **options
            )
            self._processes.append(process)
        finally:
            unblock()
        return process

    def stop(self, process: Process, within_s: float = STOP_S) -> None:
        """SIGTERM, and SIGKILL to what is left of it after a while, or when the wait is interrupted."""
        try:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(within_s)
        finally:
            _kill(process)
        process.wait()
        self._processes.remove(process)

    def kill(self) -> None:
        """SIGKILL to all of them, and to what they have started. Waits for nobody: a signal handler may call it."""
        for process in self._processes:
            _kill(process)


@contextmanager
def own_server(
    children: Children, flags: Sequence[str], agents: Sequence[str], api_key: str
) -> Iterator[OwnServer]:
    """`vigil serve` on a free port with a temporary store and echo agents. Raises LoadError."""
    with tempfile.TemporaryDirectory(prefix="vigil-load-") as directory:
        home = Path(directory)
        catalogue = home / "agents.yaml"
        catalogue.write_text(json.dumps({"agents": [_echo(agent) for agent in agents]}))
        command = [*tied.COMMAND, "vigil", "serve", "--port=0", "--log-level=error"]
        command += [f"--data-dir={home / 'data'}", f"--agents={catalogue}", *flags]
        with (home / "server.log").open("w+") as log:
            environ = _environ(VIGIL_API_KEY=api_key)
            server = children.start(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environ
            )
            assert server.stdin is not None and server.stdout is not None  # noqa: PT018  piped
            try:
                yield OwnServer(_url_of(server, server.stdout, log), server.pid)
            finally:
                children.stop(server)
                server.stdout.close()
                server.stdin.close()


def _url_of(server: Process, stdout: IO[bytes], log: IO[str]) -> str:
    """Once it listens. Raises LoadError when it does not."""
    match = _LISTENING.match(stdout.readline().decode())
    if match is None:
        server.wait()
        raise LoadError(f"vigil serve did not start:\n{_tail(log)}")
    return match[1]


class Locust:
    """A Locust that runs. `end` asks it to end the run now; `batches` tells what it saw until it is through."""

    def __init__(self, process: Process, hears: int, control: IO[Any], log: IO[str]) -> None:
        self.failure = ""  # the end of its log, if it ended before the run did
        self._process = process
        self._hears = hears
        self._control = control
        self._log = log
        self._give_up_s = float("inf")
        self._has_begun = False

    def end(self) -> None:
        """To be called from anywhere, a signal handler too. Who has seen nothing yet need not end in order."""
        self._control.close()
        self._give_up_s = time.monotonic() + (END_S_MAX if self._has_begun else 0.0)

    def give_up_after(self, seconds: float) -> None:
        """Let the run last no longer than that, whatever Locust does."""
        self._give_up_s = time.monotonic() + seconds

    def batches(self) -> Iterator[Batch | None]:
        """Each batch as it comes, and None now and then when none does."""
        rest = b""
        while True:
            if time.monotonic() > self._give_up_s:
                _kill(self._process)
            if not select.select([self._hears], [], [], TICK_S)[0]:
                yield None
                continue
            data = os.read(self._hears, _READ_BYTES)
            if not data:
                self.failure = _tail(self._log) or "it said nothing"
                return
            *lines, rest = (rest + data).split(b"\n")
            for batch in map(json.loads, lines):
                self._has_begun = True
                yield batch
                if batch.get("end"):
                    return


@contextmanager
def locust(children: Children, flags: Sequence[str], environ: Mapping[str, str]) -> Iterator[Locust]:
    """Locust with the locustfile. When the block is left it has ended, and its workers with it."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="vigil-load-"))
        log = stack.enter_context((Path(home) / "locust.log").open("w+"))
        hears, tells = os.pipe()
        told, control = os.pipe()
        stack.callback(os.close, hears)
        ends = stack.enter_context(os.fdopen(control, "wb", buffering=0))
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        process = children.start(
            [*command, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[tells, told],
            cwd=home,  # a locust.conf of wherever this is run would be read
            env=_environ(**environ, **{PIPE_VARIABLE: str(tells), END_VARIABLE: str(told)}),
        )
        os.close(tells)
        os.close(told)
        try:
            yield Locust(process, hears, ends, log)
        finally:
            children.stop(process, END_S_MAX)


def _echo(agent: str) -> dict[str, str]:
    return {"id": agent, "name": agent, "kind": "echo"}


def _environ(**more: str) -> dict[str, str]:
    """What child processes get: from a checkout, too, they find the package that this file is of."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, **more}


def _kill(process: Process) -> None:
    """With all of its session, also when it has gone itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return "\n".join(log.read().splitlines()[-_TAIL_LINES:])
