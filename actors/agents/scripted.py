"""An agent that answers by rules, with delays and failures drawn from a seed: people's partner in simulations.

What is drawn follows from the catalogue's seed, the session's id and the message's id alone, so the same
conversation goes the same way in every run, whatever else happens at the time. Time passes by Trio's clock.
"""

import math
import re
from collections.abc import Mapping
from random import Random
from string import Template
from typing import Annotated, Literal, NamedTuple, Self

import trio
from pydantic import BeforeValidator, Field, model_validator

from vigil.actors.agents.base import Reply, Turn
from vigil.actors.agents.config import AgentConfig, Outside, Strict
from vigil.actors.core.errors import AgentFailed

HOUR_MS = 3_600_000

Ms = Annotated[float, Field(ge=0, le=HOUR_MS, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Delay(Strict):
    """Milliseconds, evenly between `min` and `max`; with `median` log-normal around it, kept between them.

    `sigma` is the log-normal's: 0.5 has two thirds of all delays between 0.6 and 1.6 times the median.
    """

    min: Ms = 0.0
    max: Ms
    median: Annotated[Ms | None, Field(gt=0)] = None
    sigma: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.5

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.min <= (self.max if self.median is None else self.median) <= self.max:
            raise ValueError("must have min <= median <= max")
        return self

    def draw_s(self, stream: Random) -> float:
        if self.median is None:
            return stream.uniform(self.min, self.max) / 1000
        drawn = stream.lognormvariate(math.log(self.median), self.sigma)
        return min(max(drawn, self.min), self.max) / 1000


class Failures(Strict):
    """How likely a turn fails, hangs until its time is up, or crashes."""

    fail: Probability = 0.0
    hang: Probability = 0.0
    crash: Probability = 0.0

    @model_validator(mode="after")
    def _at_most_always(self) -> Self:
        if self.fail + self.hang + self.crash > 1:
            raise ValueError("must not add up to more than 1")
        return self

    def draw(self, stream: Random) -> Literal["fail", "hang", "crash"] | None:
        drawn = stream.random()
        if drawn < self.fail:
            return "fail"
        if drawn < self.fail + self.hang:
            return "hang"
        return "crash" if drawn < self.fail + self.hang + self.crash else None


class _Text(Template):
    """`$message`, `$user`, `$0` for what matched, `$1` and `$name` for groups, `$$` for a dollar sign."""

    idpattern = "[A-Za-z0-9_]+"


def _pattern(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Rule(Strict):
    """One answer, or one drawn of several, to messages that match or contain something; else to any."""

    match: Annotated[re.Pattern[str] | None, BeforeValidator(_pattern)] = None
    contains: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    reply: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=10_000)]],
        Field(min_length=1, max_length=1000),
        BeforeValidator(_several),
    ]
    delay_ms: Delay | None = None
    failures: Failures | None = None

    @property
    def takes_all(self) -> bool:
        return self.match is None and self.contains is None

    def values(self, content: str) -> Mapping[str, str] | None:
        """What the message gives to the answer; None when the rule is not for it."""
        if self.match is not None:
            found = self.match.search(content)
            if found is None:
                return None
            groups = {str(n): text or "" for n, text in enumerate((found[0], *found.groups()))}
            return groups | found.groupdict("")
        if self.contains is not None and self.contains.casefold() not in content.casefold():
            return None
        return {}

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        if self.match is not None and self.contains is not None:
            raise ValueError("must have match or contains, not both")
        known = {"message", "user", *self._group_names()}
        for text in map(_Text, self.reply):
            if not text.is_valid():
                raise ValueError("reply has a $ that names nothing: write $$ for a dollar sign")
            if unknown := set(text.get_identifiers()) - known:
                names = ", ".join(f"${name}" for name in sorted(unknown))
                raise ValueError(
                    f"reply has {names}, which the rule does not give: write $$ for a dollar sign"
                )
        return self

    def _group_names(self) -> set[str]:
        if self.match is None:
            return set()
        return {*map(str, range(self.match.groups + 1)), *self.match.groupindex}


class ScriptedConfig(AgentConfig):
    """The first rule that fits answers. `piece_delay_ms` passes before each word of an answer."""

    kind: Literal["scripted"]
    rules: Annotated[list[Rule], Field(min_length=1, max_length=1000)]
    delay_ms: Delay = Delay(max=0.0)
    piece_delay_ms: Delay = Delay(max=0.0)
    failures: Failures = Failures()

    @model_validator(mode="after")
    def _answers_everything(self) -> Self:
        if [rule.takes_all for rule in self.rules] != [False] * (len(self.rules) - 1) + [True]:
            raise ValueError("the last of the rules, and only that, must have neither match nor contains")
        return self

    def agent(self, outside: Outside) -> "ScriptedAgent":
        return ScriptedAgent(self, outside.seed)

    def summary(self) -> str:
        return f"{len(self.rules)} rule{'s' if len(self.rules) > 1 else ''}"


class _Plan(NamedTuple):
    """All that a turn will do, drawn before it does anything."""

    text: str
    delay_s: float
    failure: Literal["fail", "hang", "crash"] | None


class ScriptedAgent:
    def __init__(self, config: ScriptedConfig, seed: int) -> None:
        self._config = config
        self._seed = seed

    async def reply(self, turn: Turn) -> Reply:
        stream = Random(f"{self._seed}:{turn.session.id}:{turn.message.id}")  # noqa: S311  a simulation's
        plan = self._plan(turn, stream)
        await trio.sleep(plan.delay_s)
        if plan.failure is not None:
            await _fail(plan.failure)
        for piece in re.findall(r"\s*\S+\s*|\s+", plan.text):
            await trio.sleep(self._config.piece_delay_ms.draw_s(stream))
            turn.say(piece)
        return Reply(plan.text)

    def _plan(self, turn: Turn, stream: Random) -> _Plan:
        config = self._config
        rule, values = self._rule(turn.message.content)
        text = _Text(stream.choice(rule.reply)).substitute(
            {"message": turn.message.content, "user": turn.session.user_id} | dict(values)
        )
        delay_s = (rule.delay_ms or config.delay_ms).draw_s(stream)
        return _Plan(text, delay_s, (rule.failures or config.failures).draw(stream))

    def _rule(self, content: str) -> tuple[Rule, Mapping[str, str]]:
        found = ((rule, rule.values(content)) for rule in self._config.rules)
        return next((rule, values) for rule, values in found if values is not None)


async def _fail(how: Literal["fail", "hang", "crash"]) -> None:
    if how == "hang":
        await trio.sleep_forever()
    if how == "crash":
        raise RuntimeError("a scripted crash")
    raise AgentFailed("The agent failed, as its script says")
