"""API keys (spec section 6): kept hashed in DATA_DIR/keys.json, found by hash, re-read when the file changes.

Owns keys.json and api-key. Knows nothing of requests or of session tokens. A key in clear is given back once,
by the function that makes it, and is in no error.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

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
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class KeysError(VigilError):
    """Something about keys cannot be done; the text says why and what to do, in one line."""


class BrokenKeysFile(KeysError):
    """keys.json is not what Vigil wrote."""

    example = """\
{"keys": [{"name": "chat-window", "scopes": ["sessions:create", "sessions:write"],
           "sha256": "THE 64 HEXADECIMAL DIGITS OF THE KEY'S SHA-256", "created": "2026-11-22"}]}
Restore it from a backup; or move it away, and make the keys anew: vigil keys new NAME --scope SCOPE"""


class ApiKey(BaseModel):
    """One key as keys.json has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
    scopes: tuple[Scope, ...]
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    created: date


class KeyRing:
    """The keys in force: those of keys.json, and `environment_key`, which has all scopes.

    `monotonic` tells seconds and paces the looks at the file. `warn` is called once when a file has become bad:
    the last good keys then stay in force. A file that was deleted holds no keys. Raises KeysError or
    DataDirError when the first reading fails.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        monotonic: Callable[[], float],
        warn: Callable[[str], object],
        environment_key: str | None = None,
    ) -> None:
        self._data_dir = data_dir
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

    def reread(self) -> None:
        """Read the file, whether it has changed or not."""
        self._stamp = _stamp(keys_file(self._data_dir))
        try:
            self._use(_keys_in(self._data_dir))
        except (KeysError, DataDirError) as error:
            self._warn(f"The API keys stay as they were: {error}")

    def _use(self, keys: Iterable[ApiKey]) -> None:
        self._by_hash = {bytes.fromhex(key.sha256): _principal(key) for key in keys} | self._fixed
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
    data_dir: Path, name: str, scopes: Iterable[str], *, created: date, random_bytes: Callable[[int], bytes]
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
        _write_keys(data_dir, (*keys, _api_key(name, granted, clear, created)))
    return clear


def revoke_key(data_dir: Path, name: str) -> None:
    """Remove a key: running servers refuse it within a second. Raises KeysError or DataDirError."""
    with locked(data_dir):
        keys = read_keys(data_dir)
        rest = tuple(key for key in keys if key.name != name)
        if len(rest) == len(keys):
            near = did_you_mean(name, [key.name for key in keys]) or ". See: vigil keys list"
            raise KeysError(f"There is no key {name!r} in {keys_file(data_dir)}{near}")
        _write_keys(data_dir, rest)
        if name == DEFAULT_KEY:
            remove_file(clear_key_file(data_dir))


def keys_table(data_dir: Path) -> str:
    """The keys for people to read: names, scopes, dates, never a key. Raises KeysError or DataDirError."""
    rows = [(key.name, " ".join(key.scopes), key.created.isoformat()) for key in read_keys(data_dir)]
    if not rows:
        return f"There are no keys in {data_dir}. Make one: vigil keys new NAME --scope sessions:read"
    rows.insert(0, ("NAME", "SCOPES", "CREATED"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


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


def _principal(key: ApiKey) -> Principal:
    return Principal(key.sha256[:16], key.name, frozenset(key.scopes))


def _environment_principal(clear: str | None) -> dict[bytes, Principal]:
    if clear is None:
        return {}
    digest = sha256(clear.encode())
    return {digest.digest(): Principal(digest.hexdigest()[:16], ENVIRONMENT_KEY, frozenset(SCOPES))}


def _random_key(random_bytes: Callable[[int], bytes]) -> str:
    return KEY_PREFIX + urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()


def _api_key(name: str, scopes: Sequence[Scope], clear: str, created: date) -> ApiKey:
    return ApiKey(name=name, scopes=tuple(scopes), sha256=sha256(clear.encode()).hexdigest(), created=created)


def _write_keys(data_dir: Path, keys: tuple[ApiKey, ...]) -> None:
    write_file(keys_file(data_dir), f"{_File(keys=keys).model_dump_json(indent=2)}\n".encode())


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
