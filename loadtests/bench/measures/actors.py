"""What live sessions cost, and whether many slow the few down: in process, real clock, memory store.

    python -m vigil.loadtests.bench.measures.actors [--sizes 1000,10000,100000,1000000] [--seconds 0.5] [--rounds 5]

For each size a process that holds so many live sessions, all on one core, and round after round each in turn does every
operation for a while, from 32 callers. A ratio is to the smallest size in the same round. With `--hold N` it is one of
those processes: each line of its input names an operation and seconds. How late timers fire and how long a start takes
is measured by `live_sessions` and `restart`.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypedDict

import trio

from vigil.actors.core.records import TimeoutPatch
from vigil.actors.stores.memory import MemoryStore
from vigil.loadtests.bench.figures import Figure, figure, ratios
from vigil.loadtests.bench.in_process import Driver, Pauses, running
from vigil.loadtests.bench.rig import BenchError, generator_pinned
from vigil.server.ops.serve import collect_seldom, freeze_what_is_there

SIZES = (1000, 10_000, 100_000, 1_000_000)
OPERATIONS = ("create", "heartbeat", "send")
_PAGE_BYTES = 4096


class Held(TypedDict):
    """One size. `ratio` is to the smallest size; `pause_ms` the longest time that the loop was away."""

    created_per_s: float
    rss_bytes_each: float
    per_s: dict[str, Figure]
    ratio: dict[str, Figure]
    pause_ms: Figure


class _Holder:
    """A process with so many live sessions."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def answer(self) -> Any:
        """Its next line. Raises BenchError."""
        assert self._process.stdout is not None  # piped
        line = self._process.stdout.readline()
        if not line:
            raise BenchError("a process that holds sessions has ended, see its words above: is memory short?")
        return json.loads(line)

    def ask(self, operation: str, seconds: float) -> Any:
        """`per_s` and `pause_ms` of doing this for so long. Raises BenchError."""
        assert self._process.stdin is not None  # piped
        self._process.stdin.write(f"{operation} {seconds}\n")
        self._process.stdin.flush()
        return self.answer()


def measure(sizes: Sequence[int], *, seconds: float, rounds: int) -> dict[str, Held]:
    """All sizes, interleaved. Raises BenchError."""
    with ExitStack() as stack:
        stack.enter_context(generator_pinned())
        holders = [stack.enter_context(_holder(size)) for size in sizes]
        begun = [holder.answer() for holder in holders]
        taken = [
            [{operation: holder.ask(operation, seconds) for operation in OPERATIONS} for holder in holders]
            for _ in range(rounds)
        ]
    held = {}
    for n, size in enumerate(sizes):
        mine = [one[n] for one in taken]
        held[str(size)] = _held(begun[n], mine, [one[0] for one in taken])
    return held


def _held(begun: Any, mine: Sequence[Any], least: Sequence[Any]) -> Held:
    """One size, from what it answered round by round, and what the smallest size answered in the same rounds."""
    ratio = {
        operation: ratios(
            [
                {"mine": a[operation]["per_s"], "least": b[operation]["per_s"]}
                for a, b in zip(mine, least, strict=True)
            ],
            "least",
        )["mine"]
        for operation in OPERATIONS
    }
    pauses = [max(one[operation]["pause_ms"] for operation in OPERATIONS) for one in mine]
    return {
        "created_per_s": begun["created_per_s"],
        "rss_bytes_each": begun["rss_bytes_each"],
        "per_s": {name: figure([one[name]["per_s"] for one in mine], digits=0) for name in OPERATIONS},
        "ratio": ratio,
        "pause_ms": figure(pauses, digits=1),
    }


def printed_by(module: str, *flags: str) -> dict[str, Any]:
    """What a bench that is a command of its own prints, as JSON. Raises BenchError."""
    command = [sys.executable, "-m", f"vigil.loadtests.bench.{module}", *flags]
    with generator_pinned():
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  ours
    if done.returncode:
        raise BenchError(f"`{' '.join(command[1:])}` failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def _holder(size: int) -> Iterator[_Holder]:
    command = [sys.executable, "-m", "vigil.loadtests.bench.measures.actors", f"--hold={size}"]
    with subprocess.Popen(  # noqa: S603  ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _Holder(process)
        finally:
            process.kill()


# --- the process that holds


async def _hold(size: int) -> None:
    collect_seldom()
    pauses = Pauses()
    async with running(MemoryStore()) as directory, trio.open_nursery() as nursery:
        freeze_what_is_there()
        before = _rss_bytes()
        began_s = time.perf_counter()
        ids = []
        for _ in range(size):
            transition = await directory.create("silent", "user", "{}", TimeoutPatch())
            ids.append(transition.session.id)
        took_s = time.perf_counter() - began_s
        each = (_rss_bytes() - before) / size
        _say({"created_per_s": round(size / took_s), "rss_bytes_each": round(each)})
        nursery.start_soon(pauses.watch)
        driver = Driver(directory, ids)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            operation, seconds = line.split()
            pauses.longest_ms()
            per_s = await driver.per_s(operation, float(seconds))
            _say({"per_s": per_s, "pause_ms": pauses.longest_ms()})
        nursery.cancel_scope.cancel()


def _say(figures: Mapping[str, float]) -> None:
    print(json.dumps(figures), flush=True)


def _rss_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.actors")
    parser.add_argument(
        "--sizes", default=",".join(map(str, SIZES)), help="live sessions, with commas between them"
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement (0.5)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median counts (5)")
    parser.add_argument("--hold", type=int, default=0, help=argparse.SUPPRESS)
    typed = parser.parse_args(argv)
    if typed.hold:
        trio.run(_hold, typed.hold)
        return
    sizes = [int(size) for size in typed.sizes.split(",")]
    print(json.dumps(measure(sizes, seconds=typed.seconds, rounds=typed.rounds), indent=2))


if __name__ == "__main__":
    main()
