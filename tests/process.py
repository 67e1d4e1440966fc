"""The server as users run it: a real process, to be talked to, stopped and killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

KEY = "test-key-0123456789abcdef"
BASE = "/api/messaging/sessions"
NO_LIMITS = (
    "--session-limit=1000000/minute",
    "--user-limit=100000000/hour",
    "--agent-limit=100000000/hour",
)
_LISTENING = re.compile(r"Vigil is listening on (\S+)")


class ServerProcess:
    """`vigil serve` on a free port. Its standard error is kept in `DATA_DIR.log`.

    `environ` adds variables, or takes them away where it has None.
    """

    def __init__(
        self,
        data_dir: Path,
        *flags: str,
        environ: Mapping[str, str | None] | None = None,
        entry: Sequence[str] = (sys.executable, "-m", "vigil"),
    ) -> None:
        self.log = data_dir.with_suffix(".log")
        command = [*entry, "serve", "--port=0", f"--data-dir={data_dir}", *flags]
        variables = {**os.environ, "VIGIL_API_KEY": KEY, **(environ or {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: value for name, value in variables.items() if value is not None},
                text=True,
            )
        self.url = self._wait_for_url()

    def _wait_for_url(self) -> str:
        match = _LISTENING.match(self.stdout.readline())
        if match is None:
            self.stop(signal.SIGKILL)
            raise RuntimeError(f"the server did not start: {self.log.read_text()}")
        return match[1]

    @property
    def stdout(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, give the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.stdout.close()
        return code

    def client(self) -> httpx.Client:
        """With an API key that has all scopes; paths begin with BASE."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60)


@contextmanager
def running_server(
    data_dir: Path, *flags: str, environ: Mapping[str, str | None] | None = None
) -> Iterator[ServerProcess]:
    """A server that is killed at the end, if it still runs."""
    server = ServerProcess(data_dir, *flags, environ=environ)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)
