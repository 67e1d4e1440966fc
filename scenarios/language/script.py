"""The script of a session's life: what a scenario file may say, as pydantic models. THE LANGUAGE is here.

It knows names, shapes and units. Positions in files are `reading`'s, what a matcher finds is `matchers`', what a
verb does is the player's. docs/scenarios.md tells the same to people; `vigil replay --schema` to editors.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from vigil.actors.agents.catalogue import DEMO_ID, KINDS
from vigil.actors.core.quotas import Limit
from vigil.scenarios.language import durations
from vigil.scenarios.language.durations import Duration

AGENT_KINDS = ("echo", "none", "scripted")  # those that need no network: a script says all that happens
STEPS_MAX = 10_000
BURST_MAX = 10_000

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_SAVED = r"\$\{[^{}]+\}"
_TIME = rf"(?:start|now|{_SAVED})(?:\s*[+-]\s*{durations.PATTERN})?"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False, hide_input_in_errors=True)


class Api(Strict):
    """Field names are the API's own: timeout_minutes is written timeoutMinutes."""

    model_config = ConfigDict(alias_generator=to_camel)


class Short(Strict):
    """A mapping that may be written as one word or text: the value of the field that `short` names."""

    short: ClassVar[str] = ""
    short_type: ClassVar[str] = "string"  # of JSON Schema

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: object) -> object:
        if value is None:
            return {}
        return {cls.short: value} if cls.short and not isinstance(value, dict | BaseModel) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        others = [{"type": [cls.short_type, "null"] if cls.short else "null"}]
        long = dict(schema)
        schema.clear()
        schema.update({"title": long.get("title", ""), "anyOf": [long, *others]})
        return schema


def _is_name(text: str) -> str:
    if re.fullmatch(_NAME, text, re.ASCII) is None:
        raise PydanticCustomError(
            "name", "must be a name of letters, digits, _ and -, not beginning with a digit"
        )
    return text


def _is_limit(text: str) -> str:
    Limit.parse(text)
    return text


def _is_agent(entry: dict[str, Any]) -> dict[str, Any]:
    kind = entry.get("kind")
    if kind not in AGENT_KINDS:
        raise PydanticCustomError("kind", f"must have a kind out of {', '.join(AGENT_KINDS)}")
    try:
        KINDS[kind].model_validate(entry, context={})
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise PydanticCustomError("agent", "{why}", {"why": f"{where}: {fault['msg']}"}) from None
    return entry


def _is_time(text: str) -> str:
    if re.fullmatch(_TIME, text, re.ASCII) is None:
        raise PydanticCustomError("time", "must be a time like start+30m, now or ${saved}-5s")
    return text


def _is_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError("regex", "is no regular expression: {why}", {"why": str(error)}) from None
    return text


def _matcher(value: object) -> object:
    return value if isinstance(value, dict | BaseModel) else {"equals": value}


Name = Annotated[str, AfterValidator(_is_name)]
RateText = Annotated[str, AfterValidator(_is_limit), Field(examples=["60/minute"])]
AgentEntry = Annotated[dict[str, Any], AfterValidator(_is_agent)]
TimeText = Annotated[
    str, AfterValidator(_is_time), Field(examples=["start+30m", "now", "${talk.expiresAt}-5m"])
]
Regex = Annotated[str, AfterValidator(_is_regex)]
BodyPath = Annotated[
    str, Field(pattern=r"^[^.\[\]\s]+(\.[^.\[\]\s]+|\[(\d+|-\d+|\*)\])*$", examples=["messages[0].content"])
]


# --- what may be expected


class Matcher(Strict):
    """What a value has to be. All that is said must hold. A plain value instead of this mapping means `equals`."""

    equals: Annotated[Any, Field(description="exactly this JSON value")] = None
    one_of: Annotated[list[Any] | None, Field(min_length=1, description="one of these values")] = None
    present: Annotated[Literal[True] | None, Field(description="it is there, whatever it is")] = None
    absent: Annotated[Literal[True] | None, Field(description="it is not there")] = None
    time: Annotated[
        TimeText | None,
        Field(
            description="this instant: `start` (of the script), `now` (when the request was sent, or the event "
            "came) or ${saved}, plus or minus a duration; to the millisecond in virtual time"
        ),
    ] = None
    approx: Annotated[
        Duration | None,
        Field(
            description="a number of milliseconds that is this duration; to the millisecond in virtual time"
        ),
    ] = None
    approx_s: Annotated[
        Duration | None, Field(description="likewise a number of whole seconds, rounded up (Retry-After)")
    ] = None
    length: Annotated[int | None, Field(ge=0, description="a text, list or mapping of this length")] = None
    regex: Annotated[Regex | None, Field(description="a text in which this regular expression is found")] = (
        None
    )
    less: Annotated[Any, Field(description="less than this number, or before this time")] = None
    greater: Annotated[Any, Field(description="greater than this number, or after this time")] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError(
                "empty", f"must say what is expected: {', '.join(Matcher.model_fields)}"
            )
        return self


