"""What came of a script: everything that was asked, answered, heard and judged, as plain values.

Instants are session time in milliseconds since the epoch. Keys and tokens are masked before they get here, so a
play can be printed, stored and shown. What a page, a report or a comparison needs is in it; it judges nothing.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

MASK = "***"

T = TypeVar("T")
Verdict = Literal["held", "failed", "skipped"]
What = Literal["crashed", "stopped", "up again", "agent"]


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """A session that the script made, under the name that the script gives it."""

    name: str
    session_id: str
    agent_id: str
    user_id: str
    created_at_ms: int
    expires_at_ms: int  # as it was created; answers and events say how it moved


@dataclass(frozen=True, slots=True)
class StepPlayed:
    """One step that was begun. Steps inside parallel, repeat and burst are steps of their own, each round anew."""

    index: int  # its place in `Play.steps`
    parent: int | None  # the step that it is inside of
    line: int
    verb: str
    label: str  # its `name`, or what it does in a few words
    session: str  # the name of the session that it is about, "" for none
    device: str  # who does it, "" when the script does not say
    started_ms: int
    ended_ms: int
    held: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer. `status` 0 means that no answer came, and `answer` says why."""

    at_ms: int
    done_ms: int
    step: int
    session: str
    device: str
    operation: str  # the verb
    method: str
    target: str  # path and query
    request: Any  # JSON value, or text when it is none; None without a body
    status: int
    headers: tuple[tuple[str, str], ...]  # of the answer
    answer: Any  # JSON value, or text when it is none; of a stream {"events": [{"event", "data"}]}


@dataclass(frozen=True, slots=True)
class EventSeen:
    """One frame that a listener got. Its end is the type `closed`, with the data {"code": 1000}."""

    at_ms: int  # when it came
    step: int  # of the listen
    listener: str
    session: str
    type: str
    id: int | None
    happened_ms: int  # what the server says
    data: Any


@dataclass(frozen=True, slots=True)
class Happening:
    """What the script did to the server itself: it went down, came back, an agent became slow."""

    at_ms: int
    step: int
    what: What
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One expectation. What was expected and what came are texts for people."""

    at_ms: int
    step: int
    line: int
    expectation: str  # "status", "body.expiresAt", "headers.Retry-After"
    held: bool
    expected: str
    came: str


@dataclass(frozen=True, slots=True)
class Play:
    """One script, played once against one target. `reason` says why it was skipped or what failed first."""

    title: str
    why: str
    file: str
    target: str  # "virtual", "serve" or the URL
    verdict: Verdict
    reason: str
    started_ms: int
    ended_ms: int
    real_s: float  # the only thing in here that differs between two virtual runs
    sessions: tuple[SessionSeen, ...] = ()
    steps: tuple[StepPlayed, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    events: tuple[EventSeen, ...] = ()
    happenings: tuple[Happening, ...] = ()
    judged: tuple[Judged, ...] = ()

    @property
    def failures(self) -> tuple[Judged, ...]:
        return tuple(judged for judged in self.judged if not judged.held)


def as_json(play: Play) -> dict[str, Any]:
    """The whole play as JSON values, field by field as it is declared here."""
    return asdict(play)


def trace(play: Play) -> bytes:
    """All that is the same in every virtual run of the same script, as text to compare byte by byte."""
    values = as_json(play)
    del values["real_s"]
    return json.dumps(values, ensure_ascii=False, indent=1).encode()


def masked(value: T, secrets: Collection[str]) -> T:
    """The same value (a play, a part of one, JSON) without any of the secrets in it."""
    hidden: T = _masked(value, sorted(secrets, key=len, reverse=True))
    return hidden


def _masked(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, dict):
        return {_masked(name, secrets): _masked(part, secrets) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_masked(part, secrets) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{part.name: _masked(getattr(value, part.name), secrets) for part in fields(value)}
        )
    return value
