"""API keys (spec section 6): kept hashed in DATA_DIR/keys.json, found by hash, re-read when the file changes.

Owns keys.json and api-key. Knows nothing of requests or of session tokens. A key in clear is given back once,
by the function that makes it, and is in no error.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from vigil.actors.core.errors import VigilError
from vigil.actors.core.suggestion import did_you_mean
from vigil.server.api.auth import SCOPES, Principal, Scope
from vigil.server.ops.data_dir import (
    DataDirError,
    locked,
    open_data_dir,
    read_file,
    remove_file,
    write_file,
)

ENVIRONMENT_KEY = "VIGIL_API_KEY"
DEFAULT_KEY = "default"
KEY_PREFIX = "vigil_"

_LOOK_AGAIN_S = 0.5  # spec section 6: re-read within a second of a change
_NEVER = datetime.max.replace(tzinfo=UTC)
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class KeysError(VigilError):
    """Something about keys cannot be done; the text says why and what to do, in one line."""


class BrokenKeysFile(KeysError):
    """keys.json is not what Vigil wrote."""

    example = """\
{"keys": [{"name": "chat-window", "scopes": ["sessions:create", "sessions:write"],
           "sha256": "THE 64 HEXADECIMAL DIGITS OF THE KEY'S SHA-256", "created": "2026-11-22"}]}
Restore it from a backup; or move it away, and make the keys anew: vigil keys new NAME --scope SCOPE"""


Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Retired(BaseModel):
    """What a key was before `rotate_key`: good for a while."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Digest
    expires: AwareDatetime


