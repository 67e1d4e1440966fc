"""What every entry of `agents.yaml` can say, and the types its fields are made of.

A kind of agent adds its own fields in its own module. Validation is strict: nothing is converted or clamped.
The context of a validation is the environment, in which the variables that hold secrets must be set.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from vigil.actors.agents.base import Agent, AgentEntry
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch


class Outside(NamedTuple):
    """What agents are given of the world: variables, real time in milliseconds, a seed for what is drawn."""

    environ: Mapping[str, str]
    wall: Callable[[], int]
    seed: int


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _printable_word(value: str) -> str:
    if _WORD.fullmatch(value) is None:
        raise PydanticCustomError("word", "must not have whitespace or control characters")
    return value


def _limit(value: object) -> Limit | None:
    return None if value is None else Limit.parse(str(value))


def _secret_variable(name: str, info: ValidationInfo) -> str:
    """A name that does not look like one is not repeated: it may be the secret itself."""
    if _VARIABLE.fullmatch(name) is None:
        raise PydanticCustomError(
            "variable", "must be the name of an environment variable, in capitals, and not the secret itself"
        )
    secret = info.context.get(name) if info.context else None
    if not secret:
        raise PydanticCustomError("unset", "the environment variable {name} is not set", {"name": name})
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise PydanticCustomError(
            "secret",
            "the environment variable {name} has a space, a line end or another character that no key has",
            {"name": name},
        )
    return name


def _http_url(value: str) -> str:
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        raise PydanticCustomError("url", "is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise PydanticCustomError("url", "must be an http:// or https:// URL with a host")
    if url.userinfo or url.fragment:
        raise PydanticCustomError("url", "must have no user, password or #fragment; secrets go in variables")
    return value


_WORD = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)

AgentId = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable_word)]
OwnLimit = Annotated[Limit | None, BeforeValidator(_limit)]
SecretVariable = Annotated[str, AfterValidator(_secret_variable)]
HttpUrl = Annotated[str, Field(max_length=2048), AfterValidator(_http_url)]


class TimeoutFields(Strict):
    """Part of a session's timeoutConfig, in the API's own names and ranges (spec section 2)."""

    timeout_minutes: Annotated[int | None, Field(ge=5, le=1440, alias="timeoutMinutes")] = None
    auto_renew: Annotated[bool | None, Field(alias="autoRenew")] = None
    max_duration_minutes: Annotated[int | None, Field(ge=1, le=4320, alias="maxDurationMinutes")] = None
    warning_threshold_minutes: Annotated[int | None, Field(ge=1, le=60, alias="warningThresholdMinutes")] = (
        None
    )


class AgentConfig(Strict):
    """One entry of the catalogue, of any kind. A kind says its own `kind`, `agent` and `summary`."""

    id: AgentId
    kind: str
    name: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    timeouts: Annotated[TimeoutFields | None, Field(alias="timeoutConfig")] = None
    session_limit: OwnLimit = None
    agent_limit: OwnLimit = None
    turn_timeout_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0

    def entry(self, outside: Outside) -> AgentEntry:
        return AgentEntry(
            self.id,
            self.name or self.id,
            self.agent(outside),
            TimeoutPatch(**self.timeouts.model_dump()) if self.timeouts else TimeoutPatch(),
            self.session_limit,
            self.agent_limit,
            self.turn_timeout_s,
        )

    def agent(self, outside: Outside) -> Agent | None:
        """Whoever answers. Opens no connection."""
        raise NotImplementedError

    def summary(self) -> str:
        """What it will do, in a few words, without secrets."""
        raise NotImplementedError


class RemoteConfig(AgentConfig):
    """What the kinds that speak to a server have in common.

    Proxies and certificate authorities of the process's environment (HTTPS_PROXY, SSL_CERT_FILE) count only
    with `trust_env`: a model on this machine is not to be looked for behind a proxy.
    """

    connect_timeout_s: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5.0
    trust_env: bool = False
