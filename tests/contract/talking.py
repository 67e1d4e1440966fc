"""Agents that talk as a test says, and a client that sends to them. For what is said of turns (spec sections 4, 11)."""

from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from tests.contract.transports import contents, history, with_agent
from tests.harness import Answer, Api
from vigil.actors.agents.base import Reply, Turn


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
        return await history(self.api, self.id)

    async def contents(self) -> list[str]:
        return await contents(self.api, self.id)


async def chat_with(api: Api, agent: Any, **fields: Any) -> Chat:
    """A session of 5 minutes with this agent."""
    return Chat(api, await with_agent(api, agent, **fields))
