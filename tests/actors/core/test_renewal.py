"""When a session expires: the formula, activity, renewals and changed time-outs (spec section 3)."""

import pytest

from tests.actors.core.sessions import (
    ANSWER,
    BEGIN_TURN,
    FAIL_TURN,
    SEND,
    T0,
    WARN_SOONER,
    after,
    at,
    kinds,
    new,
    retime,
)
from vigil.actors.core.commands import Command, Heartbeat, Renew, Retime, Tick
from vigil.actors.core.errors import ChangeRefused, RenewalRefused
from vigil.actors.core.events import Created, Event, Renewed, TimeoutUpdated
from vigil.actors.core.expiry import expires_at, max_expires_at, merge
from vigil.actors.core.lifecycle import begin, step
from vigil.actors.core.records import Session, TimeoutConfig, TimeoutPatch

# --- the formula


@pytest.mark.parametrize(
    ("timeout", "most", "minutes"), [(30, 180, 30), (30, 30, 30), (30, 29, 29), (5, 1, 1), (1440, 4320, 1440)]
)
def test_expires_at_is_the_earlier_of_timeout_and_cap(timeout: int, most: int, minutes: int) -> None:
    session = new(timeout, most=most)
    assert expires_at(session) == at(minutes)
    assert max_expires_at(session) == at(most)


def test_renewed_at_and_last_activity_start_as_created_at_and_creation_is_an_event() -> None:
    made = Session(1, "s-1", "agent", "user", "c-1", "{}", T0, T0, T0, TimeoutConfig(30, True, 180, 5))
    done = begin(made)
    assert (done.session.renewed_at, done.session.last_activity, done.session.renewal_count) == (T0, T0, 0)
    assert done.events == (Event(1, "s-1", T0, Created(made)),)


# --- activity


@pytest.mark.parametrize("sign", [SEND, Heartbeat()])
def test_activity_always_sets_last_activity(sign: Command) -> None:
    for auto in (True, False):
        assert after(new(auto=auto), (10, sign)).last_activity == at(10)


@pytest.mark.parametrize("command", [Renew(), WARN_SOONER, ANSWER, BEGIN_TURN, FAIL_TURN, Tick()])
def test_nothing_else_is_activity(command: Command) -> None:
    assert after(new(), (10, command)).last_activity == T0


@pytest.mark.parametrize("command", [ANSWER, BEGIN_TURN, FAIL_TURN, Tick()])
def test_the_agents_side_never_moves_the_deadline(command: Command) -> None:
    session = after(new(), (10, command))
    assert (expires_at(session), session.renewed_at, session.renewal_count) == (at(30), T0, 0)


@pytest.mark.parametrize("sign", [SEND, Heartbeat()])
def test_activity_with_auto_renew_renews_from_now(sign: Command) -> None:
    done = step(new(), sign, at(10))
    assert (expires_at(done.session), done.session.renewed_at) == (at(40), at(10))
    assert (done.session.renewal_count, done.was_renewed) == (1, True)
    assert done.events[-1].data == Renewed(at(40), 1)


@pytest.mark.parametrize("sign", [SEND, Heartbeat()])
def test_activity_without_auto_renew_leaves_the_deadline_alone(sign: Command) -> None:
    done = step(new(auto=False), sign, at(10))
    assert (expires_at(done.session), done.session.renewed_at) == (at(30), T0)
    assert (done.session.renewal_count, done.was_renewed) == (0, False)
    assert Renewed not in kinds(done)


@pytest.mark.parametrize("sign", [SEND, Heartbeat()])
def test_activity_at_the_cap_sets_renewed_at_and_counts_no_renewal(sign: Command) -> None:
    done = step(new(30, most=30), sign, at(10))
    assert (expires_at(done.session), done.session.renewed_at) == (at(30), at(10))
    assert (done.session.renewal_count, done.was_renewed) == (0, False)
    assert Renewed not in kinds(done)


def test_a_renewal_that_reaches_the_cap_counts_and_the_next_one_does_not() -> None:
    session = after(new(30, most=50), (25, Heartbeat()))
    assert (expires_at(session), session.renewal_count) == (at(50), 1)
    assert after(session, (40, Heartbeat())).renewal_count == 1


def test_what_activity_did_at_the_cap_shows_when_the_cap_is_raised() -> None:
    session = after(new(30, most=30), (20, Heartbeat()), (21, retime(most=180)))
    assert expires_at(session) == at(50)


def test_a_renewal_in_the_instant_of_creation_counts_although_it_moves_nothing() -> None:
    done = step(new(), Heartbeat(), T0)
    assert (expires_at(done.session), done.session.renewal_count) == (at(30), 1)


# --- renew


@pytest.mark.parametrize("auto", [True, False])
def test_renew_renews_whatever_auto_renew_says(auto: bool) -> None:
    done = step(new(auto=auto), Renew(), at(10))
    assert (expires_at(done.session), done.session.renewed_at) == (at(40), at(10))
    assert (done.session.renewal_count, done.was_renewed) == (1, True)
    assert [event.data for event in done.events] == [Renewed(at(40), 1)]


