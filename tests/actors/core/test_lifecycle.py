"""The life of a session: the table, the rules of spec section 3 one by one, and random lives against a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.measure import examples
from vigil.actors.core.commands import (
    COMMANDS,
    Answer,
    BeginTurn,
    Command,
    End,
    FailTurn,
    Heartbeat,
    Renew,
    Retime,
    Send,
    Tick,
    Transition,
)
from vigil.actors.core.errors import (
    ChangeRefused,
    RenewalRefused,
    SessionExpired,
    SessionNotFound,
    VigilError,
)
from vigil.actors.core.events import (
    AgentError,
    Broadcast,
    Created,
    Ended,
    Event,
    EventData,
    ExpirationWarning,
    Expired,
    Renewed,
    TimeoutUpdated,
)
from vigil.actors.core.expiry import (
    Phase,
    due_at,
    expires_at,
    expiry_reason,
    is_near_expiration,
    max_expires_at,
    merge,
    phase,
    warn_at,
)
from vigil.actors.core.lifecycle import TABLE, begin, step
from vigil.actors.core.records import Gone, Message, Session, State, TimeoutConfig, TimeoutPatch, Tombstone

T0 = 1_795_338_000_000
MIN = 60_000


def at(minutes: float) -> int:
    """So many minutes after creation."""
    return T0 + int(minutes * MIN)


def new(timeout: int = 30, auto: bool = True, most: int = 180, warn: int = 5) -> Session:
    """A session that begins at T0, after its first transition."""
    config = TimeoutConfig(timeout, auto, most, warn)
    return begin(Session(1, "s-1", "agent", "user", "c-1", "{}", T0, T0, T0, config)).session


def after(session: Session, *commands: tuple[float, Command]) -> Session:
    """The session after (minute, command) pairs that it survived."""
    for minutes, command in commands:
        transition = step(session, command, at(minutes))
        assert transition.refusal is None
        session = transition.session
    return session


def kinds(transition: Transition) -> list[type[EventData]]:
    return [type(event.data) for event in transition.events]


def retime(
    timeout: int | None = None, auto: bool | None = None, most: int | None = None, warn: int | None = None
) -> Retime:
    return Retime(TimeoutPatch(timeout, auto, most, warn))


SEND = Send("m-1", "hello", '{"k":1}', "[]", "waiting")
ANSWER = Answer("m-2", "hi", "{}", T0 + 7)
BEGIN_TURN = BeginTurn(T0 + 7, "started")
FAIL_TURN = FailTurn(T0 + 7, "m-1", "AGENT_FAILED", "it broke")
WARN_SOONER = retime(warn=6)
SAMPLES: dict[type[Command], Command] = {
    Send: SEND,
    Answer: ANSWER,
    BeginTurn: BEGIN_TURN,
    FailTurn: FAIL_TURN,
    Heartbeat: Heartbeat(),
    Renew: Renew(),
    Retime: WARN_SOONER,
    End: End(),
    Tick: Tick(),
}


# --- (a) all phases times all commands

LIVE, DUE, EXPIRED, GONE = Phase.LIVE, Phase.DUE, Phase.EXPIRED, Phase.GONE


class Cell(NamedTuple):
    """What one command does in one phase: the phase after it, the events, the refusal, and what else is told."""

    then: Phase
    events: Sequence[type[EventData]] = ()
    refusal: type[VigilError] | None = None
    message: bool = False
    turn: tuple[int, str] | None = None
    was_renewed: bool = False


NOW = T0 + 10 * MIN  # LIVE: long before the warning; the instant of every cell
CELLS: dict[tuple[Phase, type[Command]], Cell] = {
    (LIVE, Send): Cell(LIVE, (Broadcast, Renewed), message=True, turn=(NOW, "waiting"), was_renewed=True),
    (LIVE, Answer): Cell(LIVE, (Broadcast,), message=True, turn=(T0 + 7, "answered")),
    (LIVE, BeginTurn): Cell(LIVE, turn=(T0 + 7, "started")),
    (LIVE, FailTurn): Cell(LIVE, (AgentError,), turn=(T0 + 7, "failed")),
    (LIVE, Heartbeat): Cell(LIVE, (Renewed,), was_renewed=True),
    (LIVE, Renew): Cell(LIVE, (Renewed,), was_renewed=True),
    (LIVE, Retime): Cell(LIVE, (TimeoutUpdated,)),
    (LIVE, End): Cell(GONE, (Ended,)),
    (LIVE, Tick): Cell(LIVE),
    (DUE, Send): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Answer): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, BeginTurn): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, FailTurn): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Heartbeat): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Renew): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Retime): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, End): Cell(GONE, (Expired,)),  # it expired, and its tombstone is removed
    (DUE, Tick): Cell(EXPIRED, (Expired,)),
    (EXPIRED, Send): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Answer): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, BeginTurn): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, FailTurn): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Heartbeat): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Renew): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Retime): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, End): Cell(GONE),
    (EXPIRED, Tick): Cell(EXPIRED),
    (GONE, Send): Cell(GONE, refusal=SessionNotFound),
    (GONE, Answer): Cell(GONE, refusal=SessionNotFound),
    (GONE, BeginTurn): Cell(GONE, refusal=SessionNotFound),
    (GONE, FailTurn): Cell(GONE, refusal=SessionNotFound),
    (GONE, Heartbeat): Cell(GONE, refusal=SessionNotFound),
    (GONE, Renew): Cell(GONE, refusal=SessionNotFound),
    (GONE, Retime): Cell(GONE, refusal=SessionNotFound),
    (GONE, End): Cell(GONE, refusal=SessionNotFound),
    (GONE, Tick): Cell(GONE),
}
TOMBSTONE = Tombstone("s-1", "agent", "user", T0, at(5), "inactivity", T0, 0)
STATES: dict[Phase, State] = {LIVE: new(), DUE: new(timeout=10), EXPIRED: TOMBSTONE, GONE: Gone("s-1")}


def test_the_table_and_this_test_have_every_phase_times_every_command() -> None:
    cells = set(product(Phase, COMMANDS))
    assert set(CELLS) == cells
    assert {(row, command) for row, handlers in TABLE.items() for command in handlers} == cells


@pytest.mark.parametrize(("cell", "expected"), CELLS.items(), ids=lambda value: _cell_name(value))
def test_every_cell_of_the_table_does_what_is_written_here(
    cell: tuple[Phase, type[Command]], expected: Cell
) -> None:
    before, command = cell
    assert phase(STATES[before], NOW) is before
    done = step(STATES[before], SAMPLES[command], NOW)
    assert phase(done.state, NOW) is expected.then
    assert tuple(kinds(done)) == tuple(expected.events)
    assert type(done.refusal) is (expected.refusal or type(None))
    assert (done.message is not None) is expected.message
    assert done.turn == expected.turn
    assert done.was_renewed is expected.was_renewed


def _cell_name(value: object) -> str:
    is_cell = isinstance(value, tuple) and len(value) == 2
    return f"{value[0].value}-{value[1].__name__}" if is_cell else ""  # type: ignore[index]


def test_a_step_is_pure_the_same_arguments_give_the_same_transition() -> None:
    for state, command in product(STATES.values(), SAMPLES.values()):
        first, second = step(state, command, NOW), step(state, command, NOW)
        assert first[:-1] == second[:-1]
        assert repr(first.refusal) == repr(second.refusal)


# --- (b) spec section 3: the formula


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


# --- the end


@pytest.mark.parametrize("command", SAMPLES.values(), ids=lambda command: type(command).__name__)
def test_a_command_at_expires_at_comes_too_late_and_one_a_millisecond_before_does_not(
    command: Command,
) -> None:
    session = new(10)
    assert not isinstance(step(session, command, at(10) - 1).state, Tombstone)
    done = step(session, command, at(10))
    assert kinds(done) == [Expired]
    assert isinstance(done.refusal, SessionExpired) or isinstance(command, End | Tick)


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (new(30, most=180), "inactivity"),
        (new(30, most=29), "max_duration"),
        (new(30, most=30), "max_duration"),  # a tie: it is the cap
        (after(new(30, most=50), (20, Heartbeat())), "max_duration"),  # the same tie by renewal
        (after(new(30, most=50), (19, Heartbeat())), "inactivity"),
    ],
)
def test_the_reason_is_max_duration_exactly_when_the_deadline_is_the_cap(
    session: Session, reason: str
) -> None:
    assert expiry_reason(session) == reason
    done = step(session, Tick(), expires_at(session))
    assert done.events[0].data == Expired(expires_at(session), reason)
    assert isinstance(done.state, Tombstone)
    assert done.state.reason == reason


def test_a_tombstone_has_what_a_410_tells_and_counts_from_expires_at_however_late_it_is_noticed() -> None:
    session = after(new(), (10, Heartbeat()))
    done = step(session, SEND, at(500))
    assert done.state == Tombstone("s-1", "agent", "user", T0, at(40), "inactivity", at(10), 1)
    assert isinstance(done.refusal, SessionExpired)
    assert done.refusal.tombstone == done.state
    assert done.message is None
    assert done.events[0].data == Expired(at(40), "inactivity")


def test_an_expired_session_answers_the_same_every_time_until_delete_removes_it() -> None:
    for _ in range(3):
        refusal = step(TOMBSTONE, Heartbeat(), at(60)).refusal
        assert isinstance(refusal, SessionExpired)
        assert refusal.tombstone is TOMBSTONE
    assert step(TOMBSTONE, End(), at(60)) == Transition(Gone("s-1"))
    assert isinstance(step(Gone("s-1"), End(), at(60)).refusal, SessionNotFound)


def test_delete_at_the_deadline_ends_an_expired_session() -> None:
    done = step(new(10), End(), at(10))
    assert (done.state, done.refusal, kinds(done)) == (Gone("s-1"), None, [Expired])


def test_delete_says_when_it_ended() -> None:
    assert step(new(), End(), at(3)).events == (Event(2, "s-1", at(3), Ended(at(3))),)


# --- messages, turns and event ids


def test_a_message_carries_its_author_and_everything_that_was_sent() -> None:
    sent = step(new(), SEND, at(1))
    assert sent.message == Message("m-1", at(1), "user", False, "hello", '{"k":1}', "[]")
    assert sent.events[0].data == Broadcast(sent.message)
    answered = step(sent.session, ANSWER, at(2))
    assert answered.message == Message("m-2", at(2), "agent", True, "hi", "{}", "", ANSWER.turn_at, "stop")
    cut = step(sent.session, ANSWER._replace(finish_reason="length"), at(2))
    assert cut.message == answered.message._replace(finish_reason="length")
    assert cut.events[0].data == Broadcast(cut.message)


def test_a_failed_turn_says_for_which_message_and_why() -> None:
    assert step(new(), FAIL_TURN, at(1)).events[0].data == AgentError("m-1", "AGENT_FAILED", "it broke")


def test_messages_of_one_instant_get_timestamps_a_millisecond_apart() -> None:
    session, stamps = new(), []
    for command in (SEND, ANSWER, SEND, ANSWER):
        done = step(session, command, at(1))
        assert done.message is not None
        session = done.session
        stamps.append(done.message.created_at)
    assert stamps == [at(1), at(1) + 1, at(1) + 2, at(1) + 3]
    assert session.last_activity == at(1), "the clock's time, not the message's"
    later = step(session, SEND, at(1) + 2)
    assert later.message is not None
    assert (later.message.created_at, later.turn) == (at(1) + 4, (at(1) + 4, "waiting"))


def test_event_ids_count_up_by_one_from_creation_and_refusals_take_none() -> None:
    session, ids = new(), [1]
    for command in (
        SEND,
        Heartbeat(),
        retime(timeout=5),
        ANSWER,
        BEGIN_TURN,
        FAIL_TURN,
        Renew(),
        Tick(),
        End(),
    ):
        done = step(session, command, at(6))
        ids += [event.id for event in done.events]
        assert all((event.session_id, event.at) == ("s-1", at(6)) for event in done.events)
        if isinstance(done.state, Session):
            session = done.state
            assert session.event_id == ids[-1]
    assert ids == list(range(1, len(ids) + 1))


# --- (c) random lives against a model


@dataclass
class Model:
    """Section 3 once more, told as plans: at each arming it is settled when the warning will come."""

    timeout: int
    auto: bool
    most: int
    warn: int
    renewed: int = T0
    active: int = T0
    renewals: int = 0
    stamp: int = 0
    warning_due: int | None = None
    ended: str = ""  # "", "inactivity", "max_duration" or "deleted"
    told: list[tuple[Any, ...]] = field(default_factory=list)

    def deadline(self) -> int:
        return min(self.renewed + self.timeout * MIN, self.cap())

    def cap(self) -> int:
        return T0 + self.most * MIN

    def arm(self, now: int) -> None:
        self.warning_due = max(now, self.deadline() - self.warn * MIN)

    def next(self) -> int | None:
        if self.ended:
            return None
        return self.deadline() if self.warning_due is None else self.warning_due

    def tick(self, now: int) -> None:
        if not self.ended and now >= self.deadline():
            self.ended = "max_duration" if self.deadline() == self.cap() else "inactivity"
            self.told.append((now, "expired", self.deadline(), self.ended))
        if not self.ended and self.warning_due is not None and now >= self.warning_due:
            self.warning_due = None
            self.told.append((now, "warning", self.deadline()))

    def renew(self, now: int) -> None:
        self.renewed = now
        self.renewals += 1
        self.told.append((now, "renewed", self.deadline(), self.renewals))
        self.arm(now)

    def sign_of_life(self, now: int) -> None:
        self.active = now
        if self.auto and self.deadline() < self.cap():
            self.renew(now)
        elif self.auto:
            self.renewed = now

    def message(self, now: int) -> None:
        self.stamp = now if now > self.stamp else self.stamp + 1
        self.told.append((now, "message", self.stamp))

    def patch(self, now: int, patch: TimeoutPatch) -> bool:
        was = (self.timeout, self.auto, self.most, self.warn, self.renewed)
        deadline = self.deadline()
        timeout, auto, most, warn = patch
        if auto and not self.auto:
            self.renewed = max(self.renewed, self.active)
        self.timeout, self.most = timeout or self.timeout, most or self.most
        self.auto, self.warn = self.auto if auto is None else auto, warn or self.warn
        if self.deadline() <= now:
            self.timeout, self.auto, self.most, self.warn, self.renewed = was
            return False
        self.told.append((now, "retimed", self.deadline()))
        if self.deadline() != deadline or self.warn != was[3]:
            self.arm(now)
        return True

    def do(self, command: Command, now: int) -> bool:
        """Carry out one command; False when it is refused."""
        if self.ended or now >= self.deadline():
            self.tick(now)
            deletes = isinstance(command, End) and self.ended != "deleted"
            self.ended = "deleted" if deletes else self.ended
            return deletes or isinstance(command, Tick)
        done = self.carry_out(command, now)
        if done:  # a refused command changes nothing, not even a warning that is due: its timer is about to
            self.tick(now)
        return done

    def carry_out(self, command: Command, now: int) -> bool:
        match command:
            case Send():
                self.message(now)
                self.sign_of_life(now)
            case Answer():
                self.message(now)
            case Heartbeat():
                self.sign_of_life(now)
            case Renew() if self.deadline() == self.cap():
                return False
            case Renew():
                self.renew(now)
            case Retime(patch):
                return self.patch(now, patch)
            case End():
                self.ended = "deleted"
                self.told.append((now, "ended", now))
        return True


def tell(event: Event) -> tuple[Any, ...] | None:
    """An event in the model's words."""
    told: tuple[Any, ...] | None = None
    match event.data:
        case Broadcast(message):
            told = ("message", message.created_at)
        case Renewed(deadline, count):
            told = ("renewed", deadline, count)
        case TimeoutUpdated(session):
            told = ("retimed", expires_at(session))
        case ExpirationWarning(deadline, remaining):
            assert remaining == deadline - event.at
            told = ("warning", deadline)
        case Expired(deadline, reason):
            told = ("expired", deadline, reason)
        case Ended(ended_at):
            told = ("ended", ended_at)
    return told and (event.at, *told)


