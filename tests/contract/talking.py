"""Agents that talk as a test says, and a client that sends to them. For what is said of turns (spec sections 4, 11)."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.fakes import entry
from tests.harness import AGENTS, Answer, Api
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.quotas import Limit

MANY = Limit(100_000, 60)


class Talker:
    """Says what `say` is given, and answers with all of it once it is let. `gone` once somebody has stopped it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.turn: Turn | None = None
        self.said: list[str] = []
        self.gone = 0
        self.go = trio.Event()

    async def reply(self, turn: Turn) -> Reply:
        self.asked.append(turn.message.content)
        self.turn, self.said = turn, []
        try:
            await self.go.wait()
        except trio.Cancelled:
            self.gone += 1
            raise
        return Reply("".join(self.said) or f"re: {turn.message.content}")

    async def say(self, *pieces: str) -> None:
        """Until it is handed out."""
        assert self.turn is not None
        for piece in pieces:
            self.said.append(piece)
            self.turn.say(piece)
        await wait_all_tasks_blocked()


class Chat:
    """A session with an agent, and whoever asks in it."""

    def __init__(self, api: Api, session_id: str) -> None:
        self.api = api
        self.id = session_id

    async def send(self, content: str = "hello", key: str | None = None, **fields: Any) -> Answer:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.api.request(
            "POST", f"/{self.id}/messages", {"content": content, **fields}, headers=headers
        )
        await wait_all_tasks_blocked()
        return answer

    async def sent(self, content: str = "hello", **fields: Any) -> str:
        """Gives the message's id."""
        answer = await self.send(content, **fields)
        assert answer.status == 201, answer
        return str(answer.json["id"])

    async def cancel(self, message_id: str, **fields: Any) -> Answer:
        answer = await self.api.request("POST", f"/{self.id}/messages/{message_id}/cancel", **fields)
        await wait_all_tasks_blocked()
        return answer

    async def status_after_cancel(self, message_id: str) -> str:
        answer = await self.cancel(message_id)
        assert (answer.status, answer.json["messageId"]) == (200, message_id), answer
        return str(answer.json["status"])

    async def history(self) -> list[Any]:
        """Oldest first."""
        page = await self.api.request("GET", f"/{self.id}/messages?limit=100")
        return list(page.json["messages"][::-1])

    async def contents(self) -> list[str]:
        return [message["content"] for message in await self.history()]


async def chat_with(api: Api, agent: Any, **changes: Any) -> Chat:
    """A session of 5 minutes with this agent, on a site with these `changes`."""
    fields = changes.pop("entry", {})
    agents = {**AGENTS, "patient": entry(agent, **fields)}
    await api.restart(agents=agents, session_limit=MANY, **changes)
    config = {"timeoutMinutes": 5, "autoRenew": False}
    created = await api.create(agentId="patient", timeoutConfig=config)
    return Chat(api, created["sessionId"])


async def under_way(nursery: trio.Nursery, ask: Callable[[], Awaitable[Answer]]) -> list[Answer]:
    """Start a request that waits. The list has its answer as soon as there is one."""
    answers: list[Answer] = []

    async def run() -> None:
        answers.append(await ask())

    nursery.start_soon(run)
    await wait_all_tasks_blocked()
    return answers


def frames(answer: Answer) -> list[tuple[str, Any]]:
    """The events of a stream, each with its data; comments are left out."""
    blocks = [block for block in answer.content.decode().split("\n\n") if block and block != ":"]
    return [
        (event.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for event, data in (block.split("\n") for block in blocks)
    ]
