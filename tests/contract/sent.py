"""Messages that are sent, and the history they are in."""

from typing import Any

from tests.harness import Answer, Api
from vigil.actors.core.quotas import Limit

MANY = Limit(100_000, 60)


async def send(api: Api, session_id: str, content: str = "hello", **fields: Any) -> Answer:
    return await api.request("POST", f"/{session_id}/messages", {"content": content, **fields})


async def history(api: Api, session_id: str, query: str = "") -> Any:
    answer = await api.request("GET", f"/{session_id}/messages{query}")
    assert answer.status == 200, answer
    return answer.json


async def contents(api: Api, session_id: str) -> list[str]:
    """Everything that was said, oldest first."""
    return [message["content"] for message in (await history(api, session_id, "?limit=100"))["messages"]][
        ::-1
    ]
