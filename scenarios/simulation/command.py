"""`vigil simulate`: options, output and files. Exit code 0 held, 1 violated, 2 usage."""

import argparse
import gc
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import orjson
import structlog

from vigil.scenarios.reports import files
from vigil.scenarios.reports.simulation_text import heading, summary
from vigil.scenarios.simulation.faults import plan as faults
from vigil.scenarios.simulation.outcome import Outcome, Settings, as_json
from vigil.scenarios.simulation.people import MIXES
from vigil.scenarios.simulation.shrinking.script import tell
from vigil.scenarios.simulation.shrinking.shrink import shrink
from vigil.scenarios.simulation.simulate import Progress, simulate
from vigil.server.cli import ends
from vigil.server.cli.argument_types import number, whole_number

SEED_BELOW = 1_000_000
SEED_MAX = 2**63
PEOPLE_MAX = 100_000
HOURS_MIN, HOURS_MAX = 0.1, 720.0
PROGRESS_EVERY_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--seed",
        type=whole_number(0, SEED_MAX),
        default=None,
        metavar="N",
        help="what everything is drawn from (default: drawn)",
    )
    add(
        "--people",
        type=whole_number(1, PEOPLE_MAX),
        default=1000,
        metavar="N",
        help="how many take part (default 1000)",
    )
    add(
        "--hours",
        type=number(least=HOURS_MIN, most=HOURS_MAX),
        default=24.0,
        metavar="H",
        help="how long they do (default 24)",
    )
    add(
        "--mix",
        choices=list(MIXES),
        default="realistic",
        metavar="MIX",
        help=f"what kinds of people: {', '.join(MIXES)} (default realistic)",
    )
    add(
        "--faults",
        type=_faults,
        default=(),
        metavar="FAULTS",
        help=f"none (the default), all, or some of {', '.join(faults.KINDS)} with commas between",
    )
    add("--report", type=Path, default=None, metavar="FILE", help="write a report as one HTML page")
    add("--json", type=Path, default=None, metavar="FILE", help="write everything that came of it as JSON")
    add(
        "--shrink",
        type=Path,
        nargs="?",
        const=Path("shrunk.yaml"),
        default=None,
        metavar="FILE",
        help="cut a run that fails down and write what is left as a scenario (default shrunk.yaml)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Simulate, print, write. Gives 0 when it held, 1 when not. Raises ScenarioError for files that cannot be."""
    files.check_places(arguments.report, arguments.json, arguments.shrink)
    settings = settings_of(arguments)
    outcome = _simulated(settings)
    print(summary(outcome), flush=True)
    _write(arguments.json, lambda: orjson.dumps(as_json(outcome), option=orjson.OPT_INDENT_2))
    _write(arguments.report, lambda: _page(outcome))
    if arguments.shrink is not None and outcome.violation is not None:
        _shrink(outcome, arguments.shrink)
    return 0 if outcome.violation is None else 1


def _simulated(settings: Settings) -> Outcome:
    show = progress_line(sys.stderr, time.monotonic)
    reached = Progress(0, settings.length_ms, 0)

    def note(progress: Progress) -> None:
        nonlocal reached
        reached = progress
        show(progress)

    with ends.interruptible(lambda: _how_far(reached, settings)), _quick_and_quiet():
        print(heading(settings, version("vigil-sessions")), flush=True)
        return simulate(settings, real_now=time.perf_counter, progress=note)


def _how_far(reached: Progress, settings: Settings) -> str:
    share = reached.at_ms / reached.length_ms
    return (
        f"at {share:.0%} of the day, after {reached.requests} requests, all of them as they must be. "
        f"The same day again: {settings.repro}"
    )


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What was typed, with a seed drawn where none was."""
    seed = arguments.seed
    if seed is None:
        seed = random.SystemRandom().randrange(SEED_BELOW)
    return Settings(seed, arguments.people, arguments.hours, arguments.mix, arguments.faults)


def progress_line(out: TextIO, now: Callable[[], float]) -> Callable[[Progress], None]:
    """What shows on a terminal how far it is, at most once a second; it shows nothing elsewhere."""
    if not out.isatty():
        return lambda _: None
    shown_at = now()

    def show(progress: Progress) -> None:
        nonlocal shown_at
        if now() < shown_at + PROGRESS_EVERY_S:
            return
        shown_at = now()
        share = progress.at_ms / progress.length_ms
        out.write(f"\r{share:5.0%} of the day, {progress.requests} requests \r")
        out.flush()

    return show


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Millions of small objects come and go and none of them is a cycle; the server's log would be the day's noise."""
    thresholds, logs = gc.get_threshold(), structlog.get_config()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**logs)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _shrink(failed: Outcome, file: Path) -> None:
    again = f"while it was shrunk. The whole day again: {failed.settings.repro} --shrink {file}"
    with ends.interruptible(lambda: again), _quick_and_quiet():
        smallest = shrink(failed, partial(simulate, real_now=time.perf_counter), partial(print, flush=True))
        told = tell(smallest)
    print(summary(smallest))
    _write(file, lambda: told.text.encode())
    print(f"vigil replay {file} {'fails too' if told.fails else 'holds: the script language cannot show it'}")


def _page(outcome: Outcome) -> bytes:
    page: str = import_module("vigil.scenarios.reports.simulation_page").page(outcome)
    return page.encode()


def _write(file: Path | None, content: Callable[[], bytes]) -> None:
    if file is not None:
        files.write(file, content())
        print(f"written: {file}")


def _faults(text: str) -> tuple[faults.Kind, ...]:
    try:
        return faults.parse(text)
    except faults.UnknownFault as error:
        raise argparse.ArgumentTypeError(str(error)) from None
