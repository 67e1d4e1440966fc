"""The keys of a data directory as lines for a person. It knows no key in clear."""

from datetime import UTC, datetime
from pathlib import Path

from vigil.server.ops.keys import ApiKey, read_keys


def keys_table(data_dir: Path, now: datetime) -> str:
    """The keys for people to read: names, scopes, dates, never a key. Raises KeysError or DataDirError."""
    rows = [
        (key.name, " ".join(key.scopes), key.created.isoformat(), _until(key, now))
        for key in read_keys(data_dir)
    ]
    if not rows:
        return f"There are no keys in {data_dir}. Make one: vigil keys new NAME --scope sessions:read"
    rows.insert(0, ("NAME", "SCOPES", "CREATED", "EXPIRES"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _until(key: ApiKey, now: datetime) -> str:
    """When it expires, and until when the one before a rotation is good."""
    expires = "never" if key.expires is None else "has expired" if key.expires <= now else shown(key.expires)
    before = [shown(one.expires) for one in key.before if one.expires > now]
    return f"{expires} (the one before: {max(before)})" if before else expires


def shown(instant: datetime) -> str:
    """`2026-11-22 09:00Z`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
