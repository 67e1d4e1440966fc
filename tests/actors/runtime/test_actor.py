"""The actor: one deadline, one commit for all who wait, and the order commit, publish, reply. In virtual time."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.runtime.listening import HELLO, Listener, at, expects, minutes, outcomes
from tests.fakes import FaultyStore, new_actor, running_directory
from tests.harness import START_MS
from vigil.actors.core.commands import Command, End, Heartbeat, Renew, Retime, Transition
from vigil.actors.core.errors import Overloaded, SessionExpired, SessionNotFound, StoreUnavailable, VigilError
from vigil.actors.core.events import Broadcast, Created, ExpirationWarning, Expired, Renewed
from vigil.actors.core.records import TimeoutPatch, Tombstone
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import InsertMessage, RemoveSession, UpdateSession

# --- one deadline


async def test_the_warning_and_the_expiry_fire_at_their_instants(autojump_clock: MockClock) -> None:
    async with running_directory() as directory, trio.open_nursery() as nursery:
        listener = Listener(directory, await new_actor(directory))
        nursery.start_soon(listener)
        await minutes(31)
        assert (listener.of(ExpirationWarning), listener.of(Expired)) == ([25], [30])
        assert [now for now, _ in listener.events] == [at(0), at(25), at(30)]


async def test_a_deadline_that_moves_later_is_left_alone_and_the_actor_looks_again_at_the_old_one(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory, trio.open_nursery() as nursery:
        actor = await new_actor(directory)
        listener = Listener(directory, actor)
        nursery.start_soon(listener)
        await wait_all_tasks_blocked()
        assert actor._scope is not None
        first = actor._scope.deadline
        await minutes(10)
        await actor.ask(Renew())
        assert actor._scope.deadline == first
        commits = len(store.commits)
        await minutes(16)
        assert len(store.commits) == commits, "the old instant came and nothing was due"
        assert actor._scope.deadline == directory.clock.deadline(at(35))
        await minutes(15)
        assert (listener.of(ExpirationWarning), listener.of(Expired)) == ([35], [40])


async def test_a_deadline_that_moves_earlier_is_aimed_at_at_once(autojump_clock: MockClock) -> None:
    async with running_directory() as directory, trio.open_nursery() as nursery:
        actor = await new_actor(directory)
        listener = Listener(directory, actor)
        nursery.start_soon(listener)
        await minutes(10)
        await actor.ask(Retime(TimeoutPatch(timeout_minutes=12, warning_threshold_minutes=1)))
        await minutes(3)
        assert (listener.of(ExpirationWarning), listener.of(Expired)) == ([11], [12])


async def test_a_deadline_may_go_there_and_back(autojump_clock: MockClock) -> None:
    async with running_directory() as directory, trio.open_nursery() as nursery:
        actor = await new_actor(directory)
        listener = Listener(directory, actor)
        nursery.start_soon(listener)
        for timeout in (12, 120, 20, 60):
            await actor.ask(Retime(TimeoutPatch(timeout_minutes=timeout, warning_threshold_minutes=1)))
        await minutes(61)
        assert (listener.of(ExpirationWarning), listener.of(Expired)) == ([59], [60])


# --- one commit


async def test_commands_that_wait_together_share_one_commit_and_one_instant(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        async with trio.open_nursery() as nursery:
            with store.held():
                nursery.start_soon(actor.ask, Heartbeat())
                await wait_all_tasks_blocked()
                for n in range(5):
                    nursery.start_soon(actor.ask, HELLO._replace(message_id=f"m-{n}"))
                    await trio.sleep(1)
        assert len(store.commits) == 3  # the creation, the heartbeat, the five
        last = store.commits[-1]
        assert [type(write) for write in last] == [UpdateSession, *[InsertMessage] * 5]
        stamps = [write.message.created_at for write in last if isinstance(write, InsertMessage)]
        assert stamps == [START_MS + 5000 + n for n in range(5)]


async def test_a_command_that_changes_nothing_commits_nothing(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory, "silent", 30, True, 30)
        with pytest.raises(VigilError):
            await actor.ask(Renew())
        assert len(store.commits) == 1


async def test_a_commit_comes_before_the_event_and_the_event_before_the_reply(
    autojump_clock: MockClock,
) -> None:
    order: list[str] = []

    class Watched(FaultyStore):
        async def commit(self, writes: Any) -> None:
            await super().commit(writes)
            order.append("commit")

    async with running_directory(store=Watched()) as directory:
        actor = await new_actor(directory)
        order.clear()
        publish = directory.hub.publish

        def watched(events: Any) -> None:
            publish(events)
            order.append("publish")

        directory.hub.publish = watched  # type: ignore[method-assign]
        await actor.ask(HELLO)
        order.append("reply")
        assert order == ["commit", "publish", "reply"]


async def test_a_state_is_visible_when_it_is_committed_and_not_before(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        async with trio.open_nursery() as nursery:
            with store.held():
                nursery.start_soon(actor.ask, Renew())
                await trio.sleep(10)
                assert actor.session.renewal_count == 0
        assert actor.session.renewal_count == 1


async def test_a_commit_that_fails_changes_nothing_and_everyone_who_waited_hears_it(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory, trio.open_nursery() as nursery:
        actor = await new_actor(directory)
        listener = Listener(directory, actor)
        nursery.start_soon(listener)
        before = actor.state
        store.failing = True
        got = await outcomes(actor, [HELLO, Heartbeat(), Renew(), End()])
        assert [type(one) for one in got] == [StoreUnavailable] * 4
        assert actor.state is before
        store.failing = False
        assert isinstance(await actor.ask(HELLO), Transition)
        await wait_all_tasks_blocked()
        assert [type(event.data) for _, event in listener.events] == [Created, Broadcast, Renewed]
        assert [event.id for _, event in listener.events] == [1, 2, 3]
        await directory.end(actor.state.id)


async def test_an_expiry_that_cannot_be_committed_is_tried_again_and_is_410_meanwhile(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        await minutes(29)
        store.failing = True
        await minutes(1)
        await trio.sleep(10.5)
        assert sum(isinstance(writes[0], RemoveSession) for writes in store.commits) == 11
        with pytest.raises(SessionExpired):
            directory.find(actor.state.id)
        store.failing = False
        await trio.sleep(1)
        assert isinstance(actor.state, Tombstone)
        assert actor.state.expires_at == at(30)
        assert directory.counts() == (0, 1, 0, 0)


async def test_a_warning_that_cannot_be_committed_is_tried_again(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        await minutes(24)
        store.failing = True
        await minutes(2)
        assert (actor.session.warned, directory.counts().expiring_soon) == (False, 0)
        store.failing = False
        await trio.sleep(1)
        assert (actor.session.warned, directory.counts().expiring_soon) == (True, 1)


async def test_what_fell_due_comes_before_a_command_of_the_same_instant(autojump_clock: MockClock) -> None:
    """Whoever of the two runs first: the timer has woken its task, and the command waits behind it."""
    async with running_directory() as directory, trio.open_nursery() as nursery:
        listeners = []
        for _ in range(20):
            actor = await new_actor(directory)
            listeners.append(Listener(directory, actor))
            nursery.start_soon(listeners[-1])
            nursery.start_soon(_ask_at, directory, actor, at(25))
        await minutes(26)
        for listener in listeners:
            kinds = [type(event.data) for _, event in listener.events]
            assert kinds == [Created, ExpirationWarning, Broadcast, Renewed]


async def _ask_at(directory: Directory, actor: SessionActor, instant: int) -> None:
    await trio.sleep_until(directory.clock.deadline(instant))
    await actor.ask(HELLO)


@pytest.mark.parametrize("first", [Renew(), End()])
async def test_commands_told_before_the_task_runs_are_taken_up_when_it_does(
    autojump_clock: MockClock, first: Command
) -> None:
    """And it sees it when one of them ends the session."""
    async with running_directory() as directory:
        done = await directory.create("silent", "user", "{}", TimeoutPatch())
        actor = directory.find(done.session.id)
        got: list[Any] = []
        actor.tell(first, got.append)
        actor.tell(Heartbeat(), got.append)
        await wait_all_tasks_blocked()
        expected = SessionNotFound if isinstance(first, End) else Transition
        assert [type(one) for one in got] == [Transition, expected]
        assert directory.counts().active == (not isinstance(first, End))
        assert sum(len(one.child_tasks) for one in directory.host.nurseries) == directory.counts().active


async def test_a_command_takes_no_turn_of_the_actors_task(autojump_clock: MockClock) -> None:
    """It is taken up where it is told, so a million parked tasks stay parked."""
    async with running_directory() as directory:
        actor = await new_actor(directory)
        await wait_all_tasks_blocked()
        told: list[Any] = []
        actor.tell(Heartbeat(), told.append)
        (done,) = told
        assert done.session is actor.state
        assert actor._is_parked()


# --- the end


async def test_who_waits_behind_the_end_hears_of_it(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        with store.held():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(actor.ask, End())
                await wait_all_tasks_blocked()
                nursery.start_soon(expects, actor, SessionNotFound)
                nursery.start_soon(expects, actor, SessionNotFound)
                await wait_all_tasks_blocked()
                assert store._gate is not None
                store._gate.set()
        await expects(actor, SessionNotFound)


async def test_commands_behind_an_end_in_the_same_batch_are_refused_and_leave_nothing(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        async with trio.open_nursery() as nursery:
            with store.held():
                nursery.start_soon(actor.ask, Heartbeat())
                await wait_all_tasks_blocked()
                got: list[Any] = []

                async def three() -> None:
                    got.extend(await outcomes(actor, [HELLO, End(), HELLO]))

                nursery.start_soon(three)
                await trio.sleep(1)
        assert [type(one) for one in got] == [Transition, Transition, SessionNotFound]
        assert store.commits[-1] == [RemoveSession(1, None)]
        assert directory.counts() == (0, 0, 0, 0)


async def test_a_command_at_the_deadline_is_refused_and_the_session_ends_once(
    autojump_clock: MockClock,
) -> None:
    async with running_directory() as directory, trio.open_nursery() as nursery:
        actor = await new_actor(directory)
        listener = Listener(directory, actor)
        nursery.start_soon(listener)
        await trio.sleep_until(directory.clock.deadline(at(30)))
        await expects(actor, SessionExpired)
        await minutes(1)
        assert listener.of(Expired) == [30]


async def test_a_stop_waits_for_the_commit_under_way_and_refuses_what_comes_after(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    got: list[Any] = []
    async with trio.open_nursery() as nursery:
        async with running_directory(store=store) as directory:
            actor = await new_actor(directory)
            store.delay_s = 5.0
            actor.tell(HELLO, got.append)
            nursery.start_soon(_tell_later, actor, got)
        assert [type(one) for one in got] == [Overloaded, Transition]
    assert actor.session.last_message_at == START_MS


async def _tell_later(actor: SessionActor, got: list[Any]) -> None:
    await trio.sleep(1)
    actor.tell(HELLO, got.append)
