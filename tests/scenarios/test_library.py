"""The library: all of its scripts hold, in virtual time and against real servers, and every run is the same."""

import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import trio

from tests import ROOT
from tests.measure import PROVING
from tests.scenarios.language.test_script import LIBRARY
from tests.scenarios.playing import run_virtual
from vigil.scenarios.language import reading
from vigil.scenarios.play.own_server import OwnServers
from vigil.scenarios.play.results import Play, trace
from vigil.scenarios.replay.command import AT_ONCE, play_live

HOUR_MS = 3_600_000
SLACK_MS = 2000  # real: the machine may be busy
THREE_HOURS = ROOT / "scenarios" / "library" / "renewed_up_to_the_maximum.yaml"

# Live at a minute a second: what is short, and what needs an hour, which is a minute of real time.
SCALE = 60.0
QUICK_MS = 9 * 60_000
MINUTE_MS = 70 * 60_000

PLAIN = (
    "import logging, structlog",
    "structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))",
)


@cache
def played(path: Path) -> Play:
    return run_virtual(reading.load(path))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_a_script_of_the_library_holds_in_virtual_time(path: Path) -> None:
    play = played(path)
    assert play.verdict == "held", play.failures


def test_the_library_covers_more_than_a_hundred_hours() -> None:
    plays = [played(path) for path in LIBRARY]
    assert len(plays) >= 20
    assert sum(play.ended_ms - play.started_ms for play in plays) > 100 * HOUR_MS


def test_titles_tell_the_scripts_apart() -> None:
    titles = [reading.load(path).script.title for path in LIBRARY]
    assert len(set(titles)) == len(titles)


def test_three_hours_leave_the_same_trace_on_every_run_and_in_every_process() -> None:
    code = "\n".join(
        (
            *PLAIN,
            "import sys; from pathlib import Path",
            "from vigil.scenarios.language import reading; from vigil.scenarios.play.results import trace",
            "from tests.scenarios.playing import run_virtual",
            "sys.stdout.buffer.write(trace(run_virtual(reading.load(Path(sys.argv[1])))))",
        )
    )
    here = run_virtual(reading.load(THREE_HOURS))
    assert here.ended_ms - here.started_ms >= 3 * HOUR_MS
    for hash_seed in ("1", "2"):
        elsewhere = subprocess.run(
            [sys.executable, "-c", code, str(THREE_HOURS)],
            check=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        assert elsewhere == trace(here)
    assert trace(run_virtual(reading.load(THREE_HOURS))) == trace(here)


def _fits(ms: int) -> list[Path]:
    """The scripts that take no longer than so much session time, the quickest first."""
    plays = {path: played(path) for path in LIBRARY}
    took = {path: play.ended_ms - play.started_ms for path, play in plays.items()}
    return sorted((path for path in LIBRARY if took[path] <= ms), key=lambda path: took[path])


def test_a_script_that_fits_holds_against_real_servers_too() -> None:
    """Those of a few minutes in a few seconds; when proving, those of an hour too, in a minute each."""
    paths = _fits(MINUTE_MS) if PROVING else _fits(QUICK_MS)[-2 * AT_ONCE :]
    scripts = [reading.load(path) for path in paths]
    opener = OwnServers(SCALE, SLACK_MS, os.environ, os.urandom)
    plays = trio.run(partial(play_live, scripts, opener, tell=lambda _: None))
    assert len(plays) >= 2 * AT_ONCE
    assert [(play.title, play.failures) for play in plays if play.verdict != "held"] == []
