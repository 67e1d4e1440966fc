"""What a session tells its listeners, as shapes for the documentation (spec section 8).

They only describe: `server.api.wire_events` makes the real ones, and a test holds these to it.
"""

from typing import Annotated, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vigil.server.input.schemas import (
    AgentResponseBody,
    ErrorBody,
    MessageBody,
    SentMessageBody,
    SessionBody,
    Time,
    TimeoutConfigBody,
)

_closed = with_config(extra="forbid")


@_closed
class Renewal(TypedDict):
    """Until when the session lives now."""

    expiresAt: Time
    renewalCount: int


@_closed
class TimeoutChange(Renewal):
    """How long the session lives now."""

    timeoutConfig: TimeoutConfigBody


@_closed
class ExpirationWarning(TypedDict):
    """How long the session still lives: `timeRemaining` in milliseconds, the minutes rounded up."""

    expiresAt: Time
    timeRemaining: int
    minutesRemaining: int


@_closed
class Expiry(TypedDict):
    """When and why the session expired."""

    expiredAt: Time
    reason: Literal["inactivity", "max_duration"]


@_closed
class End(TypedDict):
    """When the session was ended."""

    endedAt: Time


@_closed
class TurnFailure(TypedDict):
    """Why the agent did not answer a message."""

    messageId: str
    code: str
    message: str


@_closed
class Chunk(TypedDict):
    """A piece of the answer to a message."""

    messageId: str
    text: str


@_closed
class Nothing(TypedDict):
    """No data."""


@_closed
class _Told(TypedDict):
    sessionId: str
    at: Time


@_closed
class _Committed(_Told):
    id: int


@_closed
class SessionCreatedEvent(_Committed):
    """The session has begun."""

    type: Literal["sessionCreated"]
    data: SessionBody


@_closed
class MessageBroadcastEvent(_Committed):
    """A message was stored, of the user or the agent."""

    type: Literal["messageBroadcast"]
    data: MessageBody


@_closed
class SessionRenewedEvent(_Committed):
    """The session was renewed, by hand or by activity."""

    type: Literal["sessionRenewed"]
    data: Renewal


@_closed
class SessionTimeoutUpdatedEvent(_Committed):
    """How long the session lives was changed."""

    type: Literal["sessionTimeoutUpdated"]
    data: TimeoutChange


@_closed
class SessionExpirationWarningEvent(_Committed):
    """The session is near its end."""

    type: Literal["sessionExpirationWarning"]
    data: ExpirationWarning


@_closed
class SessionExpiredEvent(_Committed):
    """The session's time was up. The last event."""

    type: Literal["sessionExpired"]
    data: Expiry


@_closed
class SessionEndedEvent(_Committed):
    """Somebody ended the session. The last event."""

    type: Literal["sessionEnded"]
    data: End


@_closed
class AgentErrorEvent(_Committed):
    """The agent did not answer a message."""

    type: Literal["agentError"]
    data: TurnFailure


@_closed
class MessageChunkEvent(_Told):
    """A piece of an answer that is being made. It has no id and is never told again."""

    type: Literal["messageChunk"]
    data: Chunk


@_closed
class ResyncEvent(_Committed):
    """Events before this one are missing: read the state anew. The id is the newest event's."""

    type: Literal["resync"]
    data: Nothing


Event = Annotated[
    SessionCreatedEvent
    | MessageBroadcastEvent
    | SessionRenewedEvent
    | SessionTimeoutUpdatedEvent
    | SessionExpirationWarningEvent
    | SessionExpiredEvent
    | SessionEndedEvent
    | AgentErrorEvent
    | MessageChunkEvent
    | ResyncEvent,
    Field(discriminator="type"),
]


@_closed
class StreamedEvent(TypedDict):
    """An event of an answer that streams. `data` is JSON: a SentMessage with `userMessage`, a Chunk with `chunk`, an
    AgentResponse with `agentResponse`, an Error with `error`.
    """

    event: Literal["userMessage", "chunk", "agentResponse", "error"]
    data: str


STREAMED = (SentMessageBody, Chunk, AgentResponseBody, ErrorBody)
EXAMPLE: dict[str, object] = {
    "id": 7,
    "type": "sessionRenewed",
    "sessionId": "7d9f4c3e-52a1-4b0e-8f0c-2f6a1c9b7e44",
    "at": "2026-11-22T09:01:00.000Z",
    "data": {"expiresAt": "2026-11-22T09:31:00.000Z", "renewalCount": 1},
}
