"""Simulated days hold, are the same in every process, and tell what happened in them."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from tests import ROOT
from vigil.scenarios.model import Model
from vigil.scenarios.model.observed import Answered, Sent, Violation
from vigil.scenarios.reports import files
from vigil.scenarios.reports.simulation_text import heading, summary
from vigil.scenarios.simulation import command as simulation_command
from vigil.scenarios.simulation import people
from vigil.scenarios.simulation.clumsiness import MISTAKES
from vigil.scenarios.simulation.faults import plan as faults
from vigil.scenarios.simulation.faults.plan import KINDS, UnknownFault
from vigil.scenarios.simulation.outcome import Outcome, Settings, as_json
from vigil.scenarios.simulation.simulate import Progress, simulate
from vigil.scenarios.virtual.in_process import START_MS
from vigil.server.cli.command_line import Command, command_parser
from vigil.server.front.routing import match

HOUR_MS = 3_600_000
HALF_HOUR_MS = HOUR_MS // 2
SMALL = Settings(seed=1, people=20, hours=1, faults=KINDS)

PROGRAM = """
import logging, sys, time
import structlog
from vigil.scenarios.simulation.faults.plan import KINDS
from vigil.scenarios.simulation.outcome import Settings
from vigil.scenarios.simulation.simulate import simulate

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
for seed in map(int, sys.argv[1:]):
    outcome = simulate(Settings(seed, people=20, hours=0.5, mix="chaos", faults=KINDS), real_now=time.perf_counter)
    print(seed, outcome.hash, outcome.requests, outcome.violation)
"""


def lived(settings: Settings, **options: Any) -> Outcome:
    """A day, and no reading of any clock."""
    return simulate(settings, real_now=lambda: 0.0, **options)


@pytest.fixture(scope="module")
def small() -> Outcome:
    return lived(SMALL)


def test_a_hundred_people_live_through_a_day_of_all_faults() -> None:
    outcome = lived(Settings(seed=1, people=100, hours=24, faults=KINDS))
    assert outcome.violation is None, summary(outcome)
    assert outcome.requests > 5_000
    assert set(outcome.sessions_ended) == {"ended", "inactivity", "max_duration"}
    assert set(outcome.limits_hit) == {"session", "user", "agent"}
    assert outcome.struck["answers lost"] > 0
    assert outcome.struck["commits lost in a crash"] + outcome.struck["commits kept in a crash"] > 0
    assert sum(outcome.sessions_ended.values()) == outcome.sessions_begun


@pytest.mark.parametrize("mix", people.MIXES)
def test_each_mix_holds_without_faults(mix: str) -> None:
    outcome = lived(Settings(seed=2, people=20, hours=0.4, mix=mix))
    assert outcome.violation is None, summary(outcome)
    assert not outcome.bands
    assert not outcome.struck


def test_one_seed_gives_one_hash_in_every_process() -> None:
    """Whatever order Python's hashes give sets and dicts of texts in."""
    seeds = [str(seed) for seed in range(11, 16)]
    first, second = (_in_a_process(hash_seed, seeds) for hash_seed in ("1", "4242"))
    told = [_end(process) for process in (first, second)]
    assert told[0] == told[1]
    assert len({line.split()[1] for line in told[0].splitlines()}) == len(seeds)


def _in_a_process(hash_seed: str, seeds: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *seeds],
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


def test_a_run_that_is_cut_is_the_beginning_of_the_whole_one() -> None:
    """So that a shrinker finds the failure again that it cuts around."""
    whole, cut = _Watching(), _Watching()
    lived(SMALL, judge=lambda _: whole)
    lived(replace(SMALL, until_ms=HALF_HOUR_MS), judge=lambda _: cut)
    early = [one for one in whole.requests if one.at_ms < START_MS + HALF_HOUR_MS]
    assert early == [one for one in cut.requests if one.at_ms < START_MS + HALF_HOUR_MS]
    assert 0 < len(early) < len(whole.requests)


def test_only_those_take_part_who_are_named() -> None:
    watching = _Watching()
    outcome = lived(replace(SMALL, only=(3, 5)), judge=lambda _: watching)
    assert {one.person for one in watching.requests} == {"person-3", "person-5"}
    assert sum(outcome.people.values()) == 2


