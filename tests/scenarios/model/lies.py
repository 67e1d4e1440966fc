"""Conversations between people, the real server and the model, with answers that were changed on the way."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import orjson
import pytest
import trio

from tests.scenarios.model.driver import People, Store
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch
from vigil.actors.runtime.creation import Rules
from vigil.scenarios.model import AgentRules, Model, ModelSettings
from vigil.scenarios.model.observed import Answered, Violation
from vigil.scenarios.model.world import epoch_ms, iso
from vigil.scenarios.virtual.determinism import run
from vigil.scenarios.virtual.in_process import START_MS, InProcessServer, virtual_plan

AGENTS = {
    "echo": AgentEntry("echo", "Echo", EchoAgent()),
    "mute": AgentEntry("mute", "Mute", None, TimeoutPatch(timeout_minutes=15, warning_threshold_minutes=2)),
    "tight": AgentEntry("tight", "Tight", EchoAgent(), TimeoutPatch(), Limit(3, 1), Limit(40, 60)),
}


RULES = {
    "echo": AgentRules(),
    "mute": AgentRules("none", {"timeoutMinutes": 15, "warningThresholdMinutes": 2}),
    "tight": AgentRules("echo", {}, (3, 1), (40, 60)),
}


SETTINGS = ModelSettings(
    START_MS, RULES, session_limit=(20, 60), user_limit=(100, 3600), tombstone_minutes=30
)


Play = Callable[[People], Awaitable[None]]


Wrong = Callable[[Any], None]


def play(conversation: Play) -> None:
    """A conversation with the real server, watched by the model."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            plan = virtual_plan(
                store=Store(),
                agents=AGENTS,
                rules=Rules(tombstone_minutes=30),
                session_limit=Limit(20, 60),
                user_limit=Limit(100, 3600),
            )
            server = InProcessServer(plan, nursery)
            await server.start()
            people = People(server, Model(SETTINGS), Random(0))
            await conversation(people)
            people.model.finish(server.now)
            await server.stop()

    run(main)


def spoil(change: Wrong) -> Callable[[Answered], Answered]:
    """Answers whose JSON was changed in place."""

    def tamper(answer: Answered) -> Answered:
        body = orjson.loads(answer.body)
        change(body)
        return answer._replace(body=orjson.dumps(body))

    return tamper


def becomes(**changes: Any) -> Wrong:
    """A JSON object with other values; `a__b` is `b` inside `a`."""

    def change(body: Any) -> None:
        for path, value in changes.items():
            *outer, name = path.split("__")
            inner = body
            for step in outer:
                inner = inner[int(step) if step.isdigit() else step]
            inner[name] = value(inner[name]) if callable(value) else value

    return change


def later(text: str) -> str:
    return iso(epoch_ms(text) + 1)


def caught_by(rule: str, conversation: Play) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        play(conversation)
    found = caught.value.exceptions[0]
    assert isinstance(found, Violation)
    assert found.rule == rule, str(found)


async def expired(people: People) -> str:
    session = await people.begin("echo", "ann", timeoutMinutes=5, autoRenew=False)
    await trio.sleep(300)
    return session


def answer_with(status: int, body: Any) -> Callable[[Answered], Answered]:
    return lambda answer: answer._replace(status=status, body=orjson.dumps(body))
