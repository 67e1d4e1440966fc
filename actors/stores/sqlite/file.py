"""Opening the SQLite file: its lock, who may read it, whose it is, and how SQLite is to keep it.

It knows nothing of what the tables are for.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import apsw

from vigil.actors.core.errors import DatabaseGone, StoreError, StoreUnavailable
from vigil.actors.stores.sqlite.schema import (
    APPLICATION_ID,
    MIGRATIONS,
    PAGE_BYTES,
    SCHEMA_VERSION,
    TABLES,
    Unreadable,
)

_HINTS = {
    errno.EACCES: "give it and its directory to the user that runs Vigil, its directory must exist and be writable",
    errno.EROFS: "mount it writable or name another file",
    errno.ENOSPC: "make room on the disk",
}
_PRAGMAS = {
    "synchronous": "FULL",
    "secure_delete": "ON",
    "temp_store": "MEMORY",  # nothing that people wrote in a file that nobody watches
    "cache_size": -4096,  # in KiB: this build looks through all of it at each commit, and the system caches too
    "wal_autocheckpoint": 0,  # `Checkpoints` does it
}


@contextmanager
def opening(path: str) -> Iterator[None]:
    """Say in one line why the file cannot be opened, as StoreError."""
    try:
        yield
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "its directory must exist and be writable")
        raise StoreError(f"{path} cannot be opened ({error.strerror}): {hint}") from error
    except apsw.NotADBError as error:
        raise StoreError(f"{path} is not a database: move it away or name another file") from error
    except (apsw.CorruptError, Unreadable) as error:
        raise StoreError(damaged(path)) from error
    except StoreUnavailable as error:
        raise StoreError(
            f"{path} cannot be used ({error.why}): check the disk or name another file"
        ) from error
    except apsw.Error as error:
        raise StoreError(f"{path} cannot be used ({error}): check the disk or name another file") from error


def damaged(path: str) -> str:
    """What to do about pages that are damaged, in one line."""
    return (
        f"pages of {path} are damaged: copy it and {path}-wal away before anything else. Then restore a backup; or "
        f"save what can be read, sqlite3 {path} .recover | sqlite3 NEW, and name it with --store sqlite:NEW"
    )


def open_writer(path: str, resources: ExitStack, *, may_be_new: bool) -> apsw.Connection:
    """Lock the file and make its tables when it is new. What has to be closed at the end is in `resources`."""
    if not may_be_new and not _holds_anything(path):
        raise DatabaseGone(_gone(path))  # before SQLite sees it: beside an empty file it throws the log away
    _create(path)
    _lock(lock_of(path), path, resources)
    writer = _connect(path, apsw.SQLITE_OPEN_READWRITE, resources)
    if not _check(writer, path) and not may_be_new:
        raise DatabaseGone(_gone(path))
    _set_up(writer, path)
    return writer


def _holds_anything(path: str) -> bool:
    return os.path.exists(path) and os.path.getsize(path) > 0


def _gone(path: str) -> str:
    return f"{path} is empty or not there, but a server has kept sessions in it"


def same_file(path: str) -> Callable[[], bool]:
    """What tells whether the file that is at `path` now is still there. Another one in its place is not."""
    before = os.stat(path)

    def is_there() -> bool:
        try:
            now = os.stat(path)
        except OSError:
            return False
        return (now.st_ino, now.st_dev) == (before.st_ino, before.st_dev)

    return is_there


def open_reader(path: str, resources: ExitStack) -> apsw.Connection:
    """A second connection, to read only what is committed."""
    reader = _connect(path, apsw.SQLITE_OPEN_READONLY, resources)
    reader.pragma("cache_size", -8192)
    reader.pragma("temp_store", "MEMORY")
    return reader


def open_checkpointer(path: str, resources: ExitStack) -> apsw.Connection:
    """A third connection, to write the log back to the main file."""
    checkpointer = _connect(path, apsw.SQLITE_OPEN_READWRITE, resources)
    checkpointer.pragma("synchronous", "FULL")
    checkpointer.pragma("wal_autocheckpoint", 0)
    return checkpointer


def _create(path: str) -> None:
    """Make the file for its owner alone; SQLite gives the same mode to the ones beside it."""
    is_new = not os.path.exists(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    os.chmod(path, 0o600)
    if is_new:
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def lock_of(path: str) -> str:
    """The file that a server holds locked while the database at `path`, a real path, is its own."""
    return f"{path}.lock"


def _lock(lock_path: str, path: str, resources: ExitStack) -> None:
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    resources.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"{path} is in use by another server: stop that one or name another file") from error


def _connect(path: str, flags: int, resources: ExitStack) -> apsw.Connection:
    connection = apsw.Connection(path, flags=flags)
    resources.callback(connection.close)
    connection.set_busy_timeout(200)
    # One plan for each statement: otherwise this build plans it anew whenever a key is bound.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    return connection


def _check(writer: apsw.Connection, path: str) -> bool:
    """Refuse a file that is not ours or of a version not known here, before anything is written to it. Gives whether it
    holds anything.
    """
    tables = writer.execute("SELECT count(*) FROM sqlite_schema").get
    owner, version = writer.pragma("application_id"), writer.pragma("user_version")
    if not tables and not owner and not version:
        return False
    if owner != APPLICATION_ID:
        raise StoreError(f"{path} belongs to another program: name another file")
    if not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}, this server reads up to {SCHEMA_VERSION}: "
            "start the version of the server that wrote it or name another file"
        )
    return True


def _set_up(writer: apsw.Connection, path: str) -> None:
    writer.pragma("page_size", PAGE_BYTES)
    if writer.pragma("journal_mode", "wal") != "wal":
        raise StoreError(f"{path} is on a disk where SQLite cannot keep a write-ahead log: name another file")
    for name, value in _PRAGMAS.items():
        writer.pragma(name, value)
    version = writer.pragma("user_version")
    if version != SCHEMA_VERSION:
        changes = "".join(MIGRATIONS[version - 1 :]) if version else TABLES
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        writer.execute(f"BEGIN IMMEDIATE; {changes} {marks} COMMIT")
