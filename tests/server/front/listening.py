"""A server whose events somebody listens to."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.harness import BASE, OWNER
from tests.server.raw import UPGRADE, connect
from tests.server.sockets import Served
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.errors import AgentFailed


class Refusal(NamedTuple):
    """The answer to a handshake that is not let in, in the shape that all errors have."""

    status: int
    code: str
    body: Any
    headers: dict[bytes, bytes]


class MoodyAgent:
    """Says and answers `re: ...`, or fails when it is told to."""

    async def reply(self, turn: Turn) -> Reply:
        content = turn.message.content
        if content == "fail":
            raise AgentFailed("As you wish")
        turn.say(f"re: {content}")
        return Reply(f"re: {content}")


async def new_session(served: Served, **fields: Any) -> str:
    return str((await served.api.create(**fields))["sessionId"])


async def heartbeats(served: Served, session_id: str, count: int) -> None:
    """So many events."""
    for _ in range(count):
        assert (await served.api.request("POST", f"/{session_id}/heartbeat")).status == 200


async def refused(
    served: Served,
    session_id: str,
    query: str = "",
    credential: str | None = OWNER,
    headers: Iterable[tuple[str, str]] = (),
) -> Refusal:
    sent = list(headers) + ([("Authorization", f"Bearer {credential}")] if credential else [])
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent)
    async with connect(served.running) as client:
        answer = await client.ask(handshake(session_id, lines.encode(), query.encode()))
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.headers[b"cache-control"] == b"no-store"
    body = json.loads(answer.body)
    assert set(body) == {"error", "code", "message", "details"}
    return Refusal(answer.status, body["code"], body, answer.headers)


def handshake(session_id: str, extra: bytes = b"", query: bytes = b"") -> bytes:
    path = f"{BASE}/{session_id}/events".encode() + query
    return (UPGRADE % extra).replace(b"/ws", path, 1)
