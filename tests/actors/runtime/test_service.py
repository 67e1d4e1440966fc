"""The tasks around the directory: restore, housekeeping, following the wall clock, a clean stop."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore, PatientAgent, entry, new_actor, running_directory
from tests.harness import AGENTS, START_MS
from vigil.actors.core.commands import Heartbeat, Send
from vigil.actors.core.errors import Overloaded, SessionExpired
from vigil.actors.core.records import Tombstone
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.registry import Counts
from vigil.actors.stores.base import ForgetTombstones, SaveWindow
from vigil.actors.stores.memory import MemoryStore

DAY_S = 24 * 60 * 60
SEND = Send("m-1", "hello", "{}", "", "waiting")


async def test_after_everything_is_over_nothing_is_left_behind(autojump_clock: MockClock) -> None:
    store, agent = FaultyStore(), PatientAgent()
    agent.go.set()
    async with running_directory(store=store, agents={**AGENTS, "patient": entry(agent)}) as directory:
        for n in range(20):
            actor = await new_actor(directory, "patient")
            directory.limits.admit(directory.clock.now(), f"user-{n}", "patient", actor.state.id)
            await actor.ask(SEND)
            listener = directory.hub.subscribe(
                actor.state.id, 0, actor.session.event_id, directory.clock.now()
            )
            directory.hub.unsubscribe(actor.state.id, listener)
            if n % 2:
                await wait_all_tasks_blocked()
                await directory.end(actor.state.id)
        assert directory.limits.statistics().windows > 0
        await trio.sleep(DAY_S + 2 * 60 * 60)
        assert directory.counts() == Counts(0, 0, 0, 0)
        assert directory.limits.statistics().windows == 0
        assert (directory.registry.tombstones.forgotten, directory.registry.tombstones._oldest) == ([], [])
        assert (directory.turns._queues, directory.hub._channels) == ({}, {})
        assert (directory.host.budget._crashes, directory.keys._in_flight) == ({}, set())
        assert (await store.start(directory.clock.anchor))[:5] == ([], [], [], (), [])


@pytest.mark.parametrize("ends_by", ["end", "expiry"])
async def test_a_sessions_window_goes_with_it(autojump_clock: MockClock, ends_by: str) -> None:
    async with running_directory() as directory:
        actor = await new_actor(directory)
        await trio.sleep(29 * 60 + 50)
        directory.limits.admit(directory.clock.now(), "user", "silent", actor.state.id)
        assert directory.limits.statistics().windows == 3
        if ends_by == "end":
            await directory.end(actor.state.id)
        else:
            await trio.sleep(11)
        assert directory.limits.statistics().windows == 2


async def test_a_forgotten_tombstone_that_could_not_be_removed_is_removed_later(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with running_directory(store=store, rules=Rules(tombstone_minutes=1)) as directory:
        await new_actor(directory, "silent", 5)
        await trio.sleep(5 * 60 + 1)
        store.failing = True
        await trio.sleep(10 * 60)
        assert len((await store.start(directory.clock.anchor)).tombstones) == 1
        store.failing = False
        await trio.sleep(61)
        assert (await store.start(directory.clock.anchor)).tombstones == []
        removed = [
            write for writes in store.commits for write in writes if isinstance(write, ForgetTombstones)
        ]
        assert len(removed) == 11


async def test_a_forward_jump_of_the_wall_clock_fires_what_fell_due_within_a_second(
    autojump_clock: MockClock,
) -> None:
    """A machine that slept: Trio's clock stood still, the wall clock did not."""
    asleep_ms, began = 0, trio.current_time()

    def wall() -> int:
        return START_MS + asleep_ms + round((trio.current_time() - began) * 1000)

    clock = ScaledClock(START_MS, wall=wall)
    async with running_directory(clock=clock) as directory:
        expires, warns, stays = [await new_actor(directory, "silent", minutes) for minutes in (30, 63, 120)]
        await trio.sleep(60)
        asleep_ms = 60 * 60_000
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert isinstance(expires.state, Tombstone)
        assert expires.state.expires_at == START_MS + 30 * 60_000
        assert (warns.session.warned, stays.session.warned) == (True, False)
        await trio.sleep(2 * 60)
        assert isinstance(warns.state, Tombstone)
        assert directory.clock.now() == START_MS + asleep_ms + 181_000


async def test_a_request_right_after_the_jump_finds_the_session_expired(autojump_clock: MockClock) -> None:
    asleep_ms = 0
    clock = ScaledClock(START_MS, wall=lambda: START_MS + asleep_ms)
    async with running_directory(clock=clock) as directory:
        actor = await new_actor(directory)
        asleep_ms = 60 * 60_000
        assert directory.clock.follow_wall() > 0
        with pytest.raises(SessionExpired):
            directory.find(actor.state.id)


async def test_an_idle_server_commits_its_anchor(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    clock = ScaledClock(START_MS, wall=lambda: START_MS)
    async with running_directory(store=store, clock=clock):
        await trio.sleep(61)
        assert store.commits == [[], []]
        assert store.anchor is not None
        assert store.anchor.session_ms == START_MS + 60_000
        store.failing = True
        await trio.sleep(31)
        store.failing = False
        await trio.sleep(30)
        assert store.anchor.session_ms == START_MS + 120_000


async def test_a_clean_stop_finishes_what_was_taken_up_and_saves_the_windows(
    autojump_clock: MockClock,
) -> None:
    store = FaultyStore()
    async with trio.open_nursery() as nursery:
        with store.held():
            async with running_directory(store=store) as directory:
                store._gate, gate = None, store._gate
                actor = await new_actor(directory)
                directory.limits.admit(directory.clock.now(), "user", "silent", actor.state.id)
                store._gate = gate
                nursery.start_soon(actor.ask, Heartbeat())
                await wait_all_tasks_blocked()
                assert gate is not None
                gate.set()
    assert actor.session.renewal_count == 1
    assert sorted(write.scope for write in store.commits[-1] if isinstance(write, SaveWindow)) == [
        "agent",
        "session",
        "user",
    ]


async def test_who_asks_an_actor_that_was_stopped_is_refused(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        actor = await new_actor(directory)
    with trio.fail_after(60), pytest.raises(Overloaded):
        await actor.ask(Heartbeat())


async def test_a_restored_directory_has_everything_where_it_was(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running_directory(store=store) as directory:
        warned, later = await new_actor(directory, "silent", 60, True, 180, 55), await new_actor(directory)
        await new_actor(directory, "silent", 5)
        await trio.sleep(6 * 60)
        states = {warned.state, later.state}
        counts = directory.counts()
    async with running_directory(store=store, clock=ScaledClock(directory.clock.now())) as restored:
        assert {actor.state for actor in restored.actors()} == states
        assert restored.counts() == counts == Counts(2, 1, 1, 0)
        newest = (await new_actor(restored)).session
        assert newest.key == 4
        assert restored.page(None, None, "all", offset=0, limit=9).total == 4
