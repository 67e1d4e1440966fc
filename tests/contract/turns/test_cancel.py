"""Spec section 11: stopping a turn, whenever it is, however one waits for it."""

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contract.operations import NOWHERE
from tests.contract.talking import Chat, Talker, chat_with
from tests.contract.transports import frames, under_way
from tests.fakes import FaultyStore, entry
from tests.harness import Api
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.events import AgentError, Broadcast, Event
from vigil.actors.hub.hub import Chunk, News, Subscription
from vigil.actors.runtime.actor import RETRY_S


async def running(api: Api, **changes: Any) -> tuple[Chat, Talker, str]:
    """A chat whose agent has begun on a message."""
    agent = Talker()
    chat = await chat_with(api, agent, **changes)
    return chat, agent, await chat.sent("first")


def listen(api: Api, chat: Chat) -> Subscription:
    """From now on."""
    newest = api.site.directory.find(chat.id).session.event_id
    return api.site.directory.hub.subscribe(chat.id, None, newest, api.now)


async def heard(subscription: Subscription) -> list[News]:
    """All that has come so far."""
    subscription.end("stopping")
    return [notice.news async for notice in subscription]


async def test_what_a_stopped_agent_has_said_is_kept_as_its_cancelled_message(api: Api) -> None:
    chat, agent, message_id = await running(api)
    await agent.say("Once upon ", "a time")
    assert await chat.status_after_cancel(message_id) == "cancelled"
    answer = (await chat.history())[-1]
    assert (answer["content"], answer["isAgent"]) == ("Once upon a time", True)
    assert answer["finishReason"] == "cancelled"
    assert agent.gone == 1


async def test_an_agent_that_had_said_nothing_leaves_no_message(api: Api) -> None:
    chat, agent, message_id = await running(api)
    assert await chat.status_after_cancel(message_id) == "cancelled"
    assert await chat.contents() == ["first"]
    assert agent.gone == 1


async def test_the_partial_answer_is_exactly_the_chunks_that_were_handed_out(api: Api) -> None:
    chat, agent, message_id = await running(api)
    events = listen(api, chat)
    await agent.say("heard")
    assert agent.turn is not None
    agent.turn.say(" perhaps heard")  # whether it is handed out depends on who runs first
    await chat.cancel(message_id)
    agent.turn.say(" too late")
    await wait_all_tasks_blocked()
    news = await heard(events)
    chunks = "".join(one.text for one in news if isinstance(one, Chunk))
    assert (await chat.contents())[1:] == [chunks]
    assert not isinstance(news[-1], Chunk)
    assert "too late" not in chunks


async def test_a_waiting_turn_is_stopped_before_it_begins_and_the_others_go_on(api: Api) -> None:
    chat, agent, _ = await running(api)
    second, _third = await chat.sent("second"), await chat.sent("third")
    assert await chat.status_after_cancel(second) == "cancelled"
    agent.go.set()
    await wait_all_tasks_blocked()
    assert agent.asked == ["first", "third"]


async def test_the_next_turn_begins_when_the_running_one_is_stopped(api: Api) -> None:
    chat, agent, first = await running(api)
    await chat.sent("second")
    assert agent.asked == ["first"]
    await chat.status_after_cancel(first)
    assert agent.asked == ["first", "second"]


async def test_asked_again_it_says_the_same(api: Api) -> None:
    chat, agent, message_id = await running(api)
    await agent.say("well")
    assert [await chat.status_after_cancel(message_id) for _ in range(3)] == ["cancelled"] * 3
    assert await chat.contents() == ["first", "well"]


async def test_two_who_cancel_at_once_stop_it_once(api: Api) -> None:
    store = FaultyStore()
    chat, agent, message_id = await running(api, store=store)
    await agent.say("well")
    async with trio.open_nursery() as nursery:
        with store.held():
            answers = [await under_way(nursery, partial(chat.cancel, message_id)) for _ in range(2)]
    assert [(one.status, one.json["status"]) for (one,) in answers] == [(200, "cancelled")] * 2
    assert await chat.contents() == ["first", "well"]


async def test_an_answered_turn_stays_answered(api: Api) -> None:
    chat, agent, message_id = await running(api)
    agent.go.set()
    await wait_all_tasks_blocked()
    assert await chat.status_after_cancel(message_id) == "answered"
    assert await chat.contents() == ["first", "re: first"]


