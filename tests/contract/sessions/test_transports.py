"""Spec section 4, `transport`: waiting for the agent's reply, whole over http or piece by piece over sse."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore, PatientAgent, entry
from tests.harness import AGENTS, Answer, Api
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import Session
from vigil.actors.hub import hub
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.turns import turns

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


class HangingAgent:
    async def reply(self, _turn: Turn) -> Reply:
        await trio.sleep_forever()
        raise AssertionError


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


# --- the reply


async def test_http_waits_for_the_whole_reply(api: Api, autojump_clock: MockClock) -> None:
    session_id = await with_agent(api, TalkingAgent("Good ", "morning"))
    began = trio.current_time()
    answer = await send(api, session_id, "http")
    assert (answer.status, answer.headers["Content-Type"]) == (201, "application/json")
    assert trio.current_time() - began == pytest.approx(2)
    asked, reply = await history(api, session_id)
    body = answer.json
    assert body.pop("agentResponse") == reply | {"text": "Good morning"}
    said = {"content": "Good morning", "isAgent": True, "metadata": {"mood": "fine"}, "finishReason": "stop"}
    assert reply | said == reply
    assert "finishReason" not in asked | body
    assert set(body.pop("sessionStatus")) == {
        "expiresAt",
        "renewalCount",
        "wasRenewed",
        "isNearExpiration",
    }
    assert body | {"isAgent": False} == asked


async def test_websocket_is_the_default_and_does_not_wait(api: Api, autojump_clock: MockClock) -> None:
    session_id = await with_agent(api, HangingAgent())
    for answer in (
        await api.request("POST", f"/{session_id}/messages", {"content": "hello"}),
        await send(api, session_id, "websocket"),
    ):
        assert answer.status == 201
        assert "agentResponse" not in answer.json


async def test_sse_gives_the_message_the_pieces_and_the_whole_in_this_order(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await with_agent(api, TalkingAgent("Good\n", "morning \u2028\u2603"))
    stream = frames(await send(api, session_id, "sse"))
    asked, reply = await history(api, session_id)
    assert [event for event, _ in stream] == ["userMessage", "chunk", "chunk", "agentResponse"]
    data = [data for _, data in stream]
    assert data[0]["id"] == asked["id"]
    assert "sessionStatus" in data[0]
    assert data[1:3] == [
        {"messageId": asked["id"], "text": "Good\n"},
        {"messageId": asked["id"], "text": "morning \u2028\u2603"},
    ]
    assert data[3] == reply | {"text": "Good\nmorning \u2028\u2603"}


@BOTH
async def test_an_agent_that_says_a_thousand_pieces_at_once_cuts_nobody(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    """As when a model's whole answer comes out of one read of a socket."""
    words = [f"{n} " for n in range(hub.UNREAD_MAX * 3)]
    session_id = await with_agent(api, TalkingAgent(*words, pause_s=0))
    answer = await send(api, session_id, transport)
    if transport == "http":
        assert answer.json["agentResponse"]["text"] == "".join(words)
        return
    stream = frames(answer)
    assert "".join(data["text"] for event, data in stream if event == "chunk") == "".join(words)
    assert stream[-1][1]["text"] == "".join(words)


async def test_an_agent_that_answers_at_once_is_heard_whoever_runs_first(
    api: Api, autojump_clock: MockClock
) -> None:
    """Its turn may be over before its sender's task comes to look: while the actor of a new session is not at its
    mailbox yet, both wait for it, and Trio chooses who runs first. So again and again."""
    agents = {**AGENTS, "patient": entry(TalkingAgent("Good ", "morning", pause_s=0))}
    await api.restart(agents=agents, session_limit=MANY, agent_limit=MANY, user_limit=MANY)
    for n in range(50):
        session_id = (await api.create(agentId="patient"))["sessionId"]
        stream = frames(await send(api, session_id, "sse"))
        assert [event for event, _ in stream] == ["userMessage", "chunk", "agentResponse"], n


