"""The verdict: the first check that fails decides the exit code, and what is said is what was found."""

import json
import random
from xml.etree import ElementTree

import pytest

from loadtests.observation import SCOPES, Scope
from loadtests.oracle import Oracle
from loadtests.oracle_tally import Judgement, Limits
from loadtests.percentiles import Measurements
from loadtests.thresholds import parse
from loadtests.verdict import Exit, Generator, Run, Verdict
from loadtests.verdict_text import milliseconds, text
from scenarios.junit import junit
from tests.loadtests.crowd import START_S, greedy, play, uniform
from tests.loadtests.limiters import FAULTS, Limiter

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
            1,
            "samples were taken: there are none: nothing was measured",
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
            1,
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
