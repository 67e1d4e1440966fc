"""What a script may set of the server that it is played against: limits, defaults, agents."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from vigil.actors.agents.catalogue import DEMO_ID, KINDS
from vigil.actors.core.quotas import Limit
from vigil.scenarios.language.values import Api, Strict

AGENT_KINDS = ("echo", "none", "scripted")  # those that need no network: a script says all that happens


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


RateText = Annotated[str, AfterValidator(_is_limit), Field(examples=["60/minute"])]


AgentEntry = Annotated[dict[str, Any], AfterValidator(_is_agent)]


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