class _Watching:
    """A judge that keeps what was sent, and minds nothing."""

    def __init__(self) -> None:
        self.requests: list[Sent] = []

    def sent(self, sent: Sent) -> None:
        self.requests.append(sent)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_: None


class _FindsFault(Model):
    """A judge that minds the twentieth answer."""

    def answered(self, number: int, answered: Answered) -> None:
        if number == 20:
            raise Violation("0 made up", "this was the twentieth", number)
        super().answered(number, answered)


def test_the_first_violation_ends_the_run_and_says_how_to_see_it_again() -> None:
    outcome = lived(SMALL, judge=_FindsFault)
    assert outcome.violation is not None
    assert outcome.violation.rule == "0 made up"
    assert [one.exchange.number for one in outcome.violation.evidence] == [20]
    assert outcome.requests < 100
    last = summary(outcome).splitlines()[-1]
    assert last == (
        "again: vigil simulate --seed 1 --people 20 --hours 1 --mix realistic "
        "--faults crash,slow-store,full-store,agent,disconnect"
    )


def test_what_the_repro_says_is_what_was_run() -> None:
    settings = Settings(seed=7, people=20, hours=1.5, mix="chaos", faults=("crash", "agent"))
    typed = settings.repro.split()[2:]
    assert simulation_command.settings_of(_typed(typed)) == settings


def test_the_outcome_is_json_and_its_series_add_up(small: Outcome) -> None:
    body = orjson.loads(orjson.dumps(as_json(small)))
    assert body["held"] is True
    assert body["settings"]["seed"] == 1
    assert len(body["live_sessions"]) == 60
    per_minute = sum(sum(series) for series in body["requests_by_minute"].values())
    answers = sum(sum(statuses.values()) for statuses in body["answers"].values())
    assert per_minute == answers == body["requests"] == small.requests
    refused = sum(sum(series) for series in body["refusals_by_minute"].values())
    assert refused == sum(body["limits_hit"].values())
    assert [one["took_ms"] for one in body["worst"]] == sorted(
        (one["took_ms"] for one in body["worst"]), reverse=True
    )


def test_deadlines_are_kept_to_the_millisecond_when_nothing_is_wrong() -> None:
    outcome = lived(replace(SMALL, faults=()))
    assert set(outcome.lateness_ms) == {0}


def test_progress_is_told_once_a_virtual_minute() -> None:
    told: list[Progress] = []
    lived(replace(SMALL, until_ms=10 * 60_000), progress=told.append)
    assert [one.at_ms for one in told] == [minute * 60_000 for minute in range(10)]


def test_a_server_that_dies_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("vigil.actors.turns.turns.Turns._begin", broken)
    outcome = lived(SMALL)
    assert outcome.violation is not None
    assert (
        outcome.violation.message
        == "[10 server] the server died: LookupError('a bug') at broken in test_simulate.py"
    )


def test_a_bug_of_the_simulation_is_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigil.scenarios.simulation.person.Person.begin", lambda _: 1 // 0)
    with pytest.raises(ExceptionGroup):
        lived(SMALL)


# --- what a leak is


