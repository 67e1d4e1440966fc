"""The tables of the SQLite store, and how records go into rows and come out again.

It knows nothing of files, threads and batches. What people wrote (message content, metadata, saved answers)
stands behind a pad of zeros in its row. SQLite zeroes freed overflow pages whole; but when it splits or merges
B-tree pages it now and then leaves a copy of what it moved in an unused gap, out of reach of secure_delete. A pad
as long as the longest part of a row that stays on a B-tree page keeps everything after it on overflow pages.
"""

# ruff: noqa: S608  statements are made of constants alone

import sys
from array import array
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from vigil.actors.core.errors import RecordDamaged
from vigil.actors.core.records import ExpiryReason, Message, Session, TimeoutConfig, Tombstone
from vigil.actors.stores.base import (
    KEPT,
    OWED,
    ForgetTombstones,
    InsertMessage,
    InsertSession,
    PendingTurn,
    ProbeDiskSpace,
    RemoveSession,
    SaveAnswer,
    SaveWindow,
    UpdateSession,
    UpdateTurn,
)

APPLICATION_ID = 0x5669674C  # "VigL"
PAGE_BYTES = 1024  # a short message fills most of its overflow page, and commits write little beside it
PAD = f"zeroblob({PAGE_BYTES - 35})"  # the longest payload that a table's leaf page holds by itself

ROOM_BYTES = 65_536  # the longest text with the most metadata, in UTF-8

TABLES = """
CREATE TABLE sessions (key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, agent_id TEXT, user_id TEXT,
    channel_id TEXT, created_at INTEGER, pad BLOB, metadata TEXT);
CREATE TABLE states (key INTEGER PRIMARY KEY, last_activity INTEGER, renewed_at INTEGER,
    timeout_minutes INTEGER, auto_renew INTEGER, max_duration_minutes INTEGER,
    warning_threshold_minutes INTEGER, renewal_count INTEGER, warned INTEGER, event_id INTEGER,
    last_message_at INTEGER);
CREATE TABLE messages (n INTEGER PRIMARY KEY, session INTEGER, id TEXT, created_at INTEGER, author_id TEXT,
    is_agent INTEGER, reply_to INTEGER, pad BLOB, content TEXT, metadata TEXT, attachments TEXT,
    finish_reason TEXT);
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
"""
# What makes a file of version 1 one of version 2, of 2 one of 3, and so on; TABLES is the newest.
MIGRATIONS = (
    "ALTER TABLE messages ADD COLUMN finish_reason TEXT;",
    "-- turns that failed or were cancelled stay in their table, where version 2 knows only owed ones\n",
)
SCHEMA_VERSION = 1 + len(MIGRATIONS)


class ForgetWindows(NamedTuple):
    """The store's own write: rate-limit windows are handed out once."""


class Statement(NamedTuple):
    """One statement and its bindings for each write of a type."""

    sql: str
    bindings: Callable[[Any], Iterable[tuple[Any, ...]]]


# --- records into rows

_INSERT_STATE = Statement(
    "INSERT INTO states VALUES (?,?,?,?,?,?,?,?,?,?,?)",
    lambda writes: [(s[0], *s[7:9], *s[9], *s[10:]) for (s,) in writes],
)
_INSERT_TURN = "INSERT INTO turns VALUES (?,?,?)"

