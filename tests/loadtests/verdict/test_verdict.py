"""The verdict: the first check that fails decides the exit code, and what is said is what was found."""

import json
import random
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.loadtests.oracle.crowd import START_S, greedy, play, uniform
from tests.loadtests.oracle.limiters import FAULTS, Limiter
from vigil.loadtests.oracle.findings import Judgement, Limits
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.people.observation import SCOPES, Scope
from vigil.loadtests.verdict.percentiles import Measurements
from vigil.loadtests.verdict.text import milliseconds, text
from vigil.loadtests.verdict.thresholds import parse
from vigil.loadtests.verdict.verdict import Ending, Exit, Generator, Run, Verdict
from vigil.scenarios.reports.junit import junit

SOUGHT: tuple[Scope, ...] = ("session",)
RUN = Run("limits", "http://127.0.0.1:3000", 4, 100.0, must_reach=SOUGHT)


def judged(limiter: Limiter) -> tuple[Judgement, Measurements]:
    """Two greedy sessions for a hundred seconds."""
    clients = [greedy(START_S + 100, f"s{n}", f"u{n}", "a", gap_s=1e-5 + n / 7) for n in range(2)]
    seen = play(limiter, clients, uniform(random.Random(1), 0.001))
    oracle, measured = Oracle(Limits()), Measurements()
    oracle.add(seen)
    for each in seen:
        assert each.received_s is not None
        took_s = each.received_s - each.sent_s
        measured.record(each.received_s, each.operation, took_s, took_s, refused=each.scope)
    return oracle.judge(), measured


EXACT, MEASURED = judged(Limiter(Limits()))
OVER, _ = judged(FAULTS["61/minute"].make(Limits()))
NOTHING = Oracle(Limits()).judge()


def measured(sent: int, unsent: int = 0) -> Measurements:
    found = Measurements()
    for _ in range(sent):
        found.record(1.0, "send", 0.1, 0.1)
    found.never_sent(unsent)
    return found


def ended(**how: Any) -> Run:
    """A run of forty seconds and ten people, and how it ended."""
    planned = Ending(planned_s=40.0, planned_people=10, came=10)
    return RUN._replace(seconds=how.pop("seconds", 40.0), ending=planned._replace(**how))


def late() -> Measurements:
    """A generator that sent everything half a second late."""
    found = Measurements()
    found.record(1.0, "send", 0.1, 0.6, lag_s=0.5)
    return found


def test_a_run_in_which_nothing_is_wrong_held() -> None:
    verdict = Verdict(RUN, EXACT, MEASURED, [parse("p99<250ms"), parse("errors<1%"), parse("undecided<1%")])
    assert verdict.problems == []
    assert verdict.exit_code is Exit.HELD


@pytest.mark.parametrize(
    ("verdict", "code", "problem"),
    [
        (
            Verdict(RUN, NOTHING, Measurements(), [], Generator(unreachable="connection refused")),
            4,
            "the target answers: connection refused",
        ),
        (
            Verdict(RUN, NOTHING, Measurements(), []),
            5,
            "enough was measured: there are no samples: nothing was measured",
        ),
        (Verdict(RUN, OVER, MEASURED, []), 1, "session limit 60/minute: over-admission: "),
        (Verdict(RUN, EXACT, MEASURED, [parse("p50<1us")]), 1, "threshold p50<1us: it was "),
        (
            Verdict(RUN, EXACT, MEASURED, [parse("renew.p50<1s")]),
            1,
            "threshold renew.p50<1s: it was no samples",
        ),
        (
            Verdict(RUN._replace(must_reach=SCOPES), EXACT, MEASURED, []),
            5,
            "user limit 1000/hour: brought to its edge: no request came to it",
        ),
        (
            Verdict(RUN, EXACT, MEASURED, [], Generator(cpu_share=0.97)),
            3,
            "the generator keeps up: one of its processes used 97% of a core: use more --processes",
        ),
        (
            Verdict(RUN, EXACT, late(), []),
            3,
            "the generator keeps up: its requests went out 500 ms late (p99)",
        ),
        (
            Verdict(RUN, EXACT, MEASURED, [], Generator(acknowledged=9, lost=2)),
            1,
            "no acknowledged message is lost: 2 of 9 could not be read back",
        ),
    ],
)
def test_each_thing_that_can_fail_has_its_exit_code_and_its_sentence(
    verdict: Verdict, code: int, problem: str
) -> None:
    assert verdict.exit_code == code
    assert verdict.problems[0].startswith(problem)
    assert text(verdict).count("\n") < 45


