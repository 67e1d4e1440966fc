"""Agent turns: one at a time, bounded, beside the actor, and committed at each step (spec section 4)."""

from collections.abc import Sequence
from typing import Any, get_args

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore, PatientAgent, entry, new_actor, running_directory
from tests.harness import AGENTS
from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply, Turn
from vigil.actors.core.commands import Heartbeat, Renew, Send
from vigil.actors.core.errors import AgentFailed, Overloaded, SessionBroken
from vigil.actors.core.events import AgentError, Broadcast, Event
from vigil.actors.core.lifecycle import step
from vigil.actors.core.records import FinishReason
from vigil.actors.hub.hub import Chunk
from vigil.actors.runtime import actor as session_module
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import InsertMessage, UpdateTurn
from vigil.actors.turns.turns import WAITING_MAX


def with_agent(agent: Any, **fields: Any) -> dict[str, Any]:
    return {**AGENTS, "patient": entry(agent, **fields)}


async def send(actor: SessionActor, content: str = "hello") -> None:
    await actor.ask(Send(f"id of {content}", content, "{}", "", "waiting"))


async def said(directory: Directory, actor: SessionActor) -> list[str]:
    page = await directory.store.history(actor.session.key, None, None, 100)
    return [message.content for message in page.messages][::-1]


def turn_states(store: FaultyStore) -> list[str]:
    """Each state of a turn that was committed, in order."""
    written = [write for writes in store.commits for write in writes]
    return [write.turn for write in written if isinstance(write, UpdateTurn | InsertMessage) and write.turn]


class Telling:
    """Answers as it is told."""

    def __init__(self, *replies: str | Reply | Exception) -> None:
        self.replies = list(replies)
        self.looked_back: Sequence[str] = ()

    async def reply(self, turn: Turn) -> Reply:
        self.looked_back = [message.content for message in await turn.history(10)]
        turn.say("piece")
        turn.say("")
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Reply) else Reply(reply, '{"by":"me"}')


async def test_each_state_of_a_turn_is_committed(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(
        store=store, agents=with_agent(Telling("fine", AgentFailed("no")))
    ) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor)
        await wait_all_tasks_blocked()
        assert turn_states(store) == ["waiting", "started", "answered"]
        await send(actor)
        await wait_all_tasks_blocked()
        assert turn_states(store)[3:] == ["waiting", "started", "failed"]
        assert len(directory.turns) == 0


