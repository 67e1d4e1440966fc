"""What no single step can tell: that names are given before they are used, that times go forward, that a step makes
sense where it stands. It walks through a script in the order in which its steps run, and plays nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vigil.actors.agents.catalogue import DEMO_ID
from vigil.actors.agents.yaml_positions import Where
from vigil.actors.core.suggestion import did_you_mean
from vigil.scenarios.language import durations
from vigil.scenarios.language.paths import names_used
from vigil.scenarios.language.script import REQUESTS, Script, Step

GIVEN = frozenset({"n", "key"})  # names that need no step before them


class Fault(NamedTuple):
    where: Where
    message: str


@dataclass(slots=True)
class _Known:
    """What the steps so far have named, and the agents that a script can spoil."""

    agents: dict[str, str]  # id to kind
    names: set[str] = field(default_factory=lambda: set(GIVEN))
    sessions: set[str] = field(default_factory=set)
    listeners: set[str] = field(default_factory=set)


class _Nested(NamedTuple):
    where: Where
    steps: Sequence[Step]


def faults(script: Script) -> Iterator[Fault]:
    """Each thing that is wrong, in the order of the steps."""
    entries = script.settings.agents if script.settings else None
    agents = {DEMO_ID: "echo"} if entries is None else {entry["id"]: entry["kind"] for entry in entries}
    yield from _in_steps(script.steps, ("steps",), _Known(agents), again=False)


def close_to(typed: str, names: Iterable[str]) -> str:
    """The end of a message about a word that is not known."""
    known = sorted(names)
    return did_you_mean(typed, known) or (f": expected one of {', '.join(known)}" if known else "")


def _in_steps(steps: Iterable[Step], where: Where, known: _Known, *, again: bool) -> Iterator[Fault]:
    """`again`: these steps are played more than once."""
    last_at = 0
    for n, step in enumerate(steps):
        here = (*where, n)
        yield from _in_step(step, here, known)
        if step.at is not None:
            if again:
                yield Fault((*here, "at"), "means nothing in steps that are played again: say after")
            elif step.at < last_at:
                yield Fault((*here, "at"), f"comes before the step at {durations.show(last_at)}")
            last_at = step.at
        for inner in _nested(step, here):
            yield from _in_steps(inner.steps, inner.where, known, again=again or step.verb != "parallel")
        _learn(step, known)


def _in_step(step: Step, here: Where, known: _Known) -> Iterator[Fault]:
    action = step.action
    if not _nested(step, here):
        for name in sorted(names_used(step.model_dump(exclude_unset=True)) - known.names):
            yield Fault(here, f"${{{name}}} is not known yet{close_to(name, known.names - GIVEN)}")
    for kind, names in (("session", known.sessions), ("listener", known.listeners)):
        named = getattr(action, kind, None)
        if named is not None and named not in names:
            yield Fault((*here, step.verb), f"there is no {kind} {named} yet{close_to(named, names)}")
    if step.verb == "burst" and action.do.verb not in REQUESTS:
        yield Fault((*here, "burst", "do"), f"must be a request: one of {', '.join(REQUESTS)}")
    if step.verb == "burst" and action.do.after is not None:
        yield Fault((*here, "burst", "do", "after"), "means nothing here: a burst has every")
    if step.verb == "agent":
        yield from _spoiled(action, (*here, "agent"), known)


def _spoiled(agent_ids: Iterable[str], where: Where, known: _Known) -> Iterator[Fault]:
    for agent_id in agent_ids:
        if agent_id not in known.agents:
            yield Fault((*where, agent_id), f"is no agent of this script{close_to(agent_id, known.agents)}")
        elif known.agents[agent_id] != "echo":
            yield Fault(
                (*where, agent_id), f"is of the kind {known.agents[agent_id]}: only an echo can be spoiled"
            )


def _nested(step: Step, here: Where) -> list[_Nested]:
    if step.verb == "parallel":
        return [_Nested((*here, "parallel", name), branch) for name, branch in step.action.items()]
    if step.verb == "repeat":
        return [_Nested((*here, "repeat", "do"), step.action.do)]
    if step.verb == "burst":
        return [_Nested((*here, "burst", "do"), [step.action.do])]
    return []


def _learn(step: Step, known: _Known) -> None:
    known.names |= step.save.keys()
    if step.as_ is not None:
        known.names.add(step.as_)
        if step.verb == "create":
            known.sessions.add(step.as_)
        elif step.verb == "listen":
            known.listeners.add(step.as_)
