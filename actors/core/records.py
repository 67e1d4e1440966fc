"""The values that rooms hand each other: sessions, messages, tombstones. Immutable, without behaviour.

Times are integer milliseconds of session time since the epoch; metadata and attachments are compact JSON.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

Record = TypeVar("Record", bound=tuple[Any, ...])


def maker(kind: type[Record]) -> Callable[[Iterable[Any]], Record]:
    """Makes a NamedTuple from all of its fields in their order, in a third of the time that its constructor takes.

    For what every request makes. It counts no fields: `tests/test_maker.py` does, in the source of all callers.
    """
    return partial(tuple.__new__, kind)


TurnState = Literal["", "waiting", "started", "retried", "answered", "failed", "cancelled"]
FinishReason = Literal["stop", "length", "content_filter"]  # why an agent ended its message where it did
ExpiryReason = Literal["inactivity", "max_duration"]


class TimeoutConfig(NamedTuple):
    """How long a session lives (spec section 2 has the ranges). Durations in minutes."""

    timeout_minutes: int
    auto_renew: bool
    max_duration_minutes: int
    warning_threshold_minutes: int


class TimeoutPatch(NamedTuple):
    """Part of a TimeoutConfig: what an agent, a request or a retiming says. None leaves a field as it is."""

    timeout_minutes: int | None = None
    auto_renew: bool | None = None
    max_duration_minutes: int | None = None
    warning_threshold_minutes: int | None = None


class Session(NamedTuple):
    """One live session, whole. `lifecycle` says what may become of it."""

    key: int  # the store's own number for it, never used twice
    id: str  # a UUID, the name it has outside
    agent_id: str
    user_id: str
    channel_id: str
    metadata: str
    created_at: int
    last_activity: int
    renewed_at: int
    config: TimeoutConfig
    renewal_count: int = 0
    warned: bool = False  # the warning of this arming has fired
    event_id: int = 0  # of the newest committed event
    last_message_at: int = 0


class Message(NamedTuple):
    """One message of a session's history. `created_at` is unique in its session."""

    id: str
    created_at: int
    author_id: str
    is_agent: bool
    content: str
    metadata: str
    attachments: str  # a JSON array, or "" for none
    reply_to: int = 0  # of an agent's message: `created_at` of the one that it answers
    finish_reason: FinishReason | Literal["cancelled", ""] = ""  # "" of a user's message


class Tombstone(NamedTuple):
    """What is remembered of an expired session: enough for a 410 and a list entry, no content."""

    id: str
    agent_id: str
    user_id: str
    created_at: int
    expires_at: int
    reason: ExpiryReason
    last_activity: int
    renewal_count: int


class Gone(NamedTuple):
    """A session that was ended, or never was."""

    id: str


class Anchor(NamedTuple):
    """One instant on both clocks, in milliseconds since the epoch."""

    wall_ms: int
    session_ms: int


State = Session | Tombstone | Gone