async def test_a_turn_that_need_not_wait_is_started_in_the_commit_of_its_message(
    autojump_clock: MockClock,
) -> None:
    store, agent = FaultyStore(), PatientAgent()
    async with running_directory(store=store, agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        for word in ("first", "second"):
            claim = directory.turns.claim(actor.state.id)
            await actor.ask(Send(f"id of {word}", word, "{}", "", claim.state))
            claim.release()
        await wait_all_tasks_blocked()
        assert turn_states(store) == ["started", "waiting"]
        agent.go.set()
        await wait_all_tasks_blocked()
        assert turn_states(store)[2:] == ["answered", "started", "answered"]
        assert agent.asked == ["first", "second"]


async def test_a_turn_whose_session_ends_before_it_runs_asks_nobody(autojump_clock: MockClock) -> None:
    agent = PatientAgent()
    async with running_directory(agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        message = step(
            actor.session, Send("m-1", "hello", "{}", "", "started"), directory.clock.now()
        ).message
        assert message is not None
        directory.turns.submit(actor, message, "started")
        directory.turns.cancel(actor.state.id)
        await wait_all_tasks_blocked()
        assert agent.asked == []


async def test_an_agent_sees_the_history_before_its_message_newest_first(autojump_clock: MockClock) -> None:
    agent = Telling("one", "two")
    async with running_directory(agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        for word in ("first", "second"):
            await send(actor, word)
            await wait_all_tasks_blocked()
        assert agent.looked_back == ["one", "first"]
        page = await directory.store.history(actor.session.key, None, None, 1)
        assert (page.messages[0].metadata, page.messages[0].is_agent) == ('{"by":"me"}', True)


@pytest.mark.parametrize("reason", get_args(FinishReason))
async def test_why_an_answer_ends_is_committed_with_it(
    autojump_clock: MockClock, reason: FinishReason
) -> None:
    agent = Telling(Reply("one", finish_reason=reason))
    async with running_directory(agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor, "first")
        await wait_all_tasks_blocked()
        page = await directory.store.history(actor.session.key, None, None, 2)
        assert [message.finish_reason for message in page.messages] == [reason, ""]


@pytest.mark.parametrize(
    ("reply", "code", "text"),
    [
        (AgentFailed("it is out"), "AGENT_FAILED", "it is out"),
        (ZeroDivisionError("secret"), "AGENT_FAILED", "The agent crashed"),
        ("", "AGENT_FAILED", "The agent gave an empty answer"),
        (
            "x" * (ANSWER_CHARACTERS_MAX + 1),
            "AGENT_FAILED",
            "The agent's answer is longer than 100000 characters",
        ),
    ],
    ids=["fails", "crashes", "says nothing", "says too much"],
)
async def test_a_turn_that_fails_is_an_agent_error_and_the_next_one_runs(
    autojump_clock: MockClock, reply: str | Exception, code: str, text: str
) -> None:
    async with running_directory(agents=with_agent(Telling(reply, "fine"))) as directory:
        actor = await new_actor(directory, "patient")
        listener = directory.hub.subscribe(actor.state.id, None, actor.session.event_id, 0)
        await send(actor, "one")
        await send(actor, "two")
        await wait_all_tasks_blocked()
        assert await said(directory, actor) == ["one", "two", "fine"]
        news = [listener._unread[n].news for n in range(len(listener._unread))]
        errors = [one.data for one in news if isinstance(one, Event) and isinstance(one.data, AgentError)]
        assert errors == [AgentError("id of one", code, text)]
        chunks = [(one.message_id, one.text) for one in news if isinstance(one, Chunk)]
        assert chunks == [("id of one", "piece"), ("id of two", "piece")]


async def test_a_turn_that_takes_too_long_times_out(autojump_clock: MockClock) -> None:
    agent = PatientAgent()
    async with running_directory(agents=with_agent(agent, turn_timeout_s=7)) as directory:
        actor = await new_actor(directory, "patient")
        listener = directory.hub.subscribe(actor.state.id, None, actor.session.event_id, 0)
        await send(actor)
        await trio.sleep(7.1)
        news = [notice.news for notice in listener._unread]
        errors = [one.data for one in news if isinstance(one, Event) and isinstance(one.data, AgentError)]
        assert errors == [AgentError("id of hello", "AGENT_TIMEOUT", "The agent did not answer within 7 s")]
        assert len(directory.turns) == 0


async def test_a_claim_keeps_room_and_gives_it_back(autojump_clock: MockClock) -> None:
    async with running_directory(agents=with_agent(PatientAgent())) as directory:
        actor = await new_actor(directory, "patient")
        turns, session_id = directory.turns, actor.state.id
        for n in range(WAITING_MAX):  # the first of them runs
            await send(actor, str(n))
        claim = turns.claim(session_id)
        with pytest.raises(Overloaded):
            turns.claim(session_id)
        claim.release()
        turns.claim(session_id).release()
        await directory.end(session_id)
        assert turns._queues == {}


async def test_an_answer_waits_for_the_store_to_come_back(autojump_clock: MockClock) -> None:
    store, agent = FaultyStore(), PatientAgent()
    async with running_directory(store=store, agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor)
        await wait_all_tasks_blocked()
        store.failing = True
        agent.go.set()
        await trio.sleep(20)
        assert await said(directory, actor) == ["hello"]
        store.failing = False
        await trio.sleep(1)
        assert (await said(directory, actor), agent.asked) == (["hello", "re: hello"], ["hello"])


async def test_an_answer_takes_its_place_in_a_full_mailbox(autojump_clock: MockClock) -> None:
    store, agent = FaultyStore(), PatientAgent()
    async with running_directory(store=store, agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            with store.held():
                for _ in range(65):
                    nursery.start_soon(actor.ask, Renew())
                    await wait_all_tasks_blocked()
                with pytest.raises(Overloaded):
                    await actor.ask(Renew())
                agent.go.set()
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert await said(directory, actor) == ["hello", "re: hello"]


@pytest.mark.parametrize("ends_by", ["end", "expiry"])
async def test_the_end_of_a_session_cancels_its_turns(autojump_clock: MockClock, ends_by: str) -> None:
    agent = PatientAgent()
    async with running_directory(agents=with_agent(agent, turn_timeout_s=10**6)) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor, "running")
        await send(actor, "waiting")
        await wait_all_tasks_blocked()
        if ends_by == "end":
            await directory.end(actor.state.id)
        else:
            await trio.sleep(31 * 60)
        agent.go.set()
        await wait_all_tasks_blocked()
        assert (agent.asked, directory.turns._queues) == (["running"], {})


async def test_a_crash_runs_the_turn_that_was_under_way_once_more_and_answers_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = PatientAgent()
    async with running_directory(agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor, "one")
        await send(actor, "two")
        await wait_all_tasks_blocked()
        await _crash(actor, monkeypatch)
        await wait_all_tasks_blocked()
        assert agent.asked == ["one", "one"]
        agent.go.set()
        await wait_all_tasks_blocked()
        assert await said(directory, actor) == ["one", "two", "re: one", "re: two"]


async def _crash(actor: SessionActor, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(state: Any, command: Any, now: int) -> Any:
        if isinstance(command, Heartbeat):
            raise ZeroDivisionError
        return step(state, command, now)

    monkeypatch.setattr(session_module, "step", buggy)
    with pytest.raises(SessionBroken):
        await actor.ask(Heartbeat())


async def test_an_answer_that_waits_when_its_actor_crashes_is_not_given_twice(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, agent = FaultyStore(), PatientAgent()
    async with running_directory(store=store, agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        await send(actor)
        await wait_all_tasks_blocked()

        def crash_at_renewal(events: Sequence[Event]) -> None:
            directory.hub.publish = publish  # type: ignore[method-assign]
            raise ZeroDivisionError

        publish = directory.hub.publish
        directory.hub.publish = crash_at_renewal  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            with store.held():
                nursery.start_soon(_broken, actor)
                await wait_all_tasks_blocked()
                agent.go.set()  # the answer waits behind a commit that will end in a crash
                await wait_all_tasks_blocked()
                assert actor.waiting == 1
        await wait_all_tasks_blocked()
        assert await said(directory, actor) == ["hello", "re: hello"]
        assert len(directory.turns) == 0


async def _broken(actor: SessionActor) -> None:
    with pytest.raises(SessionBroken):
        await actor.ask(Renew())


async def test_a_turn_that_had_not_begun_when_its_actor_crashed_is_not_run_twice(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first task was made but had not run a step: cancelled, it must not begin."""
    agent = Telling(*["fine"] * 5)
    async with running_directory(agents=with_agent(agent)) as directory:
        actor = await new_actor(directory, "patient")
        on_committed = directory.host.on_committed

        def crash_after(*args: Any) -> None:
            on_committed(*args)
            directory.host.on_committed = on_committed  # type: ignore[method-assign]
            raise ZeroDivisionError

        directory.host.on_committed = crash_after  # type: ignore[method-assign,assignment]
        with pytest.raises(SessionBroken):
            await send(actor)
        await wait_all_tasks_blocked()
        assert (await said(directory, actor)).count("fine") == 1


async def test_broadcasts_come_in_the_order_of_the_timestamps(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        actor = await new_actor(directory, "agent-123")
        listener = directory.hub.subscribe(actor.state.id, None, actor.session.event_id, 0)
        for n in range(10):
            await send(actor, str(n))
        await wait_all_tasks_blocked()
        news = [notice.news for notice in listener._unread if isinstance(notice.news, Event)]
        stamps = [one.data.message.created_at for one in news if isinstance(one.data, Broadcast)]
        assert stamps == sorted(set(stamps))
        assert len(stamps) == 20