async def test_a_cancel_behind_an_answer_that_is_being_committed_says_answered(api: Api) -> None:
    store = FaultyStore()
    chat, agent, message_id = await running(api, store=store)
    async with trio.open_nursery() as nursery:
        with store.held():
            agent.go.set()
            await wait_all_tasks_blocked()
            (*none_yet,) = answers = await under_way(nursery, partial(chat.cancel, message_id))
            assert not none_yet
    assert answers[0].json["status"] == "answered"
    assert await chat.contents() == ["first", "re: first"]


class FailingAgent:
    async def reply(self, _turn: Turn) -> Reply:
        raise AgentFailed("The model is on holiday")


async def test_a_failed_turn_stays_failed(api: Api) -> None:
    chat = await chat_with(api, FailingAgent())
    assert await chat.status_after_cancel(await chat.sent()) == "failed"


async def test_a_message_that_wants_no_turn_has_none(api: Api) -> None:
    created = await api.create()
    chat = Chat(api, created["sessionId"])
    assert await chat.status_after_cancel(await chat.sent()) == "none"


async def test_an_agents_own_message_has_no_turn(api: Api) -> None:
    chat, agent, _ = await running(api)
    agent.go.set()
    await wait_all_tasks_blocked()
    answer = (await chat.history())[-1]
    assert await chat.status_after_cancel(answer["id"]) == "none"


async def test_a_message_id_is_read_in_any_case_and_answered_in_lower(api: Api) -> None:
    chat, _, message_id = await running(api)
    answer = await chat.cancel(message_id.upper())
    assert answer.json == {"messageId": message_id, "status": "cancelled"}


@pytest.mark.parametrize("unknown", [NOWHERE, "no-uuid"])
async def test_an_unknown_message_is_404(api: Api, unknown: str) -> None:
    chat, _, _ = await running(api)
    answer = await chat.cancel(unknown)
    assert (answer.status, answer.code) == (404, "NOT_FOUND")


async def test_another_sessions_message_is_404(api: Api) -> None:
    chat, _, message_id = await running(api)
    other = Chat(api, (await api.create(agentId="patient"))["sessionId"])
    assert (await other.cancel(message_id)).code == "NOT_FOUND"
    assert await chat.status_after_cancel(message_id) == "cancelled"


@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_it_takes_no_body_or_an_empty_object(api: Api, content: bytes) -> None:
    chat, _, message_id = await running(api)
    assert (await chat.cancel(message_id, content=content)).status == 200


async def test_a_body_with_fields_is_400(api: Api) -> None:
    chat, _, message_id = await running(api)
    assert (await chat.cancel(message_id, body={"reason": "bored"})).status == 400


async def test_it_counts_for_the_limits_and_is_no_activity(api: Api, autojump_clock: MockClock) -> None:
    chat, _, message_id = await running(api)
    before = await api.get(chat.id)
    await trio.sleep(60)
    answer = await chat.cancel(message_id)
    after = await api.get(chat.id)
    assert "RateLimit" in answer.headers
    assert after["lastActivity"] == before["lastActivity"]
    assert after["renewalCount"] == before["renewalCount"]


async def test_it_is_an_event_under_an_id_like_any_change(api: Api) -> None:
    chat, agent, message_id = await running(api)
    silent = await chat.sent("second")
    await agent.say("well")
    events = listen(api, chat)
    await chat.cancel(silent)
    await chat.cancel(message_id)
    news = [one for one in await heard(events) if isinstance(one, Event)]
    assert [type(one.data) for one in news] == [AgentError, Broadcast]
    assert news[1].id == news[0].id + 1


# --- whoever waits for the answer


