"""Bad sends over http and sse, clients that go away, and the same idempotency key again."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contract.transports import (
    BOTH,
    FailingAgent,
    TalkingAgent,
    contents,
    failure,
    frames,
    send,
    under_way,
    with_agent,
)
from tests.fakes import FaultyStore, PatientAgent
from tests.harness import Answer, Api
from vigil.actors.turns import turns

# --- what is wrong with the send itself


@BOTH
async def test_a_bad_send_is_a_plain_error(api: Api, autojump_clock: MockClock, transport: str) -> None:
    session_id = await with_agent(api, TalkingAgent("a"))
    refused = {
        (answer.status, answer.code, answer.headers["Content-Type"])
        for answer in (
            await send(api, session_id, transport, ""),
            await send(api, session_id, transport, "#!/bin/sh"),
            await send(api, session_id, transport, metadata=[]),
        )
    }
    assert refused == {(400, "VALIDATION_ERROR", "application/json")}
    gone = await send(api, "00000000-0000-4000-8000-000000000000", transport)
    assert (gone.status, gone.headers["Content-Type"]) == (404, "application/json")
    assert await contents(api, session_id) == []
    assert len(api.site.directory.hub) == 0


@BOTH
async def test_what_cannot_be_committed_is_a_plain_503_and_nobody_waits(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    store = FaultyStore()
    session_id = await with_agent(api, TalkingAgent("a"), store=store)
    store.failing = True
    answer = await send(api, session_id, transport)
    store.failing = False
    assert (answer.status, answer.code) == (503, "STORE_UNAVAILABLE")
    assert len(api.site.directory.hub) == 0
    assert await contents(api, session_id) == []


@BOTH
async def test_too_many_waiting_turns_are_503_and_nothing_is_stored(
    api: Api, autojump_clock: MockClock, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAITING_MAX", 8)
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    for n in range(9):
        assert (await send(api, session_id, "websocket", str(n))).status == 201
    refused = await send(api, session_id, transport, "one too many")
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "OVERLOADED", "1")
    assert refused.headers["Content-Type"] == "application/json"
    assert await contents(api, session_id) == [str(n) for n in range(9)]
    agent.go.set()
    await wait_all_tasks_blocked()
    assert failure_or_reply(await send(api, session_id, transport, "now")) == "re: now"


def failure_or_reply(answer: Answer) -> str:
    """The text of the reply, or the code of the error."""
    if answer.headers["Content-Type"] == "application/json":
        return str(answer.json["agentResponse"]["text"] if answer.status == 201 else answer.code)
    event, data = frames(answer)[-1]
    return str(data["text"] if event == "agentResponse" else data["code"])


# --- clients that go away


@BOTH
async def test_a_client_that_goes_away_does_not_cancel_the_turn(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    async with trio.open_nursery() as nursery:
        await under_way(nursery, lambda: send(api, session_id, transport))
        assert len(api.site.directory.hub) == 1
        nursery.cancel_scope.cancel()
    assert len(api.site.directory.hub) == 0
    agent.go.set()
    await wait_all_tasks_blocked()
    assert await contents(api, session_id) == ["hello", "re: hello"]


@BOTH
async def test_a_client_that_goes_away_before_the_commit_has_sent_its_message_all_the_same(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    store = FaultyStore()
    session_id = await with_agent(api, TalkingAgent("a"), store=store)
    async with trio.open_nursery() as nursery:
        with store.held():
            await under_way(nursery, lambda: send(api, session_id, transport))
            nursery.cancel_scope.cancel()
    await trio.sleep(2)
    assert await contents(api, session_id) == ["hello", "a"]
    assert len(api.site.directory.hub) == 0


# --- the same key again


@BOTH
async def test_a_repeat_waits_for_the_same_turn_and_gives_the_same_answer(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)

    async def ask() -> Answer:
        return await send(api, session_id, transport, key="k-1")

    async with trio.open_nursery() as nursery:
        first, again = await under_way(nursery, ask), await under_way(nursery, ask)
        assert (first, again) == ([], [])
        agent.go.set()
    afterwards = await ask()
    await api.restart(crash=True)
    after_a_crash = await ask()
    assert first[0].status == 201
    assert {again[0].content, afterwards.content, after_a_crash.content} == {first[0].content}
    assert agent.asked == ["hello"]
    assert await contents(api, session_id) == ["hello", "re: hello"]


@BOTH
async def test_a_repeat_after_a_crash_waits_for_the_turn_that_runs_once_more(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    async with trio.open_nursery() as nursery:
        await under_way(nursery, lambda: send(api, session_id, transport, key="k-1"))
        nursery.cancel_scope.cancel()
    await api.restart(crash=True)
    async with trio.open_nursery() as nursery:
        again = await under_way(nursery, lambda: send(api, session_id, transport, key="k-1"))
        assert again == []
        agent.go.set()
    assert failure_or_reply(again[0]) == "re: hello"
    assert (agent.asked, await contents(api, session_id)) == (["hello"] * 2, ["hello", "re: hello"])


@BOTH
async def test_a_repeat_of_one_that_was_not_answered_says_so_again(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    session_id = await with_agent(api, FailingAgent())
    for _ in range(2):
        status, body = failure(await send(api, session_id, transport, key="k-1"))
        assert (status, body["code"]) == (502 if transport == "http" else 201, "AGENT_FAILED")
        assert body["details"]["userMessage"]["content"] == "hello"
    assert await contents(api, session_id) == ["hello"]


@BOTH
@pytest.mark.parametrize("agent", [TalkingAgent("a", pause_s=0), FailingAgent()], ids=["answers", "fails"])
async def test_a_repeat_at_the_very_end_of_the_turn_does_not_miss_it(
    api: Api, autojump_clock: MockClock, transport: str, agent: Any
) -> None:
    """It comes after the reply was published and before anything else has run."""
    session_id = await with_agent(api, agent)
    answers: list[Answer] = []
    publish = api.site.directory.hub.publish

    async def repeat() -> None:
        with trio.fail_after(60):
            answers.append(await send(api, session_id, transport, key="k-1"))

    async with trio.open_nursery() as nursery:

        def publish_and_ask(events: Any) -> None:
            publish(events)
            if len(api.site.directory.turns):
                for _ in range(20):
                    nursery.start_soon(repeat)

        api.site.directory.hub.publish = publish_and_ask  # type: ignore[method-assign]
        first = await send(api, session_id, transport, key="k-1")
        api.site.directory.hub.publish = publish  # type: ignore[method-assign]
    assert len(answers) > 0
    assert {failure_or_reply(answer) for answer in answers} == {failure_or_reply(first)}


async def test_a_repeat_with_another_transport_is_another_body(api: Api, autojump_clock: MockClock) -> None:
    session_id = await with_agent(api, TalkingAgent("a"))
    assert (await send(api, session_id, "http", key="k-1")).status == 201
    refused = await send(api, session_id, "sse", key="k-1")
    assert (refused.status, refused.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert refused.headers["Content-Type"] == "application/json"


@BOTH
async def test_a_repeat_is_answered_when_too_many_turns_wait(
    api: Api, autojump_clock: MockClock, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "WAITING_MAX", 8)
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    async with trio.open_nursery() as nursery:
        await under_way(nursery, lambda: send(api, session_id, transport, key="k-1"))
        for n in range(1, 9):
            assert (await send(api, session_id, "websocket", str(n))).status == 201
        again = await under_way(nursery, lambda: send(api, session_id, transport, key="k-1"))
        assert again == []
        agent.go.set()
    assert failure_or_reply(again[0]) == "re: hello"
