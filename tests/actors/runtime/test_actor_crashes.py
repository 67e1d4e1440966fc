"""An actor that crashes answers who waits, and goes on from the store. In virtual time."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.actors.runtime.listening import HELLO, Listener, expects, minutes, outcomes
from tests.fakes import FaultyStore, new_actor, running_directory
from vigil.actors.core.commands import Command, Heartbeat, Renew, Transition
from vigil.actors.core.errors import SessionBroken, StoreUnavailable
from vigil.actors.core.events import Event, ExpirationWarning, Expired
from vigil.actors.core.lifecycle import step
from vigil.actors.core.records import Session, State
from vigil.actors.runtime import actor as session_module


def bug_in(session_id: str, command: type[Command]) -> Any:
    """`lifecycle.step` with a bug that one session meets in one command."""

    def buggy(state: State, asked: Command, now: int) -> Transition:
        if state.id == session_id and isinstance(asked, command):
            raise ZeroDivisionError
        return step(state, asked, now)

    return buggy


async def test_a_crash_answers_its_batch_and_the_actor_goes_on_from_the_store(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_directory() as directory:
        actor, other = await new_actor(directory), await new_actor(directory)
        await actor.ask(HELLO)
        before = actor.session
        monkeypatch.setattr(session_module, "step", bug_in(actor.state.id, Heartbeat))
        got = await outcomes(actor, [Heartbeat(), Renew()])
        assert [type(one) for one in got] == [SessionBroken, Transition]
        assert actor.session == before._replace(renewal_count=2, event_id=before.event_id + 1)
        assert isinstance(await other.ask(Heartbeat()), Transition)
        assert directory.publisher.counters.crashes == 1


async def test_a_crashed_actor_keeps_its_deadlines(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_directory() as directory, trio.open_nursery() as nursery:
        actor = await new_actor(directory)
        listener = Listener(directory, actor)
        nursery.start_soon(listener)
        monkeypatch.setattr(session_module, "step", bug_in(actor.state.id, Heartbeat))
        await minutes(10)
        await expects(actor, SessionBroken)
        await minutes(21)
        assert (listener.of(ExpirationWarning), listener.of(Expired)) == ([25], [30])


async def test_a_crash_while_publishing_an_expiry_harms_nobody_else(autojump_clock: MockClock) -> None:
    """The end is in the store already: there is nothing to restart from, and the id is out of service."""
    async with running_directory() as directory:
        actor, other = await new_actor(directory, "silent", 5), await new_actor(directory)
        publish = directory.hub.publish

        def buggy(events: Sequence[Event]) -> None:
            if any(event.session_id == actor.state.id for event in events):
                raise ZeroDivisionError
            publish(events)

        directory.hub.publish = buggy  # type: ignore[method-assign]
        await minutes(6)
        with pytest.raises(SessionBroken):
            directory.find(actor.state.id)
        assert isinstance(await other.ask(Heartbeat()), Transition)
        assert directory.counts() == (1, 0, 0, 1)
        await directory.end(actor.state.id)
        assert directory.counts() == (1, 0, 0, 0)


async def test_a_crash_while_publishing_a_warning_leaves_the_counts_right(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        actor = await new_actor(directory)
        publish = directory.hub.publish

        def buggy(_events: Sequence[Event]) -> None:
            directory.hub.publish = publish  # type: ignore[method-assign]
            raise ZeroDivisionError

        directory.hub.publish = buggy  # type: ignore[method-assign,assignment]
        await minutes(26)
        assert (actor.session.warned, directory.counts().expiring_soon) == (True, 1)
        await directory.end(actor.state.id)
        assert directory.counts() == (0, 0, 0, 0)


async def test_a_restart_waits_for_the_store(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable(FaultyStore):
        async def session(self, session_key: int) -> Session | None:
            if self.failing:
                raise StoreUnavailable("the disk is gone")
            return await super().session(session_key)

    store = Unreadable()
    async with running_directory(store=store) as directory:
        actor = await new_actor(directory)
        monkeypatch.setattr(session_module, "step", bug_in(actor.state.id, Heartbeat))
        store.failing = True
        await expects(actor, SessionBroken)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor.ask, Renew())
            await trio.sleep(10)
            assert actor.session.renewal_count == 0
            store.failing = False
        assert actor.session.renewal_count == 1
