"""The processes of a load test: a server of its own, and Locust. Starts them, hears them, stops them.

Locust runs on gevent, which patches the standard library on import: that is why it gets a process of its own.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from loadtests.collection import Batch
from loadtests.options import PIPE_VARIABLE, LoadError

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STOP_S = 30.0

_LISTENING = re.compile(r"Vigil is listening on (\S+)")
_ROOT = Path(__file__).parents[1]
_TAIL_LINES = 12


class OwnServer(NamedTuple):
    """A server that lives as long as the load test."""

    url: str
    pid: int


@contextmanager
def own_server(flags: Sequence[str], agents: Sequence[str], api_key: str) -> Iterator[OwnServer]:
    """`vigil serve` on a free port with a temporary store and echo agents. Raises LoadError."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vigil-load-")))
        catalogue = home / "agents.yaml"
        catalogue.write_text(json.dumps({"agents": [_echo(agent) for agent in agents]}))
        command = [sys.executable, "-m", "vigil", "serve", "--port=0", "--log-level=error"]
        command += [f"--data-dir={home / 'data'}", f"--agents={catalogue}", *flags]
        log = stack.enter_context((home / "server.log").open("w+"))
        server = subprocess.Popen(  # noqa: S603  our own
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environ(VIGIL_API_KEY=api_key),
            start_new_session=True,  # Ctrl-C is for us and for Locust: the server is needed to the end
        )
        stack.callback(_stop, server)
        assert server.stdout is not None  # noqa: S101  piped
        stack.callback(server.stdout.close)
        match = _LISTENING.match(server.stdout.readline())
        if match is None:
            server.wait()
            raise LoadError(f"vigil serve did not start:\n{_tail(log)}")
        yield OwnServer(match[1], server.pid)


@contextmanager
def locust(flags: Sequence[str], environ: Mapping[str, str]) -> Iterator[Iterator[Batch]]:
    """Locust with the locustfile. Gives its batches as they come, until it is through. Raises LoadError."""
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="vigil-load-"))
        log = stack.enter_context((Path(home) / "locust.log").open("w+"))
        hears, tells = os.pipe()
        pipe = stack.enter_context(os.fdopen(hears, "rb"))
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
        process = subprocess.Popen(  # noqa: S603  our own
            [*command, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[tells],
            cwd=home,  # a locust.conf of wherever this is run would be read
            env=_environ(**environ, **{PIPE_VARIABLE: str(tells)}),
        )
        os.close(tells)
        stack.callback(_stop, process)
        yield _batches(pipe, log)


def _batches(pipe: IO[bytes], log: IO[str]) -> Iterator[Batch]:
    ended = False
    for line in pipe:
        batch: Batch = json.loads(line)
        ended = bool(batch.get("end"))
        yield batch
    if not ended:
        raise LoadError(f"Locust ended before the run did:\n{_tail(log)}")


def _echo(agent: str) -> dict[str, str]:
    return {"id": agent, "name": agent, "kind": "echo"}


def _environ(**more: str) -> dict[str, str]:
    """What child processes get: from a checkout, too, they find the package that this file is of."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, **more}


def _stop(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return "\n".join(log.read().splitlines()[-_TAIL_LINES:])
