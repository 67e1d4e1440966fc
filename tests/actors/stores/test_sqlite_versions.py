"""Files that an older server has written: they are brought to this version when they are opened, and lose nothing."""

import sqlite3
from pathlib import Path

import pytest

from vigil.actors.core.errors import StoreError
from vigil.actors.core.records import Anchor, Message, Session, TimeoutConfig
from vigil.actors.stores.base import InsertMessage, InsertSession, PendingTurn, UpdateTurn
from vigil.actors.stores.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from vigil.actors.stores.sqlite.store import SqliteStore

NOW = 1_800_000_000_000
SESSION = Session(
    1, "id-1", "agent-123", "user-1", "channel-1", "{}", NOW, NOW, NOW, TimeoutConfig(30, True, 180, 5)
)

VERSION_1 = f"""
CREATE TABLE sessions (key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, agent_id TEXT, user_id TEXT,
    channel_id TEXT, created_at INTEGER, pad BLOB, metadata TEXT);
CREATE TABLE states (key INTEGER PRIMARY KEY, last_activity INTEGER, renewed_at INTEGER,
    timeout_minutes INTEGER, auto_renew INTEGER, max_duration_minutes INTEGER,
    warning_threshold_minutes INTEGER, renewal_count INTEGER, warned INTEGER, event_id INTEGER,
    last_message_at INTEGER);
CREATE TABLE messages (n INTEGER PRIMARY KEY, session INTEGER, id TEXT, created_at INTEGER, author_id TEXT,
    is_agent INTEGER, reply_to INTEGER, pad BLOB, content TEXT, metadata TEXT, attachments TEXT);
CREATE UNIQUE INDEX messages_in_order ON messages (session, created_at);
CREATE TABLE turns (session INTEGER, created_at INTEGER, state TEXT, PRIMARY KEY (session, created_at))
    WITHOUT ROWID;
CREATE TABLE saved_answers (n INTEGER PRIMARY KEY, scope TEXT, key TEXT, session INTEGER, saved_at INTEGER,
    body_sha256 BLOB, pad BLOB, answer BLOB);
CREATE UNIQUE INDEX saved_answers_by_key ON saved_answers (scope, key);
CREATE INDEX saved_answers_by_session ON saved_answers (session);
CREATE TABLE tombstones (id TEXT PRIMARY KEY, agent_id TEXT, user_id TEXT, created_at INTEGER,
    expires_at INTEGER, reason TEXT, last_activity INTEGER, renewal_count INTEGER) WITHOUT ROWID;
CREATE TABLE windows (scope TEXT, subject TEXT, admitted_at BLOB, PRIMARY KEY (scope, subject)) WITHOUT ROWID;
CREATE TABLE anchors (n INTEGER PRIMARY KEY CHECK (n = 1), wall_ms INTEGER, session_ms INTEGER);
CREATE TABLE purges (session INTEGER PRIMARY KEY);
INSERT INTO sessions VALUES (1, 'id-1', 'agent-123', 'user-1', 'channel-1', {NOW}, NULL, '{{}}');
INSERT INTO states VALUES (1, {NOW}, {NOW}, 30, 1, 180, 5, 0, 0, 0, 0);
INSERT INTO messages VALUES (1, 1, 'm-1', {NOW}, 'user-1', 0, 0, zeroblob(989), 'hello', '{{}}', '');
INSERT INTO messages VALUES (2, 1, 'm-2', {NOW + 1}, 'agent-123', 1, {NOW}, zeroblob(989), 'Hi', '{{"a":1}}', '');
INSERT INTO messages VALUES (3, 1, 'm-3', {NOW + 2}, 'user-1', 0, 0, zeroblob(989), 'Well?', '{{}}', '[]');
INSERT INTO turns VALUES (1, {NOW + 2}, 'started');
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = 1;
"""  # noqa: S608  of constants alone
OLD = [
    Message("m-1", NOW, "user-1", False, "hello", "{}", ""),
    Message("m-2", NOW + 1, "agent-123", True, "Hi", '{"a":1}', "", NOW, "stop"),
    Message("m-3", NOW + 2, "user-1", False, "Well?", "{}", "[]"),
]
NEW = Message("m-4", NOW + 3, "agent-123", True, "Well", "{}", "", NOW + 2, "length")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "vigil.db"
    write(path, VERSION_1)
    return path


def write(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(sql)
    connection.close()


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(found)


def columns(path: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {
        table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")] for table in tables
    }
    connection.close()
    return found


def anchor() -> Anchor:
    return Anchor(NOW, NOW)


async def test_a_file_of_version_1_keeps_its_sessions_messages_and_turns(path: Path) -> None:
    """What an agent said in it ended like any other answer, as far as was known."""
    store = SqliteStore(path)
    snapshot = await store.start(anchor)
    assert snapshot.sessions == [SESSION]
    assert snapshot.pending_turns == [PendingTurn(1, OLD[2], "started")]
    assert (await store.history(1, None, None, 50)).messages == OLD[::-1]
    assert await store.reply_to(1, NOW) == OLD[1]
    await store.close()


async def test_what_is_new_in_an_older_file_is_kept_beside_the_old(path: Path) -> None:
    for restart in range(2):
        store = SqliteStore(path)
        await store.start(anchor)
        if not restart:
            await store.commit([InsertMessage(1, NEW, ""), UpdateTurn(1, NOW + 2, "answered")])
        assert (await store.history(1, None, None, 50)).messages == [NEW, *OLD[::-1]]
        assert await store.pending_turns(1) == []
        await store.close()
        assert version(path) == SCHEMA_VERSION


async def test_an_older_file_and_a_new_one_have_the_same_tables(path: Path) -> None:
    await SqliteStore(path).close()
    new = path.with_name("new.db")
    store = SqliteStore(new)
    await store.start(anchor)
    await store.commit([InsertSession(SESSION)])
    await store.close()
    assert columns(path) == columns(new)
    assert (version(path), version(new)) == (SCHEMA_VERSION, SCHEMA_VERSION)


def test_a_change_that_cannot_be_made_leaves_the_file_as_it_was(path: Path) -> None:
    write(path, "ALTER TABLE messages ADD COLUMN finish_reason TEXT")  # so it cannot be added
    with pytest.raises(StoreError, match=r"vigil\.db cannot be used .*duplicate column name"):
        SqliteStore(path)
    assert version(path) == 1
