"""A recording of `vigil serve --record`, read back: what the server was, what it was asked, what agents said.

The lines are described in `server.recording.recorder`. A last line that a kill cut short is left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import FinishReason, TimeoutConfig, TimeoutPatch
from vigil.actors.runtime.creation import Rules
from vigil.scenarios.errors import ScenarioError
from vigil.server.recording.recorder import FORMAT

UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TraceError(ScenarioError):
    """The file is no recording, or not a whole one. The text says which line."""

    example = """\
{"trace": 1, "version": "0.1.0", "startedAt": 1795338000000, ...}
A server makes one: vigil serve --record trace.jsonl"""


class _Line(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Limits(_Line):
    session: Limit
    user: Limit
    agent: Limit


class ServerSettings(_Line):
    limits: Limits
    defaults: dict[str, Any]
    session_max: int
    tombstone_minutes: int
    tombstone_max: int
    content_policy: bool

    @property
    def rules(self) -> Rules:
        return Rules(
            TimeoutConfig(**self.defaults), self.session_max, self.tombstone_minutes, self.tombstone_max
        )


class RecordedAgent(_Line):
    id: str
    name: str
    answers: bool
    timeouts: dict[str, Any]
    session_limit: Limit | None
    agent_limit: Limit | None

    def entry(self, agent: Any) -> AgentEntry:
        """The agent of the catalogue, with `agent` in the place of what answered."""
        return AgentEntry(
            self.id,
            self.name,
            agent if self.answers else None,
            TimeoutPatch(**self.timeouts),
            self.session_limit,
            self.agent_limit,
            turn_timeout_s=1e9,  # that a turn's time was up is in the trace
        )


class Start(_Line):
    """What the server was when the recording began. Instants are session time in milliseconds."""

    trace: int
    version: str
    started_at: int
    time_scale: float
    content: bool
    sessions: int
    settings: ServerSettings
    agents: tuple[RecordedAgent, ...]


class RecordedCaller(_Line):
    """An API key that was used, by its name."""

    caller: str
    scopes: frozenset[str]


class Recorded(_Line):
    """One request. `taken` is None when no actor took a command of it up; `event` is the session's newest after it."""

    number: int  # of its line in the file
    now: int
    order: int
    taken: int | None
    event: int | None = None
    done: int
    operation: str
    by: str
    method: str
    target: str
    headers: dict[str, str]
    body: Any
    status: int
    answered: dict[str, str]
    answer: Any

    @property
    def session(self) -> str:
        """The id in its target, "" for none."""
        named = UUID.search(self.target)
        return named[0] if named else ""


class RecordedTurn(_Line):
    """What an agent said at `at` to the message of the instant `to`; or how it failed. At `done` it was durable."""

    session: str
    to: int
    at: int
    event: int = 0
    done: int
    reply: str | None = None
    metadata: dict[str, Any] = {}
    finish_reason: FinishReason | Literal["cancelled"] = "stop"
    error: str | None = None
    why: str = ""

    @property
    def is_cancelled(self) -> bool:
        return self.finish_reason == "cancelled" or self.error == "AGENT_CANCELLED"


class RecordedBeginning(_Line):
    """The beginning of the turn of the message at `to`, which had waited, was committed."""

    session: str
    to: int
    begun: int


class RecordedEnd(_Line):
    """The end of a session was committed, by its timer or on request."""

    session: str
    over: int


@dataclass(frozen=True, slots=True)
class Trace:
    start: Start
    callers: Mapping[str, frozenset[str]]  # API keys by name, and their scopes
    requests: Sequence[Recorded]  # in the order in which they were charged
    turns: Sequence[RecordedTurn]
    beginnings: Sequence[RecordedBeginning]
    ends: Sequence[RecordedEnd]

    @property
    def duration_ms(self) -> int:
        return max((request.done for request in self.requests), default=self.start.started_at) - (
            self.start.started_at
        )


_START = TypeAdapter(Start)
_CALLER = TypeAdapter(RecordedCaller)
_REQUEST = TypeAdapter(Recorded)
_TURN = TypeAdapter(RecordedTurn)
_BEGINNING = TypeAdapter(RecordedBeginning)
_END = TypeAdapter(RecordedEnd)


def read(path: Path) -> Trace:
    """Raises TraceError."""
    lines = _lines(path)
    _, first = next(lines, (1, {}))
    if first.get("trace") != FORMAT:
        raise TraceError(f"{path}:1: is no recording of `vigil serve --record` in format {FORMAT}")
    start: Start = _validated(_START, first, path, 1)
    callers: dict[str, frozenset[str]] = {}
    requests: list[Recorded] = []
    turns: list[RecordedTurn] = []
    beginnings: list[RecordedBeginning] = []
    ends: list[RecordedEnd] = []
    for number, value in lines:
        if "caller" in value:
            caller: RecordedCaller = _validated(_CALLER, value, path, number)
            callers[caller.caller] = caller.scopes
        elif "operation" in value:
            requests.append(_validated(_REQUEST, value | {"number": number}, path, number))
        elif "over" in value:
            ends.append(_validated(_END, value, path, number))
        elif "begun" in value:
            beginnings.append(_validated(_BEGINNING, value, path, number))
        else:
            turns.append(_validated(_TURN, value, path, number))
    return Trace(start, callers, sorted(requests, key=attrgetter("order")), turns, beginnings, ends)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        texts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from None
    for number, text in enumerate(texts[:-1], 1):
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise TraceError(f"{path}:{number}: is not a line of JSON") from None
        if not isinstance(value, dict):
            raise TraceError(f"{path}:{number}: is not a JSON object")
        yield number, value


def _validated(adapter: TypeAdapter[Any], value: dict[str, Any], path: Path, number: int) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise TraceError(f"{path}:{number}: {where}: {fault['msg']}") from None
