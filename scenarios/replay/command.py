"""`vigil replay`: plays scripts, says what held, writes what was asked for, gives the exit code.

0 all held, 1 an expectation failed, 2 a script or setting is wrong, 3 the target could not be reached.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import trio

from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language import durations, reading
from vigil.scenarios.language.reading import Located
from vigil.scenarios.language.script import schema
from vigil.scenarios.play.player import play
from vigil.scenarios.play.results import Play
from vigil.scenarios.play.targets import Opener, Unreachable, Virtual
from vigil.scenarios.replay import recordings as trace_command
from vigil.scenarios.replay import shipped
from vigil.scenarios.reports import files
from vigil.scenarios.reports import play_text as report
from vigil.scenarios.virtual import determinism
from vigil.server.cli import ends
from vigil.server.cli.argument_types import number
from vigil.server.ops import logs

HELD, FAILED, UNREACHABLE = 0, 1, 3
AT_ONCE = 4  # live scripts; each may have a server of its own
SCALE_MAX = 100_000

Tell = Callable[[Play], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `vigil replay`. Every one has a default."""
    parser.epilog = f"The library has {', '.join(shipped.names())}."
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        type=Path,
        default=[],
        metavar="FILE",
        help="scripts; a directory stands for all *.yaml in it",
    )
    add(
        "--library",
        nargs="*",
        choices=shipped.names(),
        default=None,
        metavar="NAME",
        help="scripts that come with Vigil, by name; all of them without one",
    )
    add("--schema", action="store_true", default=False, help="print the JSON Schema of a script, for editors")
    live = parser.add_argument_group(
        "target", "virtual time inside this process, unless one of these is given"
    )
    which = live.add_mutually_exclusive_group()
    which.add_argument(
        "--serve", action="store_true", default=False, help="a `vigil serve` process for each script"
    )
    which.add_argument("--url", default=None, metavar="URL", help="a server that runs")
    live.add_argument("--api-key", default=None, metavar="KEY", help="of that server; else VIGIL_API_KEY")
    live.add_argument(
        "--time-scale",
        type=number(most=SCALE_MAX),
        default=None,
        metavar="N",
        help="how fast the time of --serve runs (1); that of --url is read from its answers",
    )
    live.add_argument(
        "--tolerance",
        type=_duration,
        default=100,
        metavar="TIME",
        help="real time that times may be off (100ms)",
    )
    files = parser.add_argument_group("results")
    files.add_argument("--junit", type=Path, default=None, metavar="FILE", help="write JUnit XML")
    files.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write all that happened as JSON"
    )
    files.add_argument("--timeline", type=Path, default=None, metavar="FILE", help="write a page to look at")
    trace_command.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do it and give the exit code. Raises ScenarioError for what is wrong with scripts and settings."""
    if arguments.schema:
        print(json.dumps(schema(), indent=2))
        return HELD
    if arguments.library is not None:
        arguments.paths = [*arguments.paths, *shipped.files(arguments.library)]
    if not arguments.paths:
        raise ScenarioError("say which scripts: vigil replay FILE.yaml, or vigil replay --library")
    files.check_places(arguments.junit, arguments.json, arguments.timeline)
    logs.configure("auto", "error")
    return _REPLAYS[_kind(arguments.paths)](arguments)


def play_virtual(scripts: Sequence[Located], *, tell: Tell) -> list[Play]:
    """One after the other, each in a world of its own. `tell` gets each as it is done."""
    plays = []
    for located in scripts:
        plays.append(determinism.run(partial(_play_alone, located)))
        tell(plays[-1])
    return plays


async def play_live(scripts: Sequence[Located], opener: Opener, *, tell: Tell) -> list[Play]:
    """AT_ONCE side by side, given in their own order. Raises Unreachable, ScenarioError, before any is skipped."""
    await opener.check()
    plays: list[Play] = []
    for start in range(0, len(scripts), AT_ONCE):
        plays += await _play_side_by_side(scripts[start : start + AT_ONCE], opener, tell)
    return plays


async def _play_side_by_side(scripts: Sequence[Located], opener: Opener, tell: Tell) -> list[Play]:
    plays: dict[int, Play] = {}
    failures: list[ScenarioError] = []
    gate = _Gate(len(scripts))

    async def one(n: int, located: Located) -> None:
        try:
            plays[n] = await _play(located, opener, gate)
            tell(plays[n])
        except* ScenarioError as group:  # from inside the nurseries of target and player
            failures.append(_first(group))
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for n, located in enumerate(scripts):
            nursery.start_soon(one, n, located)
    if failures:
        raise failures[0]
    return [plays[n] for n in range(len(scripts))]


class _Gate:
    """Opens when `awaited` have come: no script is played while the server of another still starts."""

    def __init__(self, awaited: int) -> None:
        self._awaited = awaited
        self._open = trio.Event()

    def come(self) -> None:
        self._awaited -= 1
        if self._awaited <= 0:
            self._open.set()

    async def pass_through(self) -> None:
        self.come()
        await self._open.wait()


async def _play_alone(located: Located) -> Play:
    return await _play(located, Virtual(), _Gate(1))


async def _play(located: Located, opener: Opener, gate: _Gate) -> Play:
    if lacks := opener.lacks(located.script):
        gate.come()
        return _skipped(located, lacks)
    async with opener.open(located.script) as target:
        await gate.pass_through()
        return await play(located, target, clock=time.perf_counter)


def _first(group: BaseExceptionGroup[ScenarioError]) -> ScenarioError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _skipped(located: Located, reason: str) -> Play:
    script = located.script
    return Play(script.title, script.why.strip(), str(located.file), "", "skipped", reason, 0, 0, 0.0)


# --- the command


def _replay_scripts(arguments: argparse.Namespace) -> int:
    scripts = [reading.load(path) for path in reading.scripts_of(arguments.paths)]
    opener = _opener(arguments)
    told = _Told(scripts)
    try:
        with ends.interruptible(told.so_far):
            if opener is None:
                plays = play_virtual(scripts, tell=told)
            else:
                plays = trio.run(
                    partial(play_live, scripts, opener, tell=told),
                    restrict_keyboard_interrupt_to_checkpoints=True,
                )
    except Unreachable as error:
        print(f"vigil: {error}", file=sys.stderr)
        return UNREACHABLE
    print(report.summary(plays))
    _write(arguments, plays)
    return FAILED if any(one.verdict == "failed" for one in plays) else HELD


def _opener(arguments: argparse.Namespace) -> Opener | None:
    """Where to play; None is virtual time."""
    scale, tolerance_ms = arguments.time_scale, arguments.tolerance
    if arguments.serve:
        from vigil.scenarios.play.own_server import OwnServers  # only this needs processes

        return OwnServers(scale or 1.0, tolerance_ms, os.environ, os.urandom)
    if arguments.url is None:
        if arguments.time_scale or arguments.api_key:
            raise ScenarioError(
                "--time-scale and --api-key are for --url and --serve: virtual time needs neither"
            )
        return None
    from vigil.scenarios.play.live import Live

    key = arguments.api_key or os.environ.get("VIGIL_API_KEY")
    if not key:
        raise ScenarioError("--url needs an API key: --api-key KEY, or VIGIL_API_KEY in the environment")
    return Live(arguments.url, key, scale, tolerance_ms)


class _Told:
    """Tells of each script that was played, and knows which are left."""

    def __init__(self, scripts: Sequence[Located]) -> None:
        self._left = {str(located.file): located for located in scripts}
        self._verdicts: Counter[str] = Counter()

    def __call__(self, one: Play) -> None:
        self._left.pop(one.file, None)
        self._verdicts[one.verdict] += 1
        print(report.line(one))
        if one.verdict == "failed":
            print(report.failure(one))
        sys.stdout.flush()

    def so_far(self) -> str:
        """For an interrupt."""
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self._verdicts.items()))
        next_one = next(iter(self._left), "")
        return (
            f"after {self._verdicts.total()} scripts ({verdicts or 'none'}), {len(self._left)} are left; "
            f"the next: vigil replay {next_one}"
        )


def _write(arguments: argparse.Namespace, plays: Sequence[Play]) -> None:
    texts: Mapping[str, Callable[[Sequence[Play]], str]] = {
        "junit": report.as_junit,
        "json": report.as_text,
        "timeline": _timeline,
    }
    for name, text in texts.items():
        path: Path | None = getattr(arguments, name)
        if path is not None:
            files.write(path, text(plays))


def _timeline(plays: Sequence[Play]) -> str:
    from vigil.scenarios.reports import timeline  # a page is seldom wanted, and much is loaded for it

    return timeline.page(plays)


def _kind(paths: Sequence[Path]) -> str:
    """The suffix that all files have; a directory is one of scripts."""
    for path in paths:
        if not path.exists():
            raise ScenarioError(f"{path}: there is no such file{shipped.instead_of(path)}")
    kinds = {".yaml" if path.is_dir() else path.suffix for path in paths}
    if len(kinds) > 1 or not kinds <= _REPLAYS.keys():
        known = " or ".join(f"*{kind}" for kind in _REPLAYS)
        raise ScenarioError(f"files must all be {known}, not {', '.join(sorted(map(str, paths)))}")
    return kinds.pop()


# What can be replayed, by suffix.
_REPLAYS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    ".yaml": _replay_scripts,
    ".jsonl": trace_command.run,
}


def _duration(text: str) -> int:
    try:
        return durations.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