@pytest.mark.parametrize("transport", ["http", "sse", "websocket"])
async def test_an_agent_that_never_answers_keeps_nobody_waiting(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    session_id = (await api.create())["sessionId"]
    began = trio.current_time()
    answer = await send(api, session_id, transport)
    body = frames(answer)[0][1] if transport == "sse" else answer.json
    assert (answer.status, trio.current_time()) == (201, began)
    assert body["content"] == "hello"
    assert "agentResponse" not in body
    if transport == "sse":
        assert len(frames(answer)) == 1


@BOTH
async def test_each_waits_for_its_own_reply_in_accepted_order(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    async with trio.open_nursery() as nursery:
        waiting = [
            await under_way(nursery, lambda word=word: send(api, session_id, transport, word))  # type: ignore[misc]
            for word in ("one", "two", "three")
        ]
        assert agent.asked == ["one"]
        agent.go.set()
    told = [
        answer.json["agentResponse"] if transport == "http" else frames(answer)[-1][1]
        for (answer,) in waiting
    ]
    assert [reply["text"] for reply in told] == ["re: one", "re: two", "re: three"]
    assert agent.asked == ["one", "two", "three"]
    assert [reply["createdAt"] for reply in told] == sorted(reply["createdAt"] for reply in told)


async def test_a_stream_has_the_pieces_of_its_own_reply_only(api: Api, autojump_clock: MockClock) -> None:
    session_id = await with_agent(api, TalkingAgent("a", "b"))
    async with trio.open_nursery() as nursery:
        first = await under_way(nursery, lambda: send(api, session_id, "sse", "first"))
        second = await under_way(nursery, lambda: send(api, session_id, "sse", "second"))
    for (answer,) in (first, second):
        (_, asked), *rest = frames(answer)
        pieces = [data for event, data in rest if event == "chunk"]
        assert [piece["text"] for piece in pieces] == ["a", "b"]
        assert {piece["messageId"] for piece in pieces} == {asked["id"]}


@BOTH
async def test_a_running_turn_delays_no_heartbeat_and_no_read(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    async with trio.open_nursery() as nursery:
        waiting = await under_way(nursery, lambda: send(api, session_id, transport))
        began = trio.current_time()
        assert (await api.request("POST", f"/{session_id}/heartbeat")).status == 200
        assert (await api.request("POST", f"/{session_id}/renew")).status == 200
        assert await contents(api, session_id) == ["hello"]
        assert (trio.current_time(), waiting) == (began, [])
        agent.go.set()


# --- when there is none


@BOTH
@pytest.mark.parametrize(
    ("agent", "status", "code", "name", "text"),
    [
        (FailingAgent(), 502, "AGENT_FAILED", "AgentError", "The model is on holiday"),
        (HangingAgent(), 504, "AGENT_TIMEOUT", "AgentTimeoutError", "The agent did not answer within 10 s"),
    ],
    ids=["fails", "hangs"],
)
async def test_an_agent_that_does_not_answer_is_told_with_the_message_that_stays(
    api: Api,
    autojump_clock: MockClock,
    transport: str,
    agent: Any,
    status: int,
    code: str,
    name: str,
    text: str,
) -> None:
    session_id = await with_agent(api, agent, turn_timeout_s=10)
    answer = await send(api, session_id, transport)
    (asked,) = await history(api, session_id)
    assert failure(answer) == (
        status if transport == "http" else 201,
        {"error": name, "code": code, "message": text, "details": {"userMessage": asked}},
    )
    assert (await api.get(session_id))["status"] == "active"
    assert (await send(api, session_id, "websocket", "next")).status == 201


@BOTH
@pytest.mark.parametrize(
    ("ends_by", "status", "code"),
    [("expiry", 410, "SESSION_EXPIRED"), ("DELETE", 404, "SESSION_NOT_FOUND")],
)
async def test_a_session_that_goes_while_somebody_waits_is_told_so(
    api: Api, autojump_clock: MockClock, transport: str, ends_by: str, status: int, code: str
) -> None:
    session_id = await with_agent(api, HangingAgent(), turn_timeout_s=3600)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        waiting = await under_way(nursery, lambda: send(api, session_id, transport))
        if ends_by == "DELETE":
            await api.request("DELETE", f"/{session_id}")
    told, body = failure(waiting[0])
    assert (told, body["code"]) == (status if transport == "http" else 201, code)
    assert body["details"]["sessionId"] == session_id
    assert trio.current_time() - began == pytest.approx(300 if ends_by == "expiry" else 0)
    assert body == (await api.request("GET", f"/{session_id}")).json
    assert len(api.site.directory.hub) == 0


@BOTH
async def test_a_session_that_goes_while_the_failed_message_is_read_is_told_so(
    api: Api, autojump_clock: MockClock, transport: str
) -> None:
    store = FaultyStore()
    session_id = await with_agent(api, FailingAgent(), store=store)
    async with trio.open_nursery() as nursery:
        with store.held_reads():
            waiting = await under_way(nursery, lambda: send(api, session_id, transport))
            await trio.sleep(2)
            await api.request("DELETE", f"/{session_id}")
    assert failure(waiting[0])[1]["code"] == "SESSION_NOT_FOUND"


@BOTH
async def test_an_actor_that_crashes_for_good_is_told_to_those_who_wait(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    session_id = await with_agent(api, HangingAgent())
    async with trio.open_nursery() as nursery:
        waiting = await under_way(nursery, lambda: send(api, session_id, transport))
        monkeypatch.setattr(SessionActor, "_process_batch", crash)
        for _ in range(3):
            assert (await api.request("POST", f"/{session_id}/heartbeat")).status == 500
    status, body = failure(waiting[0])
    assert (status, body["code"]) == (500 if transport == "http" else 201, "INTERNAL_ERROR")


def crash(*_args: object) -> None:
    raise ZeroDivisionError


@BOTH
async def test_a_reply_whose_event_was_lost_in_a_crash_is_found_in_the_store(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """The actor crashes after the commit of the reply and before anybody hears of it."""
    agent = PatientAgent()
    session_id = await with_agent(api, agent)
    host = api.site.directory.host
    on_committed = type(host).on_committed

    def crash_once(self: Any, actor: SessionActor, before: Session, transitions: Any) -> None:
        if any(transition.turn and transition.turn[1] == "answered" for transition in transitions):
            monkeypatch.undo()
            raise ZeroDivisionError
        on_committed(self, actor, before, transitions)

    monkeypatch.setattr(type(host), "on_committed", crash_once)
    async with trio.open_nursery() as nursery:
        waiting = await under_way(nursery, lambda: send(api, session_id, transport))
        agent.go.set()
    reply = waiting[0].json["agentResponse"] if transport == "http" else frames(waiting[0])[-1][1]
    assert reply["text"] == "re: hello"
    assert await contents(api, session_id) == ["hello", "re: hello"]


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
