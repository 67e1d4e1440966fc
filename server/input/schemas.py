"""The API's shapes: what requests must be and what answers are (spec sections 1 and 2, the seed's bodies).

Request models validate; answer types only describe, for OpenAPI and the type checker. The rules of single
values are in `server.input.fields`, how problems are worded in `server.input.validation`, which is offered here too.
Nothing knows a route, a session or a clock.
"""

from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator, with_config
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError
from typing_extensions import TypedDict

from vigil.actors.core.records import FinishReason, TimeoutPatch
from vigil.server.input.fields import DIGITS, WHOLE, Absent, Content, Id, Int64, Metadata, Url, compact
from vigil.server.input.validation import Invalid as Invalid
from vigil.server.input.validation import Problem as Problem
from vigil.server.input.validation import validate_body as validate_body
from vigil.server.input.validation import validate_query as validate_query

SessionState = Literal["active", "expired"]
_closed = with_config(extra="forbid")


class Request(BaseModel):
    """The root of requests: exact types, camelCase on the wire, nothing unknown."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


def _optional(description: str, *examples: object) -> Any:
    return Field(default_factory=lambda: None, description=description, examples=list(examples) or None)


def _metadata(whose: str) -> Any:
    return Field(
        default="{}",
        alias="metadata",
        description=f"The client's own data about the {whose}: at most 16 384 bytes as compact JSON, "
        "at most 5 levels (this object is the first), null nowhere in it.",
        examples=[{"source": "web", "tags": ["new"]}],
        json_schema_extra={"default": {}},
    )


class TimeoutFields(Request):
    """How long a session lives. What is left out stays as the agent's, or else the global, config says."""

    timeout_minutes: Absent[Annotated[int, Field(ge=5, le=1440), WHOLE]] = _optional(
        "Minutes without activity until the session expires.", 30
    )
    auto_renew: Absent[bool] = _optional("Whether a message or a heartbeat renews the session.", True)
    max_duration_minutes: Absent[Annotated[int, Field(ge=1, le=4320), WHOLE]] = _optional(
        "Minutes from its creation until the session expires, however often it is renewed.", 180
    )
    warning_threshold_minutes: Absent[Annotated[int, Field(ge=1, le=60), WHOLE]] = _optional(
        "Minutes before its expiry from which the session is near expiration.", 5
    )

    def patch(self) -> TimeoutPatch:
        return TimeoutPatch(
            self.timeout_minutes, self.auto_renew, self.max_duration_minutes, self.warning_threshold_minutes
        )


class TimeoutUpdate(TimeoutFields):
    """At least one field; the others stay as they are in this session."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "examples": [{"timeoutMinutes": 120, "autoRenew": False, "maxDurationMinutes": 480}],
        }
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("nothing", "must have at least one field of the timeout config")
        return self


class CreateSession(Request):
    """A session between a user and an agent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "agentId": "agent-123",
                    "userId": "user-456",
                    "timeoutConfig": {"timeoutMinutes": 30, "autoRenew": True},
                }
            ]
        }
    )

    agent_id: Id = Field(description="An agent of the catalogue.", examples=["agent-123"])
    user_id: Id = Field(description="The client's own id for its user.", examples=["user-456"])
    metadata_json: Metadata = _metadata("session")
    timeout_config: TimeoutFields = Field(
        default_factory=TimeoutFields, description="Where it differs from the agent's config."
    )


class Attachment(Request):
    """A file that a message points to. The server stores the URL and never follows it."""

    type: str = Field(max_length=64, description="What kind of file it is.", examples=["image"])
    url: Url = Field(
        description="An http or https URL of at most 2 048 characters, or a data: URL of at most 65 536 "
        "with an image (not SVG), audio, video or text/plain type.",
        examples=["https://example.com/cat.png"],
    )
    name: str = Field(max_length=255, description="Its file name.", examples=["cat.png"])
    size: Absent[Annotated[int, Field(ge=0), WHOLE]] = _optional("Its size in bytes.", 48_213)
    mime_type: Absent[str] = _optional("Its media type.", "image/png")


class SendMessage(Request):
    """A message from the session's user."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"content": "Hello, how can I help you today?"}]}
    )

    content: Content = Field(
        description="1 to 10 000 characters (code points), not only whitespace.", examples=["Hello!"]
    )
    attachments: list[Attachment] = Field(
        default_factory=list,  # a default would be copied deeply for each message
        max_length=10,
        description="Files that go with it.",
        json_schema_extra={"default": []},
    )
    metadata_json: Metadata = _metadata("message")
    transport: Literal["websocket", "http", "sse"] = Field(
        default="websocket",
        description="How the agent's reply comes back: as an event, in this answer, or as a stream.",
    )
    when_busy: Literal["enqueue", "reject", "interrupt"] = Field(
        default="enqueue",
        description="What to do while an earlier message still waits for its answer: wait behind it, be refused "
        "(409), or stop it and all that wait.",
    )

    @property
    def attachments_json(self) -> str:
        """The attachments as a compact JSON array, "" for none."""
        if not self.attachments:
            return ""
        return compact([file.model_dump(by_alias=True, exclude_none=True) for file in self.attachments])

    @property
    def attachment_names(self) -> list[str]:
        return [file.name for file in self.attachments]


class NoBody(Request):
    """Nothing, or an empty object."""


class ListSessionsQuery(Request):
    """Which sessions to list: those of the agent, of the user and in the state that are asked for."""

    agent_id: Absent[Id] = _optional("Only sessions of this agent.", "agent-123")
    user_id: Absent[Id] = _optional("Only sessions of this user.", "user-456")
    status: Literal["active", "expired", "all"] = Field(
        default="active", description="Only sessions in this state."
    )
    limit: Annotated[int, Field(ge=1, le=1000), DIGITS] = Field(
        default=50, description="At most so many sessions."
    )
    offset: Annotated[int, Field(ge=0, le=10_000), DIGITS] = Field(
        default=0, description="So many of the newest are skipped."
    )


class MessagesQuery(Request):
    """Which part of a session's history to read."""

    limit: Annotated[int, Field(ge=1, le=100), DIGITS] = Field(
        default=50, description="At most so many messages."
    )
    before: Absent[Int64] = _optional("Only messages older than this, in epoch milliseconds.", 1795338000000)
    after: Absent[Int64] = _optional("Only messages newer than this, in epoch milliseconds.", 1795334400000)


