"""What every store promises, run over each of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from vigil.actors.core.records import Anchor, Message, Session, TimeoutConfig, Tombstone, TurnState
from vigil.actors.stores.base import (
    ForgetTombstones,
    InsertMessage,
    InsertSession,
    Page,
    RemoveSession,
    SaveAnswer,
    SavedAnswer,
    SaveWindow,
    Snapshot,
    Store,
    UpdateSession,
    UpdateTurn,
)
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.stores.sqlite.store import SqliteStore

NOW = 1_800_000_000_000
CONFIG = TimeoutConfig(30, True, 180, 5)


class Place:
    """Where a store lives, and how it comes back when the server does."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._path = directory / "vigil.db"
        self.is_memory = kind == "memory"
        self.store: Store = MemoryStore() if self.is_memory else SqliteStore(self._path)

    async def restart(self) -> Snapshot:
        await self.store.close()
        if not self.is_memory:
            self.store = SqliteStore(self._path)
        return await self.store.start(anchor)


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    await place.store.close()


@pytest.fixture
async def store(place: Place) -> Store:
    await place.store.start(anchor)
    return place.store


def anchor() -> Anchor:
    return Anchor(NOW, NOW)


def session(key: int = 1, metadata: str = '{"plan":"gold"}') -> Session:
    return Session(
        key, f"id-{key}", "agent-123", f"user-{key}", f"channel-{key}", metadata, NOW, NOW, NOW, CONFIG
    )


def message(created_at: int, content: str = "hello") -> Message:
    return Message(f"message-{created_at}", created_at, "user-1", False, content, "{}", "")


def tombstone(key: int, expires_at: int = NOW) -> Tombstone:
    return Tombstone(f"id-{key}", "agent-123", f"user-{key}", NOW, expires_at, "inactivity", NOW, 2)


def answer(key: str, session_key: int, text: bytes = b"{}", scope: str = "api") -> SaveAnswer:
    return SaveAnswer(scope, key, b"h" * 32, text, session_key, NOW)


# --- sessions


async def test_a_new_store_is_empty_and_has_no_anchor(place: Place) -> None:
    assert place.store.anchor is None
    snapshot = await place.store.start(anchor)
    assert not any(snapshot[:-1])
    assert snapshot.next_key == 1


async def test_a_session_comes_back_whole(place: Place, store: Store) -> None:
    sessions = [
        session(1),
        session(2, metadata="{}")._replace(
            last_activity=NOW + 1,
            renewed_at=NOW + 2,
            config=TimeoutConfig(5, False, 4320, 60),
            renewal_count=3,
            warned=True,
            event_id=4,
            last_message_at=NOW + 5,
        ),
        session(3, metadata='{"text":"' + "é" * 8000 + '"}'),
    ]
    await store.commit([InsertSession(one) for one in sessions])
    assert (await place.restart()).sessions == sessions
    assert await place.store.session(3) == sessions[2]
    assert type(sessions[1].warned) is bool


async def test_an_update_replaces_all_that_can_change(place: Place, store: Store) -> None:
    changed = session(1)._replace(
        last_activity=NOW + 1,
        renewed_at=NOW + 2,
        config=TimeoutConfig(60, False, 90, 9),
        renewal_count=1,
        warned=True,
        event_id=2,
        last_message_at=NOW + 3,
    )
    await store.commit([InsertSession(session(1)), InsertSession(session(2))])
    await store.commit([UpdateSession(changed)])
    assert await store.session(1) == changed
    assert (await place.restart()).sessions == [changed, session(2)]


async def test_a_session_that_is_not_there_is_none(store: Store) -> None:
    assert await store.session(1) is None


async def test_a_removed_session_takes_everything_with_it(place: Place, store: Store) -> None:
    await store.commit(
        [
            InsertSession(session(1)),
            InsertMessage(1, message(NOW), "waiting"),
            InsertMessage(1, message(NOW + 1)._replace(is_agent=True, reply_to=NOW), ""),
            answer("create", 1),
            answer("send", 1, scope="id-1"),
        ]
    )
    await store.commit([RemoveSession(1, None)])
    assert await store.session(1) is None
    assert await store.history(1, None, None, 50) == Page([], False)
    assert await store.pending_turns(1) == []
    assert await store.reply_to(1, NOW) is None
    assert await store.saved_answer("api", "create") is None
    assert await store.saved_answer("id-1", "send") is None
    assert not any((await place.restart())[:-1])


async def test_a_removed_session_leaves_the_others_alone(store: Store) -> None:
    for key in (1, 2):
        await store.commit(
            [
                InsertSession(session(key)),
                InsertMessage(key, message(NOW + key), "waiting"),
                answer(f"of-{key}", key),
            ]
        )
    await store.commit([RemoveSession(1, None)])
    assert await store.session(2) == session(2)
    assert (await store.history(2, None, None, 50)).messages == [message(NOW + 2)]
    assert len(await store.pending_turns(2)) == 1
    assert await store.saved_answer("api", "of-2") is not None


