"""What the oracle says of an answer: over-admitted, falsely refused, a dishonest Retry-After, or undecided."""

import pytest

from tests.loadtests.oracle.judging import REAL, answer, judge, tally, texts
from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.people.observation import Observation


def test_61_within_a_minute_is_a_proof_and_names_the_window_and_the_session() -> None:
    found = tally(judge(answer(at) for at in range(0, 61)), "session")
    assert found.over_admitted == 0  # sixty seconds apart
    found = tally(judge(answer(at * 0.9) for at in range(0, 61)), "session")
    assert found.over_admitted == 1
    assert found.findings[0].subject == "s"
    assert found.findings[0].text == (
        "61 admitted within one minute, whatever the network did: the first was sent at 0.000 s, "
        "the last was answered at 54.002 s"
    )


@pytest.mark.parametrize(
    ("last_s", "over", "undecided"),
    [(59.900, 1, 0), (59.996, 1, 0), (59.999, 0, 1), (60.001, 0, 1), (60.004, 0, 0)],
)
def test_the_edge_is_as_wide_as_the_network_was_slow(last_s: float, over: int, undecided: int) -> None:
    found = tally(judge([answer(0.0), *(answer(1 + at / 10) for at in range(59)), answer(last_s)]), "session")
    assert (found.over_admitted, found.undecided) == (over, undecided)


@pytest.mark.parametrize(
    ("at_s", "wrongly", "undecided"),
    [(59.9, 0, 0), (59.999, 0, 1), (60.001, 0, 1), (60.004, 1, 0), (70.0, 1, 0)],
)
def test_a_refusal_is_false_when_the_oldest_had_surely_left(
    at_s: float, wrongly: int, undecided: int
) -> None:
    full = [answer(0.0), *(answer(20 + at / 10) for at in range(59))]
    refusal = answer(at_s, status=429, scope="session", retry_after="1")
    found = tally(judge([*full, refusal]), "session")
    assert (found.falsely_refused, found.undecided) == (wrongly, undecided)


def test_a_refusal_that_names_nothing_is_false_only_when_all_three_had_room() -> None:
    refusal = answer(10.0, status=429, retry_after="1")
    assert judge([*(answer(at / 10) for at in range(60)), refusal]).tallies[0].falsely_refused == 0
    judgement = judge([*(answer(at / 10) for at in range(59)), refusal])
    assert [each.falsely_refused for each in judgement.tallies] == [1, 0, 0]


def test_a_refusal_stands_or_falls_with_the_limit_that_it_names() -> None:
    refusal = answer(10.0, status=429, scope="user", retry_after="1")
    judgement = judge([*(answer(at / 10) for at in range(60)), refusal])
    assert [each.falsely_refused for each in judgement.tallies] == [0, 1, 0]


def test_a_refusal_while_the_last_admission_was_under_way_is_undecided() -> None:
    last, refusal = answer(10.0, 0.101), answer(10.1, status=429, scope="session", retry_after="50")
    found = tally(judge([*(answer(at / 10) for at in range(59)), last, refusal]), "session")
    assert (found.falsely_refused, found.undecided) == (0, 1)


def test_a_create_cannot_be_refused_for_a_session() -> None:
    refusal = answer(1.0, status=429, scope="session", operation="create", session=None)
    assert tally(judge([refusal]), "session").falsely_refused == 1


def test_a_request_without_an_answer_excuses_a_refusal_and_accuses_nobody() -> None:
    unanswered = Observation(5.0, None, "send", "s", "u", "a", 0)
    refusal = answer(10.0, status=429, scope="session", retry_after="50")
    found = tally(judge([*(answer(at / 10) for at in range(59)), unanswered, refusal]), "session")
    assert (found.falsely_refused, found.over_admitted, found.undecided) == (0, 0, 1)
    found = tally(judge([*(answer(at / 10) for at in range(60)), unanswered]), "session")
    assert (found.over_admitted, found.undecided) == (0, 1)


@pytest.mark.parametrize(
    ("retry_after", "count"),
    [("49", "retry_early"), ("50", "retry_honest"), ("51", "retry_late"), ("0", "retry_early")],
)
def test_retry_after_is_the_wait_in_seconds_rounded_up(retry_after: str, count: str) -> None:
    full = [answer(at / 10) for at in range(60)]  # the first leaves at 60.000 to 60.002
    found = tally(
        judge([*full, answer(10.5, status=429, scope="session", retry_after=retry_after)]), "session"
    )
    assert {name: getattr(found, name) for name in RETRIES} == {**dict.fromkeys(RETRIES, 0), count: 1}


RETRIES = ("retry_honest", "retry_early", "retry_late", "retry_undecided")


def test_a_retry_after_on_the_turn_of_a_second_is_undecided() -> None:
    full = [answer(at / 10) for at in range(60)]
    found = tally(judge([*full, answer(10.0, status=429, scope="session", retry_after="50")]), "session")
    assert found.retry_undecided == 1


@pytest.mark.parametrize(
    ("wait_ms", "count"), [(49_000, "retry_early"), (49_501, "retry_honest"), (49_900, "retry_late")]
)
def test_retry_after_ms_is_the_exact_wait(wait_ms: int, count: str) -> None:
    full = [answer(at / 10) for at in range(60)]
    refusal = answer(10.5, status=429, scope="session", retry_after="50")._replace(retry_after_ms=wait_ms)
    assert getattr(tally(judge([*full, refusal]), "session"), count) == 1


def test_the_longest_wait_counts_when_two_limits_are_full() -> None:
    limits = REAL._replace(user=Limit(60, 3600))
    refusal = answer(10.5, status=429, scope="session", retry_after="50")
    found = tally(judge([*(answer(at / 10) for at in range(60)), refusal], limits), "session")
    assert found.retry_early == 1


def test_a_retry_at_the_promised_instant_that_is_refused_shows_what_intervals_do_not() -> None:
    slow = [answer(at / 10, 2.9) for at in range(60)]  # the first leaves at 60.0 to 62.9
    first = answer(10.0, 0.001, status=429, scope="session", retry_after="51")
    again = answer(61.01, 0.001, status=429, scope="session", retry_after="2")
    found = tally(judge([*slow, first, again]), "session")
    assert texts(found, "Retry-After too early") == [
        "Retry-After 51, and refused again 51.009 s later with nothing in between: "
        "sent at 10.000 s, answered at 10.001 s"
    ]
    between = answer(30.0)
    assert tally(judge([*slow[:59], between, first, again]), "session").retry_early == 0


def test_an_admission_a_second_before_retry_after_shows_that_it_was_too_late() -> None:
    wide = [answer(at / 10, 2.9) for at in range(60)]
    refusal = answer(10.0, 0.001, status=429, scope="session", retry_after="52")
    found = tally(judge([*wide, refusal, answer(60.5)]), "session")
    assert found.retry_late == 1
    assert tally(judge([*wide, refusal, answer(61.5)]), "session").retry_late == 0


def test_a_refusal_without_a_retry_after_is_noticed() -> None:
    full = [answer(at / 10, remaining=59 - at, reset_s=60 - at // 10) for at in range(60)]
    refusal = answer(10.5, status=429, scope="session", remaining=0, reset_s=50)
    assert judge([*full, refusal._replace(retry_after="50")]).tallies[0].findings == []
    (text,) = texts(tally(judge([*full, refusal]), "session"), "wrong headers")
    assert text.startswith("a 429 without a Retry-After in seconds")