def test_renew_at_the_cap_is_refused_with_its_reason_and_changes_nothing() -> None:
    session = new(30, most=30)
    done = step(session, Renew(), at(10))
    assert isinstance(done.refusal, RenewalRefused)
    assert done.refusal.reason == "max_duration"
    assert (done.state, done.events, done.was_renewed) == (session, (), False)


# --- patch


def test_a_patch_merges_over_the_sessions_own_config_and_never_back_to_defaults() -> None:
    session = after(new(60, False, 90, 7), (1, retime(warn=9)), (2, retime(timeout=70)))
    assert session.config == TimeoutConfig(70, False, 90, 9)
    assert expires_at(session) == at(70)


@pytest.mark.parametrize(
    ("patch", "config"),
    [
        (TimeoutPatch(), (30, True, 180, 5)),
        (TimeoutPatch(timeout_minutes=5), (5, True, 180, 5)),
        (TimeoutPatch(auto_renew=False), (30, False, 180, 5)),
        (TimeoutPatch(max_duration_minutes=1), (30, True, 1, 5)),
        (TimeoutPatch(warning_threshold_minutes=60), (30, True, 180, 60)),
        (TimeoutPatch(6, False, 7, 8), (6, False, 7, 8)),
    ],
)
def test_merging_goes_field_by_field(patch: TimeoutPatch, config: tuple[int, bool, int, int]) -> None:
    assert merge(TimeoutConfig(30, True, 180, 5), patch) == TimeoutConfig(*config)


def test_config_resolves_from_the_defaults_over_the_agents_to_the_requests() -> None:
    defaults = TimeoutConfig(30, True, 180, 5)
    agents = TimeoutPatch(timeout_minutes=60, auto_renew=False)
    requests = TimeoutPatch(timeout_minutes=90, warning_threshold_minutes=10)
    assert merge(merge(defaults, agents), requests) == TimeoutConfig(90, False, 180, 10)


def test_equal_configs_are_one_object_however_they_came_about() -> None:
    one = merge(TimeoutConfig(30, True, 180, 5), TimeoutPatch(timeout_minutes=60))
    other = merge(TimeoutConfig(60, False, 180, 5), TimeoutPatch(auto_renew=True))
    assert one is other


def test_turning_auto_renew_on_counts_from_the_last_activity() -> None:
    session = after(new(auto=False), (20, Heartbeat()), (25, retime(auto=True)))
    assert (session.renewed_at, expires_at(session), session.renewal_count) == (at(20), at(50), 0)


def test_turning_auto_renew_on_never_takes_back_a_renewal() -> None:
    session = after(new(auto=False), (5, Heartbeat()), (20, Renew()), (25, retime(auto=True)))
    assert (session.renewed_at, expires_at(session)) == (at(20), at(50))


def test_auto_renew_that_was_on_already_moves_nothing() -> None:
    session = new()._replace(last_activity=at(20))
    assert after(session, (25, retime(auto=True))).renewed_at == T0


def test_turning_auto_renew_off_moves_nothing() -> None:
    session = after(new(), (10, Heartbeat()), (20, retime(auto=False)), (25, Heartbeat()))
    assert (session.renewed_at, expires_at(session), session.last_activity) == (at(10), at(40), at(25))


def test_a_patch_counts_no_renewal_even_when_it_extends() -> None:
    done = step(new(), retime(timeout=60), at(10))
    assert (expires_at(done.session), done.session.renewal_count, done.was_renewed) == (at(60), 0, False)
    assert kinds(done) == [TimeoutUpdated]


@pytest.mark.parametrize(
    "patch", [retime(timeout=10), retime(most=10), retime(timeout=5), retime(timeout=9, auto=False)]
)
def test_a_change_that_would_end_the_session_at_once_is_refused_and_changes_nothing(patch: Retime) -> None:
    session = new()
    done = step(session, patch, at(10))
    assert isinstance(done.refusal, ChangeRefused)
    assert (done.state, done.events) == (session, ())


def test_a_change_that_leaves_one_millisecond_is_accepted() -> None:
    done = step(new(), retime(timeout=10), at(10) - 1)
    assert done.refusal is None
    assert expires_at(done.session) == at(10)


def test_a_change_is_judged_after_auto_renew_has_counted_the_activity() -> None:
    session = after(new(auto=False), (20, Heartbeat()))
    assert isinstance(step(session, retime(timeout=15), at(25)).refusal, ChangeRefused)
    assert expires_at(after(session, (25, retime(timeout=15, auto=True)))) == at(35)


def test_every_accepted_patch_is_an_event_even_one_that_changes_nothing() -> None:
    done = step(new(), retime(timeout=30), at(1))
    assert kinds(done) == [TimeoutUpdated]
    assert done.events[0].data == TimeoutUpdated(new())
