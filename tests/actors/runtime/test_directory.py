"""The directory and its tombstones: the cap, the counts, ends that meet, what is forgotten and when."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore, new_actor, running_directory
from vigil.actors.core.commands import Heartbeat, Renew
from vigil.actors.core.errors import (
    AgentNotFound,
    Overloaded,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
)
from vigil.actors.core.records import TimeoutPatch, Tombstone
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.runtime.creation import Rules
from vigil.actors.runtime.registry import Counts
from vigil.actors.runtime.supervision import RestartBudget
from vigil.actors.stores.base import ForgetTombstones, InsertSession, RemoveSession

MIN = 60_000
PATCH = TimeoutPatch()


def tombstone(name: str, expires_at: int, created_at: int = 0) -> Tombstone:
    return Tombstone(name, "agent", "user", created_at, expires_at, "inactivity", 0, 0)


# --- creating


async def test_a_new_session_is_committed_before_it_is_found(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory, trio.open_nursery() as nursery:
        with store.held():
            nursery.start_soon(directory.create, "silent", "user", "{}", PATCH)
            await trio.sleep(1)
            assert directory.actors() == []
        await wait_all_tasks_blocked()
        assert len(directory.actors()) == 1
        assert isinstance(store.commits[0][0], InsertSession)


async def test_a_session_that_cannot_be_committed_leaves_nothing(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    store.failing = True
    async with running_directory(store=store, rules=Rules(session_max=1)) as directory:
        with pytest.raises(StoreUnavailable):
            await directory.create("silent", "user", "{}", PATCH)
        assert directory.counts() == Counts(0, 0, 0, 0)
        store.failing = False
        assert await new_actor(directory)


async def test_an_unknown_agent_gets_no_session(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        with pytest.raises(AgentNotFound):
            await directory.create("nobody", "user", "{}", PATCH)


async def test_the_session_cap_counts_those_that_are_being_created(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store, rules=Rules(session_max=2)) as directory:
        actor = await new_actor(directory)
        async with trio.open_nursery() as nursery:
            with store.held():
                nursery.start_soon(directory.create, "silent", "user", "{}", PATCH)
                await wait_all_tasks_blocked()
                with pytest.raises(Overloaded) as refused:
                    await directory.create("silent", "user", "{}", PATCH)
                assert refused.value.retry_after_s > 0
        with pytest.raises(Overloaded):
            await directory.create("silent", "user", "{}", PATCH)
        await directory.end(actor.state.id)
        assert await new_actor(directory)


async def test_expired_sessions_do_not_count_for_the_cap(autojump_clock: MockClock) -> None:
    async with running_directory(rules=Rules(session_max=1)) as directory:
        await new_actor(directory)
        await trio.sleep(31 * 60)
        assert await new_actor(directory)


# --- ending


async def test_of_two_ends_at_once_one_finds_nothing(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        session_id = (await new_actor(directory)).state.id
        results: list[str] = []

        async def end() -> None:
            try:
                await directory.end(session_id)
                results.append("ended")
            except SessionNotFound:
                results.append("not found")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            nursery.start_soon(end)
        assert sorted(results) == ["ended", "not found"]


async def test_an_end_that_meets_the_expiry_removes_what_the_expiry_left(autojump_clock: MockClock) -> None:
    """The timer's commit is under way when the end comes: the end waits for it, and then takes the tombstone."""
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        session_id = (await new_actor(directory)).state.id
        await trio.sleep(29 * 60)
        async with trio.open_nursery() as nursery:
            with store.held():
                await trio.sleep(60)
                nursery.start_soon(directory.end, session_id)
                await trio.sleep(1)
        assert directory.counts() == Counts(0, 0, 0, 0)
        assert [type(writes[0]) for writes in store.commits[-2:]] == [RemoveSession, ForgetTombstones]
        with pytest.raises(SessionNotFound):
            directory.find(session_id)


