"""The script of a session's life: what a scenario file may say, as pydantic models. THE LANGUAGE is here.

It knows names, shapes and units: of steps here, of what they do in `verbs`, of what they expect in `expectations`, of
the server in `settings`. Positions in files are `reading`'s, what a verb does is the player's. docs/scenarios.md tells
the same to people; `vigil replay --schema` to editors.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vigil.scenarios.language.durations import Duration
from vigil.scenarios.language.expectations import BodyPath, Expect
from vigil.scenarios.language.settings import Settings
from vigil.scenarios.language.values import Name, Strict
from vigil.scenarios.language.verbs import (
    AgentFaults,
    Create,
    End,
    ExpectEvent,
    Get,
    Health,
    Heartbeat,
    History,
    Listen,
    ListSessions,
    Raw,
    Renew,
    Restart,
    Retime,
    Send,
    Stop,
)

STEPS_MAX = 10_000


BURST_MAX = 10_000


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


def _nothing_said(value: object) -> object:
    return {} if value is None else value


T = TypeVar("T")


Verb = Annotated[T | None, BeforeValidator(_nothing_said)]


Parallel = Annotated[
    dict[Name, Annotated[list["Step"], Field(min_length=1)]],
    Field(min_length=1, description="branches by name, each a list of steps; all run side by side"),
]


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
