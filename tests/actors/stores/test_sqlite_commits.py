"""Commits of the SQLite store: shared, whole, durable after a kill, and what a full disk does to them."""

import random
import signal
from pathlib import Path

import apsw
import pytest
import trio

from tests.actors.stores.sqlite_files import NOW, anchor, child, contents, message, session, size_of, wal
from vigil.actors.core.errors import Overloaded, StoreUnavailable
from vigil.actors.stores.base import InsertMessage, InsertSession, UpdateSession
from vigil.actors.stores.sqlite.checkpoints import WRITES_BUSY
from vigil.actors.stores.sqlite.schema import PAGE_BYTES
from vigil.actors.stores.sqlite.store import WAITING_MAX, SqliteStore
from vigil.actors.stores.sqlite.writer import SMALL


async def test_callers_that_wait_together_share_one_transaction(store: SqliteStore) -> None:
    await store.commit([InsertSession(session())])
    before = store.statistics()
    async with trio.open_nursery() as nursery:
        for n in range(500):
            nursery.start_soon(store.commit, [InsertMessage(1, message(NOW + n), "")])
    after = store.statistics()
    assert after.writes - before.writes == 500
    assert after.commits - before.commits <= 2
    assert len(await contents(store, 1)) == 500


async def test_too_many_waiting_callers_are_refused_at_once(store: SqliteStore) -> None:
    refused = []

    async def call(key: int) -> None:
        try:
            await store.commit([InsertSession(session(key))])
        except Overloaded:
            refused.append(key)

    async with trio.open_nursery() as nursery:
        for key in range(1, WAITING_MAX + 101):
            nursery.start_soon(call, key)
    assert 0 < len(refused) <= 100
    for key in (1, WAITING_MAX + 100):
        assert (await store.session(key) is None) == (key in refused)
    await store.commit([InsertSession(session(WAITING_MAX + 101))])


async def test_a_write_that_cannot_be_committed_fails_its_own_caller_alone(store: SqliteStore) -> None:
    await store.commit([InsertSession(session()), InsertMessage(1, message(NOW), "")])
    failures = []

    async def call(created_at: int, content: str) -> None:
        try:
            await store.commit([UpdateSession(session()), InsertMessage(1, message(created_at, content), "")])
        except (apsw.ConstraintError, UnicodeEncodeError) as error:
            failures.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, NOW + 1, "good")
        nursery.start_soon(call, NOW, "twice at one instant")
        nursery.start_soon(call, NOW + 2, "half a \ud800 character")
        nursery.start_soon(call, NOW + 3, "good too")
    assert sorted(failure.__name__ for failure in failures) == ["ConstraintError", "UnicodeEncodeError"]
    assert await contents(store, 1) == ["hello", "good", "good too"]


async def test_an_update_does_not_write_metadata_again(path: Path, store: SqliteStore) -> None:
    await store.commit([InsertSession(session(1, metadata='{"text":"' + "x" * 16_000 + '"}'))])
    before = wal(path).stat().st_size
    await store.commit([UpdateSession(session(1)._replace(last_activity=NOW + 1))])
    assert wal(path).stat().st_size - before < 4096


async def test_the_log_begins_anew_under_a_load_that_never_pauses(path: Path, store: SqliteStore) -> None:
    """It is written back beside the commits; and now and then whole, so that it does not grow for ever."""
    await store.commit([InsertSession(session())])
    writes, each = 0, 64

    def is_bounded() -> bool:
        return writes > WRITES_BUSY and size_of(wal(path)) < writes * PAGE_BYTES / 4

    async def talk() -> None:
        nonlocal writes
        while not is_bounded() and writes < 100 * WRITES_BUSY:
            writes += each
            at = NOW + writes
            await store.commit([InsertMessage(1, message(at + n), "") for n in range(each)])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(talk)
    assert is_bounded()
    assert len(await contents(store, 1)) == writes


@pytest.mark.parametrize("count", [1, SMALL, SMALL + 1])
async def test_a_batch_is_committed_whole_however_large(store: SqliteStore, count: int) -> None:
    await store.commit([InsertSession(session())])
    await store.commit([InsertMessage(1, message(NOW + n), "") for n in range(count)])
    assert len(await contents(store, 1)) == count


async def test_a_batch_that_cannot_be_committed_leaves_the_next_ones_alone(store: SqliteStore) -> None:
    """Whatever stops it: the statements in the caller's thread, or the commit in the writer's."""
    await store.commit([InsertSession(session()), InsertMessage(1, message(NOW), "")])
    for n in range(1, 4):
        with pytest.raises(apsw.ConstraintError):
            await store.commit([InsertMessage(1, message(NOW), "")])
        await store.commit([InsertMessage(1, message(NOW + n), "")])
    assert len(await contents(store, 1)) == 4


