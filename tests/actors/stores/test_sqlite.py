"""What the SQLite store promises beyond every store: its file, its fsyncs, its faults, and what it erases."""

import random
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest
import trio

from vigil.actors.core.errors import Overloaded, StoreError, StoreUnavailable
from vigil.actors.core.records import Anchor, Message, Session, TimeoutConfig, Tombstone
from vigil.actors.stores.base import (
    InsertMessage,
    InsertSession,
    RemoveSession,
    SaveAnswer,
    SaveWindow,
    UpdateSession,
    Write,
)
from vigil.actors.stores.sqlite.checkpoints import WRITES_BUSY
from vigil.actors.stores.sqlite.schema import PAGE_BYTES, SCHEMA_VERSION
from vigil.actors.stores.sqlite.store import WAITING_MAX, SqliteStore
from vigil.actors.stores.sqlite.writer import SMALL

NOW = 1_800_000_000_000
CONFIG = TimeoutConfig(30, True, 180, 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vigil.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.start(anchor)
    yield store
    await store.close()


def anchor() -> Anchor:
    return Anchor(NOW, NOW)


def session(key: int = 1, metadata: str = "{}") -> Session:
    return Session(key, f"id-{key}", "agent-123", "user-1", f"channel-{key}", metadata, NOW, NOW, NOW, CONFIG)


def message(created_at: int, content: str = "hello") -> Message:
    return Message(f"message-{created_at}", created_at, "user-1", False, content, "{}", "")


def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


def size_of(file: Path) -> int:
    return file.stat().st_size


async def contents(store: SqliteStore, key: int) -> list[str]:
    """Oldest first."""
    page = await store.history(key, None, None, 1_000_000)
    return [one.content for one in page.messages][::-1]


def child(script: str, *args: object) -> "subprocess.Popen[str]":
    """Another Python process that runs `script`."""
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# --- opening


async def test_all_files_are_for_their_owner_alone(path: Path, store: SqliteStore) -> None:
    await store.commit([InsertSession(session())])
    files = [path, wal(path), Path(f"{path}-shm"), Path(f"{path}.lock")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 4


def test_a_file_that_was_open_to_others_is_closed_to_them(path: Path) -> None:
    path.touch(0o644)
    trio.run(SqliteStore(path).close)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_second_store_in_this_process_is_refused(path: Path, store: SqliteStore) -> None:
    assert store.anchor is None
    with pytest.raises(StoreError, match="is in use by another server: stop that one or name another file"):
        SqliteStore(path)


async def test_another_name_of_the_file_does_not_get_around_the_lock(path: Path, store: SqliteStore) -> None:
    other = path.with_name("other.db")
    other.symlink_to(path)
    with pytest.raises(StoreError, match="in use"):
        SqliteStore(other)
    await store.close()
    await SqliteStore(other).close()


OPEN_AND_WAIT = """
import sys
from vigil.actors.stores.sqlite.store import SqliteStore
store = SqliteStore(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


async def test_a_second_process_is_refused_until_the_first_is_gone(path: Path) -> None:
    with child(OPEN_AND_WAIT, path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="in use"):
            SqliteStore(path)
        first.kill()
    await SqliteStore(path).close()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"these are my holiday photographs " * 100)


def somebody_elses(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def damaged(path: Path) -> None:
    trio.run(SqliteStore(path).close)
    with path.open("r+b") as file:
        file.seek(PAGE_BYTES)
        file.write(b"\xff" * 100 * PAGE_BYTES)


def from_a_newer_server(path: Path) -> None:
    trio.run(SqliteStore(path).close)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (not_a_database, "is not a database: move it away or name another file"),
        (damaged, "^pages of .*vigil.db are damaged: copy it and .*vigil.db-wal away before anything else"),
        (somebody_elses, "belongs to another program: name another file"),
        (from_a_newer_server, "has schema version 3, this server reads up to 2: start the version"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], None], why: str
) -> None:
    make(path)
    before = path.read_bytes()
    for _ in range(2):  # the lock is let go of each time
        with pytest.raises(StoreError, match=why) as caught:
            SqliteStore(path)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "where", ["no/such/directory/vigil.db", "file/vigil.db", "directory", "read-only/vigil.db"]
)
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "read-only").mkdir(0o500)
    if where.startswith("read-only") and may_write_anywhere(tmp_path / "read-only"):
        pytest.skip("the superuser may write everywhere")
    with pytest.raises(
        StoreError, match=r"cannot be opened \(.+\): its directory must exist and be writable"
    ):
        SqliteStore(tmp_path / where)


def may_write_anywhere(directory: Path) -> bool:
    try:
        (directory / "probe").touch()
    except PermissionError:
        return False
    return True


# --- commits


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


# --- what cannot be read back


def damage(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE sessions SET agent_id = NULL WHERE key = 2", "its agent_id is damaged"),
        ("UPDATE sessions SET metadata = x'7b7d' WHERE key = 2", "its metadata is damaged"),
        ("UPDATE sessions SET created_at = 'yesterday' WHERE key = 2", "its created_at is damaged"),
        ("UPDATE states SET renewed_at = 1e300 WHERE key = 2", "its renewed_at is damaged"),
        ("UPDATE states SET last_activity = -1 WHERE key = 2", "its last_activity is damaged"),
        (
            "UPDATE states SET last_message_at = 253402300800000 WHERE key = 2",
            "its last_message_at is damaged",
        ),
        ("UPDATE states SET timeout_minutes = 0 WHERE key = 2", "its timeout_minutes is damaged"),
        ("UPDATE states SET auto_renew = 2 WHERE key = 2", "its auto_renew is damaged"),
        ("UPDATE states SET renewal_count = NULL WHERE key = 2", "its renewal_count is damaged"),
        ("DELETE FROM states WHERE key = 2", "its last_activity is damaged"),
        ("UPDATE sessions SET user_id = CAST(x'ff41' AS TEXT) WHERE key = 2", "its text is damaged"),
        ("UPDATE messages SET content = CAST(x'ff41' AS TEXT) WHERE session = 2", "its text is damaged"),
        ("UPDATE messages SET content = NULL WHERE session = 2", "its content is damaged"),
    ],
)
async def test_a_damaged_session_is_named_and_the_others_load(path: Path, sql: str, why: str) -> None:
    store = SqliteStore(path)
    for key in (1, 2, 3):
        await store.commit([InsertSession(session(key)), InsertMessage(key, message(NOW), "waiting")])
    await store.close()
    damage(path, sql)
    store = SqliteStore(path)
    snapshot = await store.start(anchor)
    assert list(snapshot.broken) == [(2, "id-2", why)]
    assert [one.key for one in snapshot.sessions] == [1, 3]
    assert [turn.session_key for turn in snapshot.pending_turns] == [1, 3]
    assert snapshot.next_key == 4
    await store.commit([RemoveSession(2, None)])
    await store.close()
    store = SqliteStore(path)
    assert list((await store.start(anchor)).broken) == []
    await store.close()


async def test_damage_beside_the_sessions_costs_only_what_is_damaged(path: Path) -> None:
    store = SqliteStore(path)
    await store.start(anchor)
    for key in (1, 2, 3, 4):
        tombstone = Tombstone(f"id-{key}", "agent-123", "user-1", NOW, NOW + key, "inactivity", NOW, 0)
        await store.commit([InsertSession(session(key)), SaveWindow("user", f"user-{key}", (NOW,))])
        await store.commit([RemoveSession(key, tombstone)])
    await store.close()
    damage(path, "UPDATE tombstones SET reason = 'boredom' WHERE id = 'id-1'")
    damage(path, "UPDATE tombstones SET user_id = CAST(x'ff41' AS TEXT) WHERE id = 'id-3'")
    damage(path, "UPDATE windows SET admitted_at = x'0102' WHERE subject = 'user-2'")
    damage(path, "UPDATE anchors SET session_ms = NULL")
    store = SqliteStore(path)
    assert store.anchor is None
    snapshot = await store.start(anchor)
    assert [tombstone.id for tombstone in snapshot.tombstones] == ["id-2", "id-4"]
    assert [window.subject for window in snapshot.windows] == ["user-1", "user-3", "user-4"]
    await store.close()


# --- erasure

MARK = re.compile(rb"<\d+\.\d+>")


def marks(path: Path) -> set[int]:
    """The sessions whose marks stand anywhere in the files, read as bytes."""
    files = path.parent.glob("vigil.db*")
    found = {mark for file in files for mark in MARK.findall(file.read_bytes())}
    return {int(mark[1:].split(b".")[0]) for mark in found}


async def eventually(holds: Callable[[], bool]) -> None:
    """Erasing goes on in real time, in a thread of the store's own that nothing else can be asked about."""
    with trio.fail_after(120):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.02)


class Scribbler:
    """Sessions that come and go at random, with their mark in everything that people wrote."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.live: set[int] = set()
        self.gone: set[int] = set()
        self._at = NOW

    def text(self, key: int) -> str:
        self._at += 1
        size = self._random.choice((3, 30, 100, 300, 2000))
        return f"{'x' * self._random.randrange(size)}<{key}.{self._at}>{'y' * self._random.randrange(size)}"

    def open(self, key: int) -> list[Write]:
        self.live.add(key)
        return [InsertSession(session(key, metadata=self.text(key)))]

    def say(self, key: int) -> list[Write]:
        texts = [self.text(key), "{}", ""]
        self._random.shuffle(texts)
        content, metadata, attachments = texts
        said = Message("m", self._at, "user-1", False, content, metadata, attachments)
        writes: list[Write] = [InsertMessage(key, said, "waiting")]
        if self._random.random() < 0.3:
            answer = self.text(key).encode()
            writes.append(SaveAnswer(f"id-{key}", str(self._at), b"h", answer, key, NOW))
        return writes

    def some(self) -> int:
        return self._random.choice(sorted(self.live))

    def remove(self, key: int) -> list[Write]:
        self.live.remove(key)
        self.gone.add(key)
        return [RemoveSession(key, None)]


async def test_what_people_wrote_leaves_all_files_with_its_session(path: Path) -> None:
    store = SqliteStore(path, erase_delay_s=0.1)
    await store.start(anchor)
    scribbler = Scribbler(seed=1)
    for key in range(1, 201):
        writes = scribbler.open(key)
        for _ in range(6):
            writes += scribbler.say(scribbler.some())
        if key > 20:
            writes += scribbler.remove(scribbler.some())
        await store.commit(writes)
    await eventually(lambda: not marks(path) & scribbler.gone)
    assert marks(path) == scribbler.live
    await store.close()
    assert marks(path) == scribbler.live


def pages_of(path: Path) -> list[bytes]:
    file = path.read_bytes()
    return [file[start : start + PAGE_BYTES] for start in range(0, len(file), PAGE_BYTES)]


async def test_what_people_wrote_is_kept_off_b_tree_pages(path: Path, store: SqliteStore) -> None:
    """SQLite may leave copies in the gaps of these when it splits or merges them; the others it zeroes whole."""
    writes: list[Write] = []
    for n in range(4, 1100):
        text = "~" * n
        said = [
            Message("m", 1, "user-1", False, text, "{}", ""),
            Message("m", 2, "user-1", False, "", text, ""),
            Message("m", 3, "user-1", False, "", "", text),
        ]
        writes.append(InsertSession(session(n, metadata=text)))
        writes.append(SaveAnswer("api", str(n), b"h", text.encode(), n, NOW))
        writes += [InsertMessage(n, one, "") for one in said]
    await store.commit(writes)
    await store.close()
    pages = pages_of(path)
    b_tree_pages = [page for page in pages if page[0] in (2, 5, 10, 13)]
    assert len(b_tree_pages) > 1000
    assert not any(b"~~~~" in page for page in b_tree_pages)
    assert sum(page.count(b"~~~~") for page in pages) > 5 * 1000


async def test_the_log_is_emptied_once_for_many_deletions(path: Path) -> None:
    """With an hour's delay nothing is emptied while the store is open, however much goes; closing does it."""
    store = SqliteStore(path, erase_delay_s=3600)
    await store.start(anchor)
    for key in range(1, 21):
        await store.commit([InsertSession(session(key)), InsertMessage(key, message(NOW, f"<{key}.1>"), "")])
        await store.commit([RemoveSession(key, None)])
    await store.commit([])
    assert marks(path) == set(range(1, 21))
    await store.close()
    assert marks(path) == set()


async def test_closing_right_after_a_removal_erases_first(path: Path, store: SqliteStore) -> None:
    await store.commit([InsertSession(session())])
    await store.commit([InsertMessage(1, message(NOW + n, f"<1.{n}>"), "") for n in range(10_000)])
    await store.commit([RemoveSession(1, None)])
    await store.close()
    assert marks(path) == set()


async def test_the_log_is_emptied_when_a_reader_that_was_in_the_way_has_gone(path: Path) -> None:
    store = SqliteStore(path, erase_delay_s=0.0)
    await store.start(anchor)
    await store.commit([InsertSession(session()), InsertMessage(1, message(NOW, "<1.1>"), "")])
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM messages")
    await store.commit([RemoveSession(1, None)])
    await trio.sleep(0.5)  # longer than it waits for a reader at a time
    assert marks(path) == {1}
    reader.close()
    await eventually(lambda: marks(path) == set())
    await store.close()


async def test_a_long_history_goes_in_pieces_between_the_commits_of_others(path: Path) -> None:
    store = SqliteStore(path)
    await store.start(anchor)
    await store.commit([InsertSession(session(1)), InsertSession(session(2))])
    await store.commit([InsertMessage(1, message(NOW + n), "") for n in range(20_000)])
    watcher = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    await store.commit([RemoveSession(1, None)])
    left = []
    while count := watcher.execute("SELECT count(*) FROM messages WHERE session = 1").get:
        left.append(count)
        await store.commit([UpdateSession(session(2))])
        assert await contents(store, 1) == []
    assert len(set(left)) > 2
    watcher.close()
    await store.close()


REMOVE_AND_DIE = """
import os, signal, sys, trio
from vigil.actors.runtime.clock import Anchor
from vigil.actors.core.records import Message, Session, TimeoutConfig
from vigil.actors.stores.base import InsertMessage, InsertSession, RemoveSession
from vigil.actors.stores.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.start(lambda: Anchor(1, 1))
    for key in (1, 2):
        session = Session(key, "i", "a", "u", "c", "{}", 0, 0, 0, TimeoutConfig(30, True, 180, 5))
        texts = enumerate([f"<{key}.{n}>" + "x" * 900 for n in range(4_000)])
        messages = [Message("m", n, "u", False, text, "{}", "") for n, text in texts]
        await store.commit([InsertSession(session), *(InsertMessage(key, one, "") for one in messages)])
    await store.commit([RemoveSession(2, None)])
    os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


async def test_purging_goes_on_after_a_crash(path: Path) -> None:
    with child(REMOVE_AND_DIE, path):
        pass
    assert marks(path) == {1, 2}
    store = SqliteStore(path, erase_delay_s=0.0)
    snapshot = await store.start(anchor)
    assert [one.key for one in snapshot.sessions] == [1]
    assert snapshot.next_key == 3
    assert await contents(store, 2) == []
    await eventually(lambda: marks(path) == {1})
    assert len(await contents(store, 1)) == 4_000
    await store.close()
