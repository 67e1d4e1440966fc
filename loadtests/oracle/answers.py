"""What one answer says about limits: whether the request was charged, and how its headers read (spec section 7).

Knows nothing of windows and of other requests.
"""

import re
from enum import IntEnum
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from vigil.loadtests.people.observation import ON_A_SESSION, SCOPES, Observation

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600}
_LIMIT = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour)", re.ASCII)
_RATE = re.compile(r'"(\w+)";r=(\d{1,9});t=(\d{1,9})', re.ASCII)
_POLICY = re.compile(r'"(\w+)";q=(\d{1,9});w=(\d{1,9})', re.ASCII)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)

# Refused before limits are looked at, and so charged nowhere, whatever they carry.
_BEFORE_LIMITS = frozenset({401, 403, 405, 431})
_BEFORE_LIMITS_OF_CREATE = _BEFORE_LIMITS | {400, 404, 413, 415}
# Charged when the headers say so: a session that went while the request was under way, a broken session.
_GONE = frozenset({404, 410})
_UNSURE = frozenset({400, 408, 500, 502, 503, 504})


class Limit(NamedTuple):
    """So many requests in any window of so many seconds."""

    requests: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read `60/minute`. Raises ValueError for anything else."""
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not a limit: write COUNT/second, COUNT/minute or COUNT/hour")
        return cls(int(match[1]), _UNITS_S[match[2]])

    def __str__(self) -> str:
        unit = _UNIT_NAMES.get(self.window_s)
        return f"{self.requests}/{unit}" if unit else f"{self.requests} in {self.window_s} s"

    @property
    def window(self) -> str:
        """The window in words: `one minute`."""
        unit = _UNIT_NAMES.get(self.window_s)
        return f"one {unit}" if unit else f"{self.window_s} s"


class Standing(IntEnum):
    """What became of a request at the limits."""

    FREE = 0  # counts for nothing
    ADMITTED = 1
    MAYBE = 2  # admitted or not: no answer, or one that does not tell
    REFUSED = 3


class Rate(NamedTuple):
    """`r` and `t` of one limit in a RateLimit header."""

    remaining: int
    reset_s: int


def standing(seen: Observation) -> Standing:
    """Whether a request was charged, as the order of checks says (spec sections 6 and 7)."""
    is_create = seen.operation == "create"
    if not is_create and seen.operation not in ON_A_SESSION:
        return Standing.FREE
    if seen.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Standing.REFUSED
    if seen.status == 0 or seen.received_s is None:
        return Standing.MAYBE
    if seen.status in (_BEFORE_LIMITS_OF_CREATE if is_create else _BEFORE_LIMITS):
        return Standing.FREE
    return Standing.ADMITTED if seen.rate_limit else _unnamed(seen)


def rates(header: str) -> dict[str, Rate] | None:
    """Read a RateLimit header, {} for none. None when it cannot be read."""
    found = _RATE.findall(header)
    return {name: Rate(int(r), int(t)) for name, r, t in found} if _is_whole(header, found) else None


@lru_cache(maxsize=256)
def policies(header: str) -> dict[str, Limit] | None:
    """Read a RateLimit-Policy header, {} for none. None when it cannot be read. The result is shared: read only."""
    found = _POLICY.findall(header)
    return {name: Limit(int(q), int(w)) for name, q, w in found} if _is_whole(header, found) else None


def seconds(header: str) -> int | None:
    """Read a Retry-After header in whole seconds. None when it is absent or is something else."""
    return int(header) if _SECONDS.fullmatch(header) else None


def scopes_of(seen: Observation) -> tuple[str, ...]:
    """The limits that a request counts for, and that its headers name."""
    return SCOPES[1:] if seen.operation == "create" else SCOPES


_UNIT_NAMES = {seconds: name for name, seconds in _UNITS_S.items()}


def _unnamed(seen: Observation) -> Standing:
    """Of an answer without RateLimit."""
    if seen.status in _GONE or (seen.operation == "end" and seen.status == HTTPStatus.OK):
        return Standing.FREE  # there was no live session; DELETE takes away what is left of an expired one
    return Standing.MAYBE if seen.status in _UNSURE else Standing.ADMITTED


def _is_whole(header: str, found: list[tuple[str, str, str]]) -> bool:
    return len(found) == (header.count(",") + 1 if header else 0)
