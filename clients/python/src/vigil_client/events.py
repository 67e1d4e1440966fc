"""What a session tells its listeners (`session.events()`), as values: one class for each type of event.

    match event:
        case MessageBroadcast(data=message): ...
        case Resync(): ...              # some events are gone: read the state anew
        case SessionExpired(data=end): ...

A type that this client does not know is a plain `Event`. Nothing here knows how events come.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vigil_client.errors import SessionGone
from vigil_client.models import Message, Model, Piece, SessionInfo, TimeoutConfig


class Event(Model):
    """`id` counts up by one per session; a chunk has none, and an end that this client worked out itself has none."""

    type: str
    session_id: str
    at: datetime
    data: Any = None
    id: int | None = None


class SessionCreated(Event):
    data: SessionInfo


class MessageBroadcast(Event):
    data: Message


class MessageChunk(Event):
    data: Piece


class Renewal(Model):
    expires_at: datetime
    renewal_count: int


class SessionRenewed(Event):
    data: Renewal


class Retimed(Model):
    timeout_config: TimeoutConfig
    expires_at: datetime
    renewal_count: int


class SessionTimeoutUpdated(Event):
    data: Retimed


class Warned(Model):
    """`time_remaining` in milliseconds."""

    expires_at: datetime
    time_remaining: int
    minutes_remaining: int


class SessionExpirationWarning(Event):
    data: Warned


class Expiry(Model):
    expired_at: datetime
    reason: str


class SessionExpired(Event):
    data: Expiry


class SessionEnded(Event):
    data: Mapping[str, Any]


class TurnFailed(Model):
    message_id: str
    code: str
    message: str


class AgentError(Event):
    data: TurnFailed


class Resync(Event):
    """Events are missing before this one: read the session and its messages anew."""


_TYPES: Mapping[str, type[Event]] = {
    "sessionCreated": SessionCreated,
    "messageBroadcast": MessageBroadcast,
    "messageChunk": MessageChunk,
    "sessionRenewed": SessionRenewed,
    "sessionTimeoutUpdated": SessionTimeoutUpdated,
    "sessionExpirationWarning": SessionExpirationWarning,
    "sessionExpired": SessionExpired,
    "sessionEnded": SessionEnded,
    "agentError": AgentError,
    "resync": Resync,
}


def event_of(raw: Any) -> Event:
    """The event that a frame's JSON tells. Raises pydantic's ValidationError for what is none."""
    kind = raw.get("type") if isinstance(raw, dict) else None
    return _TYPES.get(str(kind), Event).model_validate(raw)


def ending_of(gone: SessionGone) -> Event:
    """The last event of a session that ended while nobody listened, as far as the refusal tells it."""
    session_id = str(gone.details.get("sessionId", ""))
    if gone.code == "SESSION_EXPIRED":
        expired_at, reason = gone.details.get("expiresAt"), gone.details.get("reason")
        data = Expiry.model_validate({"expiredAt": expired_at, "reason": reason})
        return SessionExpired(type="sessionExpired", session_id=session_id, at=data.expired_at, data=data)
    return SessionEnded(type="sessionEnded", session_id=session_id, at=datetime.now(UTC), data={})
