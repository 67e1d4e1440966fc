"""`vigil serve` as a process of its own, on a free port, for as long as tests need it. Knows nothing of pytest."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.play import tied

_LISTENING = re.compile(r"Vigil is listening on (\S+)")
_STOP_S = 15


class RunningServer(NamedTuple):
    """Where it is, a key with all scopes, and the directory with its data."""

    url: str
    api_key: str
    data_dir: Path


@contextmanager
def running(
    directory: Path, flags: Sequence[str], environ: Mapping[str, str], api_key: str
) -> Iterator[RunningServer]:
    """Gives it once it listens; `directory` gets its data and its log. Raises ScenarioError when it does not start."""
    data_dir, log = directory / "data", directory / "serve.log"
    command = [*tied.COMMAND, "vigil", "serve", "--port=0", f"--data-dir={data_dir}", *flags]
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  ourselves
            command,
            cwd=directory,  # no .env of the tests' own
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**tied.usual_environment(environ), "VIGIL_API_KEY": api_key},
            text=True,
        )
    try:
        yield RunningServer(_url(process, log), api_key, data_dir)
    finally:
        _end(process)


def _url(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    match = _LISTENING.match(process.stdout.readline())
    if match is None:
        process.kill()
        process.wait()
        said = log.read_text(errors="replace").strip() or "it said nothing"
        raise ScenarioError(f"vigil serve did not start: {said}")
    return match[1]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
