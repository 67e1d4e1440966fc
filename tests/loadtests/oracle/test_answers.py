"""Which answers count, whether their headers are right, and what the oracle says when it cannot know."""

import random

import pytest

from tests.loadtests.oracle.judging import POLICY, REAL, answer, judge, rate_limit_header, tally
from tests.loadtests.oracle.limiters import FAULTS, Limiter
from tests.loadtests.oracle.test_oracle import seen_of
from vigil.loadtests.oracle.answers import Limit, Standing, policies, rates, standing
from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.oracle.window import Window
from vigil.loadtests.people.observation import Observation, as_rows, from_rows

# --- headers


@pytest.mark.parametrize(
    ("remaining", "reset_s", "text"),
    [
        (59, 60, ""),
        (60, 60, "r=60 where 59 are left"),
        (58, 60, "r=58 where 59 are left"),
        (59, 59, "t=59 where one more fits in 59.997 to 60.003 s"),
        (59, 62, "t=62 where one more fits in 59.997 to 60.003 s"),
    ],
)
def test_rate_limit_says_what_is_left_and_when_that_grows(remaining: int, reset_s: int, text: str) -> None:
    found = tally(judge([answer(0.0, remaining=remaining, reset_s=reset_s)]), "session")
    assert [finding.text.partition(":")[0] for finding in found.findings] == ([text] if text else [])


def test_every_counted_answer_carries_rate_limit() -> None:
    found = tally(judge([answer(0.0)]), "session")
    assert found.headers_wrong == 1


@pytest.mark.parametrize("policy", ["", POLICY.replace("60;", "61;"), '"session";q=60;w=60', "sixty"])
def test_the_policy_is_the_configured_one(policy: str) -> None:
    seen = answer(0.0, remaining=59)._replace(policy=policy)
    assert "RateLimit-Policy is" in judge([seen]).findings[0].text


def test_a_create_names_the_user_and_the_agent() -> None:
    header, policy = '"user";r=999;t=3600, "agent";r=4999;t=3600', POLICY.partition(", ")[2]
    seen = Observation(0.0, 0.001, "create", None, "u", "a", 201, header, policy)
    assert judge([seen]).findings == []
    assert judge([seen._replace(policy=POLICY)]).findings[0].scope == "session"


def test_answers_that_do_not_count_carry_neither_header() -> None:
    seen = Observation(0.0, 0.001, "list", None, None, None, 200)
    assert judge([seen]).findings == []
    assert judge([seen._replace(policy=POLICY)]).violations == 3
    assert judge([seen._replace(rate_limit=rate_limit_header(59, 60))]).violations == 1


def test_headers_are_read_strictly() -> None:
    assert rates("") == {}
    assert rates('"session";r=1;t=2, nonsense') is None
    assert policies('"user";q=1000;w=3600') == {"user": Limit(1000, 3600)}


# --- which answers count


@pytest.mark.parametrize(
    ("operation", "status", "has_header", "expected"),
    [
        ("send", 201, True, Standing.ADMITTED),
        ("send", 201, False, Standing.ADMITTED),
        ("send", 422, True, Standing.ADMITTED),
        ("send", 413, True, Standing.ADMITTED),
        ("events", 101, True, Standing.ADMITTED),
        ("send", 400, True, Standing.ADMITTED),
        ("send", 400, False, Standing.MAYBE),
        ("send", 503, False, Standing.MAYBE),
        ("send", 500, True, Standing.ADMITTED),
        ("get", 0, False, Standing.MAYBE),
        ("get", 429, True, Standing.REFUSED),
        ("create", 429, True, Standing.REFUSED),
        ("get", 401, False, Standing.FREE),
        ("get", 403, False, Standing.FREE),
        ("get", 404, False, Standing.FREE),
        ("get", 410, False, Standing.FREE),
        ("send", 410, True, Standing.ADMITTED),
        ("end", 200, False, Standing.FREE),
        ("end", 200, True, Standing.ADMITTED),
        ("create", 201, True, Standing.ADMITTED),
        ("create", 409, True, Standing.ADMITTED),
        ("create", 400, True, Standing.FREE),
        ("create", 404, False, Standing.FREE),
        ("create", 415, False, Standing.FREE),
        ("list", 200, False, Standing.FREE),
        ("health", 0, False, Standing.FREE),
        ("nonsense", 429, False, Standing.FREE),
    ],
)
def test_what_counts_is_what_the_order_of_checks_says(
    operation: str, status: int, has_header: bool, expected: Standing
) -> None:
    header = rate_limit_header(59, 60) if has_header else ""
    received_s = 1.0 if status else None
    seen = Observation(0.0, received_s, operation, "s", "u", "a", status, header)
    assert standing(seen) is expected


