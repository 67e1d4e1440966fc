"""What SQLite promises beyond every store: who may open its file, and what is refused or cannot be read back."""

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.actors.stores.sqlite_files import NOW, anchor, child, message, session, wal
from vigil.actors.core.errors import StoreError
from vigil.actors.core.records import Tombstone
from vigil.actors.stores.base import InsertMessage, InsertSession, RemoveSession, SaveWindow
from vigil.actors.stores.sqlite.schema import PAGE_BYTES, SCHEMA_VERSION
from vigil.actors.stores.sqlite.store import SqliteStore

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
        (
            from_a_newer_server,
            f"has schema version {SCHEMA_VERSION + 1}, this server reads up to {SCHEMA_VERSION}: start the version",
        ),
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