class Life:
    """A session driven as its actor drives it: stepped by commands, and by a tick at each instant it is due."""

    def __init__(self, config: TimeoutConfig) -> None:
        done = begin(Session(1, "s", "a", "u", "c", "{}", T0, T0, T0, config))
        self.state: State = done.state
        self.events: list[Event] = list(done.events)

    def next(self) -> int | None:
        return due_at(self.state) if isinstance(self.state, Session) else None

    def do(self, command: Command, now: int) -> bool:
        done = step(self.state, command, now)
        self.state = done.state
        self.events += done.events
        return done.refusal is None


def run_until(life: Life, model: Model, now: int, until: int) -> int:
    """Let everything fall due that does before `until`. Gives the last instant."""
    while (due := life.next()) is not None and due < until:
        assert due == model.next()
        assert due >= now, "an instant was missed"
        now = due
        life.do(Tick(), now)
        model.tick(now)
        assert life.next() is None or life.next() > now, "the actor would spin"  # type: ignore[operator]
    return now


def compare(life: Life, model: Model) -> None:
    assert [told for event in life.events if (told := tell(event))] == model.told
    assert [event.id for event in life.events] == list(range(1, len(life.events) + 1))
    if isinstance(life.state, Session):
        session = life.state
        assert not model.ended
        assert (expires_at(session), session.renewal_count) == (model.deadline(), model.renewals)
        assert (session.last_activity, session.renewed_at) == (model.active, model.renewed)
        assert session.event_id == len(life.events)
    elif isinstance(life.state, Tombstone):
        tombstone = life.state
        assert (tombstone.reason, tombstone.expires_at) == (model.ended, model.deadline())
        assert (tombstone.last_activity, tombstone.renewal_count) == (model.active, model.renewals)
    else:
        assert model.ended == "deleted"