def test_a_proof_counts_even_when_the_generator_is_overloaded_and_a_threshold_does_not() -> None:
    slow = Generator(cpu_share=1.0)
    assert Verdict(RUN, OVER, MEASURED, [], slow).exit_code == Exit.FAILED
    assert Verdict(RUN, EXACT, MEASURED, [parse("p50<1us")], slow).exit_code == Exit.OVERLOADED


@pytest.mark.parametrize(
    ("run", "found", "problem"),
    [
        (ended(seconds=7.0), measured(200), "it ended after 7 s of 40 s, with 200 requests sent"),
        (ended(), measured(8), "8 requests, and fewer than 100 say nothing"),
        (ended(), measured(200, 100), "100 of 300 requests that fell due were never sent"),
        (ended(came=7), measured(200), "7 of 10"),
        (ended(lost="1 of 2 processes were lost"), measured(200), "1 of 2 processes were lost"),
    ],
)
def test_a_starved_run_is_incomplete_in_text_page_json_and_junit(
    run: Run, found: Measurements, problem: str
) -> None:
    verdict = Verdict(run, EXACT, found, [parse("errors<=0%")])
    assert (verdict.result, verdict.exit_code) == (Exit.INCOMPLETE, 5)
    last = text(verdict).rpartition("\n\n")[2]
    assert last.startswith(f"INCOMPLETE: {problem}")
    assert verdict.to_json()["verdict"] == "incomplete"
    suite = ElementTree.fromstring(junit("vigil load", verdict.cases()))  # noqa: S314 - our own
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "1")
    (error,) = suite.iter("error")
    assert error.attrib["message"].startswith(f"incomplete: {problem}")


def test_a_run_that_ends_by_itself_and_in_time_is_whole() -> None:
    assert Verdict(ended(seconds=39.6), EXACT, measured(200), []).exit_code == Exit.HELD
    assert Verdict(ended(seconds=7.0, planned_s=0.0), EXACT, measured(200), []).exit_code == Exit.HELD


def test_who_says_how_much_may_stay_unsent_is_believed() -> None:
    verdict = Verdict(ended(), EXACT, measured(200, 100), [parse("unsent<50%")])
    assert verdict.exit_code == Exit.HELD


@pytest.mark.parametrize(("signal", "code"), [(2, 130), (15, 143), (1, 129)])
def test_an_interrupted_run_is_incomplete_with_the_exit_code_of_its_signal(signal: int, code: int) -> None:
    verdict = Verdict(ended(seconds=7.0, signal=signal, came=3), EXACT, measured(8), [parse("renew.p50<1s")])
    assert (verdict.word, verdict.exit_code) == ("incomplete", code)
    assert verdict.to_json()["exitCode"] == code
    last = text(verdict).splitlines()[-1]
    assert last == "INCOMPLETE: interrupted after 7 s of 40 s, with 8 requests sent"


def test_before_anything_was_sent_an_interrupt_leaves_one_line() -> None:
    verdict = Verdict(ended(seconds=0.0, signal=2, came=0), NOTHING, Measurements(), [parse("errors<1%")])
    assert text(verdict) == "INCOMPLETE: interrupted after 0 s of 40 s, with no requests sent"


def test_an_interrupted_run_whose_generator_was_slow_is_incomplete_all_the_same() -> None:
    assert Verdict(ended(signal=2), EXACT, late(), []).word == "incomplete"


def test_a_proof_is_one_however_the_run_ended_and_none_when_something_seen_is_missing() -> None:
    cut = Verdict(ended(seconds=7.0, signal=2), OVER, MEASURED, [])
    assert (cut.word, cut.exit_code) == ("failed", 130)
    missing = Verdict(ended(lost="1 of 2 processes were lost"), OVER, MEASURED, [])
    assert (missing.word, missing.exit_code) == ("incomplete", 5)