async def test_an_end_of_a_tombstone_that_cannot_be_committed_leaves_it(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with running_directory(store=store) as directory:
        session_id = (await new_actor(directory)).state.id
        await trio.sleep(31 * 60)
        store.failing = True
        with pytest.raises(StoreUnavailable):
            await directory.end(session_id)
        with pytest.raises(SessionExpired):
            directory.find(session_id)
        store.failing = False
        await directory.end(session_id)
        with pytest.raises(SessionNotFound):
            directory.find(session_id)


# --- counting


async def test_the_counts_follow_every_way_in_and_out_of_the_warning(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        actors = [await new_actor(directory) for _ in range(4)]
        assert directory.counts() == Counts(4, 0, 0, 0)
        await trio.sleep(26 * 60)
        assert directory.counts() == Counts(4, 0, 4, 0)
        await actors[0].ask(Heartbeat())
        await actors[1].ask(Renew())
        await directory.end(actors[2].state.id)
        assert directory.counts() == Counts(3, 0, 1, 0)
        await trio.sleep(5 * 60)
        assert directory.counts() == Counts(2, 1, 0, 0)
        await trio.sleep(2 * 24 * 60 * 60)
        assert directory.counts() == Counts(0, 0, 0, 0)


async def test_a_page_filters_counts_and_orders(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        ids = []
        for n in range(6):
            done = await directory.create(("silent", "agent-123")[n % 2], f"u-{n % 3}", "{}", PATCH)
            ids.append(done.session.id)
            await trio.sleep(1)
        newest = ids[::-1]
        page = directory.page(None, None, "active", offset=1, limit=3)
        assert ([session.id for session in page.sessions], page.total) == (newest[1:4], 6)
        page = directory.page("silent", None, "all", offset=0, limit=9)
        assert ([session.id for session in page.sessions], page.total) == ([ids[4], ids[2], ids[0]], 3)
        page = directory.page("silent", "u-1", "active", offset=0, limit=9)
        assert [session.id for session in page.sessions] == [ids[4]]
        assert directory.page(None, None, "expired", offset=0, limit=9).total == 0
        assert directory.page(None, None, "active", offset=9, limit=9).sessions == []


# --- tombstones


def test_a_tombstone_is_kept_for_its_minutes_from_its_expiry() -> None:
    tombstones = Tombstones(10, 100)
    tombstones.add(tombstone("a", 5 * MIN))
    assert tombstones.get("a", 15 * MIN - 1) == tombstone("a", 5 * MIN)
    assert tombstones.get("a", 15 * MIN) is None
    tombstones.forget_due(15 * MIN - 1)
    assert (len(tombstones), tombstones.forgotten) == (1, [])
    tombstones.forget_due(15 * MIN)
    assert (len(tombstones), tombstones.forgotten, tombstones.index.count()) == (0, ["a"], 0)


def test_beyond_the_cap_the_oldest_expiry_is_forgotten_whatever_the_order_of_arrival() -> None:
    tombstones = Tombstones(10, 3)
    for name, expires_at in (("c", 30), ("a", 10), ("d", 40), ("b", 20), ("e", 50)):
        tombstones.add(tombstone(name, expires_at))
    assert (tombstones.forgotten, len(tombstones), tombstones.index.count()) == (["a", "b"], 3, 3)


def test_a_tombstone_that_was_discarded_makes_room_and_is_not_forgotten_again() -> None:
    tombstones = Tombstones(10, 2)
    tombstones.add(tombstone("a", 10))
    tombstones.add(tombstone("b", 20))
    tombstones.discard("a")
    tombstones.discard("a")
    tombstones.add(tombstone("c", 30))
    assert (tombstones.forgotten, len(tombstones)) == ([], 2)
    tombstones.add(tombstone("d", 40))
    assert (tombstones.forgotten, len(tombstones), tombstones.index.count()) == (["b"], 2, 2)
    tombstones.forget_due(60 * MIN)
    assert (sorted(tombstones.forgotten), len(tombstones), tombstones._oldest) == (["b", "c", "d"], 0, [])


# --- the restart budget


def test_the_third_crash_within_a_minute_is_one_too_many() -> None:
    budget = RestartBudget()
    assert [budget.exceeded("a", at) for at in (0, 30_000, 59_999)] == [False, False, True]
    assert [budget.exceeded("b", at) for at in (0, 30_000, 60_000, 89_999)] == [False, False, False, True]
    assert not budget.exceeded("c", 60_000), "each session has its own"
    budget.forget("a")
    assert not budget.exceeded("a", 60_000)
