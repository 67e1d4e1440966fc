"""A backup in the place of a server's data: all of it or nothing, and never under a server that runs.

Owns the order in which files change, so that a restore that is cut short is seen at the next start. What a backup
holds is `backup`'s.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from vigil.actors.stores.sqlite.file import lock_of
from vigil.server.ops.backup import DATABASE, KEPT, BackupError, Manifest, unpack
from vigil.server.ops.data_dir import kept_database, locked, note_database, open_data_dir, sync

_LOGS = ("-wal", "-shm", "-journal")  # of SQLite, beside the database


def restore(
    source: Path, data_dir: Path, database: Path, *, force: bool, now: datetime
) -> tuple[Manifest, Path | None]:
    """Gives what was restored, and where the data is that was there before. Raises BackupError or DataDirError.

    Cut short, the directory names a database that is not there: a server then refuses to start, and says why.
    """
    source = source.absolute()
    open_data_dir(data_dir)
    in_place = [path for path in _places(data_dir, database).values() if path.exists()]
    noted = kept_database(data_dir)
    with ExitStack() as locks:
        for used in {os.path.realpath(database), os.path.realpath(noted or database)}:
            locks.enter_context(_not_in_use(Path(used)))
        if (in_place or noted) and not force:
            raise BackupError(
                f"{data_dir} holds a server's data already. Name another directory with --data-dir, or replace what "
                "is there: --force (it is moved aside, not deleted)"
            )
        with _unpacked(source, data_dir) as (manifest, unpacked):
            note_database(data_dir, os.path.realpath(database))
            aside = _move_aside(in_place, database, data_dir / f"before-restore-{now:%Y%m%dT%H%M%SZ}")
            with locked(data_dir):
                _move_in(unpacked, manifest, _places(data_dir, database))
    return manifest, aside


def _places(data_dir: Path, database: Path) -> dict[str, Path]:
    """Where each member belongs; the database last, for a server without it does not start."""
    return {**{name: data_dir / name for name in KEPT}, DATABASE: database}


@contextmanager
def _unpacked(source: Path, data_dir: Path) -> Iterator[tuple[Manifest, Path]]:
    directory = data_dir / ".restoring"
    shutil.rmtree(directory, ignore_errors=True)  # of a restore that was cut short
    directory.mkdir(mode=0o700)
    try:
        yield unpack(source, directory), directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _move_aside(in_place: list[Path], database: Path, aside: Path) -> Path | None:
    logs = [path for end in _LOGS if (path := database.with_name(database.name + end)).exists()]
    if not in_place and not logs:
        return None
    aside.mkdir(mode=0o700)
    for path in (*logs, *in_place):
        shutil.move(path, aside / path.name)
    return aside


def _move_in(unpacked: Path, manifest: Manifest, places: dict[str, Path]) -> None:
    for name, place in places.items():
        if name in manifest.files:
            shutil.move(unpacked / name, place)
            place.chmod(0o600)
            sync(place)
            sync(place.parent)


@contextmanager
def _not_in_use(database: Path) -> Iterator[None]:
    """Hold the lock that a server holds while it runs. Raises BackupError."""
    with suppress(OSError):
        database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        lock = os.open(lock_of(os.path.realpath(database)), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BackupError(f"{database.parent} cannot be written: {error.strerror}. Mend it first") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BackupError(f"{database} is in use by a server: stop it first, then restore") from None
    finally:
        os.close(lock)
