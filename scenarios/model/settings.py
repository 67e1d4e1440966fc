"""What the model knows of the server that it judges: its settings and its catalogue of agents."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from vigil.scenarios.model.rules.history import Reply
from vigil.scenarios.model.rules.limits import Named, Rate, Scope
from vigil.scenarios.model.world import Config, Json, merged


class AgentRules(NamedTuple):
    """What an agent of the catalogue changes. `timeouts` has the names of the API. A `none` never answers, an `echo`
    repeats what was said; what a `scripted` one says to a message is `says`, if that is known."""

    kind: Literal["echo", "none", "scripted"] = "echo"
    timeouts: Mapping[str, int | bool] = {}
    session_limit: Rate | None = None
    agent_limit: Rate | None = None
    says: Reply | None = None

    @property
    def reply(self) -> Reply | None:
        """The answer to a message's content, where it is known."""
        return str if self.kind == "echo" else self.says


class ModelSettings(NamedTuple):
    """The server's settings. A limit is (requests, seconds)."""

    start_ms: int
    agents: Mapping[str, AgentRules]
    defaults: Config = (30, True, 180, 5)
    session_limit: Rate = (60, 60)
    user_limit: Rate = (1000, 3600)
    agent_limit: Rate = (5000, 3600)
    tombstone_minutes: int = 1440
    tombstone_max: int = 1_000_000
    session_max: int = 1_000_000
    calm_after_ms: int = 10_000  # so long after a fault a commit may still be slow

    def config(self, request: Json) -> Config:
        """Of the session that a create asks for: defaults, then the agent's, then its own (section 3)."""
        of_agent = merged(self.defaults, self.agents[request["agentId"]].timeouts)
        return merged(of_agent, request.get("timeoutConfig", {}))

    def rates(self, agent: str, *, create: bool) -> dict[Scope, Rate]:
        rules = self.agents[agent]
        rates: dict[Any, Rate] = {"user": self.user_limit, "agent": rules.agent_limit or self.agent_limit}
        of_session: dict[Any, Rate] = {"session": rules.session_limit or self.session_limit}
        return rates if create else of_session | rates

    def windows(self, agent: str, user: str, session: str | None = None) -> tuple[Named, ...]:
        """What a request counts for; a create names no session."""
        subjects = {"session": session or "", "user": user, "agent": agent}
        rates = self.rates(agent, create=session is None)
        return tuple(Named(scope, subjects[scope], rate) for scope, rate in rates.items())
