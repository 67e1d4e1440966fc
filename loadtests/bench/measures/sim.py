"""How fast the simulation goes: requests of simulated people a second of real time, by the command that users type."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypedDict

from vigil.loadtests.bench.figures import Figure, figure
from vigil.loadtests.bench.rig import BenchError, generator_pinned

FLAGS = ("--seed=1", "--people=200", "--hours=6")


class Found(TypedDict):
    """`hash` is of the whole run: another one is another day, whose figures cannot be compared."""

    command: str
    requests: int
    per_s: Figure
    real_s: Figure
    hash: str


def measure(*, rounds: int, flags: tuple[str, ...] = FLAGS) -> Found:
    """The same day so many times. Raises BenchError when it cannot be simulated, or does not hold."""
    with generator_pinned(), tempfile.TemporaryDirectory() as directory:
        days = [_day(flags, Path(directory, "day.json")) for _ in range(rounds)]
    return {
        "command": " ".join(["vigil simulate", *flags]),
        "requests": days[0]["requests"],
        "per_s": figure([day["requests"] / day["real_s"] for day in days], digits=0),
        "real_s": figure([day["real_s"] for day in days], digits=2),
        "hash": days[0]["hash"],
    }


def _day(flags: tuple[str, ...], file: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "vigil", "simulate", *flags, f"--json={file}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  ours
    if done.returncode:
        why = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"`vigil simulate` ended with {done.returncode}: {why[-1] if why else 'no word'}")
    day: dict[str, Any] = json.loads(file.read_text())
    return day