def test_refusals_are_charged_nowhere() -> None:
    refusals = [answer(6 + at / 100, status=429, scope="session", retry_after="54") for at in range(100)]
    again = [answer(60.003 + at / 10) for at in range(60)]
    judgement = judge([*(answer(at / 10) for at in range(60)), *refusals, *again])
    assert tally(judgement, "session").falsely_refused == 0
    assert tally(judgement, "session").over_admitted == 0


def test_a_session_counts_for_its_user_and_a_user_for_the_agent() -> None:
    limits = Limits(Limit(60, 60), Limit(10, 3600), Limit(19, 3600))
    seen = [answer(at / 10, session=f"s{at}")._replace(user=f"u{at % 2}") for at in range(20)]
    assert [each.over_admitted for each in judge(seen, limits).tallies] == [0, 0, 1]
    assert [each.over_admitted for each in judge([*seen, seen[0]], limits).tallies] == [0, 1, 2]


# --- what it cannot know


def test_a_user_whom_two_machines_report_is_not_judged() -> None:
    limits = Limits(Limit(60, 60), Limit(10, 3600), Limit(100, 3600))
    oracle = Oracle(limits)
    oracle.add([answer(at, session="s1") for at in range(8)], clock="one")
    oracle.add([answer(at, session="s2") for at in range(8)], clock="other")
    judgement = oracle.judge()
    assert tally(judgement, "user").over_admitted == 0
    assert tally(judgement, "session").admitted == 16
    assert judgement.unjudged == 16


def test_what_others_may_have_sent_before_the_run_excuses_a_refusal() -> None:
    limits = Limits(Limit(60, 60), Limit(1000, 3600), Limit(10, 3600))
    refusal = answer(10.0, status=429, scope="agent", retry_after="3000")
    seen = [*(answer(at) for at in range(5)), refusal]
    assert tally(judge(seen, limits), "agent").falsely_refused == 1
    oracle = Oracle(limits, before={"a": 5})
    oracle.add(seen)
    assert tally(oracle.judge(), "agent").falsely_refused == 0


def test_what_no_longer_fits_is_forgotten_and_nothing_after_it_is_judged() -> None:
    oracle = Oracle(REAL, observations_max=10)
    oracle.add(answer(at / 10) for at in range(60))
    oracle.add([answer(6.0, status=429, scope="session", retry_after="54")])
    judgement = oracle.judge()
    assert judgement.findings == [] or all(finding.kind == "wrong headers" for finding in judgement.findings)
    assert tally(judgement, "session").falsely_refused == 0
    assert (judgement.observations, judgement.unjudged) == (61, 51)


def test_a_promise_is_not_broken_when_what_came_in_between_was_forgotten() -> None:
    slow = [answer(at / 10, 2.9) for at in range(60)]
    first = answer(10.0, 0.001, status=429, scope="session", retry_after="51")
    again = answer(61.01, 0.001, status=429, scope="session", retry_after="2")
    oracle = Oracle(REAL, observations_max=62)
    oracle.add([*slow, first, again, answer(30.0)])
    assert tally(oracle.judge(), "session").retry_early == 0


def test_order_and_batches_do_not_matter() -> None:
    seen = seen_of(FAULTS["gcra"].make(REAL), "session")
    shuffled = random.Random(1).sample(seen, len(seen))
    oracle = Oracle(REAL)
    for start in range(0, len(seen), 100):
        oracle.add(from_rows(as_rows(shuffled[start : start + 100])))
    oracle.judge()  # asking twice changes nothing
    whole, parts = judge(seen), oracle.judge()
    for one, other in zip(whole.tallies, parts.tallies, strict=True):
        assert one.violations == other.violations
        assert one.undecided == other.undecided


def test_bounds_hold_for_every_instant_of_an_interval() -> None:
    window = Window(2, 10.0, 0.0)
    window.sure_sent, window.sure_received = [0.0, 1.0, 5.0], [0.5, 1.5, 9.0]
    window.all_sent, window.all_received = window.sure_sent, window.sure_received
    assert (window.fewest(6.0, 7.0), window.most(6.0, 7.0)) == (2, 3)
    wait = window.wait(6.0, 7.0)
    assert wait is not None
    assert (wait.least_s, wait.most_s) == (3.0, 5.5)


def test_a_course_shows_the_busiest_subject() -> None:
    judgement = judge(seen_of(Limiter(REAL), "session"))
    course = next(each for each in judgement.courses if each.scope == "session")
    assert max(least for _, least, _ in course.points) == 60
    assert max(most for _, _, most in course.points) <= 61
    assert course.refusals
