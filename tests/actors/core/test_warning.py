"""The expiration warning, and what counts as near expiration (spec section 3)."""

from itertools import product

import pytest

from tests.actors.core.sessions import (
    ANSWER,
    BEGIN_TURN,
    FAIL_TURN,
    MIN,
    SEND,
    T0,
    after,
    at,
    kinds,
    new,
    retime,
)
from vigil.actors.core.commands import Command, Heartbeat, Renew, Retime, Tick
from vigil.actors.core.events import Broadcast, Created, ExpirationWarning, Renewed, TimeoutUpdated
from vigil.actors.core.expiry import due_at, expires_at, is_near_expiration, warn_at
from vigil.actors.core.lifecycle import begin, step
from vigil.actors.core.records import Session, TimeoutConfig

# --- the warning


def test_the_warning_fires_at_the_threshold_and_says_what_remains() -> None:
    session = new()
    assert due_at(session) == warn_at(session) == at(25)
    assert step(session, Tick(), at(25) - 1).events == ()
    done = step(session, Tick(), at(25))
    assert [event.data for event in done.events] == [ExpirationWarning(at(30), 5 * MIN)]
    assert done.session.warned, "that it fired is committed"


def test_the_warning_fires_once_for_an_arming() -> None:
    session = after(new(auto=False), (25, Tick()))
    assert due_at(session) == at(30)
    for command in (Tick(), SEND, Heartbeat(), ANSWER, BEGIN_TURN, FAIL_TURN):
        assert ExpirationWarning not in kinds(step(session, command, at(26)))


@pytest.mark.parametrize("command", [SEND, Heartbeat(), Renew()])
def test_each_renewal_arms_it_again(command: Command) -> None:
    session = after(new(), (25, Tick()), (26, command))
    assert (session.warned, due_at(session)) == (False, at(51))
    assert kinds(step(session, Tick(), at(51))) == [ExpirationWarning]


def test_activity_at_the_cap_does_not_arm_it_again() -> None:
    session = after(new(30, most=30), (25, Tick()), (26, Heartbeat()))
    assert session.warned


@pytest.mark.parametrize(
    "patch", [retime(timeout=40), retime(warn=3), retime(most=29), retime(timeout=29, warn=3)]
)
def test_a_patch_that_changes_the_deadline_or_the_threshold_arms_it(patch: Retime) -> None:
    session = after(new(), (25, Tick()))
    done = step(session, patch, at(25) + 1)
    assert (ExpirationWarning in kinds(done)) is (warn_at(done.session) <= at(25) + 1)
    assert done.session.warned is (ExpirationWarning in kinds(done))


@pytest.mark.parametrize("patch", [retime(auto=False), retime(most=300), retime(timeout=30, warn=5)])
def test_a_patch_that_changes_neither_does_not_arm_it(patch: Retime) -> None:
    done = step(after(new(), (25, Tick())), patch, at(26))
    assert kinds(done) == [TimeoutUpdated]
    assert done.session.warned


def test_turning_auto_renew_on_arms_it_when_that_moves_the_deadline() -> None:
    session = after(new(auto=False), (20, Heartbeat()), (25, Tick()), (26, retime(auto=True)))
    assert (session.warned, due_at(session)) == (False, at(45))


def test_it_fires_at_once_when_its_time_has_passed_already_at_creation() -> None:
    done = begin(Session(1, "s", "a", "u", "c", "{}", T0, T0, T0, TimeoutConfig(5, True, 180, 60)))
    assert kinds(done) == [Created, ExpirationWarning]
    assert done.events[1].data == ExpirationWarning(at(5), 5 * MIN)
    assert due_at(done.session) == at(5)


def test_it_fires_at_once_when_a_patch_or_a_renewal_arms_it_too_late() -> None:
    assert kinds(step(new(), retime(warn=25), at(10))) == [TimeoutUpdated, ExpirationWarning]
    assert kinds(step(new(5, warn=60), Heartbeat(), at(1))) == [Renewed, ExpirationWarning]
    assert kinds(step(new(5, warn=60), SEND, at(1))) == [Broadcast, Renewed, ExpirationWarning]


def test_an_unserved_warning_fires_with_the_next_command() -> None:
    done = step(new(auto=False), SEND, at(26))
    assert kinds(done) == [Broadcast, ExpirationWarning]
    assert done.events[1].data == ExpirationWarning(at(30), 4 * MIN)


def test_a_refused_command_leaves_a_warning_that_is_due_to_its_timer() -> None:
    session = new(30, most=30)
    for command in (Renew(), retime(timeout=25)):
        assert step(session, command, at(25)).state == session
    assert due_at(session) == at(25)


# --- near expiration


@pytest.mark.parametrize(
    ("remaining_ms", "near"),
    [(5 * MIN + 1, False), (5 * MIN, True), (1, True), (0, False), (-1, False)],
)
def test_near_expiration_is_more_than_nothing_and_at_most_the_threshold(
    remaining_ms: int, near: bool
) -> None:
    session = new()
    assert is_near_expiration(session, expires_at(session) - remaining_ms) is near


def test_near_expiration_does_not_ask_whether_the_warning_fired() -> None:
    fresh, warned = new()._replace(warned=False), new()._replace(warned=True)
    for session, minute in product((fresh, warned), (24, 26)):
        assert is_near_expiration(session, at(minute)) is (minute == 26)