COMMIT_UNTIL_KILLED = """
import os, sys, trio
from vigil.actors.runtime.clock import Anchor
from vigil.actors.core.records import Message, Session, TimeoutConfig
from vigil.actors.stores.base import InsertMessage, InsertSession, UpdateSession
from vigil.actors.stores.sqlite.store import SqliteStore

async def talk(store, key):
    first = Session(key, f"id-{key}", "a", "u", "c", "{}", 0, 0, 0, TimeoutConfig(30, True, 180, 5))
    await store.commit([InsertSession(first)])
    for n in range(1, 1_000_000):
        writes = [InsertMessage(key, Message("m", n, "u", False, str(n), "{}", ""), "")]
        await store.commit([*writes, UpdateSession(first._replace(event_id=n))])
        os.write(1, f"{key} {n}\\n".encode())

async def main():
    store = SqliteStore(sys.argv[1])
    snapshot = await store.start(lambda: Anchor(1, 1))
    async with trio.open_nursery() as nursery:
        for key in range(snapshot.next_key, snapshot.next_key + 8):
            nursery.start_soon(talk, store, key)

trio.run(main)
"""


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_kill_every_acknowledged_commit_is_there(path: Path, seed: int) -> None:
    lines_max = random.Random(seed).randint(1, 2000)
    acknowledged: dict[int, int] = {}
    for _ in range(2):  # the second time on what the first kill left
        with child(COMMIT_UNTIL_KILLED, path) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(lines_max)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        assert wal(path).stat().st_size > 0
        for line in lines:
            key, n = map(int, line.split())
            acknowledged[key] = n
    store = SqliteStore(path)
    assert wal(path).stat().st_size == 0
    sessions = {one.key: one for one in (await store.start(anchor)).sessions}
    for key, n in acknowledged.items():
        stored = await contents(store, key)
        assert len(stored) >= n
        assert stored == [str(number) for number in range(1, len(stored) + 1)]
        assert sessions[key].event_id == len(stored)
    await store.close()


FILL_THE_DISK = """
import os, resource, structlog, sys, trio
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from vigil.actors.runtime.clock import Anchor
from vigil.actors.core.errors import StoreUnavailable
from vigil.actors.core.records import Message, Session, TimeoutConfig
from vigil.actors.stores.base import InsertMessage, InsertSession
from vigil.actors.stores.sqlite.store import SqliteStore

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def say(store, at):
    try:
        await store.commit([InsertMessage(1, Message("m", at, "u", False, "x" * 9000, "{}", ""), "")])
    except StoreUnavailable as error:
        assert error.why, "it says why"
    else:
        print(at, flush=True)

async def main():
    store = SqliteStore(sys.argv[1])
    await store.start(lambda: Anchor(1, 1))
    session = Session(1, "id-1", "a", "u", "c", "{}", 0, 0, 0, TimeoutConfig(30, True, 180, 5))
    await store.commit([InsertSession(session)])
    limit(os.path.getsize(sys.argv[1] + "-wal") + 15_000)  # room for one more message
    for at in (1, 2, 3):
        await say(store, at)
    async with trio.open_nursery() as nursery:
        for at in (4, 5):
            nursery.start_soon(say, store, at)
    limit(resource.RLIM_INFINITY)
    for at in (6, 7):
        await say(store, at)
    stored = (await store.history(1, None, None, 50)).messages
    print("stored", *(message.created_at for message in stored))
    await store.close()

trio.run(main)
"""


async def test_a_full_disk_refuses_commits_whole_and_is_forgotten_when_there_is_room(path: Path) -> None:
    with child(FILL_THE_DISK, path) as process:
        output, _ = process.communicate()
    assert process.returncode == 0
    assert output.split() == ["1", "6", "7", "stored", "7", "6", "1"]
    store = SqliteStore(path)
    await store.start(anchor)
    assert len(await contents(store, 1)) == 3
    await store.close()


async def test_closing_finishes_what_waits(path: Path) -> None:
    store = SqliteStore(path)
    async with trio.open_nursery() as nursery:
        for key in range(1, 51):
            nursery.start_soon(store.commit, [InsertSession(session(key))])
        await trio.testing.wait_all_tasks_blocked(0)
        nursery.start_soon(store.close)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.commit([])
    with pytest.raises(StoreUnavailable):
        await store.session(1)
    again = SqliteStore(path)
    assert len((await again.start(anchor)).sessions) == 50
    await again.close()


async def test_closing_leaves_one_file_and_its_lock(path: Path, store: SqliteStore) -> None:
    await store.commit([InsertSession(session())])
    await store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["vigil.db", "vigil.db.lock"]
