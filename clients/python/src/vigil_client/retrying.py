"""When a failed call is worth another try, and after how long. Pure: it sleeps not and sends nothing."""

import random
from dataclasses import dataclass

from vigil_client.errors import (
    ApiError,
    GatewayFailed,
    IdempotencyConflict,
    NoAnswer,
    Overloaded,
    RateLimited,
    StoreUnavailable,
    VigilError,
)

_PASSING = (NoAnswer, RateLimited, Overloaded, StoreUnavailable, IdempotencyConflict)
_GATEWAY_STATUSES = frozenset({502, 503, 504})
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Retrying:
    """At most so many further tries, waiting at most so long in all."""

    retries: int = 3
    max_wait_s: float = 30.0


class Attempts:
    """The tries of one call."""

    def __init__(self, retrying: Retrying) -> None:
        self._retrying = retrying
        self._failed = 0
        self._waited_s = 0.0
        self._unanswered = False

    def pause_after(self, error: VigilError) -> float:
        """Seconds to wait before the next try. Raises the error itself when there is to be none."""
        error.is_repeat = self._unanswered
        self._unanswered = self._unanswered or isinstance(error, NoAnswer)
        pause_s = _asked_for(error) or backoff_s(self._failed)
        self._failed += 1
        self._waited_s += pause_s
        is_spent = self._failed > self._retrying.retries or self._waited_s > self._retrying.max_wait_s
        if is_spent or not is_passing(error):
            raise error
        return pause_s


def is_passing(error: VigilError) -> bool:
    """Whether the same call may fare better later."""
    if isinstance(error, GatewayFailed):
        return error.status in _GATEWAY_STATUSES
    return isinstance(error, _PASSING)


def backoff_s(failed: int) -> float:
    """Twice as long each time, and never the same for two clients that failed together."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failed, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  no secret


def _asked_for(error: VigilError) -> float | None:
    return error.retry_after_s if isinstance(error, ApiError) else None
