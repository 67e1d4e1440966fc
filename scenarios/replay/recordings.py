"""`vigil replay FILE.jsonl`: play recordings again, say what differs, or make a scenario of one session."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language import durations
from vigil.scenarios.replay import to_script as trace_script
from vigil.scenarios.replay.replayer import Difference, Replayed, replay
from vigil.scenarios.replay.trace import read
from vigil.server.cli import ends

SAME, DIFFERENT = 0, 1
SHOWN_MAX = 20

_OF_SCRIPTS = ("serve", "url", "api_key", "time_scale", "junit", "json", "timeline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for recordings only."""
    group = parser.add_argument_group("recordings", "of vigil serve --record")
    group.add_argument(
        "--to-script",
        type=Path,
        default=None,
        metavar="FILE",
        help="write a scenario of one recorded session instead of playing",
    )
    group.add_argument(
        "--session", default=None, metavar="ID", help="which session; else the one with the most requests"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play the recordings that were named, and give the exit code. Raises ScenarioError."""
    for name in _OF_SCRIPTS:
        if getattr(arguments, name):
            raise ScenarioError(
                f"--{name.replace('_', '-')} is for scripts: a recording is played in virtual time, and told in words"
            )
    if arguments.to_script is not None:
        return _to_script(arguments)
    outcomes: list[Replayed] = []
    with ends.interruptible(lambda: _so_far(arguments.paths, outcomes)):
        for path in arguments.paths:
            outcomes.append(_play(path))  # noqa: PERF401  an interrupt asks how many there are
    return DIFFERENT if any(outcome.differences for outcome in outcomes) else SAME


def _so_far(paths: Sequence[Path], outcomes: Sequence[Replayed]) -> str:
    """For an interrupt."""
    differences = sum(len(outcome.differences) for outcome in outcomes)
    left = paths[len(outcomes) :]
    return (
        f"after {len(outcomes)} of {len(paths)} recordings ({differences} differences); "
        f"the rest: vigil replay {' '.join(map(str, left))}"
    )


def _play(path: Path) -> Replayed:
    trace = read(path)
    began = time.perf_counter()
    outcome = replay(trace)
    took_s = time.perf_counter() - began
    print(_told(path, outcome, took_s))
    return outcome


def _told(path: Path, outcome: Replayed, took_s: float) -> str:
    verdict = f"{len(outcome.differences)} differences" if outcome.differences else "no difference"
    lines = [
        f"{path}: {outcome.requests} requests of {durations.show(outcome.duration_ms)} "
        f"replayed in {took_s:.1f} s: {verdict}"
    ]
    lines += [f"  {count} not judged: {reason}" for reason, count in sorted(outcome.left_out.items())]
    lines += [_line(path, difference) for difference in outcome.differences[:SHOWN_MAX]]
    if len(outcome.differences) > SHOWN_MAX:
        lines.append(f"  ... and {len(outcome.differences) - SHOWN_MAX} more")
    return "\n".join(lines)


def _line(path: Path, difference: Difference) -> str:
    where = f"{path.name}:{difference.line}"
    when = durations.show(difference.at_ms)
    return (
        f"  {where} at {when} {difference.operation} {difference.path}: "
        f"recorded {difference.recorded}, now {difference.replayed}"
    )


def _to_script(arguments: argparse.Namespace) -> int:
    if len(arguments.paths) != 1:
        raise ScenarioError("--to-script needs one recording")
    trace = read(arguments.paths[0])
    session_id = arguments.session or trace_script.busiest(trace)
    try:
        with arguments.to_script.open("x", encoding="utf-8") as file:
            file.write(trace_script.script(trace, session_id))
    except OSError as error:
        raise ScenarioError(f"{arguments.to_script}: cannot be written: {error.strerror}") from None
    print(f"{arguments.to_script}: session {session_id}. Play it: vigil replay {arguments.to_script}")
    return SAME
