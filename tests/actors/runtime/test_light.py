"""What a session that merely waits holds on to, and what it leaves behind: as little as can be, and nothing."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore, new_actor, running_directory
from vigil.actors.core.commands import Heartbeat, Retime
from vigil.actors.core.events import Created, Event, Renewed
from vigil.actors.core.records import TimeoutPatch
from vigil.actors.hub.hub import Resync, Subscription
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.memory import MemoryStore
from vigil.server.ops.serve import _SlowCollections, collect_seldom, freeze_what_is_there

WHOSE = ContextVar("WHOSE", default="nobody's")


def subscribe(directory: Directory, session_id: str, after: int | None) -> Subscription:
    newest = directory.find(session_id).session.event_id
    return directory.hub.subscribe(session_id, after, newest, directory.clock.now())


async def heard(listener: Subscription) -> list[object]:
    """What is unread, events as (id, kind of data)."""
    news = [(await anext(listener)).news for _ in range(len(listener._unread))]
    return [(one.id, type(one.data)) if isinstance(one, Event) else one for one in news]


@contextmanager
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def test_the_creation_of_a_session_is_kept_as_the_session_itself(autojump_clock: MockClock) -> None:
    async with running_directory() as directory:
        done = await directory.create("silent", "user", '{"a":1}', TimeoutPatch())
        assert directory.hub._channels == {}
        await trio.sleep(60)
        notice = await anext(subscribe(directory, done.session.id, 0))
        assert notice.news == done.events[0]


async def test_the_creation_told_later_is_what_it_was_then(autojump_clock: MockClock) -> None:
    """A sign of life that is no event has changed the session meanwhile."""
    async with running_directory() as directory:
        done = await directory.create("silent", "user", "{}", TimeoutPatch(auto_renew=False))
        await trio.sleep(60)
        actor = directory.find(done.session.id)
        await actor.ask(Heartbeat())
        assert actor.session.last_activity > actor.session.created_at
        await actor.ask(Retime(TimeoutPatch(timeout_minutes=60)))
        listener = subscribe(directory, done.session.id, 0)
        assert (await anext(listener)).news == done.events[0]


async def test_a_later_event_finds_the_creation_kept_before_it_and_tells_nobody_twice(
    autojump_clock: MockClock,
) -> None:
    async with running_directory() as directory:
        actor = await new_actor(directory)
        from_the_beginning, from_now = (subscribe(directory, actor.state.id, after) for after in (0, None))
        await trio.sleep(1)
        await actor.ask(Heartbeat())
        assert await heard(from_the_beginning) == [(1, Created), (2, Renewed)]
        assert await heard(from_now) == [(2, Renewed)]
        assert await heard(subscribe(directory, actor.state.id, 0)) == [(1, Created), (2, Renewed)]


async def test_nothing_is_kept_over_a_restart_not_even_a_creation(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running_directory(store=store) as directory:
        session_id = (await new_actor(directory)).state.id
    async with running_directory(store=store) as directory:
        (resync,) = await heard(subscribe(directory, session_id, 0))
        assert isinstance(resync, Resync)
        await directory.find(session_id).ask(Heartbeat())
        (resync,) = await heard(subscribe(directory, session_id, 0))
        assert isinstance(resync, Resync)


async def test_a_session_does_not_keep_the_context_of_the_request_that_created_it(
    autojump_clock: MockClock,
) -> None:
    async with running_directory() as directory:
        WHOSE.set("the request's")
        actor = await new_actor(directory)
        await wait_all_tasks_blocked()
        assert actor._task is not None
        assert actor._task.context.get(WHOSE) is None


@pytest.mark.parametrize("ends_by", ["expiry", "request"])
async def test_a_session_that_is_over_leaves_no_cycles(autojump_clock: MockClock, ends_by: str) -> None:
    async with running_directory() as directory:
        with no_collections():
            actors = [await new_actor(directory) for _ in range(20)]
            for actor in actors:
                await actor.ask(Heartbeat())
                if ends_by == "request":
                    await directory.end(actor.state.id)
            await trio.sleep(2 * 3600)
            assert directory.counts().active == 0
            del actor, actors
            cycles = gc.collect()
    assert cycles < 20  # the harness's own, and not one for each


async def test_a_lone_turn_is_stored_as_started_and_one_behind_it_as_waiting() -> None:
    async with running_directory(store=FaultyStore()) as directory:
        first, second = directory.turns.claim("s-1"), directory.turns.claim("s-1")
        assert (first.state, second.state) == ("started", "waiting")
        first.release()
        second.release()
        assert directory.turns.claim("s-1").state == "started"


def test_a_start_collects_nothing_until_it_is_over() -> None:
    thresholds, was_enabled = gc.get_threshold(), gc.isenabled()
    try:
        collect_seldom()
        assert not gc.isenabled()
        freeze_what_is_there()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        gc.callbacks[:] = [one for one in gc.callbacks if not isinstance(one, _SlowCollections)]
        (gc.enable if was_enabled else gc.disable)()


@pytest.mark.parametrize(
    ("generation", "took_s", "is_frozen"),
    [(0, 9.0, False), (1, 0.001, False), (1, 9.0, True), (2, 9.0, True)],
)
def test_what_a_slow_collection_went_through_is_frozen(
    generation: int, took_s: float, is_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, now_s = [], [1000.0]
    monkeypatch.setattr("vigil.server.ops.serve.gc.freeze", lambda: frozen.append(True))
    monkeypatch.setattr("vigil.server.ops.serve.time.perf_counter", lambda: now_s[0])
    note = _SlowCollections()
    note("start", {"generation": generation})
    now_s[0] += took_s
    note("stop", {"generation": generation})
    assert bool(frozen) == is_frozen