async def test_who_waits_over_http_gets_the_partial_answer(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    async with trio.open_nursery() as nursery:
        answers = await under_way(nursery, partial(chat.send, transport="http"))
        await agent.say("half of")
        await chat.cancel((await chat.history())[0]["id"])
    reply = answers[0].json["agentResponse"]
    assert (answers[0].status, reply["text"], reply["finishReason"]) == (201, "half of", "cancelled")


async def test_who_waits_over_http_for_nothing_gets_409(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    async with trio.open_nursery() as nursery:
        answers = await under_way(nursery, partial(chat.send, transport="http"))
        (question,) = await chat.history()
        await chat.cancel(question["id"])
    (answer,) = answers
    assert (answer.status, answer.code) == (409, "AGENT_CANCELLED")
    assert answer.json["error"] == "AgentCancelledError"
    assert answer.json["details"]["userMessage"]["id"] == question["id"]


async def test_a_stream_ends_with_the_partial_answer_and_its_pieces_are_exactly_that(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    async with trio.open_nursery() as nursery:
        answers = await under_way(nursery, partial(chat.send, transport="sse"))
        await agent.say("half ")
        await agent.say("of it")
        await chat.cancel((await chat.history())[0]["id"])
    kinds = [kind for kind, _ in frames(answers[0])]
    said = "".join(data["text"] for kind, data in frames(answers[0]) if kind == "chunk")
    assert kinds == ["userMessage", "chunk", "chunk", "agentResponse"]
    assert frames(answers[0])[-1][1]["content"] == said == "half of it"


async def test_a_stream_of_nothing_ends_with_an_error(api: Api) -> None:
    chat = await chat_with(api, Talker())
    async with trio.open_nursery() as nursery:
        answers = await under_way(nursery, partial(chat.send, transport="sse"))
        await chat.cancel((await chat.history())[0]["id"])
    kind, data = frames(answers[0])[-1]
    assert (kind, data["code"]) == ("error", "AGENT_CANCELLED")


@pytest.mark.parametrize("said", ["", "half"])
async def test_a_repeat_with_its_key_gets_what_its_waiter_got(api: Api, said: str) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    send = partial(chat.send, key="k", transport="http")
    async with trio.open_nursery() as nursery:
        answers = await under_way(nursery, send)
        await agent.say(said)
        await chat.cancel((await chat.history())[0]["id"])
    again = await send()
    assert (again.status, again.content) == (answers[0].status, answers[0].content)


# --- quiet streams


async def test_a_quiet_stream_has_a_comment_every_15_seconds(api: Api, autojump_clock: MockClock) -> None:
    agent = Talker()
    chat = await chat_with(api, agent, turn_timeout_s=50)
    answer = await chat.send(transport="sse")
    assert answer.content.count(b":\n\n") == 3
    assert [kind for kind, _ in frames(answer)] == ["userMessage", "error"]


async def test_a_stream_asks_proxies_not_to_hold_it_back(api: Api) -> None:
    created = await api.create(agentId="agent-123")
    answer = await Chat(api, created["sessionId"]).send(transport="sse")
    assert answer.headers["X-Accel-Buffering"] == "no"


# --- when things go wrong


async def test_after_a_crash_a_cancelled_turn_is_not_run_again(api: Api) -> None:
    chat, _, message_id = await running(api)
    await chat.cancel(message_id)
    agent = Talker()
    await api.restart(crash=True, agents={**api.plan.agents, "patient": entry(agent)})
    await wait_all_tasks_blocked()
    assert agent.asked == []
    assert await chat.status_after_cancel(message_id) == "cancelled"


async def test_after_a_crash_a_turn_that_runs_again_can_be_stopped(api: Api) -> None:
    chat, _, message_id = await running(api)
    agent = Talker()
    await api.restart(crash=True, agents={**api.plan.agents, "patient": entry(agent)})
    await wait_all_tasks_blocked()
    assert agent.asked == ["first"]
    assert await chat.status_after_cancel(message_id) == "cancelled"


async def test_a_stop_that_cannot_be_committed_is_503_and_holds_all_the_same(
    api: Api, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    chat, agent, message_id = await running(api, store=store)
    await agent.say("half")
    store.failing = True
    assert (await chat.cancel(message_id)).code == "STORE_UNAVAILABLE"
    assert agent.gone == 1
    store.failing = False
    await trio.sleep(RETRY_S * 3)
    assert await chat.contents() == ["first", "half"]
    assert await chat.status_after_cancel(message_id) == "cancelled"


async def test_cancelling_in_an_expired_session_is_410(api: Api, autojump_clock: MockClock) -> None:
    chat, _, message_id = await running(api)
    await trio.sleep(301)
    assert (await chat.cancel(message_id)).status == 410
