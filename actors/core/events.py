"""What happened to a session, as values (spec section 8). The server gives them their JSON."""

from typing import NamedTuple

from vigil.actors.core.records import ExpiryReason, Message, Session


class Created(NamedTuple):
    session: Session


class Broadcast(NamedTuple):
    message: Message


class Renewed(NamedTuple):
    expires_at: int
    renewal_count: int


class TimeoutUpdated(NamedTuple):
    session: Session


class ExpirationWarning(NamedTuple):
    expires_at: int
    time_remaining: int


class Expired(NamedTuple):
    expired_at: int
    reason: ExpiryReason


class Ended(NamedTuple):
    ended_at: int


class AgentError(NamedTuple):
    message_id: str
    code: str
    message: str


EventData = Created | Broadcast | Renewed | TimeoutUpdated | ExpirationWarning | Expired | Ended | AgentError


class Event(NamedTuple):
    """A committed change. `id` counts up by one in its session and is committed with the change."""

    id: int
    session_id: str
    at: int
    data: EventData
