"""The life of a session as pure functions of (state, command, now). Spec section 3 is this file.

A session is in one of four phases; `TABLE` says what each command does in each. Time is a command too:
`Tick` does whatever has fallen due.

    LIVE      now is before expiresAt
    DUE       expiresAt has come, but nobody has noticed yet: the next command, whatever it is, ends the session
    EXPIRED   a tombstone is left
    GONE      nothing is left
"""

from collections.abc import Callable
from typing import Any

from vigil.actors.core.commands import (
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
from vigil.actors.core.errors import (
    AgentCancelled,
    ChangeRefused,
    RenewalRefused,
    SessionExpired,
    SessionNotFound,
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
from vigil.actors.core.expiry import Phase, can_extend, expires_at, expiry_reason, merge, phase, warn_at
from vigil.actors.core.records import Gone, Message, Session, State, Tombstone, TurnState, maker

# These are on every command's way.
_event, _session, _message = maker(Event), maker(Session), maker(Message)
_broadcast, _renewed, _transition = maker(Broadcast), maker(Renewed), maker(Transition)
_LAST_ACTIVITY, _RENEWED_AT, _EVENT_ID = map(
    Session._fields.index, ("last_activity", "renewed_at", "event_id")
)
AGENT_CANCELLED = "The agent was stopped before it said anything"
# `_activity` and `_live` build a session from slices between these fields: they must stand in this order.
if Session._fields[_LAST_ACTIVITY:] != (
    "last_activity",
    "renewed_at",
    "config",
    "renewal_count",
    "warned",
    "event_id",
    "last_message_at",
):
    raise TypeError("a field of Session was moved: mend the slices in core.lifecycle")


def tombstone_of(session: Session) -> Tombstone:
    return Tombstone(
        session.id,
        session.agent_id,
        session.user_id,
        session.created_at,
        expires_at(session),
        expiry_reason(session),
        session.last_activity,
        session.renewal_count,
    )


# --- the steps


def begin(session: Session) -> Transition:
    """The first transition of a session that was just made."""
    return _live(session, session.created_at, Created(session))


def creation(session: Session) -> Event:
    """A session's first event again, as long as it is the only one: nothing that it tells has changed since."""
    at = session.created_at
    return Event(1, session.id, at, Created(session._replace(last_activity=at, renewed_at=at, event_id=0)))


def step(state: State, command: Command, now: int) -> Transition:
    """Carry out one command at one instant. Pure: the same arguments give the same transition."""
    return TABLE[phase(state, now)][type(command)](state, command, now)


def _live(
    session: Session,
    now: int,
    *news: EventData,
    message: Message | None = None,
    turn: tuple[int, TurnState] | None = None,
    was_renewed: bool = False,
) -> Transition:
    """The session goes on as it is now, with `news`; its warning fires with them when its time has come."""
    if not session.warned and now >= warn_at(session):
        session = session._replace(warned=True)
        news = (*news, ExpirationWarning(expires_at(session), expires_at(session) - now))
    if not news:
        return Transition(session, (), message, turn, was_renewed)
    session_id, before = session.id, session.event_id
    events = tuple([_event((before + n, session_id, now, data)) for n, data in enumerate(news, 1)])
    last = session.last_message_at if message is None else message.created_at
    after = _session((*session[:_EVENT_ID], before + len(news), last))
    return _transition((after, events, message, turn, was_renewed, None))


def _activity(session: Session, now: int) -> tuple[Session, tuple[Renewed, ...]]:
    """The session after a sign of life, and the news if that renewed it, which arms its warning again."""
    config = session.config
    if not config.auto_renew:
        return _session((*session[:_LAST_ACTIVITY], now, *session[_RENEWED_AT:])), ()
    renews = can_extend(session)
    count = session.renewal_count + renews
    warned = session.warned and not renews
    after = _session((*session[:_LAST_ACTIVITY], now, now, config, count, warned, *session[_EVENT_ID:]))
    return after, ((_renewed((expires_at(after), count)),) if renews else ())


def _next_instant(session: Session, now: int) -> int:
    """A message's timestamp: now, or a millisecond after the last one, so that timestamps are unique."""
    return max(now, session.last_message_at + 1)


def _send(session: Session, command: Send, now: int) -> Transition:
    message_id, content, metadata, attachments, turn = command
    at = _next_instant(session, now)
    message = _message((message_id, at, session.user_id, False, content, metadata, attachments, 0, ""))
    after, renewed = _activity(session, now)
    owed = (at, turn) if turn else None
    return _live(
        after, now, _broadcast((message,)), *renewed, message=message, turn=owed, was_renewed=bool(renewed)
    )


def _answer(session: Session, command: Answer, now: int) -> Transition:
    message_id, content, metadata, turn_at, finish_reason = command
    at = _next_instant(session, now)
    message = Message(message_id, at, session.agent_id, True, content, metadata, "", turn_at, finish_reason)
    return _live(session, now, Broadcast(message), message=message, turn=(turn_at, "answered"))


def _begin_turn(session: Session, command: BeginTurn, now: int) -> Transition:
    return _live(session, now, turn=(command.turn_at, command.state))


def _fail_turn(session: Session, command: FailTurn, now: int) -> Transition:
    news = AgentError(command.message_id, command.code, command.message)
    return _live(session, now, news, turn=(command.turn_at, "failed"))


def _cancel_turn(session: Session, command: CancelTurn, now: int) -> Transition:
    turn_at, question_id, answer_id, said = command
    turn: tuple[int, TurnState] = (turn_at, "cancelled")
    if not said:
        return _live(session, now, AgentError(question_id, AgentCancelled.code, AGENT_CANCELLED), turn=turn)
    at = _next_instant(session, now)
    message = Message(answer_id, at, session.agent_id, True, said, "{}", "", turn_at, "cancelled")
    return _live(session, now, Broadcast(message), message=message, turn=turn)


def _heartbeat(session: Session, _command: Heartbeat, now: int) -> Transition:
    after, renewed = _activity(session, now)
    return _live(after, now, *renewed, was_renewed=bool(renewed))


def _renew(session: Session, _command: Renew, now: int) -> Transition:
    if not can_extend(session):
        return Transition(session, refusal=RenewalRefused(session.id, "max_duration"))
    after = session._replace(renewed_at=now, renewal_count=session.renewal_count + 1, warned=False)
    return _live(after, now, Renewed(expires_at(after), after.renewal_count), was_renewed=True)


def _retime(session: Session, command: Retime, now: int) -> Transition:
    config = merge(session.config, command.patch)
    after = session._replace(config=config)
    if config.auto_renew and not session.config.auto_renew:
        after = after._replace(renewed_at=max(session.renewed_at, session.last_activity))
    if now >= expires_at(after):
        return Transition(session, refusal=ChangeRefused())
    if (expires_at(after), config.warning_threshold_minutes) != (
        expires_at(session),
        session.config.warning_threshold_minutes,
    ):
        after = after._replace(warned=False)
    return _live(after, now, TimeoutUpdated(after))


def _tick(session: Session, _command: Tick, now: int) -> Transition:
    return _live(session, now)


def _end(session: Session, _command: End, now: int) -> Transition:
    return Transition(Gone(session.id), (Event(session.event_id + 1, session.id, now, Ended(now)),))


def _expire(session: Session, _command: Command, now: int) -> Transition:
    tombstone = tombstone_of(session)
    news = Expired(tombstone.expires_at, tombstone.reason)
    return Transition(tombstone, (Event(session.event_id + 1, session.id, now, news),))


def _expire_and_refuse(session: Session, command: Command, now: int) -> Transition:
    return _expire(session, command, now)._replace(refusal=SessionExpired(tombstone_of(session)))


def _expire_and_forget(session: Session, command: Command, now: int) -> Transition:
    return _expire(session, command, now)._replace(state=Gone(session.id))


def _forget(tombstone: Tombstone, _command: End, _now: int) -> Transition:
    return Transition(Gone(tombstone.id))


def _stay(state: State, _command: Tick, _now: int) -> Transition:
    return Transition(state)


def _refuse_expired(tombstone: Tombstone, _command: Command, _now: int) -> Transition:
    return Transition(tombstone, refusal=SessionExpired(tombstone))


def _refuse_gone(gone: Gone, _command: Command, _now: int) -> Transition:
    return Transition(gone, refusal=SessionNotFound(gone.id))


Handler = Callable[[Any, Any, int], Transition]

TABLE: dict[Phase, dict[type[Command], Handler]] = {
    Phase.LIVE: {
        Send: _send,
        Answer: _answer,
        BeginTurn: _begin_turn,
        FailTurn: _fail_turn,
        CancelTurn: _cancel_turn,
        Heartbeat: _heartbeat,
        Renew: _renew,
        Retime: _retime,
        End: _end,
        Tick: _tick,
    },
    Phase.DUE: {
        Send: _expire_and_refuse,
        Answer: _expire_and_refuse,
        BeginTurn: _expire_and_refuse,
        FailTurn: _expire_and_refuse,
        CancelTurn: _expire_and_refuse,
        Heartbeat: _expire_and_refuse,
        Renew: _expire_and_refuse,
        Retime: _expire_and_refuse,
        End: _expire_and_forget,
        Tick: _expire,
    },
    Phase.EXPIRED: {
        Send: _refuse_expired,
        Answer: _refuse_expired,
        BeginTurn: _refuse_expired,
        FailTurn: _refuse_expired,
        CancelTurn: _refuse_expired,
        Heartbeat: _refuse_expired,
        Renew: _refuse_expired,
        Retime: _refuse_expired,
        End: _forget,
        Tick: _stay,
    },
    Phase.GONE: {
        Send: _refuse_gone,
        Answer: _refuse_gone,
        BeginTurn: _refuse_gone,
        FailTurn: _refuse_gone,
        CancelTurn: _refuse_gone,
        Heartbeat: _refuse_gone,
        Renew: _refuse_gone,
        Retime: _refuse_gone,
        End: _refuse_gone,
        Tick: _stay,
    },
}
