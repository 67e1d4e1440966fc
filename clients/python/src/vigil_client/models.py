"""What the API answers with, as typed values. Fields that a newer server adds are passed over.

Times are aware datetimes, durations are in the unit that the API's name says, `time_remaining` in milliseconds.
Nothing here knows how it came.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Status = Literal["active", "expired", "ended"]
WhenBusy = Literal["enqueue", "reject", "interrupt"]


class Model(BaseModel):
    """The root: camelCase on the wire, snake_case here, never changed."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class TimeoutConfig(Model):
    timeout_minutes: int
    auto_renew: bool
    max_duration_minutes: int
    warning_threshold_minutes: int


class ListedSession(Model):
    """A session as a list shows it."""

    session_id: str
    agent_id: str
    user_id: str
    created_at: datetime
    expires_at: datetime
    time_remaining: int
    is_near_expiration: bool
    renewal_count: int
    status: Status


class SessionInfo(ListedSession):
    """A session, whole, as it stood when the server answered."""

    last_activity: datetime
    max_expires_at: datetime
    timeout_config: TimeoutConfig
    metadata: Mapping[str, Any]


class CreatedSession(Model):
    """A new session, with the token that opens it and nothing else."""

    session_id: str
    channel_id: str
    session_token: str = Field(repr=False)  # it must not reach a log by accident
    agent_id: str
    user_id: str
    created_at: datetime
    expires_at: datetime
    max_expires_at: datetime
    timeout_config: TimeoutConfig
    renewal_count: int
    metadata: Mapping[str, Any]
    status: Status


class SessionStats(Model):
    """Of the whole service, whatever was asked for."""

    total_sessions: int
    active_sessions: int
    expired_sessions: int


class SessionList(Model):
    """A page, newest first; `total` is how many there are on all pages."""

    sessions: Sequence[ListedSession]
    total: int
    limit: int
    offset: int
    stats: SessionStats


class Attachment(Model):
    """A file that a message points to."""

    type: str
    url: str
    name: str
    size: int | None = None
    mime_type: str | None = None


class Message(Model):
    """A message of the history. `finish_reason` and `usage` are an agent's."""

    id: str
    content: str
    author_id: str
    is_agent: bool
    created_at: datetime
    metadata: Mapping[str, Any]
    attachments: Sequence[Attachment] = ()
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None


class SessionStatus(Model):
    """What a message did to its session."""

    expires_at: datetime
    renewal_count: int
    was_renewed: bool
    is_near_expiration: bool


class SentMessage(Model):
    """The stored message; `answer` is the agent's, when it was waited for."""

    id: str
    content: str
    author_id: str
    created_at: datetime
    metadata: Mapping[str, Any]
    attachments: Sequence[Attachment] = ()
    session_status: SessionStatus
    answer: Message | None = Field(default=None, alias="agentResponse")


class Piece(Model):
    """A part of an answer that is being made."""

    text: str
    message_id: str


class Cursors(Model):
    """The oldest and the newest `created_at` of the page, in epoch milliseconds."""

    before: int
    after: int


class History(Model):
    """A page of messages, newest first."""

    messages: Sequence[Message]
    has_more: bool
    cursors: Cursors


class Cancelled(Model):
    """What became of the turn: `none` if no turn was wanted."""

    message_id: str
    status: Literal["cancelled", "answered", "failed", "none"]


class LedgerEntry(Model):
    """One thing that moved the deadline, or ended the session."""

    at: datetime
    kind: str
    by: str
    details: Mapping[str, Any] = Field(default_factory=dict)


class Ledger(Model):
    """Why a session lives or ended, oldest first."""

    session_id: str
    status: Status
    entries: Sequence[LedgerEntry]
    renewed_by_activity: Any = 0


class Health(Model):
    """How the service is; `uptime` in seconds."""

    status: Literal["healthy", "degraded", "unhealthy"]
    active_sessions: int
    timestamp: datetime
    expiring_soon: int
    invalid_sessions: int
    uptime: int
