"""Limits, where a window stands, and what a refusal says: the values of rate limiting (spec section 7).

Counting is the limiter's (`actors.limits`).
"""

import re
from typing import Literal, NamedTuple

Scope = Literal["session", "user", "agent"]

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600}
_UNIT_NAMES = {seconds: name for name, seconds in _UNITS_S.items()}
_LIMIT = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour)", re.ASCII)


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
        """`60/minute`, as `parse` reads it."""
        return f"{self.requests}/{_UNIT_NAMES[self.window_s]}"

    @property
    def window_ms(self) -> int:
        return self.window_s * 1000


class Quota(NamedTuple):
    """Where one window stands: `remaining` more fit, and `reset_ms` from now one more will."""

    scope: Scope
    limit: Limit
    remaining: int
    reset_ms: int


class Refused(NamedTuple):
    """The full window with the longest wait; `quotas` are all three as they stand."""

    scope: Scope
    limit: int
    window_s: int
    wait_ms: int
    quotas: tuple[Quota, ...]
