"""The data directory: private to its owner; its files are complete or absent. It knows little of what they mean.

The directory is 0700 and its files 0600 (spec section 6). A file is replaced in one step that survives a
crash. Processes that read a file to write it back take turns by `locked`.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vigil.actors.core.errors import VigilError

SECRET_BYTES = 32
DATABASE_NOTE = "database"

SECRETS_BEFORE = "secret.before"

_OURS = ("secret", SECRETS_BEFORE, "keys.json", "api-key", DATABASE_NOTE, ".lock", "vigil.db*")


class DataDirError(VigilError):
    """The data directory cannot be used; the text says why and what to do, in one line."""


def open_data_dir(path: Path) -> None:
    """Make the directory, or make an existing one private. Raises DataDirError.

    From here on every file that this process makes is for its owner alone: SQLite makes files of its own.
    """
    os.umask(0o077)
    with _explained(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & stat.S_ISVTX:
            raise DataDirError(
                f"{path} is shared by all users. Name a directory of Vigil's own with --data-dir"
            )
        _tighten(path, 0o700)
        for pattern in _OURS:
            for file in path.glob(pattern):
                _tighten(file, 0o600)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        why = os.strerror(errno.EROFS if is_read_only else errno.EACCES)
        raise DataDirError(
            f"{path} cannot be written: {why}. Mend it, or name another directory with --data-dir"
        )


def session_secret(data_dir: Path, random_bytes: Callable[[int], bytes]) -> bytes:
    """The 32 bytes that sign session tokens, made once. Raises DataDirError."""
    path = data_dir / "secret"
    with locked(data_dir):
        secret = read_file(path)
        if secret is None:
            secret = random_bytes(SECRET_BYTES)
            write_file(path, secret)
    if len(secret) != SECRET_BYTES:
        raise DataDirError(
            f"{path} holds {len(secret)} bytes, not {SECRET_BYTES}. Restore it from a backup, or delete it: "
            "a new one is made and every session token given out so far stops working"
        )
    return secret


def kept_database(data_dir: Path) -> str | None:
    """The database that a server of this directory has kept sessions in. Raises DataDirError."""
    content = read_file(data_dir / DATABASE_NOTE)
    return None if content is None else os.fsdecode(content).strip()


def note_database(data_dir: Path, database: str) -> None:
    """After it was made: so a start that was killed in between locks nobody out. Raises DataDirError."""
    with locked(data_dir):
        write_file(data_dir / DATABASE_NOTE, os.fsencode(f"{database}\n"))


def read_file(path: Path) -> bytes | None:
    """The whole file, or None when there is none. Raises DataDirError."""
    with _explained(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def write_file(path: Path, content: bytes) -> None:
    """Put `content` in the file's place, 0600 and durable. Hold the lock. Raises DataDirError."""
    unfinished = path.with_name(f".{path.name}.tmp")
    with _explained(path):
        unfinished.unlink(missing_ok=True)
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(file)
        unfinished.replace(path)
        sync(path.parent)


def remove_file(path: Path) -> None:
    """Remove the file if it is there, durably. Hold the lock. Raises DataDirError."""
    with _explained(path):
        path.unlink(missing_ok=True)
        sync(path.parent)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock, which one process at a time can have. Raises DataDirError."""
    with _explained(data_dir):
        file = os.open(data_dir / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        with _explained(data_dir):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says into one line about `path`."""
    try:
        yield
    except OSError as error:
        raise DataDirError(
            f"{path} cannot be used: {error.strerror}. Mend it, or name another directory with --data-dir"
        ) from error


def _tighten(path: Path, mode: int) -> None:
    with suppress(FileNotFoundError):  # SQLite removes files of its own when another process closes
        if path.stat().st_mode & 0o077:
            path.chmod(mode)


def sync(path: Path) -> None:
    """A file's content, or what was made, renamed or removed in a directory, is then on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