async def test_the_key_of_a_removed_session_is_never_used_again(place: Place, store: Store) -> None:
    await store.commit([InsertSession(session(key)) for key in (1, 7)])
    await store.commit([RemoveSession(7, None)])
    assert (await place.restart()).next_key == 8
    await place.store.commit([RemoveSession(1, None)])
    assert (await place.restart()).next_key == 8


# --- messages and turns

INSTANTS = [NOW + offset for offset in (0, 1, 2, 5, 9, 10, 11, 40)]
BOUNDS = [None, 0, *(NOW + offset for offset in (-1, 0, 1, 3, 9, 10, 12, 40, 41)), 10**30]


def expected_page(before: int | None, after: int | None, limit: int) -> tuple[list[int], bool]:
    """Section 4, read aloud."""
    within = [at for at in INSTANTS if (before is None or at < before) and (after is None or at > after)]
    page = within[:limit] if before is None and after is not None else within[-limit:]
    return page[::-1], len(within) > len(page)


async def test_history_is_exact_for_all_bounds_and_limits(store: Store) -> None:
    await store.commit([InsertSession(session(key)) for key in (1, 2, 3)])
    for at in INSTANTS:
        await store.commit([InsertMessage(key, message(at), "") for key in (1, 2, 3)])
    for before in BOUNDS:
        for after in BOUNDS:
            for limit in (1, 2, 3, 7, 8, 9):
                page = await store.history(2, before, after, limit)
                found = [one.created_at for one in page.messages], page.has_more
                assert found == expected_page(before, after, limit), (before, after, limit)


async def test_a_message_comes_back_whole(place: Place, store: Store) -> None:
    messages = [
        Message("m-1", NOW, "user-1", False, "grüß dich\n\t🙂", '{"a":[1,{"b":true}]}', '[{"type":"image"}]'),
        Message("m-2", NOW + 1, "agent-123", True, "y" * 10_000, "{}", "", NOW, "stop"),
        Message("m-3", NOW + 2, "agent-123", True, "z", "{}", "", NOW, "length"),
        Message("m-4", NOW + 3, "agent-123", True, "z", "{}", "", NOW, "content_filter"),
    ]
    await store.commit([InsertSession(session(1)), *(InsertMessage(1, one, "") for one in messages)])
    await place.restart()
    page = await place.store.history(1, None, None, 50)
    assert page.messages == messages[::-1]
    assert {type(one.is_agent) for one in page.messages} == {bool}


async def test_a_reply_is_found_by_the_message_that_it_answers(store: Store) -> None:
    await store.commit([InsertSession(session(1)), InsertSession(session(2))])
    reply = message(NOW + 5)._replace(is_agent=True, reply_to=NOW, finish_reason="length")
    await store.commit([InsertMessage(1, one, "") for one in (message(NOW), message(NOW + 1), reply)])
    await store.commit([InsertMessage(2, message(NOW), "")])
    assert await store.reply_to(1, NOW) == reply
    assert await store.reply_to(1, NOW + 1) is None
    assert await store.reply_to(2, NOW) is None


@pytest.mark.parametrize("turn", ["", "waiting", "started", "retried", "answered", "failed"])
@pytest.mark.parametrize("how", ["inserted", "updated"])
async def test_a_turn_is_owed_until_it_is_answered_or_failed(
    place: Place, store: Store, turn: TurnState, how: str
) -> None:
    await store.commit([InsertSession(session(1))])
    if how == "inserted":
        await store.commit([InsertMessage(1, message(NOW), turn)])
    else:
        await store.commit([InsertMessage(1, message(NOW), "waiting")])
        await store.commit([UpdateTurn(1, NOW, turn)])
    owed = [(1, message(NOW), turn)] if turn in ("waiting", "started", "retried") else []
    assert await store.pending_turns(1) == owed
    assert (await place.restart()).pending_turns == owed


async def test_owed_turns_come_oldest_first(place: Place, store: Store) -> None:
    await store.commit([InsertSession(session(key)) for key in (1, 2)])
    for at in (NOW, NOW + 1, NOW + 2):
        await store.commit([InsertMessage(key, message(at), "waiting") for key in (2, 1)])
    await store.commit([UpdateTurn(1, NOW, "started")])
    assert [turn.message.created_at for turn in await store.pending_turns(2)] == [NOW, NOW + 1, NOW + 2]
    pending = (await place.restart()).pending_turns
    assert [(turn.session_key, turn.turn) for turn in pending] == [
        (1, "started"),
        (1, "waiting"),
        (1, "waiting"),
        (2, "waiting"),
        (2, "waiting"),
        (2, "waiting"),
    ]


async def test_a_turn_may_run_through_its_states_in_one_commit(store: Store) -> None:
    await store.commit([InsertSession(session(1))])
    await store.commit(
        [
            InsertMessage(1, message(NOW), "waiting"),
            UpdateTurn(1, NOW, "started"),
            UpdateTurn(1, NOW, "failed"),
        ]
    )
    assert await store.pending_turns(1) == []