class EventsQuery(Request):
    """Where to go on with a session's events."""

    last_event_id: Absent[Int64] = _optional("The id of the last event received; 0 for all of them.", 7)


class NoQuery(Request):
    """No query parameters at all."""


class _SchemaOf:
    """On `Any`: described as this type, and whatever encodes to it will do (stored JSON goes out as is)."""

    def __init__(self, described_as: Any) -> None:
        self._described_as = described_as

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self._described_as)


Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-22T09:00:00.000Z"])]
JsonObject = Annotated[Any, _SchemaOf(dict[str, Any])]
Attachments = Annotated[Any, _SchemaOf(list[Attachment])]


@_closed
class TimeoutConfigBody(TypedDict):
    """How long the session lives, resolved."""

    timeoutMinutes: int
    autoRenew: bool
    maxDurationMinutes: int
    warningThresholdMinutes: int


@_closed
class ListedSessionBody(TypedDict):
    """A session as a list shows it. `timeRemaining` in milliseconds."""

    sessionId: str
    agentId: str
    userId: str
    createdAt: Time
    expiresAt: Time
    timeRemaining: int
    isNearExpiration: bool
    renewalCount: int
    status: SessionState


@_closed
class SessionBody(ListedSessionBody):
    """A session, whole."""

    lastActivity: Time
    maxExpiresAt: Time
    timeoutConfig: TimeoutConfigBody
    metadata: JsonObject


@_closed
class NewSessionBody(TypedDict):
    """A new session as an idempotency key keeps it: without its token."""

    sessionId: str
    agentId: str
    userId: str
    createdAt: Time
    expiresAt: Time
    maxExpiresAt: Time
    timeoutConfig: TimeoutConfigBody
    renewalCount: int
    metadata: JsonObject
    status: SessionState
    channelId: str


@_closed
class CreatedSessionBody(NewSessionBody):
    """A new session, with the token that opens it and nothing else."""

    sessionToken: str


@_closed
class SessionStatsBody(TypedDict):
    """Of the whole service, whatever was asked for."""

    totalSessions: int
    activeSessions: int
    expiredSessions: int


@_closed
class SessionListBody(TypedDict):
    """A page of sessions, the newest first; `total` is how many there are on all pages."""

    sessions: list[ListedSessionBody]
    total: int
    limit: int
    offset: int
    stats: SessionStatsBody


@_closed
class EndedBody(TypedDict):
    """The session and its messages are gone."""

    success: Literal[True]
    message: str


@_closed
class CancelledBody(TypedDict):
    """What became of the agent's turn on a message; `none` when no turn was wanted."""

    messageId: str
    status: Literal["cancelled", "answered", "failed", "none"]


@_closed
class MessageBody(TypedDict):
    """A message of the history; `attachments` when it has any. An agent's says why it ends where it does: cut off at
    the model's `length`, by its `content_filter`, `cancelled` by the user, or none of these (`stop`)."""

    id: str
    content: str
    authorId: str
    isAgent: bool
    createdAt: Time
    metadata: JsonObject
    attachments: NotRequired[Attachments]
    finishReason: NotRequired[FinishReason | Literal["cancelled"]]


@_closed
class AgentResponseBody(MessageBody):
    """The agent's message; `text` is its content again."""

    text: str


@_closed
class SessionStatusBody(TypedDict):
    """What the message did to its session."""

    expiresAt: Time
    renewalCount: int
    wasRenewed: bool
    isNearExpiration: bool


@_closed
class SentMessageBody(TypedDict):
    """The stored message; `agentResponse` with the transport `http`."""

    id: str
    content: str
    authorId: str
    createdAt: Time
    metadata: JsonObject
    attachments: NotRequired[Attachments]
    sessionStatus: SessionStatusBody
    agentResponse: NotRequired[AgentResponseBody]


@_closed
class CursorsBody(TypedDict):
    """The oldest and the newest `createdAt` of the page, in epoch milliseconds."""

    before: int
    after: int


@_closed
class HistoryBody(TypedDict):
    """A page of messages, the newest first."""

    messages: list[MessageBody]
    hasMore: bool
    cursors: CursorsBody


@_closed
class OkBody(TypedDict):
    """Yes."""

    status: Literal["ok"]


@_closed
class HealthBody(TypedDict):
    """How the service is; `uptime` in seconds."""

    status: Literal["healthy", "degraded", "unhealthy"]
    activeSessions: int
    timestamp: Time
    expiringSoon: int
    invalidSessions: int
    uptime: int


@_closed
class ErrorBody(TypedDict):
    """Every answer that is not a success."""

    error: str
    code: str
    message: str
    details: dict[str, Any]
