"""A simulation finds deliberate bugs: by what the model says, or by what is left behind."""

import pytest

from tests.measure import PROVING
from tests.scenarios.breakages import broken
from tests.scenarios.simulation.bugs import BUGS, SHOWN, settings
from vigil.scenarios.reports.simulation_text import summary
from vigil.scenarios.simulation.faults.plan import KINDS
from vigil.scenarios.simulation.outcome import Outcome, Settings
from vigil.scenarios.simulation.simulate import simulate


def lived(settings: Settings) -> Outcome:
    return simulate(settings, real_now=lambda: 0.0)


@pytest.mark.parametrize("bug", SHOWN)
def test_a_short_run_shows_each_bug(bug: str) -> None:
    with broken(BUGS[bug]):
        outcome = lived(settings(SHOWN[bug].seed))
    assert outcome.violation is not None, f"nobody noticed that {BUGS[bug].what}"
    assert outcome.violation.rule == SHOWN[bug].rule, summary(outcome)


@pytest.mark.parametrize("seed", sorted({shown.seed for shown in SHOWN.values()}))
def test_the_same_runs_hold_where_there_is_no_bug(seed: int) -> None:
    outcome = lived(settings(seed))
    assert outcome.violation is None, summary(outcome)


@pytest.mark.parametrize("seed", [103, 117])
def test_a_repeat_of_what_failed_counts_once(seed: int) -> None:
    """The model took it for a second message: its first answer was lost, the repeat's was 502."""
    outcome = lived(Settings(seed, people=40, hours=2.0, mix="chaos", faults=KINDS))
    assert outcome.violation is None, summary(outcome)


def test_a_session_whose_renewal_may_be_lost_may_be_near_its_end_or_not() -> None:
    """The model went by one of the two."""
    outcome = lived(Settings(104, people=100, hours=24, faults=KINDS, until_ms=7_500_000))
    assert outcome.violation is None, summary(outcome)


def test_there_are_twenty_bugs_of_all_kinds() -> None:
    assert len(SHOWN) >= 20
    assert {BUGS[bug].section for bug in SHOWN} >= {1, 3, 4, 6, 7, 8, 10}


@pytest.mark.skipif(not PROVING, reason="a thousand people for a day: only `make prove` has the time")
@pytest.mark.parametrize("bug", SHOWN)
def test_three_seeds_of_the_whole_simulation_find_each_bug(bug: str) -> None:
    """By the rules, not by a server or an actor that died."""
    for seed in (1, 2, 3):
        with broken(BUGS[bug]):
            found = lived(Settings(seed, faults=KINDS)).violation
        if found is not None:
            assert found.rule not in ("10 server", "10 crashes"), found.message
            return
    pytest.fail(f"nobody noticed that {BUGS[bug].what}")
