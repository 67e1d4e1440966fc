"""The RateLimit header lines of an answer, made of the quotas its request was charged to. Counts nothing itself."""

from collections.abc import Sequence
from functools import lru_cache

from vigil.actors.core.quotas import Limit, Quota, Scope

_SCOPES: tuple[Scope, ...] = ("session", "user", "agent")  # in the order in which they are charged


def lines(quotas: Sequence[Quota]) -> str:
    """`RateLimit-Policy` and `RateLimit`, each with its CRLF."""
    policy = _policy(*[limit for _, limit, _, _ in quotas])
    return f"RateLimit-Policy: {policy}\r\nRateLimit: {_rates(quotas)}\r\n"


@lru_cache(maxsize=1024)
def _policy(*limits: Limit) -> str:
    """Of the user's and the agent's limit, after the session's where one was charged."""
    named = zip(_SCOPES[-len(limits) :], limits, strict=True)
    return ", ".join(f'"{scope}";q={limit.requests};w={limit.window_s}' for scope, limit in named)


def _rates(quotas: Sequence[Quota]) -> str:
    return ", ".join(
        [f'"{scope}";r={remaining};t={-(-reset_ms // 1000)}' for scope, _, remaining, reset_ms in quotas]
    )
