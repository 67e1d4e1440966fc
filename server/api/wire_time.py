"""Times as the API writes them: ISO-8601 UTC with milliseconds. It knows no clock."""

from datetime import datetime, timedelta
from functools import lru_cache

_MILLISECONDS = [f".{n:03d}Z" for n in range(1000)]
_EPOCH = datetime(1970, 1, 1)  # UTC throughout: the Z is written by hand


def iso(ms: int) -> str:
    """Milliseconds since the epoch as `2026-11-22T09:00:00.000Z`.

    Raises OverflowError outside the years 1 to 9999.
    """
    second, millisecond = divmod(ms, 1000)
    return _to_the_second(second) + _MILLISECONDS[millisecond]


def epoch_ms(text: str) -> int:
    """The inverse of `iso`."""
    since = datetime.fromisoformat(text.removesuffix("Z")) - _EPOCH
    return since // timedelta(milliseconds=1)


@lru_cache(maxsize=8192)
def _to_the_second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).isoformat()