# In this order within a transaction: a session's writes cannot depend on another order.
STATEMENTS: dict[type, tuple[Statement, ...]] = {
    InsertSession: (
        Statement(
            # The pad hides metadata; there is nothing to hide in an empty object.
            f"INSERT INTO sessions SELECT ?1,?2,?3,?4,?5,?7, iif(?6 = '{{}}', NULL, {PAD}), ?6",
            lambda writes: [session[:7] for (session,) in writes],
        ),
        _INSERT_STATE,
    ),
    UpdateSession: (
        Statement(
            "UPDATE states SET last_activity=?2, renewed_at=?3, timeout_minutes=?4, auto_renew=?5, "
            "max_duration_minutes=?6, warning_threshold_minutes=?7, renewal_count=?8, warned=?9, "
            "event_id=?10, last_message_at=?11 WHERE key=?1",
            _INSERT_STATE.bindings,
        ),
    ),
    InsertMessage: (
        Statement(
            "INSERT INTO messages (session, id, created_at, author_id, is_agent, pad, content, metadata, "
            f"attachments, reply_to, finish_reason) VALUES (?,?,?,?,?,{PAD},?,?,?,?,?)",
            lambda writes: [(key, *message) for key, message, _ in writes],
        ),
        Statement(
            _INSERT_TURN,
            lambda writes: [(key, message[1], turn) for key, message, turn in writes if turn in KEPT],
        ),
    ),
    UpdateTurn: (
        Statement(
            "UPDATE turns SET state=?3 WHERE session=?1 AND created_at=?2",
            lambda writes: [write for write in writes if write.turn in KEPT],
        ),
        Statement(
            "DELETE FROM turns WHERE session=? AND created_at=?",
            lambda writes: [write[:2] for write in writes if write.turn not in KEPT],
        ),
    ),
    SaveAnswer: (
        Statement(
            "INSERT OR REPLACE INTO saved_answers (scope, key, body_sha256, pad, answer, session, saved_at) "
            f"VALUES (?,?,?,{PAD},?,?,?)",
            lambda writes: writes,
        ),
    ),
    RemoveSession: (
        Statement("DELETE FROM sessions WHERE key=?", lambda writes: [write[:1] for write in writes]),
        Statement("DELETE FROM states WHERE key=?", lambda writes: [write[:1] for write in writes]),
        Statement("DELETE FROM turns WHERE session=?", lambda writes: [write[:1] for write in writes]),
        Statement("INSERT OR IGNORE INTO purges VALUES (?)", lambda writes: [write[:1] for write in writes]),
        Statement(
            "INSERT OR REPLACE INTO tombstones VALUES (?,?,?,?,?,?,?,?)",
            lambda writes: [tombstone for _, tombstone in writes if tombstone is not None],
        ),
    ),
    ForgetTombstones: (
        Statement(
            "DELETE FROM tombstones WHERE id=?",
            lambda writes: [(session_id,) for (ids,) in writes for session_id in ids],
        ),
    ),
    SaveWindow: (
        Statement(
            "INSERT OR REPLACE INTO windows VALUES (?,?,?)",
            lambda writes: [(scope, subject, array("q", at).tobytes()) for scope, subject, at in writes],
        ),
    ),
    ForgetWindows: (Statement("DELETE FROM windows", lambda _: ((),)),),
    ProbeDiskSpace: (
        Statement(
            f"INSERT INTO messages (session, created_at, content) VALUES (-1, -1, zeroblob({ROOM_BYTES}))",
            lambda _: ((),),
        ),
        Statement("DELETE FROM messages WHERE session = -1", lambda _: ((),)),
    ),
}
SET_ANCHOR = "INSERT OR REPLACE INTO anchors VALUES (1,?,?)"

# --- rows into records

Row = tuple[Any, ...]
Check = Callable[[Any], bool]

_TIME_MAX = 253_402_300_799_999  # the last millisecond that ISO 8601 can write
_COUNT_MAX = 2**53
_NO_METADATA = "{}"


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _COUNT_MAX


def _is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _TIME_MAX


