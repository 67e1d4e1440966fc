"""The table of a life: all phases times all commands; its end; messages, turns and event ids."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import pytest

from tests.actors.core.sessions import (
    ANSWER,
    BEGIN_TURN,
    CANCEL_TURN,
    FAIL_TURN,
    MIN,
    SAMPLES,
    SEND,
    T0,
    after,
    at,
    kinds,
    new,
    retime,
)
from vigil.actors.core.commands import (
    COMMANDS,
    Answer,
    BeginTurn,
    CancelTurn,
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
from vigil.actors.core.errors import SessionExpired, SessionNotFound, VigilError
from vigil.actors.core.events import (
    AgentError,
    Broadcast,
    Ended,
    Event,
    EventData,
    Expired,
    Renewed,
    TimeoutUpdated,
)
from vigil.actors.core.expiry import Phase, expires_at, expiry_reason, phase
from vigil.actors.core.lifecycle import TABLE, step
from vigil.actors.core.records import Gone, Message, Session, State, Tombstone

# --- all phases times all commands

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
    (LIVE, CancelTurn): Cell(LIVE, (Broadcast,), message=True, turn=(T0 + 7, "cancelled")),
    (LIVE, Heartbeat): Cell(LIVE, (Renewed,), was_renewed=True),
    (LIVE, Renew): Cell(LIVE, (Renewed,), was_renewed=True),
    (LIVE, Retime): Cell(LIVE, (TimeoutUpdated,)),
    (LIVE, End): Cell(GONE, (Ended,)),
    (LIVE, Tick): Cell(LIVE),
    (DUE, Send): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Answer): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, BeginTurn): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, FailTurn): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, CancelTurn): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Heartbeat): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Renew): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, Retime): Cell(EXPIRED, (Expired,), SessionExpired),
    (DUE, End): Cell(GONE, (Expired,)),  # it expired, and its tombstone is removed
    (DUE, Tick): Cell(EXPIRED, (Expired,)),
    (EXPIRED, Send): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Answer): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, BeginTurn): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, FailTurn): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, CancelTurn): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Heartbeat): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Renew): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, Retime): Cell(EXPIRED, refusal=SessionExpired),
    (EXPIRED, End): Cell(GONE),
    (EXPIRED, Tick): Cell(EXPIRED),
    (GONE, Send): Cell(GONE, refusal=SessionNotFound),
    (GONE, Answer): Cell(GONE, refusal=SessionNotFound),
    (GONE, BeginTurn): Cell(GONE, refusal=SessionNotFound),
    (GONE, FailTurn): Cell(GONE, refusal=SessionNotFound),
    (GONE, CancelTurn): Cell(GONE, refusal=SessionNotFound),
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


def test_a_stopped_turn_leaves_what_was_said_as_a_message_or_says_that_nothing_was() -> None:
    done = step(new(), CANCEL_TURN, at(1))
    assert done.message == Message("m-3", at(1), "agent", True, "as far as", "{}", "", T0 + 7, "cancelled")
    silent = step(new(), CANCEL_TURN._replace(said=""), at(1))
    news = silent.events[0].data
    assert isinstance(news, AgentError)
    assert (news.message_id, news.code, silent.message) == ("m-1", "AGENT_CANCELLED", None)


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