# --- saved answers, tombstones, windows


async def test_a_saved_answer_is_found_by_its_scope_and_key(place: Place, store: Store) -> None:
    text = b'{"content":"' + b"x" * 3000 + b'"}'
    await store.commit([InsertSession(session(1)), answer("k", 1, text)])
    await place.restart()
    assert await place.store.saved_answer("api", "k") == SavedAnswer(b"h" * 32, text, NOW)
    assert await place.store.saved_answer("api", "other") is None
    assert await place.store.saved_answer("id-1", "k") is None


async def test_a_key_that_is_used_again_stands_for_the_newer_answer(store: Store) -> None:
    """Also when the session of the older one goes later."""
    await store.commit([InsertSession(session(1)), answer("k", 1, b"old")])
    await store.commit([InsertSession(session(2)), answer("k", 2, b"new")])
    await store.commit([RemoveSession(1, None)])
    assert await store.saved_answer("api", "k") == SavedAnswer(b"h" * 32, b"new", NOW)
    await store.commit([RemoveSession(2, None)])
    assert await store.saved_answer("api", "k") is None


async def test_tombstones_come_back_oldest_expiry_first(place: Place, store: Store) -> None:
    tombstones = [tombstone(1, NOW + 3), tombstone(2, NOW + 1), tombstone(3, NOW + 2)]
    await store.commit([InsertSession(session(key)) for key in (1, 2, 3)])
    await store.commit([RemoveSession(key, one) for key, one in enumerate(tombstones, 1)])
    assert (await place.restart()).tombstones == [tombstones[1], tombstones[2], tombstones[0]]
    await place.store.commit([ForgetTombstones(("id-2", "id-1", "unknown"))])
    assert (await place.restart()).tombstones == [tombstones[2]]


async def test_windows_are_handed_out_once(place: Place, store: Store) -> None:
    windows = [SaveWindow("session", "id-1", (NOW, NOW, NOW + 1)), SaveWindow("user", "user-1", (NOW,))]
    await store.commit([SaveWindow("user", "user-1", (1, 2, 3))])
    await store.commit(windows)
    assert sorted((await place.restart()).windows) == windows
    assert list((await place.restart()).windows) == []


# --- commits


async def test_each_commit_holds_where_session_time_stands(place: Place) -> None:
    now = Anchor(NOW, NOW)
    await place.store.commit([InsertSession(session(1))])
    assert place.store.anchor is None
    await place.store.start(lambda: now)
    now = Anchor(NOW + 5, NOW + 300)
    await place.store.commit([UpdateSession(session(1))])
    assert place.store.anchor == Anchor(NOW + 5, NOW + 300)
    now = Anchor(NOW + 6, NOW + 360)
    await place.store.commit([])
    assert place.store.anchor == Anchor(NOW + 6, NOW + 360)
    await place.restart()
    assert place.store.anchor == Anchor(NOW + 6, NOW + 360)


async def test_a_cancelled_caller_has_its_commit_all_the_same(store: Store) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.commit([InsertSession(session(1))])
    assert await store.session(1) == session(1)


async def test_commits_of_many_callers_are_all_there(store: Store) -> None:
    async def talk(key: int) -> None:
        await store.commit([InsertSession(session(key))])
        for n in range(5):
            await store.commit([InsertMessage(key, message(NOW + n, f"{key}-{n}"), "")])

    async with trio.open_nursery() as nursery:
        for key in range(1, 101):
            nursery.start_soon(talk, key)
    for key in range(1, 101):
        page = await store.history(key, None, None, 50)
        assert [one.content for one in page.messages] == [f"{key}-{n}" for n in (4, 3, 2, 1, 0)]


async def test_statistics_count_commits_writes_and_seconds(place: Place, store: Store) -> None:
    before = store.statistics()
    await store.commit([InsertSession(session(1)), InsertSession(session(2))])
    await store.commit([])
    after = store.statistics()
    assert after.commits - before.commits == 2
    assert after.writes - before.writes == 2
    assert sum(after.buckets) == after.commits
    assert after.seconds == 0.0 if place.is_memory else after.seconds > 0


# --- what only memory can promise


async def test_the_memory_store_takes_no_time(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    assert autojump_clock.autojump_threshold == 0
    start = trio.current_time()
    await store.start(anchor)
    for key in range(1, 50):
        await store.commit([InsertSession(session(key)), InsertMessage(key, message(NOW), "")])
    assert trio.current_time() == start


async def test_the_memory_store_outlives_a_crash_of_its_server() -> None:
    store = MemoryStore()
    async with trio.open_nursery() as server:
        await store.start(anchor)
        await store.commit([InsertSession(session(1))])
        server.cancel_scope.cancel()
    assert (await store.start(anchor)).sessions == [session(1)]
