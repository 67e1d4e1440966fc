"""A backup: one tar file with the database, the token secrets and the API keys, each with its length and SHA-256.

Owns the file's form, and that it is whole or not there. Refuses to know what the tables mean; a server that runs
meanwhile notices nothing, for SQLite copies what is committed. The agent catalogue and settings are no part of it.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Literal

import apsw
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from vigil.actors.core.errors import VigilError
from vigil.actors.stores.sqlite.file import damaged
from vigil.actors.stores.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION
from vigil.server.ops.data_dir import SECRETS_BEFORE, kept_database, read_file, sync

DATABASE = "vigil.db"
KEPT = ("secret", SECRETS_BEFORE, "keys.json", "api-key")  # beside the database
MANIFEST = "manifest.json"

_MANIFEST_BYTES_MAX = 65_536
_COPY_BYTES = 1 << 20


class BackupError(VigilError):
    """A backup cannot be made, or cannot be used; the text says why and what to do, in one line."""


class Member(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """The first member of the file: what it is, and what has to be in the others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vigil_backup: Literal[1]
    made: AwareDatetime
    sessions: Annotated[int, Field(ge=0)]
    files: dict[str, Member]


def database_of(data_dir: Path, store: str | None) -> Path:
    """Where a server of this directory keeps sessions; `store` is the setting, if it is set. Raises BackupError."""
    if store == "memory:":
        raise BackupError("A server with --store memory: keeps nothing that could be backed up")
    return Path(store.removeprefix("sqlite:")) if store else data_dir / DATABASE


def database_in_use(data_dir: Path, store: str | None) -> Path:
    """The same, but what a server has noted counts when nothing is set. Raises BackupError or DataDirError."""
    noted = None if store else kept_database(data_dir)
    return Path(noted) if noted and Path(noted).is_file() else database_of(data_dir, store)


def make(target: Path, data_dir: Path, database: Path, *, now: datetime) -> Manifest:
    """Write the backup to `target`, 0600 and durable. Raises BackupError or DataDirError.

    The database is copied at one moment, with everything that was acknowledged before it.
    """
    if os.path.lexists(target):
        raise BackupError(f"{target} is there already: name another file, or remove it first")
    if not database.is_file():
        raise BackupError(
            f"There is no database at {database}: name the directory of the server with --data-dir"
        )
    with _explained(target), _workshop(target.absolute().parent) as workshop:
        copy = workshop / DATABASE
        sessions = _copy_database(database, copy)
        contents = {name: content for name in KEPT if (content := read_file(data_dir / name)) is not None}
        for name, content in contents.items():
            (workshop / name).write_bytes(content)
        names = [*contents, DATABASE]
        manifest = Manifest(
            vigil_backup=1,
            made=now,
            sessions=sessions,
            files={name: _measured(workshop / name) for name in names},
        )
        unfinished = workshop / "backup"
        _write_tar(unfinished, manifest, [workshop / name for name in names])
        os.link(unfinished, target)  # and never over a file that came meanwhile
        sync(target.absolute().parent)
    return manifest


def unpack(source: Path, into: Path) -> Manifest:
    """Write the members into the directory `into`, once all of them are what the manifest says. Raises BackupError."""
    with _explained(source), _opened(source) as archive:
        manifest = _manifest(source, archive)
        for name, expected in manifest.files.items():
            if _unpacked(archive, name, into / name) != expected:
                raise _broken(source, f"{name} is not as it was when the backup was made")
    _check_database(source, into / DATABASE)
    return manifest


def _copy_database(database: Path, copy: Path) -> int:
    """By SQLite's backup interface, all pages in one step: a reader of the log, in nobody's way. Gives the sessions."""
    with ExitStack() as resources:
        source = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        resources.callback(source.close)
        target = apsw.Connection(str(copy))
        resources.callback(target.close)
        source.set_busy_timeout(5000)
        if source.pragma("application_id") != APPLICATION_ID:
            raise BackupError(f"{database} is not a database of Vigil's")
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(-1)
        target.pragma("journal_mode", "delete")  # one file, without a log beside it
        if target.pragma("quick_check") != "ok":
            raise BackupError(damaged(str(database)))
        count: int = target.execute("SELECT count(*) FROM sessions").get
        return count


def _check_database(source: Path, database: Path) -> None:
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        owner, version = connection.pragma("application_id"), connection.pragma("user_version")
    except apsw.Error as error:
        raise _broken(source, str(error)) from None
    finally:
        connection.close()
    if owner != APPLICATION_ID:
        raise _broken(source, "its database belongs to another program")
    if version > SCHEMA_VERSION:
        raise BackupError(
            f"{source} has schema version {version}, this version of Vigil reads up to {SCHEMA_VERSION}: "
            "restore it with the version that made it"
        )


def _measured(path: Path) -> Member:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Member(bytes=path.stat().st_size, sha256=digest)


def _write_tar(path: Path, manifest: Manifest, members: list[Path]) -> None:
    content = manifest.model_dump_json(indent=2).encode()
    with path.open("xb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            head = tarfile.TarInfo(MANIFEST)
            head.size, head.mode, head.mtime = len(content), 0o600, int(manifest.made.timestamp())
            archive.addfile(head, io.BytesIO(content))
            for member in members:
                archive.add(member, member.name, filter=_private)
        stream.flush()
        os.fsync(stream.fileno())


def _private(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whose files they were is nobody's business."""
    member.mode, member.uid, member.gid, member.uname, member.gname = 0o600, 0, 0, "", ""
    return member


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r:") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise _broken(source, str(error)) from None


def _manifest(source: Path, archive: tarfile.TarFile) -> Manifest:
    first = archive.next()
    stream = archive.extractfile(first) if first and first.name == MANIFEST else None
    try:
        content = stream.read(_MANIFEST_BYTES_MAX) if stream else b""
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        raise _broken(source, "it is no backup of Vigil's") from None
    if not {DATABASE, "secret"} <= set(manifest.files) <= {DATABASE, *KEPT}:
        raise _broken(source, "its list of files is not one that Vigil writes")
    return manifest


def _unpacked(archive: tarfile.TarFile, name: str, target: Path) -> Member:
    """What is really in the file. Nothing but the names of the manifest is ever written."""
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        return Member(bytes=0, sha256="0" * 64)
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as out:
        while piece := stream.read(_COPY_BYTES):
            digest.update(piece)
            size += len(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    return Member(bytes=size, sha256=digest.hexdigest())


def _broken(source: Path, why: str) -> BackupError:
    return BackupError(f"{source} cannot be restored: {why}. Nothing was changed; take another backup")


@contextmanager
def _workshop(parent: Path) -> Iterator[Path]:
    """A directory for the owner alone beside the target, gone in the end."""
    os.umask(0o077)
    path = Path(mkdtemp(prefix=".vigil-backup-", dir=parent))
    try:
        yield path
    finally:
        for file in path.iterdir():
            file.unlink()
        with suppress(OSError):
            path.rmdir()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"{path} cannot be used: {error.strerror}. Mend it, or name another file") from None
    except apsw.Error as error:
        raise BackupError(f"The database cannot be copied: {error}. Try again, or check the disk") from None
