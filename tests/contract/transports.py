"""Messages that are sent over http and sse, and what comes back."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.fakes import FaultyStore, entry
from tests.harness import AGENTS, Answer, Api
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.quotas import Limit

MANY = Limit(100_000, 60)


BOTH = pytest.mark.parametrize("transport", ["http", "sse"])


class TalkingAgent:
    """Says its pieces a second apart, or all at once, and answers with all of them."""

    def __init__(self, *pieces: str, pause_s: float = 1.0) -> None:
        self.pieces = pieces
        self.pause_s = pause_s

    async def reply(self, turn: Turn) -> Reply:
        for piece in self.pieces:
            turn.say(piece)
            if self.pause_s:
                await trio.sleep(self.pause_s)
        return Reply("".join(self.pieces), '{"mood":"fine"}')


class FailingAgent:
    async def reply(self, turn: Turn) -> Reply:
        turn.say("well ")
        await trio.sleep(1)
        raise AgentFailed("The model is on holiday")


async def with_agent(api: Api, agent: Any, *, store: FaultyStore | None = None, **fields: Any) -> str:
    """A session of 5 minutes with this agent."""
    changes: dict[str, Any] = {"store": store} if store else {}
    agents = {**AGENTS, "patient": entry(agent, **fields)}
    await api.restart(agents=agents, session_limit=MANY, **changes)
    config = {"timeoutMinutes": 5, "autoRenew": False}
    return str((await api.create(agentId="patient", timeoutConfig=config))["sessionId"])


async def send(
    api: Api, session_id: str, transport: str, content: str = "hello", key: str | None = None, **fields: Any
) -> Answer:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"content": content, "transport": transport, **fields}
    return await api.request("POST", f"/{session_id}/messages", body, headers=headers)


async def history(api: Api, session_id: str) -> list[Any]:
    """All messages, oldest first."""
    page = await api.request("GET", f"/{session_id}/messages?limit=100")
    return list(page.json["messages"][::-1])


async def contents(api: Api, session_id: str) -> list[str]:
    return [message["content"] for message in await history(api, session_id)]


def frames(answer: Answer) -> list[tuple[str, Any]]:
    """The events of a stream, each with its data. Holds the stream to the format on the way."""
    assert (answer.status, answer.headers["Content-Type"]) == (201, "text/event-stream"), answer
    text = answer.content.decode()
    assert text.endswith("\n\n")
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if block == ":":
            continue  # a comment, after a while of silence
        event, data = block.split("\n")
        assert (event[:7], data[:6]) == ("event: ", "data: ")
        found.append((event[7:], json.loads(data[6:])))
    return found


def failure(answer: Answer) -> tuple[int, Any]:
    """What went wrong: the status and body of an http answer, 201 and the `error` event of a stream."""
    if answer.headers["Content-Type"] == "application/json":
        return answer.status, answer.json
    event, data = frames(answer)[-1]
    assert event == "error"
    return answer.status, data


async def under_way(nursery: trio.Nursery, ask: Callable[[], Awaitable[Answer]]) -> list[Answer]:
    """Start a request that waits. The list has its answer as soon as there is one."""
    answers: list[Answer] = []

    async def run() -> None:
        answers.append(await ask())

    nursery.start_soon(run)
    await wait_all_tasks_blocked()
    return answers