def _is_minutes(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _TIME_MAX // 60_000


def _is_flag(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 1


def _is_instants(value: Any) -> bool:
    return type(value) is bytes and len(value) % 8 == 0


def _is_reason(value: Any) -> bool:
    return value in get_args(ExpiryReason)


_SESSION: dict[str, Check] = {
    "key": _is_count,
    "id": _is_text,
    "agent_id": _is_text,
    "user_id": _is_text,
    "channel_id": _is_text,
    "metadata": _is_text,
    "created_at": _is_time,
    "last_activity": _is_time,
    "renewed_at": _is_time,
    "timeout_minutes": _is_minutes,
    "auto_renew": _is_flag,
    "max_duration_minutes": _is_minutes,
    "warning_threshold_minutes": _is_minutes,
    "renewal_count": _is_count,
    "warned": _is_flag,
    "event_id": _is_count,
    "last_message_at": _is_time,
}
_TOMBSTONE: dict[str, Check] = {
    "id": _is_text,
    "agent_id": _is_text,
    "user_id": _is_text,
    "created_at": _is_time,
    "expires_at": _is_time,
    "reason": _is_reason,
    "last_activity": _is_time,
    "renewal_count": _is_count,
}
_WINDOW: dict[str, Check] = {"scope": _is_text, "subject": _is_text, "admitted_at": _is_instants}
_MESSAGE: dict[str, Check] = {
    "id": _is_text,
    "created_at": _is_time,
    "author_id": _is_text,
    "is_agent": _is_flag,
    "content": _is_text,
    "metadata": _is_text,
    "attachments": _is_text,
    "reply_to": _is_time,
    "finish_reason": _is_text,
}
# A message of version 1 has no finish reason: answers were only known as whole then.
_MESSAGE_COLUMNS = ", ".join([*_MESSAGE][:-1]) + ", coalesce(finish_reason, iif(is_agent, 'stop', ''))"

SESSIONS = f"SELECT {', '.join(_SESSION)} FROM sessions LEFT JOIN states USING (key)"
SESSION = f"{SESSIONS} WHERE key = ?"
NAMES = "SELECT key, CAST(id AS BLOB) FROM sessions"
TOMBSTONES = f"SELECT {', '.join(_TOMBSTONE)} FROM tombstones ORDER BY id"
_OWED = (
    f"SELECT session, state, {_MESSAGE_COLUMNS} FROM turns CROSS JOIN messages USING (session, created_at) "
    "WHERE state NOT IN ('failed', 'cancelled')"
)
PENDING_TURNS = f"{_OWED} ORDER BY session, created_at"
PENDING_TURNS_OF = f"{_OWED} AND session = ? ORDER BY created_at"
WINDOWS = f"SELECT {', '.join(_WINDOW)} FROM windows"
NEXT_KEY = "SELECT max(seq) + 1 FROM sqlite_sequence WHERE name = 'sessions'"
ANCHOR = "SELECT wall_ms, session_ms FROM anchors WHERE typeof(wall_ms + session_ms) = 'integer'"
# What belongs to a session is there as long as its row is: the rest is purged later.
SAVED_ANSWER = (
    "SELECT body_sha256, answer, saved_at FROM saved_answers JOIN sessions ON sessions.key = session "
    "WHERE scope = ? AND saved_answers.key = ?"
)
HISTORY = (
    f"SELECT {_MESSAGE_COLUMNS} FROM messages WHERE session = ?1 AND created_at > ?2 AND created_at < ?3 "
    "AND EXISTS (SELECT 1 FROM sessions WHERE key = ?1) ORDER BY created_at"
)
REPLY_TO = (
    f"SELECT {_MESSAGE_COLUMNS} FROM messages WHERE session = ?1 AND created_at > ?2 AND reply_to = ?2 "
    "AND EXISTS (SELECT 1 FROM sessions WHERE key = ?1) ORDER BY created_at LIMIT 1"
)
TURN = (
    "SELECT coalesce(state, iif(EXISTS (SELECT 1 FROM messages AS replies WHERE replies.session = ?1 "
    "AND replies.created_at > asked.created_at AND replies.reply_to = asked.created_at), 'answered', '')) "
    "FROM messages AS asked LEFT JOIN turns USING (session, created_at) WHERE session = ?1 AND asked.id = ?2 "
    "AND EXISTS (SELECT 1 FROM sessions WHERE key = ?1)"
)


class Unreadable(RecordDamaged):
    """A row that is no record; the text says what is wrong with it, and nothing of its content."""


def session_of(row: Row) -> Session:
    """Raises Unreadable."""
    _check(row, _SESSION)
    key, session_id, agent_id, user_id, channel_id, metadata, created, active, renewed, *rest = row
    names = (key, session_id, sys.intern(agent_id), user_id, channel_id)
    metadata = _NO_METADATA if metadata == _NO_METADATA else metadata  # one object for all who have none
    return Session._make(
        (*names, metadata, created, active, renewed, _config(*rest[:4]), rest[4], rest[5] == 1, *rest[6:])
    )


def tombstone_of(row: Row) -> Tombstone:
    """Raises Unreadable."""
    _check(row, _TOMBSTONE)
    return Tombstone(*row)


def message_of(row: Row) -> Message:
    """Trusts the row: histories are long, and a damaged one harms nobody but its reader."""
    message_id, created_at, author_id, is_agent, *rest = row
    return Message(message_id, created_at, author_id, is_agent == 1, *rest)


def pending_turn_of(row: Row) -> PendingTurn:
    """Raises Unreadable."""
    key, turn, *message = row
    if turn not in OWED:
        raise Unreadable("its turn is damaged")
    _check(message, _MESSAGE)
    return PendingTurn(key, message_of(tuple(message)), turn)


def window_of(row: Row) -> SaveWindow:
    """Raises Unreadable."""
    _check(row, _WINDOW)
    scope, subject, admitted_at = row
    return SaveWindow(scope, subject, tuple(array("q", admitted_at)))


def _check(row: Iterable[Any], checks: dict[str, Check]) -> None:
    for value, (name, is_right) in zip(row, checks.items(), strict=True):
        if not is_right(value):
            raise Unreadable(f"its {name} is damaged")


@lru_cache(maxsize=4096)
def _config(timeout: int, auto_renew: int, max_duration: int, warning_threshold: int) -> TimeoutConfig:
    """Equal configs are one object."""
    return TimeoutConfig(timeout, auto_renew == 1, max_duration, warning_threshold)
