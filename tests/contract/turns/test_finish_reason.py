"""Spec section 11: an agent's message says why it ends where it does, wherever it is shown; a user's says nothing."""

import json

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import entry
from tests.harness import AGENTS, Api
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.records import FinishReason

REASONS: list[FinishReason] = ["stop", "length", "content_filter"]


class CutShort:
    """Answers as far as it may."""

    def __init__(self, reason: FinishReason) -> None:
        self.reason = reason

    async def reply(self, turn: Turn) -> Reply:
        turn.say("Once upon")
        return Reply("Once upon", finish_reason=self.reason)


async def session_with(api: Api, reason: FinishReason) -> str:
    await api.restart(agents={**AGENTS, "patient": entry(CutShort(reason))})
    return str((await api.create(agentId="patient"))["sessionId"])


@pytest.mark.parametrize("reason", REASONS)
async def test_it_stands_in_the_reply_and_in_history(
    api: Api, autojump_clock: MockClock, reason: FinishReason
) -> None:
    session_id = await session_with(api, reason)
    body = {"content": "A story, please", "transport": "http"}
    sent = (await api.request("POST", f"/{session_id}/messages", body)).json
    reply, asked = (await api.request("GET", f"/{session_id}/messages")).json["messages"]
    assert (sent["agentResponse"]["finishReason"], reply["finishReason"]) == (reason, reason)
    assert "finishReason" not in sent
    assert "finishReason" not in asked


async def test_it_stands_in_the_last_event_of_a_stream(api: Api, autojump_clock: MockClock) -> None:
    session_id = await session_with(api, "length")
    body = {"content": "A story, please", "transport": "sse"}
    text = (await api.request("POST", f"/{session_id}/messages", body)).content.decode()
    event, data = text.strip().split("\n\n")[-1].split("\ndata: ")
    assert event == "event: agentResponse"
    assert json.loads(data)["finishReason"] == "length"


async def test_a_repeat_of_a_send_says_it_again(api: Api, autojump_clock: MockClock) -> None:
    session_id = await session_with(api, "content_filter")
    body, headers = {"content": "A story", "transport": "http"}, {"Idempotency-Key": "k"}
    for _ in range(2):
        answer = await api.request("POST", f"/{session_id}/messages", body, headers=headers)
        assert answer.json["agentResponse"]["finishReason"] == "content_filter"


async def test_an_echo_is_never_cut(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await api.create(agentId="agent-123"))["sessionId"]
    await api.request("POST", f"/{session_id}/messages", {"content": "hello"})
    await wait_all_tasks_blocked()
    await trio.sleep(1)
    page = (await api.request("GET", f"/{session_id}/messages")).json
    assert page["messages"][0]["finishReason"] == "stop"