def test_a_session_that_nobody_ends_is_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgotten windows stand for everything that the check counts."""
    monkeypatch.setattr("vigil.actors.limits.limiter.Limits.forget_empty", lambda *_: None)
    outcome = lived(replace(SMALL, faults=(), people=3, hours=0.5))
    assert outcome.violation is not None
    assert outcome.violation.rule == "leak"
    assert "rate-limit windows" in outcome.violation.message


# --- faults


def test_faults_are_drawn_from_the_seed_and_do_not_touch_their_like() -> None:
    for seed in range(30):
        bands = faults.plan(seed, KINDS, 24 * HOUR_MS)
        assert bands == faults.plan(seed, KINDS, 24 * HOUR_MS)
        for kind in KINDS:
            of_kind = [band for band in bands if band.kind == kind]
            assert of_kind
            assert all(one.to_ms < other.from_ms for one, other in pairwise(of_kind))
            assert of_kind[-1].to_ms < 24 * HOUR_MS


def test_a_kind_of_fault_is_the_same_whatever_others_there_are() -> None:
    alone = faults.plan(5, ["agent"], 24 * HOUR_MS)
    among = faults.plan(5, KINDS, 24 * HOUR_MS)
    assert alone == tuple(band for band in among if band.kind == "agent")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("none", ()), ("all", KINDS), ("crash", ("crash",)), ("agent,crash", ("crash", "agent"))],
)
def test_faults_are_read_as_they_are_typed(text: str, kinds: tuple[str, ...]) -> None:
    assert faults.parse(text) == kinds


@pytest.mark.parametrize("text", ["", "crash,", "fire", "all,crash"])
def test_an_unknown_fault_is_refused(text: str) -> None:
    with pytest.raises(UnknownFault, match="write none, all, or some of crash, slow-store"):
        faults.parse(text)


# --- people


def test_every_twenty_people_hold_the_whole_mix() -> None:
    for mix, shares in people.MIXES.items():
        assert sum(shares.values()) == 20
        cast = people.cast(3, 60, mix)
        assert all(Counter(cast[n : n + 20]) == shares for n in (0, 20, 40))


def test_people_come_when_the_day_is_busy() -> None:
    """Most of them by day, few by night; start_ms is midnight here."""
    visits = [
        at // HOUR_MS
        for number in range(500)
        for at in people.arrivals(people.CHARACTERS["chatter"], Random(number), 0, 24 * HOUR_MS)
    ]
    by_day, by_night = (sum(hour in hours for hour in visits) for hours in (range(8, 20), range(6)))
    assert len(visits) == 2000
    assert by_day > 8 * by_night > 0


def test_people_come_within_the_run() -> None:
    for number in range(200):
        at = people.arrivals(people.CHARACTERS["retrier"], Random(number), 7 * HOUR_MS, HOUR_MS * 5 // 4)
        assert at == sorted(at)
        assert 7 * HOUR_MS <= at[0] <= at[-1] < 8 * HOUR_MS + HOUR_MS // 4


def test_mistakes_are_for_routes_that_there_are() -> None:
    for one in MISTAKES:
        base = "/api/messaging/sessions"
        path = base if one.operation in ("createSession", "listSessions") else f"{base}/x{one.rest}"
        assert match(one.method, path)[0].name == one.operation


# --- the command line


def _typed(words: list[str]) -> Namespace:
    command = Command("simulate", "live a day", simulation_command.add_arguments, simulation_command.run)
    return command_parser([command]).parse_args(["simulate", *words])


def test_the_command_prints_its_settings_first_and_the_verdict_last(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "out.json"
    words = ["--seed=3", "--people=5", "--hours=0.5", "--faults=crash", f"--json={file}"]
    assert simulation_command.run(_typed(words)) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("seed 3, vigil ")
    assert lines[-2:] == ["held", f"written: {file}"]
    assert json.loads(file.read_text())["settings"]["faults"] == ["crash"]
    assert printed.err == ""


def test_a_violation_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation_command, "simulate", partial(simulate, judge=_FindsFault))
    assert simulation_command.run(_typed(["--seed=3", "--people=20", "--hours=1"])) == 1
    assert "VIOLATED after" in capsys.readouterr().out


def test_a_seed_is_drawn_where_none_is_typed_and_printed() -> None:
    settings = simulation_command.settings_of(_typed([]))
    assert heading(settings, "1").startswith(
        f"seed {settings.seed}, vigil 1: 1000 people (realistic) for 24 hours"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--seed=x"],
        ["--seed=-1"],
        ["--people=0"],
        ["--hours=0"],
        ["--hours=nan"],
        ["--mix=party"],
        ["--faults=fire"],
    ],
)
def test_what_makes_no_sense_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        _typed(words)
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(files.CannotWrite, match="there is no directory"):
        simulation_command.run(_typed([f"--json={tmp_path}/nowhere/out.json"]))


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_on_a_terminal_at_most_once_a_second() -> None:
    clock, out = [0.0], _Terminal()
    show = simulation_command.progress_line(out, lambda: clock[0])
    for tenth in range(35):
        clock[0] = tenth / 10
        show(Progress(tenth * 1000, 100_000, tenth))
    assert out.getvalue().count("of the day") == 3
    elsewhere = StringIO()
    simulation_command.progress_line(elsewhere, lambda: clock[0] * 10)(Progress(0, 1, 0))
    assert elsewhere.getvalue() == ""
