"""What a server needs of the machine it runs on: descriptors, a clock, a disk that is quick, roomy and private.

Each check gives findings and changes nothing but a file of its own, which it removes. It talks to no server.
"""

import ctypes
import os
import resource
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from vigil.actors.agents import catalogue
from vigil.actors.agents.catalogue import CatalogueError
from vigil.server.doctor.findings import Finding, broken, good, warning
from vigil.server.ops.keys import KeysError, read_keys
from vigil.server.settings.settings import Settings

_DESCRIPTORS_FEW = 4096
_FSYNCS = 20
_FSYNC_SLOW_MS = 20.0
_ROOM_BROKEN, _ROOM_LOW = 64 * 1024**2, 1024**3
_YEAR_LEAST, _YEAR_MOST = 2025, 2100
_NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex
_TIMEX_BYTES = 512


def findings(settings: Settings) -> Iterator[Finding]:
    yield _descriptors()
    yield _clock(datetime.now(UTC).year, _adjtimex())
    directory = _existing(settings.data_dir)
    yield _room(directory, shutil.disk_usage(directory).free)
    yield _fsync(directory)
    yield from _permissions(settings.data_dir)
    yield _agents(settings)
    yield _keys(settings)


def _descriptors() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = f"{hard} at most, one for each connection"
    if hard == resource.RLIM_INFINITY or hard >= _DESCRIPTORS_FEW:
        return good("descriptors", seen)
    return warning("descriptors", seen, "raise the limit: ulimit -n 65536, or LimitNOFILE=65536 in the unit")


def _clock(year: int, state: int | None) -> Finding:
    if not _YEAR_LEAST <= year <= _YEAR_MOST:
        return broken(
            "clock", f"it is the year {year}", "set the clock before the server starts: docs/operating.md"
        )
    if state == _NOT_SYNCHRONISED:
        return warning(
            "clock", "not synchronised", "run chrony or systemd-timesyncd; in a container, on its host"
        )
    return good("clock", "synchronised" if state is not None else "plausible")


def _adjtimex() -> int | None:
    """What the kernel says of its clock; None where it says nothing."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (AttributeError, OSError):
        return None
    return state if state >= 0 else None


def _existing(path: Path) -> Path:
    """The directory, or the nearest above it that is there."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.is_dir())


def _room(directory: Path, free: int) -> Finding:
    seen = f"{free // 1024**2:,} MiB free at {directory}"
    if free < _ROOM_BROKEN:
        return broken("disk room", seen, "make room: without it every message is answered 503")
    if free < _ROOM_LOW:
        return warning("disk room", seen, "make room, or move --data-dir to a larger disk")
    return good("disk room", seen)


def _fsync(directory: Path) -> Finding:
    try:
        took_ms = median(_fsyncs_ms(directory))
    except OSError as error:
        return broken(
            "disk", f"{directory} cannot be written: {error.strerror}", "mend it, or use another --data-dir"
        )
    seen = f"an fsync takes {took_ms:.1f} ms at {directory}"
    if took_ms > _FSYNC_SLOW_MS:
        return warning("disk", seen, "every message waits for one: use a local SSD, not a network disk")
    return good("disk", seen)


def _fsyncs_ms(directory: Path) -> Iterator[float]:
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(_FSYNCS):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            yield (time.perf_counter() - began) * 1000


def _permissions(data_dir: Path) -> Iterator[Finding]:
    if not data_dir.is_dir():
        yield good("data directory", f"{data_dir} is not there yet; the first start makes it")
        return
    files = [data_dir, *(path for path in data_dir.iterdir() if path.is_file())]
    states = {path: path.stat() for path in files}
    if foreign := [path for path, state in states.items() if state.st_uid != os.geteuid()]:
        advice = "run this as the user that runs the server, or give it the files: chown -R USER DIR"
        yield warning("data directory", f"{foreign[0]} belongs to another user", advice)
    if loose := [path for path, state in states.items() if stat.S_IMODE(state.st_mode) & 0o077]:
        advice = (
            f"chmod go-rwx {loose[0]} (the next start does it too); others may have read keys and messages"
        )
        yield warning("data directory", f"{loose[0]} can be read by others", advice)
    if not foreign and not loose:
        yield good("data directory", f"{data_dir} is for its owner alone")


def _agents(settings: Settings) -> Finding:
    if settings.agents is None:
        return warning("agents", "only the demo agent, an echo", "name a catalogue: --agents agents.yaml")
    try:
        return good("agents", "; ".join(catalogue.check(settings.agents, os.environ)))
    except CatalogueError as error:
        return broken(
            "agents", "; ".join(str(error).splitlines()), f"mend it: vigil agents check {settings.agents}"
        )


def _keys(settings: Settings) -> Finding:
    if settings.api_key is not None:
        return good("API keys", "VIGIL_API_KEY is set")
    try:
        keys = read_keys(settings.data_dir)
    except KeysError as error:
        return broken("API keys", str(error), "restore keys.json from a backup")
    now = datetime.now(UTC)
    expired = [key.name for key in keys if key.expires is not None and key.expires <= now]
    if expired:
        return warning(
            "API keys", f"{', '.join(expired)} have expired", "vigil keys rotate NAME --expires 90d"
        )
    return good("API keys", f"{len(keys)} in force" if keys else "none yet; the first start makes one")
