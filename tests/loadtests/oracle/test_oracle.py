"""The oracle accuses nobody who is innocent, finds everybody who is not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loadtests.oracle.crowd import START_S, Client, greedy, play, uniform, wanderer
from tests.loadtests.oracle.judging import REAL, judge, tally
from tests.loadtests.oracle.limiters import FAULTS, Fault, Limiter
from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.people.observation import Observation, Scope

ONE_WAY_S = 0.001  # at most: round trips of up to two milliseconds


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
