"""A program that lives no longer than who started it: `python -m vigil.scenarios.play.tied MODULE [ARGUMENT...]`.

It knows one thing: standard input is a pipe that nobody writes to, so its end is the end of the other process, however
that came about (a `kill -9` leaves no time to stop what was started). A pipe, because the signal that Linux could send
instead comes with the end of a thread, and nowhere else. It refuses to know what it runs.
"""

import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Mapping

COMMAND = (sys.executable, "-m", "vigil.scenarios.play.tied")
"""What stands before the name of a module. The process needs `stdin=subprocess.PIPE`."""


def usual_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a server of ours gets of the environment: no settings that were meant for another."""
    return {
        name: value for name, value in environ.items() if not name.upper().startswith(("VIGIL_", "SESSION_"))
    }


_KILL_S = 20.0  # after SIGTERM: `vigil serve` needs no more


def main() -> None:
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_KILL_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
