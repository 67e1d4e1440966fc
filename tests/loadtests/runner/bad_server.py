"""`vigil serve` with a limiter that is wrong in one way: what a load test must be able to catch.

    python -m tests.loadtests.runner.bad_server FAULT FLAG ...

FAULT is a key of `limiters.FAULTS`; the flags are those of `vigil serve`, and say what the server claims to keep.
"""

import sys
from collections.abc import Callable, Iterable, Mapping

import vigil.__main__ as vigil
from tests.loadtests.oracle import limiters
from vigil.actors.core.errors import RateLimited
from vigil.actors.core.quotas import Limit, Quota, Refused
from vigil.actors.limits.limiter import LimitStats
from vigil.actors.stores.base import SaveWindow
from vigil.loadtests.oracle import answers as oracle_answers
from vigil.loadtests.oracle import findings as oracle_tally
from vigil.server.ops import site


class WrongLimits:
    """Stands in for `actors.limits.limiter.Limits`. Keeps nothing over a restart."""

    make: Callable[[oracle_tally.Limits], limiters.Limiter]

    def __init__(self, session: Limit, user: Limit, agent: Limit, _: Mapping[str, object]) -> None:
        said = (oracle_answers.Limit(*limit) for limit in (session, user, agent))
        self._limiter = type(self).make(oracle_tally.Limits(*said))

    def admit(
        self, now: int, user_id: str, agent_id: str, session_id: str | None = None
    ) -> tuple[Quota, ...]:
        decision = self._limiter.admit(now / 1000, session_id, user_id, agent_id)
        quotas = tuple(
            Quota(quota.scope, Limit(*quota.limit), quota.remaining, quota.reset_ms)
            for quota in decision.quotas
        )
        if decision.admitted:
            return quotas
        limit = next(quota.limit for quota in quotas if quota.scope == decision.scope)
        scope = next(quota.scope for quota in quotas if quota.scope == decision.scope)
        raise RateLimited(Refused(scope, limit.requests, limit.window_s, decision.wait_ms, quotas))

    def drop_session(self, session_id: str) -> None: ...

    def forget_empty(self, now: int) -> None: ...

    def saved(self) -> list[SaveWindow]:
        return []

    def restore(self, windows: Iterable[SaveWindow], agent_of: Callable[[str], str | None]) -> None: ...

    def statistics(self) -> LimitStats:
        return LimitStats(0, {}, 0)


if __name__ == "__main__":
    WrongLimits.make = staticmethod(limiters.FAULTS[sys.argv[1]].make)
    site.Limits = WrongLimits  # type: ignore[attr-defined, assignment]
    sys.exit(vigil.main(["serve", *sys.argv[2:]]))