Expected = Annotated[Matcher, BeforeValidator(_matcher, json_schema_input_type=Matcher | Any)]


class Expect(Short):
    """What must come back. Without it a step expects its operation to succeed: silence is not "anything goes"."""

    short: ClassVar[str] = "status"
    short_type: ClassVar[str] = "integer"

    status: Annotated[Expected | None, Field(description="the status, 201 or {one_of: [200, 404]}")] = None
    headers: Annotated[dict[str, Expected], Field(description="headers by name, in any case")] = {}
    body: Annotated[
        dict[BodyPath, Expected],
        Field(description="parts of the JSON body (or event) by path: messages[0].content, messages[*].id"),
    ] = {}
    statuses: Annotated[
        dict[str, int] | None, Field(description="of a burst: how many answers had which status, all of them")
    ] = None


# --- verbs. The fields of a request are the API's own; their values are not checked, so that bad ones can be sent.


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


class Burst(Strict):
    """Many requests of one kind, each sent when it is due whether or not those before it are answered."""

    count: Annotated[int, Field(ge=1, le=BURST_MAX)]
    every: Annotated[Duration, Field(description="from one to the next; 0s sends all at once")] = 0
    do: Annotated["Step", Field(description="the request; ${n} counts from 1")]


class Repeat(Strict):
    """The same steps again and again."""

    times: Annotated[int, Field(ge=1, le=STEPS_MAX)]
    every: Annotated[Duration, Field(description="from the start of one round to that of the next")] = 0
    do: Annotated[list["Step"], Field(min_length=1, description="${n} counts from 1")]


class Restart(Short):
    """Take the server down and bring it back with the same data: `crash` is kill -9, `clean` a SIGTERM."""

    short: ClassVar[str] = "how"

    how: Literal["crash", "clean"]
    down: Annotated[Duration, Field(description="session time until it comes back")] = 0
    settings: Annotated["Settings | None", Field(description="settings in force from then on")] = None


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


def _nothing_said(value: object) -> object:
    return {} if value is None else value


T = TypeVar("T")
Verb = Annotated[T | None, BeforeValidator(_nothing_said)]
Parallel = Annotated[
    dict[Name, Annotated[list["Step"], Field(min_length=1)]],
    Field(min_length=1, description="branches by name, each a list of steps; all run side by side"),
]
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


# --- a step


class Step(Strict):
    """One thing that happens: exactly one verb, when it happens, and what must come of it."""

    at: Annotated[Duration | None, Field(description="since the script's start")] = None
    after: Annotated[Duration | None, Field(description="since the end of the step before")] = None
    name: Annotated[str | None, Field(description="what it is, for reports and timelines")] = None
    as_: Annotated[
        Name | None,
        Field(alias="as", description="names the session, listener or answer: ${name.path} is a part of it"),
    ] = None
    device: Annotated[Name | None, Field(description="who does it; a parallel branch's name unless said")] = (
        None
    )
    auth: Annotated[
        Literal["key", "token", "none"],
        Field(description="the API key, the session's own token, or no credentials"),
    ] = "key"
    raw: Annotated[Raw | None, Field(description="what to send instead, good or bad")] = None
    expect: Annotated[Expect | None, Field(description="what must come back; without it, success")] = None
    save: Annotated[
        dict[Name, BodyPath], Field(description="parts of the answer for later steps, as ${name}")
    ] = {}

    create: Verb[Create] = None
    send: Verb[Send] = None
    stop: Verb[Stop] = None
    heartbeat: Verb[Heartbeat] = None
    renew: Verb[Renew] = None
    retime: Verb[Retime] = None
    get: Verb[Get] = None
    history: Verb[History] = None
    list_: Annotated[Verb[ListSessions], Field(alias="list")] = None
    end: Verb[End] = None
    health: Verb[Health] = None
    listen: Verb[Listen] = None
    expect_event: Verb[ExpectEvent] = None
    burst: Verb[Burst] = None
    parallel: Verb[Parallel] = None
    repeat: Verb[Repeat] = None
    restart: Verb[Restart] = None
    agent: Verb[AgentFaults] = None
    wait: Annotated[Duration | None, Field(description="let time pass")] = None

    @property
    def verb(self) -> str:
        """The one verb, as it is written."""
        return next(verb for verb, field in VERBS.items() if field in self.model_fields_set)

    @property
    def action(self) -> Any:
        """What the verb says."""
        return getattr(self, VERBS[self.verb])

    @model_validator(mode="after")
    def _one_verb(self) -> Self:
        given = [verb for verb, field in VERBS.items() if field in self.model_fields_set]
        if len(given) != 1:
            has = f"has {' and '.join(given)}" if given else "has no verb"
            raise PydanticCustomError("verb", f"{has}: a step needs exactly one of {', '.join(VERBS)}")
        return self

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.at is not None and self.after is not None:
            raise PydanticCustomError("times", "must not have both at and after")
        return self

    @model_validator(mode="after")
    def _only_what_counts(self) -> Self:
        idle = [name for name, verbs in _COUNTS_FOR.items() if self._says(name) and self.verb not in verbs]
        if idle:
            raise PydanticCustomError("idle", f"{idle[0]} means nothing to {self.verb}: take it away")
        return self

    def _says(self, name: str) -> bool:
        part, _, field = name.partition(".")
        value = getattr(self, _FIELDS.get(part, part))
        return field in value.model_fields_set if field and value else bool(value) and not field


