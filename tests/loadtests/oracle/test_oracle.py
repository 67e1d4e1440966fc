"""The oracle accuses nobody who is innocent, finds everybody who is not, and says when it cannot know."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loadtests.oracle.crowd import START_S, Client, greedy, play, uniform, wanderer
from tests.loadtests.oracle.limiters import FAULTS, Fault, Limiter
from vigil.loadtests.oracle.answers import Limit, Standing, policies, rates, standing
from vigil.loadtests.oracle.findings import Judgement, Kind, Limits, Tally
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.oracle.window import Window
from vigil.loadtests.people.observation import Observation, Scope, as_rows, from_rows

REAL = Limits()
ONE_WAY_S = 0.001  # at most: round trips of up to two milliseconds


def judge(seen: Iterable[Observation], limits: Limits = REAL, scale: float = 1.0) -> Judgement:
    oracle = Oracle(limits, scale=scale)
    oracle.add(seen)
    return oracle.judge()


def tally(judgement: Judgement, scope: Scope) -> Tally:
    return next(each for each in judgement.tallies if each.scope == scope)


def greedy_on(scope: Scope) -> list[Client]:
    """Clients that go to the edge of one limit, at its real size."""
    if scope == "session":
        return [greedy(START_S + 190, f"s{n}", f"u{n}", "a", gap_s=1e-5 + n / 7) for n in range(4)]
    if scope == "user":
        return [greedy(START_S + 70, f"s{n}", "u", "a", gap_s=0.003) for n in range(17)]
    return [greedy(START_S + 70, f"s{n}", f"u{n % 6}", "a", gap_s=0.03) for n in range(102)]


def seen_of(limiter: Limiter, scope: Scope, seed: int = 1) -> list[Observation]:
    return play(limiter, greedy_on(scope), uniform(random.Random(seed), ONE_WAY_S))


# --- soundness


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([1.0, 7.3, 60.0]),
    delay_s=st.sampled_from([0.0, 0.0001, 0.01, 0.2, 1.0, 5.0]),
    loses=st.booleans(),
    forgets=st.booleans(),
)
def test_an_exact_limiter_is_never_accused_whatever_the_network_did(
    seed: int, scale: float, delay_s: float, loses: bool, forgets: bool
) -> None:
    draw = random.Random(seed)
    limits = Limits(
        Limit(draw.randint(1, 5), draw.randint(1, 4)),
        Limit(draw.randint(2, 9), draw.randint(2, 8)),
        Limit(draw.randint(3, 14), draw.randint(2, 12)),
    )
    pause_s, agents = draw.choice([0.01, 0.1, 1.0]) / scale, draw.randint(1, 2)
    clients = [wanderer(START_S + 12 / scale, draw, pause_s, 2, 3, agents) for _ in range(draw.randint(1, 6))]
    lost = draw.random if loses else lambda: 1.0
    seen = play(Limiter(limits), clients, uniform(draw, delay_s / scale), scale=scale, lost=lost)
    draw.shuffle(seen)
    oracle = Oracle(limits, scale=scale, observations_max=len(seen) // 2 if forgets else 10**9)
    oracle.add(seen)
    assert oracle.judge().findings == []


@pytest.mark.parametrize("scope", ["session", "user", "agent"])
def test_traffic_that_goes_to_the_edge_of_an_exact_limit_is_decided(scope: Scope) -> None:
    judgement = judge(seen_of(Limiter(REAL), scope))
    assert judgement.findings == []
    found = tally(judgement, scope)
    assert found.was_full
    assert found.refused >= 10
    assert found.undecided_share < 0.01
    assert found.retry_honest > 0


def test_at_a_time_scale_of_60_hour_windows_slide_and_an_exact_limiter_is_not_accused() -> None:
    clients = [greedy(START_S + 75, f"s{n}", f"u{n % 6}", "a", scale=60, gap_s=0.01) for n in range(18)]
    seen = play(Limiter(REAL), clients, uniform(random.Random(1), 0.0025), scale=60)
    judgement = judge(seen, scale=60)
    assert judgement.findings == []
    assert tally(judgement, "agent").admitted > 1.5 * REAL.agent.requests
    assert tally(judgement, "agent").refused > 0


# --- completeness


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_each_wrong_limiter_is_caught_and_the_right_limit_is_named(fault: Fault) -> None:
    judgement = judge(seen_of(fault.make(REAL), fault.names))
    assert tally(judgement, fault.names).violations > 0
    proofs = {finding.scope for finding in judgement.findings if finding.kind != "wrong headers"}
    assert proofs == {fault.names}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("61/minute", {"over_admitted"}),
        ("59/minute", {"falsely_refused"}),
        ("1001/hour", {"over_admitted"}),
        ("999/hour", {"falsely_refused"}),
        ("5001/hour", {"over_admitted"}),
        ("4999/hour", {"falsely_refused"}),
        ("fixed window", {"over_admitted", "headers_wrong"}),
        ("sliding counter", {"over_admitted", "falsely_refused", "headers_wrong"}),
        ("gcra", {"over_admitted", "headers_wrong"}),
        ("Retry-After short", {"retry_early"}),
        ("Retry-After long", {"retry_late"}),
    ],
)
def test_what_is_wrong_is_said(name: str, counts: set[str]) -> None:
    fault = FAULTS[name]
    found = tally(judge(seen_of(fault.make(REAL), fault.names)), fault.names)
    for count in counts:
        assert getattr(found, count) > 0
    for other in {"over_admitted", "falsely_refused"} - counts:
        assert getattr(found, other) == 0


# --- what is said


def answer(
    sent_s: float,
    took_s: float = 0.002,
    *,
    status: int = 200,
    remaining: int | None = None,
    reset_s: int = 60,
    retry_after: str = "",
    scope: str = "",
    operation: str = "heartbeat",
    session: str | None = "s",
) -> Observation:
    """An answer for session `s`, of user `u` and agent `a`. Of its headers only the session's item is looked at."""
    header = "" if remaining is None else _rate_limit(remaining, reset_s)
    return Observation(
        sent_s,
        sent_s + took_s,
        operation,
        session,
        "u",
        "a",
        status,
        header,
        POLICY,
        retry_after,
        None,
        scope,
    )


POLICY = '"session";q=60;w=60, "user";q=1000;w=3600, "agent";q=5000;w=3600'


def _rate_limit(remaining: int, reset_s: int) -> str:
    return f'"session";r={remaining};t={reset_s}, "user";r=999;t=3600, "agent";r=4999;t=3600'


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


def texts(found: Tally, kind: Kind) -> list[str]:
    return [finding.text for finding in found.findings if finding.kind == kind]


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
    assert judge([seen._replace(rate_limit=_rate_limit(59, 60))]).violations == 1


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
    header = _rate_limit(59, 60) if has_header else ""
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