timeouts = st.sampled_from([5, 6, 30, 60, 1440])
caps = st.sampled_from([1, 5, 29, 30, 31, 90, 180, 4320])
thresholds = st.sampled_from([1, 4, 5, 6, 30, 60])
configs = st.builds(TimeoutConfig, timeouts, st.booleans(), caps, thresholds)
patches = st.builds(
    TimeoutPatch, st.none() | timeouts, st.none() | st.booleans(), st.none() | caps, st.none() | thresholds
)
commands = st.one_of(
    st.sampled_from([SEND, Heartbeat()]),
    st.sampled_from([SEND, Heartbeat(), Renew(), ANSWER, BEGIN_TURN, Tick()]),
    st.builds(Retime, patches),
    st.builds(Retime, patches),
    st.sampled_from([Renew(), End()]),
)
waits = st.one_of(
    st.integers(0, 40).map(lambda minutes: minutes * MIN),
    st.integers(0, 3),
    st.integers(0, 45 * MIN),
    st.sampled_from(["just before", "at", "just after"]),  # whatever falls due next
)


def instant(life: Life, now: int, wait: int | str) -> int:
    due = life.next()
    if isinstance(wait, int):
        return now + wait
    return now if due is None else max(now, due + {"just before": -1, "at": 0, "just after": 1}[wait])


@examples(400)
@given(configs, st.lists(st.tuples(waits, commands, st.booleans()), max_size=25))
def test_random_lives_go_as_the_model_says_to_the_millisecond(
    config: TimeoutConfig, moves: list[tuple[int | str, Command, bool]]
) -> None:
    """Expiry, renewals, warnings: each event at its exact instant, whether a tie's timer or command is first."""
    life, model, now = Life(config), Model(*config), T0
    model.arm(now)
    model.tick(now)
    compare(life, model)
    for wait, command, timer_first in moves:
        until = instant(life, now, wait)
        run_until(life, model, now, until + timer_first)
        now = until
        assert life.do(command, now) is model.do(command, now)
        compare(life, model)
    event(f"ended: {model.ended or 'by itself, after all commands'}")
    run_until(life, model, now, now + 10**12)
    compare(life, model)
    assert not isinstance(life.state, Session)
