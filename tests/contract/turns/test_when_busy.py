"""Spec section 11, `whenBusy`: what a message does that meets an earlier one which waits for its answer."""

from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.contract.talking import Chat, Talker, chat_with
from tests.contract.transports import under_way
from tests.fakes import FaultyStore
from tests.harness import Api
from vigil.actors.turns import turns


async def test_by_default_a_message_waits_behind_the_others(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    await chat.sent("first")
    await chat.sent("second")
    agent.go.set()
    await wait_all_tasks_blocked()
    assert agent.asked == ["first", "second"]


async def test_reject_names_the_running_message_and_stores_nothing(api: Api) -> None:
    chat = await chat_with(api, Talker())
    first, _ = await chat.sent("first"), await chat.sent("second")
    answer = await chat.send("third", whenBusy="reject")
    assert (answer.status, answer.code, answer.json["error"]) == (
        409,
        "TURN_IN_PROGRESS",
        "TurnInProgressError",
    )
    assert answer.json["details"] == {"messageId": first}
    assert await chat.contents() == ["first", "second"]


@pytest.mark.parametrize("when_busy", ["reject", "interrupt"])
@pytest.mark.parametrize("transport", ["websocket", "http", "sse"])
async def test_an_idle_session_takes_any_message(api: Api, when_busy: str, transport: str) -> None:
    agent = Talker()
    agent.go.set()
    chat = await chat_with(api, agent)
    assert (await chat.send("first", whenBusy=when_busy, transport=transport)).status == 201
    await wait_all_tasks_blocked()
    assert await chat.contents() == ["first", "re: first"]


async def test_interrupt_stops_the_running_and_all_waiting_turns_and_is_the_next(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    first = await chat.sent("first")
    await agent.say("half")
    second, _ = await chat.sent("second"), await chat.sent("last", whenBusy="interrupt")
    assert agent.asked == ["first", "last"]
    assert agent.gone == 1
    assert await chat.contents() == ["first", "second", "half", "last"]
    assert [await chat.status_after_cancel(one) for one in (first, second)] == ["cancelled"] * 2


async def test_interrupt_and_what_it_cancels_are_one_commit(api: Api) -> None:
    store = FaultyStore()
    agent = Talker()
    chat = await chat_with(api, agent, store=store)
    await chat.sent("first")
    await chat.sent("second")
    await agent.say("half")
    before = len(store.commits)
    await chat.sent("last", whenBusy="interrupt")
    kinds = [type(write).__name__ for write in store.commits[before]]
    assert sorted(kinds) == sorted(
        ["UpdateSession", "InsertMessage", "UpdateTurn", "UpdateTurn", "InsertMessage"]
    )


@pytest.mark.parametrize("when_busy", ["reject", "interrupt"])
async def test_a_message_that_is_still_being_committed_counts_as_an_earlier_one(
    api: Api, when_busy: str
) -> None:
    store, agent = FaultyStore(), Talker()
    chat = await chat_with(api, agent, store=store)
    async with trio.open_nursery() as nursery:
        with store.held():
            first = await under_way(nursery, partial(chat.send, "first"))
            second = await under_way(nursery, partial(chat.send, "second", whenBusy=when_busy))
            assert not first
    status = {"reject": 409, "interrupt": 201}[when_busy]
    assert (first[0].status, second[0].status) == (201, status)
    cancelled = await chat.status_after_cancel(first[0].json["id"])
    assert cancelled == "cancelled"
    assert agent.asked[-1] == {"reject": "first", "interrupt": "second"}[when_busy]


async def test_an_interrupt_finds_room_where_too_many_wait(api: Api) -> None:
    chat = await chat_with(api, Talker())
    for n in range(turns.WAITING_MAX + 1):
        await chat.sent(f"{n}")
    assert (await chat.send("one more")).code == "OVERLOADED"
    assert (await chat.send("stop", whenBusy="interrupt")).status == 201


async def test_a_repeat_is_answered_before_when_busy_is_looked_at(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    for when_busy in ("reject", "interrupt"):
        send = partial(chat.send, when_busy, key=when_busy, whenBusy=when_busy)
        first = await send()
        assert (await send()).content == first.content
    assert agent.gone == 1  # the interrupt's own: the repeat stopped nobody


async def test_a_rejected_message_frees_its_key(api: Api) -> None:
    agent = Talker()
    chat = await chat_with(api, agent)
    first = await chat.sent("first")
    send = partial(chat.send, "second", key="k", whenBusy="reject")
    assert (await send()).status == 409
    await chat.cancel(first)
    assert (await send()).status == 201


async def test_an_agent_that_never_answers_is_never_busy(api: Api) -> None:
    chat = Chat(api, (await api.create())["sessionId"])
    await chat.sent("first")
    assert (await chat.send("second", whenBusy="reject")).status == 201


async def test_any_other_word_is_400(api: Api) -> None:
    chat = await chat_with(api, Talker())
    assert (await chat.send(whenBusy="wait")).status == 400