VERB_OF = {  # the operation of the route table
    "createSession": "create",
    "sendMessage": "send",
    "cancelTurn": "stop",
    "heartbeat": "heartbeat",
    "renewSession": "renew",
    "updateTimeout": "retime",
    "getSession": "get",
    "getMessages": "history",
    "endSession": "end",
    "listSessions": "list",
    "getHealth": "health",
}
REQUESTS = tuple(VERB_OF.values())
VERBS = {
    field.alias or name: name
    for name, field in Step.model_fields.items()
    if name not in {"at", "after", "name", "as_", "device", "auth", "raw", "expect", "save"}
}
_FIELDS = {"as": "as_"}
_ANSWERED = (*REQUESTS, "listen", "expect_event")
_COUNTS_FOR = {
    "raw": (*REQUESTS, "listen"),
    "as": _ANSWERED,
    "save": _ANSWERED,
    "expect": (*_ANSWERED, "burst"),
    "expect.statuses": ("burst",),
    "expect.status": (*REQUESTS, "listen"),
    "expect.headers": (*REQUESTS, "listen"),
    "expect.body": _ANSWERED,
}


# --- the whole


class Limits(Strict):
    """Rate limits: COUNT/second, COUNT/minute or COUNT/hour."""

    session: RateText | None = None
    user: RateText | None = None
    agent: RateText | None = None


class Defaults(Api):
    """How long sessions live where neither the agent nor the request says."""

    timeout_minutes: Annotated[int | None, Field(ge=5, le=1440)] = None
    auto_renew: bool | None = None
    max_duration_minutes: Annotated[int | None, Field(ge=1, le=4320)] = None
    warning_threshold_minutes: Annotated[int | None, Field(ge=1, le=60)] = None


class Settings(Api):
    """The server's settings for this script. A server at a URL has its own, so such a script is skipped there."""

    limits: Limits = Limits()
    defaults: Defaults = Defaults()
    tombstone_minutes: Annotated[int | None, Field(ge=1, le=525_600)] = None
    tombstone_max: Annotated[int | None, Field(ge=1)] = None
    session_max: Annotated[int | None, Field(ge=1)] = None
    content_policy: Literal["active", "off"] | None = None
    agents: Annotated[
        list[AgentEntry] | None,
        Field(description=f"agents as in agents.yaml, of the kinds {', '.join(AGENT_KINDS)}; else {DEMO_ID}"),
    ] = None


class Script(Strict):
    """What should happen to sessions over hours, and what must come of it."""

    title: Annotated[str, Field(min_length=10, max_length=200, description="what holds, as a sentence")]
    why: Annotated[str, Field(min_length=10, description="why anybody should care")]
    settings: Settings | None = None
    steps: Annotated[list[Step], Field(min_length=1, max_length=STEPS_MAX)]


def steps_of(steps: Iterable[Step]) -> Iterator[Step]:
    """All steps, those inside others too."""
    for step in steps:
        yield step
        if step.verb == "parallel":
            yield from chain.from_iterable(map(steps_of, step.action.values()))
        elif step.verb == "repeat":
            yield from steps_of(step.action.do)
        elif step.verb == "burst":
            yield step.action.do


def schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors."""
    document = Script.model_json_schema(by_alias=True)
    step = document["$defs"]["Step"]
    step["oneOf"] = [{"required": [verb]} for verb in VERBS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}
