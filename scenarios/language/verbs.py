"""What a step may do: a model for each verb, but for those that hold steps themselves.

The fields of a request are the API's own; their values are not checked, so that bad ones can be sent.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vigil.actors.agents.catalogue import DEMO_ID
from vigil.scenarios.language.durations import Duration
from vigil.scenarios.language.settings import Settings
from vigil.scenarios.language.values import Api, Name, Short, Strict


class Create(Api, Short):
    """Begin a session. `as` names it; later steps without a `session` are about the one created last."""

    agent_id: Annotated[Any, Field(description="who answers")] = DEMO_ID
    user_id: Annotated[Any, Field(description="whose session it is")] = "user-456"
    timeout_config: Annotated[
        Any, Field(description="timeoutMinutes, autoRenew, maxDurationMinutes, warningThresholdMinutes")
    ] = None
    metadata: Any = None
    idempotency_key: Annotated[str | None, Field(description="the Idempotency-Key header")] = None


class OfSession(Api, Short):
    short: ClassVar[str] = "session"

    session: Annotated[Name | None, Field(description="its name; without it the one created last")] = None


class Send(OfSession):
    """Send a message. Its `content` alone may be written instead of this mapping."""

    short: ClassVar[str] = "content"

    content: Any = None
    transport: Annotated[Any, Field(description="websocket, http or sse")] = None
    attachments: Any = None
    metadata: Any = None
    when_busy: Annotated[
        Any, Field(description="enqueue, reject or interrupt, while an earlier message waits for its answer")
    ] = None
    idempotency_key: Annotated[str | None, Field(description="the Idempotency-Key header")] = None


class Stop(OfSession):
    """Stop the agent's answer to a message. Its `message` alone may be written instead of this mapping."""

    short: ClassVar[str] = "message"

    message: Annotated[
        str | None, Field(description="its id, as ${question.id}; without it the message sent last")
    ] = None


class Heartbeat(OfSession):
    """Keep a session alive."""


class Renew(OfSession):
    """Renew a session by hand."""


class Retime(OfSession):
    """Change a session's timeouts (PATCH /timeout)."""

    timeout_minutes: Any = None
    auto_renew: Any = None
    max_duration_minutes: Any = None
    warning_threshold_minutes: Any = None


class Get(OfSession):
    """Read a session."""


class History(OfSession):
    """Read a session's messages, newest first."""

    limit: Any = None
    before: Any = None
    after: Any = None


class ListSessions(Api, Short):
    """List sessions, newest first."""

    agent_id: Any = None
    user_id: Any = None
    status: Any = None
    limit: Any = None
    offset: Any = None


class End(OfSession):
    """End a session (DELETE)."""


class Health(Short):
    """Ask how well the service is."""


class Listen(OfSession):
    """Open the events WebSocket. `as` names the listener; it listens until it is closed or the script ends."""

    last_event_id: Any = None


class ExpectEvent(Short):
    """Wait for an event: the next of its type that was not taken yet. Its parts are judged as `expect: {body: ...}`."""

    short: ClassVar[str] = "type"

    type: Annotated[
        str | None, Field(description="the event's type; `closed` is the end, with data.code")
    ] = None
    listener: Annotated[Name | None, Field(description="its name; without it the one opened last")] = None
    within: Annotated[Duration, Field(description="how long to wait")] = 1000
    next: Annotated[bool, Field(description="it must be the very next one: nothing else is passed over")] = (
        False
    )
    never: Annotated[bool, Field(description="no such event may come within that time")] = False


class Restart(Short):
    """Take the server down and bring it back with the same data: `crash` is kill -9, `clean` a SIGTERM."""

    short: ClassVar[str] = "how"

    how: Literal["crash", "clean"]
    down: Annotated[Duration, Field(description="session time until it comes back")] = 0
    settings: Annotated[Settings | None, Field(description="settings in force from then on")] = None


class AgentBehaviour(Short):
    """How an agent behaves from now on."""

    short: ClassVar[str] = "is"

    is_: Annotated[
        Literal["well", "failing", "hanging"] | None,
        Field(alias="is", description="`hanging` never answers, so its turns time out"),
    ] = None
    slow: Annotated[Duration | None, Field(description="it answers after this time")] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.is_ is None) == (self.slow is None):
            raise PydanticCustomError("one", "must be well, failing, hanging or {{slow: 20s}}")
        return self


AgentFaults = Annotated[
    dict[str, AgentBehaviour], Field(min_length=1, description="agents by id, and what becomes of them")
]


class Raw(Strict):
    """What goes over the wire instead of what the verb would send. Only what is said differs."""

    method: str | None = None
    path: Annotated[
        str | None, Field(description="the whole path, from /api on; ${talk.sessionId} is filled in")
    ] = None
    query: Annotated[str | None, Field(description="the text behind the question mark")] = None
    headers: Annotated[
        dict[str, str | None], Field(description="added or, in any case, replaced; null leaves one out")
    ] = {}
    json_: Annotated[Any, Field(alias="json", description="the body as a JSON value, of whatever fields")] = (
        None
    )
    body: Annotated[str | None, Field(description="the body as text, JSON or not")] = None
    repeat: Annotated[
        int, Field(ge=1, le=1_000_000, description="how many times that text follows itself")
    ] = 1

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if "json_" in self.model_fields_set and self.body is not None:
            raise PydanticCustomError("body", "must not have both json and body")
        return self
