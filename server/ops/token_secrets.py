"""The secret that signs session tokens, made anew, with those before it good for a while (spec section 6).

Owns DATA_DIR/secret.before, and when a running server learns of a rotation. Knows nothing of sessions.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import trio
from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints, ValidationError

from vigil.server.ops.data_dir import (
    SECRET_BYTES,
    SECRETS_BEFORE,
    DataDirError,
    locked,
    open_data_dir,
    read_file,
    session_secret,
    write_file,
)

KEEP_DEFAULT = timedelta(
    hours=72
)  # no session lives longer: those that are live now keep their tokens to the end

_LOOK_AGAIN_S = 0.5


class Before(BaseModel):
    """A secret that was rotated away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: Annotated[str, StringConstraints(pattern=f"^[0-9a-f]{{{2 * SECRET_BYTES}}}$")]
    until: AwareDatetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    before: tuple[Before, ...]


def rotate_secret(
    data_dir: Path, *, keep: timedelta, now: datetime, random_bytes: Callable[[int], bytes]
) -> datetime:
    """Sign with a new secret; what the one before has signed is good until the instant given. Raises DataDirError."""
    open_data_dir(data_dir)
    old = session_secret(data_dir, random_bytes)
    until = now + keep
    with locked(data_dir):
        kept = (*_read(data_dir), Before(secret=old.hex(), until=until))
        shortened = [one.model_copy(update={"until": min(one.until, until)}) for one in kept]
        content = _File(before=tuple(one for one in shortened if one.until > now))
        # In this order: a crash between the two leaves tokens as they were.
        write_file(data_dir / SECRETS_BEFORE, f"{content.model_dump_json(indent=2)}\n".encode())
        write_file(data_dir / "secret", random_bytes(SECRET_BYTES))
    return until


def secrets_in_force(data_dir: Path, now: datetime) -> list[bytes]:
    """The one that signs, then those before it that are still good. Raises DataDirError."""
    secret = read_file(data_dir / "secret")
    if secret is None or len(secret) != SECRET_BYTES:
        raise DataDirError(f"{data_dir / 'secret'} is missing or broken. Restore it from a backup")
    return [secret, *(bytes.fromhex(one.secret) for one in reversed(_read(data_dir)) if one.until > now)]


async def follow(
    data_dir: Path,
    use: Callable[..., object],
    *,
    warn: Callable[[str], object],
    now: Callable[[], datetime],
) -> None:
    """Look twice a second, and hand on what has changed. Files that are bad leave what was, with one warning."""
    known: Sequence[bytes] = ()
    warned_of = ""
    while True:
        try:
            secrets = secrets_in_force(data_dir, now())
            warned_of = ""
        except DataDirError as error:
            if str(error) != warned_of:
                warned_of = str(error)
                warn(f"The token secrets stay as they were: {error}")
        else:
            if secrets != known:
                known = secrets
                use(*secrets)
        await trio.sleep(_LOOK_AGAIN_S)


def _read(data_dir: Path) -> tuple[Before, ...]:
    path = data_dir / SECRETS_BEFORE
    content = read_file(path)
    if content is None:
        return ()
    try:
        return _File.model_validate_json(content).before
    except ValidationError:
        raise DataDirError(
            f"{path} is broken. Restore it from a backup, or delete it: tokens that were signed before the last "
            "rotation then stop working"
        ) from None