def test_a_limit_that_no_request_came_near_is_not_reached_and_not_held() -> None:
    verdict = Verdict(RUN, EXACT, MEASURED, [])
    states = {limit["scope"]: limit["verdict"] for limit in verdict.to_json()["limits"]}
    assert states == {"session": "held", "user": "not reached", "agent": "not reached"}
    user = next(line for line in text(verdict).splitlines() if line.startswith("user 1000/hour"))
    assert user.endswith("  not reached")
    skipped = {case.name for case in verdict.cases() if case.skipped == "not reached"}
    assert "user limit 1000/hour: over-admission" in skipped
    assert "session limit 60/minute: over-admission" not in skipped
    assert "user limit 1000/hour: RateLimit headers" not in skipped


def test_a_run_that_reached_no_limit_says_that_it_proves_none() -> None:
    unreached = EXACT._replace(
        tallies=tuple(replace(each, refused=0, was_full=False) for each in EXACT.tallies)
    )
    verdict = Verdict(RUN._replace(must_reach=()), unreached, MEASURED, [])
    assert text(verdict).splitlines()[-1] == "HELD: no limit was reached, so none is proven"


def test_a_terminal_gets_colours_and_another_one_for_what_was_not_reached() -> None:
    shown = text(Verdict(RUN, EXACT, MEASURED, []), colours=True)
    assert "\x1b[32mheld\x1b[0m" in shown
    assert "\x1b[33mnot reached\x1b[0m" in shown
    assert "\x1b" not in text(Verdict(RUN, EXACT, MEASURED, []))


@pytest.mark.parametrize("width", [50, 80, 120])
def test_a_verdict_fits_the_terminal(width: int) -> None:
    shown = text(Verdict(RUN, OVER, MEASURED, [parse("p99<250ms")]), width=width)
    assert max(map(len, shown.splitlines()[1:])) <= width
    assert "not reached" in " ".join(shown.split())


def test_the_text_has_the_table_by_limit_the_times_and_a_last_word() -> None:
    shown = text(Verdict(RUN, EXACT, MEASURED, [parse("p99<250ms")], Generator(errors={"send: gone": 3})))
    lines = shown.splitlines()
    assert lines[0] == "limits against http://127.0.0.1:3000: 4 people, 100 s"
    session = next(line for line in lines if line.startswith("session 60/minute")).split("  ")
    assert [cell.strip() for cell in session if cell][1:6] == ["240", "4", "0", "0", "0"]
    assert any(line.startswith("all, service time") for line in lines)
    assert "  3 times send: gone" in lines
    assert lines[-1] == "HELD: nothing speaks against the limits; reached: session"


def test_the_text_of_a_failure_ends_with_the_proof() -> None:
    shown = text(Verdict(RUN, OVER, MEASURED, []))
    last = shown.partition("\nFAILED\n")[2]
    assert "61 admitted within one minute, whatever the network did" in " ".join(last.split())


def test_the_json_is_json_and_says_the_same() -> None:
    data = json.loads(json.dumps(Verdict(RUN, OVER, MEASURED, [parse("p50<1us")]).to_json(), allow_nan=False))
    assert data["exitCode"] == 1
    assert data["limits"][0]["overAdmitted"] == OVER.tallies[0].over_admitted > 0
    assert data["limits"][0]["findings"][0]["kind"] == "over-admission"
    assert data["thresholds"][0]["held"] is False
    assert data["operations"]["heartbeat"]["responseTime"]["p99"] > 0


def test_the_junit_cases_are_the_checks() -> None:
    verdict = Verdict(RUN, OVER, MEASURED, [parse("errors<1%")])
    suite = ElementTree.fromstring(junit("vigil load limits", verdict.cases()))  # noqa: S314 - our own
    assert int(suite.attrib["tests"]) == len(verdict.checks)
    assert int(suite.attrib["failures"]) == len(verdict.problems) > 0
    names = {case.attrib["name"] for case in suite.iter("testcase") if case.find("failure") is not None}
    assert "session limit 60/minute: over-admission" in names
    assert "user limit 1000/hour: over-admission" not in names


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.00083, "0.83"), (0.012345, "12.3"), (1.2345, "1230"), (0.0999999, "100")],
)
def test_times_are_shown_to_three_digits(seconds: float | None, shown: str) -> None:
    assert milliseconds(seconds) == shown
