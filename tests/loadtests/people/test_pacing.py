"""The open model: due instants do not wait for anybody."""

import random

import pytest

from vigil.loadtests.people.pacing import OpenModel, lag_s


def model(per_s: float = 10.0, seed: int = 1) -> OpenModel:
    return OpenModel(per_s, 100.0, random.Random(seed))


def test_due_instants_come_at_the_rate_that_was_asked_for() -> None:
    pace = model(per_s=10.0)
    for _ in range(20_000):
        pace.advance()
        pace.begin()
    assert pace.due_s - 100.0 == pytest.approx(2000.0, rel=0.02)


def test_due_instants_are_spread_as_those_of_people_who_do_not_know_each_other() -> None:
    """Gaps of a Poisson process: as many as e^-1 of them are longer than the mean."""
    pace = model(per_s=1.0)
    gaps = []
    for _ in range(20_000):
        before = pace.due_s
        gaps.append(pace.advance() - before)
    assert sum(gap > 1.0 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.01)


def test_a_late_request_leaves_the_next_due_instant_where_it_was() -> None:
    """The model is never told the time: nothing that happens moves it."""
    one, other = model(), model()
    for _ in range(10):
        assert one.advance() == other.advance()
        one.begin()


def test_what_fell_due_and_was_not_sent_is_counted() -> None:
    pace, same = model(), model()
    dues = [same.advance() for _ in range(5)]
    pace.advance()
    pace.begin()
    assert pace.missed(dues[3]) == 3


def test_a_request_that_waits_for_its_turn_is_missed_when_the_run_ends_after_it_was_due() -> None:
    pace = model()
    due_s = pace.advance()
    assert pace.missed(due_s) == 1


def test_nothing_is_missed_before_it_is_due() -> None:
    pace = model()
    due_s = pace.advance()
    assert pace.missed(due_s - 0.001) == 0


def test_only_the_generators_own_lateness_is_lag() -> None:
    """A person who still waited for the answer before was kept by the server, not by the generator."""
    assert lag_s(sent_s=12.0, due_s=10.0, free_s=11.9) == pytest.approx(0.1)
    assert lag_s(sent_s=12.0, due_s=10.0, free_s=5.0) == 2.0
