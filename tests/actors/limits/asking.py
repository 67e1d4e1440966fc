"""Limits and those who ask, for tests of the limiter."""

from typing import Any

import pytest

from vigil.actors.core.errors import RateLimited
from vigil.actors.core.quotas import Limit, Refused
from vigil.actors.limits.limiter import Limits

Asker = tuple[str, str, str | None]  # user, agent, session

T0 = 1_795_338_000_000


def next_empty_at(limits: Limits) -> int | None:
    """When `forget_empty` may next find something."""
    return limits._empty_at[0][0] if limits._empty_at else None


def plain(
    session: str = "60/minute", user: str = "1000/hour", agent: str = "5000/hour", **more: Any
) -> Limits:
    return Limits(Limit.parse(session), Limit.parse(user), Limit.parse(agent), **more)


def burst(limits: Limits, count: int, now: int = T0, asker: Asker = ("u", "a", "s")) -> None:
    for _ in range(count):
        limits.admit(now, *asker)


def refusal(limits: Limits, now: int, *asker: str | None) -> Refused:
    with pytest.raises(RateLimited) as caught:
        limits.admit(now, *asker)  # type: ignore[arg-type]
    return caught.value.refused
