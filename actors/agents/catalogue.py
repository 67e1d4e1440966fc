"""The agents that exist: read from `agents.yaml`, or the one demo agent (spec section 5).

It owns the file's shape and its errors, each with file, line and field, all at once. What the fields of a kind
mean is that kind's own business.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from vigil.actors.agents import yaml_positions
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.config import AgentConfig, Outside, Strict
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.agents.openai import OpenAIConfig
from vigil.actors.agents.providers.anthropic import AnthropicConfig
from vigil.actors.agents.providers.gemini import GeminiConfig
from vigil.actors.agents.providers.model import ModelAgent
from vigil.actors.agents.providers.ollama import OllamaConfig
from vigil.actors.agents.providers.responses import ResponsesConfig
from vigil.actors.agents.scripted import ScriptedConfig
from vigil.actors.agents.webhook import WebhookAgent, WebhookConfig
from vigil.actors.agents.yaml_positions import Document, Problem, Where, show, text_of
from vigil.actors.core.errors import VigilError
from vigil.actors.core.suggestion import did_you_mean

DEMO_ID = "agent-123"


class EchoConfig(AgentConfig):
    kind: Literal["echo"]

    def agent(self, _outside: Outside) -> EchoAgent:
        return EchoAgent()

    def summary(self) -> str:
        return "repeats what it hears"


class NoneConfig(AgentConfig):
    kind: Literal["none"]

    def agent(self, _outside: Outside) -> None:
        return None

    def summary(self) -> str:
        return "never answers"


KINDS: dict[str, type[AgentConfig]] = {
    "echo": EchoConfig,
    "none": NoneConfig,
    "scripted": ScriptedConfig,
    "openai": OpenAIConfig,
    "openai-responses": ResponsesConfig,
    "anthropic": AnthropicConfig,
    "gemini": GeminiConfig,
    "ollama": OllamaConfig,
    "webhook": WebhookConfig,
}


class CatalogueError(VigilError):
    """The catalogue cannot be used. The text has a line for each thing that is wrong; none has a secret."""

    example = """\
agents:
  - {id: agent-123, kind: echo}
  - {id: helper, kind: openai, base_url: "http://127.0.0.1:11434/v1", model: llama3.2}"""


class _Catalogue(NamedTuple):
    seed: int
    agents: list[AgentConfig]


class _File(Strict):
    seed: int = 0
    agents: list[Any] = Field(min_length=1)


def load(path: Path, environ: Mapping[str, str], *, wall: Callable[[], int]) -> Mapping[str, AgentEntry]:
    """The agents of `path` by id, in its order. `wall` tells real time in milliseconds since the epoch.

    Opens no connection; `close` is for when they were used. Raises CatalogueError.
    """
    catalogue = _read(path, environ)
    outside = Outside(environ, wall, catalogue.seed)
    return {config.id: config.entry(outside) for config in catalogue.agents}


def demo() -> Mapping[str, AgentEntry]:
    """What there is without a file."""
    return {DEMO_ID: AgentEntry(DEMO_ID, "Demo agent", EchoAgent())}


async def close(agents: Mapping[str, AgentEntry]) -> None:
    """Let go of the agents' connections. Turns are over by now."""
    for entry in agents.values():
        if isinstance(entry.agent, ModelAgent | WebhookAgent):
            await entry.agent.close()


def check(path: Path, environ: Mapping[str, str]) -> list[str]:
    """A line about each agent of `path`. Raises CatalogueError."""
    agents = _read(path, environ).agents
    wide = max(len(config.id) for config in agents)
    kind = max(8, *(len(config.kind) for config in agents))
    return [f"{config.id:{wide}}  {config.kind:{kind}}  {config.summary()}" for config in agents]


def _read(path: Path, environ: Mapping[str, str]) -> _Catalogue:
    document = yaml_positions.read(text_of(path, CatalogueError))
    catalogue, faults = _validated(document, environ)
    told = {problem.where for problem in document.problems}
    problems = document.problems + [fault for fault in faults if fault.where not in told]
    problems.sort(key=lambda problem: problem.at.line)
    if problems:
        # Not chained: a traceback would show the file's values.
        raise CatalogueError("\n".join(_shown(path, problem) for problem in problems)) from None
    return catalogue


def _validated(document: Document, environ: Mapping[str, str]) -> tuple[_Catalogue, list[Problem]]:
    """The catalogue as far as it is good, and what is wrong with the rest."""
    if not isinstance(document.value, dict):
        wrong = (
            [] if document.problems else [document.problem((), "must be a mapping, with a list under agents")]
        )
        return _Catalogue(0, []), wrong
    try:
        file = _File.model_validate(document.value)
    except ValidationError as error:
        return _Catalogue(0, []), [*_faults(document, (), error, _File)]
    agents: list[AgentConfig] = []
    problems = [*_twice(document, file.agents)]
    for n, fields in enumerate(file.agents):
        agent = _agent(document, ("agents", n), fields, environ)
        if isinstance(agent, AgentConfig):
            agents.append(agent)
        else:
            problems += agent
    return _Catalogue(file.seed, agents), problems


def _agent(
    document: Document, where: Where, fields: object, environ: Mapping[str, str]
) -> AgentConfig | list[Problem]:
    if not isinstance(fields, dict):
        return [document.problem(where, "must be a mapping with id and kind")]
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        near = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        said = f"must be one of {', '.join(KINDS)}{near}"
        return [document.problem((*where, "kind"), said)]
    try:
        return KINDS[kind].model_validate(fields, context=environ)
    except ValidationError as error:
        return [*_faults(document, where, error, KINDS[kind])]


def _twice(document: Document, agents: Iterable[object]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for n, fields in enumerate(agents):
        agent_id = fields.get("id") if isinstance(fields, dict) else None
        if not isinstance(agent_id, str):
            continue
        other = first.setdefault(agent_id, n)
        if other != n:
            yield document.problem(("agents", n, "id"), f"is the id of agents[{other}] too")


def _faults(
    document: Document, where: Where, error: ValidationError, model: type[BaseModel]
) -> Iterator[Problem]:
    for fault in error.errors(include_url=False, include_input=False):
        yield document.problem((*where, *fault["loc"]), _message(fault, model))


def _message(fault: ErrorDetails, model: type[BaseModel]) -> str:
    if fault["type"] != "extra_forbidden":
        return _MESSAGES.get(fault["type"]) or _SHOULD.sub("must", fault["msg"].removeprefix("Value error, "))
    names = [field.alias or name for name, field in model.model_fields.items()]
    return f"is not a field{did_you_mean(str(fault['loc'][-1]), names)}"


_SHOULD = re.compile(r"^(Input|String|List|Dictionary) should")
_MESSAGES = {
    "missing": "is missing",
    "string_type": "must be text: put it in quotes",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
}


def _shown(file: Path, problem: Problem) -> str:
    """`agents.yaml:12: agents[1].kind: what is wrong`."""
    where = show(problem.where)
    return f"{file}:{problem.at.line}: {where}{': ' if where else ''}{problem.message}"
