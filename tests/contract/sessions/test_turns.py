"""The agent's turns, and bodies that take their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contract.sent import MANY, contents, history, send
from tests.fakes import PatientAgent, entry
from tests.harness import AGENTS, OWNER, Api
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.turns import turns
from vigil.server.api import gateway
from vigil.server.api.routes import ROUTES

PATIENT = {"agentId": "patient"}


async def with_agent(api: Api, agent: Any, **fields: Any) -> str:
    """A session with this agent."""
    await api.restart(agents={**AGENTS, "patient": entry(agent, **fields)}, session_limit=MANY)
    return str((await api.create(**PATIENT))["sessionId"])


# --- the agent's turns


async def test_the_agents_reply_arrives_in_history(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await api.create(agentId="agent-123"))["sessionId"]
    await send(api, session_id, "echo?")
    await wait_all_tasks_blocked()
    reply, asked = (await history(api, session_id))["messages"]
    assert (asked["authorId"], asked["isAgent"], asked["content"]) == ("user-456", False, "echo?")
    assert (reply["authorId"], reply["isAgent"], reply["content"]) == ("agent-123", True, "echo?")
    assert reply["createdAt"] > asked["createdAt"]


async def test_an_agents_reply_is_no_activity(api: Api, autojump_clock: MockClock) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    await send(api, session_id)
    before = await api.get(session_id)
    await trio.sleep(30)
    agent.go.set()
    await wait_all_tasks_blocked()
    assert await contents(api, session_id) == ["hello", "re: hello"]
    assert await api.get(session_id) == before | {"timeRemaining": before["timeRemaining"] - 30_000}


async def test_turns_run_one_at_a_time_in_accepted_order(api: Api, autojump_clock: MockClock) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    for word in ("one", "two", "three"):
        await send(api, session_id, word)
    await wait_all_tasks_blocked()
    assert agent.asked == ["one"]
    agent.go.set()
    await wait_all_tasks_blocked()
    assert agent.asked == ["one", "two", "three"]
    assert await contents(api, session_id) == ["one", "two", "three", "re: one", "re: two", "re: three"]


async def test_a_running_turn_delays_no_heartbeat_no_read_and_no_message(
    api: Api, autojump_clock: MockClock
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    await send(api, session_id)
    await wait_all_tasks_blocked()
    began = trio.current_time()
    assert (await api.request("POST", f"/{session_id}/heartbeat")).status == 200
    assert (await send(api, session_id, "next")).status == 201
    assert await contents(api, session_id) == ["hello", "next"]
    assert (trio.current_time(), agent.asked) == (began, ["hello"])


class BrokenAgent:
    async def reply(self, _turn: Turn) -> Reply:
        raise ZeroDivisionError


class MuteAgent:
    async def reply(self, _turn: Turn) -> Reply:
        await trio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("agent", [BrokenAgent(), MuteAgent()], ids=["crashes", "hangs"])
async def test_an_agent_that_fails_or_times_out_leaves_the_message_and_the_session(
    api: Api, autojump_clock: MockClock, agent: Any
) -> None:
    session_id = await with_agent(api, agent, turn_timeout_s=10)
    for word in ("first", "second"):
        assert (await send(api, session_id, word)).status == 201
        await trio.sleep(11)
    assert await contents(api, session_id) == ["first", "second"]
    assert (await api.get(session_id))["status"] == "active"


async def test_too_many_waiting_turns_are_503_and_nothing_is_stored(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAITING_MAX", 8)
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    numbers = [str(n) for n in range(9)]
    assert {(await send(api, session_id, n)).status for n in numbers} == {201}
    before = await api.get(session_id)
    await trio.sleep(1)
    refused = await send(api, session_id, "one too many")
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "OVERLOADED", "1")
    assert await contents(api, session_id) == numbers
    assert (await api.get(session_id))["lastActivity"] == before["lastActivity"]
    agent.go.set()
    await wait_all_tasks_blocked()
    assert (await send(api, session_id, "now")).status == 201


async def test_a_turn_that_is_running_when_its_session_goes_is_cancelled(
    api: Api, autojump_clock: MockClock
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    await send(api, session_id)
    await wait_all_tasks_blocked()
    assert len(api.site.directory.turns) == 1
    assert (await api.request("DELETE", f"/{session_id}")).status == 200
    await wait_all_tasks_blocked()
    assert len(api.site.directory.turns) == 0
    agent.go.set()
    await wait_all_tasks_blocked()
    assert (await api.request("GET", f"/{session_id}/messages")).status == 404


@dataclass
class SlowRequest:
    """A request whose body arrives when the test says so; no way in lets a test hold one up."""

    session_id: str
    content: bytes
    arrives: trio.Event
    method: str = "POST"
    path: str = ""
    query_string: bytes = b""

    def header(self, name: str) -> Sequence[str]:
        return {"authorization": [f"Bearer {OWNER}"], "content-type": ["application/json"]}.get(name, [])

    async def body(self, _bytes_max: int) -> bytes:
        await self.arrives.wait()
        return self.content


# --- a body that takes its time


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sendMessage", b'{"content": "hello"}'),
        ("sendMessage", b'{"content": "hello", "transport": "http"}'),
        ("sendMessage", b'{"content": "hello", "transport": "sse"}'),
        ("renewSession", b""),
        ("updateTimeout", b'{"timeoutMinutes": 60}'),
        ("heartbeat", b"{}"),
    ],
)
@pytest.mark.parametrize(("ends_by", "status"), [("expiry", 410), ("DELETE", 404)])
async def test_a_session_that_goes_while_the_body_arrives_is_410_or_404_and_charged(
    api: Api, autojump_clock: MockClock, name: str, content: bytes, ends_by: str, status: int
) -> None:
    session_id = (await api.create(agentId="agent-123"))["sessionId"]
    route = next(row for row in ROUTES if row.name == name)
    request = SlowRequest(session_id, content, trio.Event())
    replies = []

    async def slow() -> None:
        replies.append(await gateway.answer(api.site, route, request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        await wait_all_tasks_blocked()
        if ends_by == "expiry":
            await trio.sleep(31 * 60)
        else:
            await api.request("DELETE", f"/{session_id}")
        request.arrives.set()
    assert replies[0].status == status
    assert "RateLimit" in dict(replies[0].headers)