class ApiKey(BaseModel):
    """One key as keys.json has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
    scopes: tuple[Scope, ...]
    sha256: Digest
    created: date
    expires: AwareDatetime | None = None
    id: Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")] | None = (
        None  # of one that was rotated: as before
    )
    before: tuple[Retired, ...] = ()


class _Credential(NamedTuple):
    """One of a key's hashes, whose it is and until when."""

    digest: bytes
    principal: Principal
    expires: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class KeyRing:
    """The keys in force: those of keys.json, and `environment_key`, which has all scopes.

    `monotonic` tells seconds and paces the looks at the file, `now` decides what has expired. `warn` is told,
    once, of a file that went bad: the last good keys then stay in force. A file that was deleted holds no keys.
    Raises KeysError or DataDirError when the first reading fails.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        monotonic: Callable[[], float],
        warn: Callable[[str], object],
        environment_key: str | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._data_dir = data_dir
        self._now = now
        self._monotonic = monotonic
        self._warn = warn
        self._fixed = _environment_principal(environment_key)
        self._stamp = _stamp(keys_file(data_dir))
        self._look_at = monotonic() + _LOOK_AGAIN_S
        self._use(read_keys(data_dir))

    def find(self, presented: str) -> Principal | None:
        """Whose key this is. `presented` is ASCII.

        What is compared is a hash, so how long it takes tells nothing about how much of a guess is right.
        """
        if self._monotonic() >= self._look_at:
            self._look()
        return self._seen.get(presented) or self._find_hashed(presented)

    def _find_hashed(self, presented: str) -> Principal | None:
        found = self._by_hash.get(sha256(presented.encode()).digest())
        if found is not None:
            self._seen[presented] = found  # no more of them than there are keys
        return found

    def in_force(self, principal: Principal) -> bool:
        """Whether one who was let in earlier still would be: no longer if the key or its scopes changed."""
        if principal.session_id is not None:
            return True
        if self._monotonic() >= self._look_at:
            self._look()
        return principal in self._in_force

    def _look(self) -> None:
        """Read the file again if it is not as it was."""
        self._look_at = self._monotonic() + _LOOK_AGAIN_S
        if _stamp(keys_file(self._data_dir)) != self._stamp:
            self.reread()
        elif self._now() >= self._next_expiry:
            self._use(self._keys)

    def reread(self) -> None:
        """Read the file, whether it has changed or not."""
        self._stamp = _stamp(keys_file(self._data_dir))
        try:
            self._use(_keys_in(self._data_dir))
        except (KeysError, DataDirError) as error:
            self._warn(f"The API keys stay as they were: {error}")

    def _use(self, keys: Sequence[ApiKey]) -> None:
        now = self._now()
        good = [one for key in keys for one in _credentials(key) if one.expires > now]
        self._keys = keys
        self._next_expiry = min((one.expires for one in good), default=_NEVER)
        self._by_hash = {one.digest: one.principal for one in good} | self._fixed
        self._seen: dict[str, Principal] = {}
        self._in_force = frozenset(self._by_hash.values())


def _keys_in(data_dir: Path) -> tuple[ApiKey, ...]:
    """`read_keys`. A directory without its file has no keys; one that is gone is an accident."""
    if not data_dir.is_dir():
        raise KeysError(f"the directory {data_dir} is not there")
    return read_keys(data_dir)


def keys_file(data_dir: Path) -> Path:
    return data_dir / "keys.json"


def clear_key_file(data_dir: Path) -> Path:
    """Where the key that `vigil serve` made itself stands in clear."""
    return data_dir / "api-key"


def read_keys(data_dir: Path) -> tuple[ApiKey, ...]:
    """All keys, oldest first; none when there is no file. Raises KeysError or DataDirError."""
    content = read_file(keys_file(data_dir))
    if content is None:
        return ()
    try:
        keys = _File.model_validate_json(content).keys
    except ValidationError as error:
        raise BrokenKeysFile(f"{keys_file(data_dir)} is broken: {_first_fault(error)}") from None
    if len({key.name for key in keys}) < len(keys):
        raise BrokenKeysFile(f"{keys_file(data_dir)} is broken: two keys have the same name")
    return keys


def new_key(
    data_dir: Path,
    name: str,
    scopes: Iterable[str],
    *,
    created: date,
    random_bytes: Callable[[int], bytes],
    expires: datetime | None = None,
) -> str:
    """Make and register a key, and give it in clear: it is kept nowhere. Raises KeysError or DataDirError."""
    _check_name(name)
    granted = _check_scopes(scopes)
    open_data_dir(data_dir)
    with locked(data_dir):
        keys = read_keys(data_dir)
        if any(key.name == name for key in keys):
            raise KeysError(f"There is a key {name!r} already. Choose another name, or revoke that one first")
        clear = _random_key(random_bytes)
        _write_keys(data_dir, (*keys, _api_key(name, granted, clear, created, expires)))
    return clear


def rotate_key(
    data_dir: Path,
    name: str,
    *,
    keep: timedelta,
    now: datetime,
    random_bytes: Callable[[int], bytes],
    expires: datetime | None = None,
) -> str:
    """Give the key anew, in clear, with the same name, scopes and idempotency keys. The one before is good for `keep`.

    `expires` replaces the key's own expiry. Raises KeysError or DataDirError.
    """
    with locked(data_dir):
        keys = read_keys(data_dir)
        old = _named(keys, name, data_dir)
        if expires is None and old.expires is not None and old.expires <= now:
            raise KeysError(
                f"The key {name!r} has expired. Say for how long the new one is good: --expires 90d"
            )
        clear = _random_key(random_bytes)
        new = old.model_copy(
            update={
                "sha256": sha256(clear.encode()).hexdigest(),
                "created": now.date(),
                "expires": expires or old.expires,
                "id": old.id or _id_of(old.sha256),
                "before": _retired(old, now + keep, now),
            }
        )
        if name == DEFAULT_KEY and clear_key_file(data_dir).exists():
            write_file(clear_key_file(data_dir), f"{clear}\n".encode())
        _write_keys(data_dir, tuple(new if key is old else key for key in keys))
    return clear


def _retired(old: ApiKey, until: datetime, now: datetime) -> tuple[Retired, ...]:
    """What is still good of the key as it was, and for how long."""
    last = min(until, old.expires or _NEVER)
    everything = (*old.before, Retired(sha256=old.sha256, expires=last))
    return tuple(
        one.model_copy(update={"expires": min(one.expires, until)})
        for one in everything
        if last > now < one.expires
    )


def revoke_key(data_dir: Path, name: str) -> None:
    """Remove a key: running servers refuse it within a second. Raises KeysError or DataDirError."""
    with locked(data_dir):
        keys = read_keys(data_dir)
        gone = _named(keys, name, data_dir)
        _write_keys(data_dir, tuple(key for key in keys if key is not gone))
        if name == DEFAULT_KEY:
            remove_file(clear_key_file(data_dir))


def _named(keys: Iterable[ApiKey], name: str, data_dir: Path) -> ApiKey:
    by_name = {key.name: key for key in keys}
    if name == ENVIRONMENT_KEY:
        raise KeysError(
            f"{ENVIRONMENT_KEY} comes from the server's environment: change it there, and restart"
        )
    if name not in by_name:
        near = did_you_mean(name, by_name) or ". See: vigil keys list"
        raise KeysError(f"There is no key {name!r} in {keys_file(data_dir)}{near}")
    return by_name[name]


def ensure_default_key(data_dir: Path, *, created: date, random_bytes: Callable[[int], bytes]) -> None:
    """Without any key, make `default` with all scopes, in clear in DATA_DIR/api-key.

    For a server without an environment key. Raises KeysError or DataDirError.
    """
    with locked(data_dir):
        if read_keys(data_dir):
            return
        clear = _random_key(random_bytes)
        # In this order: a crash between the two leaves a key that opens nothing, not one that nobody has.
        write_file(clear_key_file(data_dir), f"{clear}\n".encode())
        _write_keys(data_dir, (_api_key(DEFAULT_KEY, SCOPES, clear, created),))


def has_clear_key(data_dir: Path) -> bool:
    """Whether DATA_DIR/api-key is there and in force. Raises KeysError or DataDirError."""
    clear = read_file(clear_key_file(data_dir))
    return clear is not None and sha256(clear.strip()).hexdigest() in {
        key.sha256 for key in read_keys(data_dir)
    }


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[ApiKey, ...]


def _credentials(key: ApiKey) -> Iterator[_Credential]:
    """The key as it is, and as it was before it was rotated: one caller, by two credentials."""
    identity, scopes = key.id or _id_of(key.sha256), frozenset(key.scopes)
    for digest, expires in ((key.sha256, key.expires), *((one.sha256, one.expires) for one in key.before)):
        principal = Principal(identity, key.name, scopes, credential=_id_of(digest))
        yield _Credential(bytes.fromhex(digest), principal, expires or _NEVER)


def _id_of(digest: str) -> str:
    return digest[:16]


def _environment_principal(clear: str | None) -> dict[bytes, Principal]:
    if clear is None:
        return {}
    digest = sha256(clear.encode())
    return {digest.digest(): Principal(digest.hexdigest()[:16], ENVIRONMENT_KEY, frozenset(SCOPES))}


def _random_key(random_bytes: Callable[[int], bytes]) -> str:
    return KEY_PREFIX + urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()


def _api_key(
    name: str, scopes: Sequence[Scope], clear: str, created: date, expires: datetime | None = None
) -> ApiKey:
    digest = sha256(clear.encode()).hexdigest()
    return ApiKey(name=name, scopes=tuple(scopes), sha256=digest, created=created, expires=expires)


def _write_keys(data_dir: Path, keys: tuple[ApiKey, ...]) -> None:
    """What is not said of a key is left out: an older server reads the rest."""
    content = _File(keys=keys).model_dump_json(indent=2, exclude_defaults=True)
    write_file(keys_file(data_dir), f"{content}\n".encode())


def _check_name(name: str) -> None:
    if name == ENVIRONMENT_KEY or re.fullmatch(_NAME, name, re.ASCII) is None:
        raise KeysError(
            f"{name!r} cannot name a key. A name is 1 to 64 letters, digits, '.', '_' or '-', the first a "
            f"letter or digit, and not {ENVIRONMENT_KEY}"
        )


def _check_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes in their usual order, each once."""
    asked = set(scopes)
    unknown = sorted(asked.difference(SCOPES))
    if unknown:
        near = did_you_mean(unknown[0], SCOPES)
        raise KeysError(f"There is no scope {unknown[0]!r}. The scopes are {', '.join(SCOPES)}{near}")
    if not asked:
        raise KeysError(f"A key needs a scope. The scopes are {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in asked)


def _stamp(path: Path) -> tuple[int, ...]:
    """Tells one state of the file from another. The ctime sees a chmod, and a copy that kept its mtime."""
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _first_fault(error: ValidationError) -> str:
    """Where and what, without the value."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
