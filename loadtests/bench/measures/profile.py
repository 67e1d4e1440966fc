"""Where the microseconds of a request go, layer by layer, by each way in.

    python -m vigil.loadtests.bench.measures.profile [--operation send] [--contestant hot,quart] [--seconds 5]
    [--markdown]

py-spy looks at the stacks of the event loop while wrk drives the server; a sample belongs to the layer of its innermost
frame that has one. Samples are shares, and the thread's CPU time for a request, measured without py-spy, makes them
microseconds. Other threads, of which the store's writer is the one that works, are told by the kernel as a whole.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vigil.loadtests.bench import wrk
from vigil.loadtests.bench.contestants import CONTESTANTS
from vigil.loadtests.bench.measures import http
from vigil.loadtests.bench.measures.http import OPERATIONS, Lane
from vigil.loadtests.bench.rig import BenchError, generator_pinned, loop_cpu_s
from vigil.loadtests.bench.tables import Table, as_markdown, as_text
from vigil.server.cli.extras import install_line

_RATE_HZ = 400
_REST = "other Python"
_WRITER = "store: the writer's thread"
_THREAD = re.compile(r"^[^;]*\(threading\.py")
_LAYERS = (
    (r"actors/stores/", "store: in the event loop"),
    (r"actors/limits/", "rate limits"),
    (r"actors/(hub/|core/events|runtime/counters)", "events and counters"),
    (r"actors/", "the actor and its directory"),
    (r"server/(api/auth|ops/keys)", "auth"),
    (r"server/(input/|api/call)", "validation"),
    (r"server/api/(answers|replies|wire_|errors)", "encoding the answer"),
    (r"server/http/fast_", "the fast path itself"),
    (r"server/ops/logs|structlog/", "logging"),
    (r"server/|vigil/__main__", "gateway, operations and front door"),
    (r"hypercorn/|h11/|h2/|wsproto/", "Hypercorn and h11"),
    (r"quart|werkzeug/", "Quart"),
    (r"trio/_(socket|highlevel_socket)", "sockets"),
    (r"trio/_core/_(io_epoll|wakeup)", "epoll"),
    (r"trio/", "Trio: tasks and scheduling"),
)


def measure(operation: str, contestant: str, seconds: int) -> dict[str, float]:
    """Microseconds of the server's CPU for one request, by layer. Raises BenchError."""
    one = CONTESTANTS[contestant]
    with generator_pinned() as core, one.start(core) as address, tempfile.TemporaryDirectory() as directory:
        requests = http.requests_for(address, OPERATIONS[operation], one.has_sessions)
        lane, pid = Lane(address, requests), address.pids[0]
        before_s = loop_cpu_s(pid)
        turn = http.take_turn(lane, seconds)
        loop_us = (loop_cpu_s(pid) - before_s) / (turn.sample.per_s * seconds) * 1_000_000
        stacks = Path(directory, "stacks")
        spy = subprocess.Popen(  # noqa: S603  found by its caller
            [*_spy(), f"--pid={pid}", f"--duration={seconds}", f"--output={stacks}"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        http.take_turn(lane, seconds + 2)
        if spy.wait():
            raise BenchError(
                "py-spy could not read the server's stacks: it needs root, or ptrace to be allowed"
            )
        loop = [line for line in stacks.read_text().splitlines() if not _THREAD.search(line)]
        return shares(loop, loop_us) | {_WRITER: turn.cpu_us - loop_us}


def shares(lines: Iterable[str], whole: float) -> dict[str, float]:
    """`whole` divided among the layers, most first. Lines are stacks, outermost frame first, and how often."""
    counted: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        counted[layer(stack.split(";"))] += int(count)
    total = counted.total()
    return {name: whole * count / total for name, count in counted.most_common()}


def layer(frames: Sequence[str]) -> str:
    """Of the innermost frame that is in one: the standard library belongs to who called it."""
    for frame in reversed(frames):
        for pattern, name in _LAYERS:
            if re.search(rf"[(/]({pattern})", frame):
                return name
    return _REST


def table(operation: str, found: Mapping[str, Mapping[str, float]]) -> Table:
    """A line for each layer, a column for each way in."""
    layers = sorted(
        {name for one in found.values() for name in one},
        key=lambda name: -max(one.get(name, 0) for one in found.values()),
    )
    rows = [(name, *(f"{one.get(name, 0):.1f}" for one in found.values())) for name in layers]
    rows.append(("in all", *(f"{sum(one.values()):.1f}" for one in found.values())))
    heads = (f"{CONTESTANTS[name].what}, us" for name in found)
    return Table(f"Where a {operation} spends the server's core", ("layer", *heads), rows)


def _spy() -> list[str]:
    path = shutil.which("py-spy", path=f"{Path(sys.executable).parent}") or shutil.which("py-spy")
    if path is None:
        raise BenchError(f"py-spy is not installed: `{install_line('bench')}`")
    return [path, "record", "--format=raw", f"--rate={_RATE_HZ}"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vigil.loadtests.bench.measures.profile")
    parser.add_argument("--operation", default="send", choices=OPERATIONS, help="what is asked (send)")
    parser.add_argument(
        "--contestant", default="quart,hot", help="of whom, with commas between them (quart,hot)"
    )
    parser.add_argument("--seconds", type=int, default=5, help="of sampling (5)")
    parser.add_argument("--markdown", action="store_true", help="print the table of PERFORMANCE.md")
    typed = parser.parse_args(argv)
    wrk.find()
    _spy()
    found = {name: measure(typed.operation, name, typed.seconds) for name in typed.contestant.split(",")}
    print((as_markdown if typed.markdown else as_text)(table(typed.operation, found)))


if __name__ == "__main__":
    main()
