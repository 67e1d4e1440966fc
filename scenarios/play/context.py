"""A step under way: where it is in the script, what it finds there, and what came back. Plain values; no rules."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vigil.actors.agents.yaml_positions import Where
from vigil.scenarios.language import durations
from vigil.scenarios.language.script import Step
from vigil.scenarios.play.results import SessionSeen, StepPlayed
from vigil.server.api.wire_time import epoch_ms

LABEL_MAX = 60


@dataclass(slots=True)
class Scope:
    """What a step finds: where it is in the script, and what those before it left."""

    where: Where
    names: Mapping[str, Any]
    parent: int | None = None
    device: str = ""
    session: str = ""  # the one created last
    listener: str = ""  # the one opened last
    ended_ms: int = 0  # the step before


@dataclass(frozen=True, slots=True)
class StepContext:
    """A step under way."""

    step: Step
    where: Where
    scope: Scope
    index: int
    session: str  # the name of the one that the step is about, or ""
    device: str

    @property
    def action(self) -> Any:
        return self.step.action

    def played(self, line: int, began_ms: int, *, held: bool) -> StepPlayed:
        """The step as a value for reports, once its scope knows when it ended."""
        return StepPlayed(
            index=self.index,
            parent=self.scope.parent,
            line=line,
            verb=self.step.verb,
            label=self.step.name or _label(self),
            session=self.session,
            device=self.device,
            started_ms=began_ms,
            ended_ms=self.scope.ended_ms,
            held=held,
        )

    def inner(self, at_ms: int, *inside: str, n: int | None = None) -> Scope:
        """The scope of steps inside this one, which begin at `at_ms`."""
        names = self.scope.names if n is None else ChainMap({"n": n}, self.scope.names)  # type: ignore[arg-type]
        return replace(
            self.scope,
            where=(*self.where, *inside),
            names=names,
            parent=self.index,
            device=self.device,
            ended_ms=at_ms,
        )


@dataclass(frozen=True, slots=True)
class Response:
    """What a step got: an answer, or an event, which has no status."""

    at_ms: int
    status: int | None
    headers: Mapping[str, str]
    body: Any


def session_seen(name: str, made: Mapping[str, Any]) -> SessionSeen:
    return SessionSeen(
        name,
        made["sessionId"],
        made["agentId"],
        made["userId"],
        epoch_ms(made["createdAt"]),
        epoch_ms(made["expiresAt"]),
    )


def _label(context: StepContext) -> str:
    """What a step does, in a few words."""
    action = context.action
    detail = _DETAILS.get(context.step.verb, lambda _: context.session)(action)
    return f"{context.step.verb} {detail}".strip()[:LABEL_MAX]


_DETAILS: Mapping[str, Callable[[Any], str]] = {
    "send": lambda action: str(action.content),
    "stop": lambda action: action.session or "",
    "expect_event": lambda action: action.type or "",
    "burst": lambda action: f"{action.count} x {action.do.verb}",
    "parallel": ", ".join,
    "repeat": lambda action: f"{action.times} times",
    "restart": lambda action: action.how,
    "agent": ", ".join,
    "wait": durations.show,
}
