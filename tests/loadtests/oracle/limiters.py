"""Limiters that are exact, and limiters that are wrong in one way each: what the oracle must tell apart.

Pure and in memory: `Limiter(...).admit(now_s, session, user, agent)` decides at one instant. Shares no code with
`actors`, so the oracle is tested against a second reading of the specification.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.people.observation import SCOPES, Scope


class Quota(NamedTuple):
    """One limit as the headers tell it."""

    scope: Scope
    limit: Limit
    remaining: int
    reset_ms: int


class Decision(NamedTuple):
    """`scope` names the refusing limit, "" when admitted; `retry_after_s` and `wait_ms` are 0 then."""

    admitted: bool
    quotas: tuple[Quota, ...]
    scope: str = ""
    wait_ms: int = 0
    retry_after_s: int = 0

    @property
    def rate_limit(self) -> str:
        return ", ".join(
            f'"{each.scope}";r={each.remaining};t={_seconds(each.reset_ms)}' for each in self.quotas
        )

    @property
    def policy(self) -> str:
        return ", ".join(
            f'"{each.scope}";q={each.limit.requests};w={each.limit.window_s}' for each in self.quotas
        )


class Meter(Protocol):
    """How one subject's requests are counted. Instants and waits are whole milliseconds."""

    def __init__(self, limit: Limit) -> None: ...

    def wait_ms(self, now: int) -> int:
        """0 when one more fits, else how long until one does."""

    def charge(self, now: int) -> None: ...

    def standing(self, now: int) -> tuple[int, int]:
        """How many more fit, and how long until that grows."""


class SlidingLog:
    """The exact one: the instants of what was admitted."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._admitted: deque[int] = deque()

    def wait_ms(self, now: int) -> int:
        self._forget(now)
        if len(self._admitted) < self._limit.requests:
            return 0
        return self._admitted[-self._limit.requests] + self._limit.window_s * 1000 - now

    def charge(self, now: int) -> None:
        self._admitted.append(now)

    def standing(self, now: int) -> tuple[int, int]:
        self._forget(now)
        reset = self._admitted[0] + self._limit.window_s * 1000 - now if self._admitted else 0
        return max(0, self._limit.requests - len(self._admitted)), reset

    def _forget(self, now: int) -> None:
        while self._admitted and self._admitted[0] <= now - self._limit.window_s * 1000:
            self._admitted.popleft()


class FixedWindow:
    """Counts anew in each minute or hour of the clock: 120 a minute around the turn of one."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._window = -1
        self._count = 0

    def wait_ms(self, now: int) -> int:
        self._turn(now)
        return 0 if self._count < self._limit.requests else self._rest_ms(now)

    def charge(self, now: int) -> None:
        self._turn(now)
        self._count += 1

    def standing(self, now: int) -> tuple[int, int]:
        self._turn(now)
        return self._limit.requests - self._count, self._rest_ms(now)

    def _turn(self, now: int) -> None:
        window = now // (self._limit.window_s * 1000)
        if window != self._window:
            self._window, self._count = window, 0

    def _rest_ms(self, now: int) -> int:
        length = self._limit.window_s * 1000
        return length - now % length


class SlidingCounter:
    """Weighs the count of the last window by what of it is still in reach, as if it had come evenly."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._counts: defaultdict[int, int] = defaultdict(int)

    def wait_ms(self, now: int) -> int:
        if self._room(now) >= 1:
            return 0
        for later in range(now + 1000, now + 3000 * self._limit.window_s, 1000):
            if self._room(later) >= 1:
                return later - now
        raise AssertionError("a counter empties within two windows")

    def charge(self, now: int) -> None:
        self._counts[now // (self._limit.window_s * 1000)] += 1

    def standing(self, now: int) -> tuple[int, int]:
        return max(0, int(self._room(now))), 1000

    def _room(self, now: int) -> float:
        window, into = divmod(now, self._limit.window_s * 1000)
        weight = 1 - into / (self._limit.window_s * 1000)
        return self._limit.requests - self._counts[window] - self._counts[window - 1] * weight


class Gcra:
    """The generic cell rate algorithm with a burst of the whole limit: a bucket that drips one by one."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._every_ms = limit.window_s * 1000 / limit.requests
        self._theoretical = 0.0

    def wait_ms(self, now: int) -> int:
        return max(0, -int(-(self._theoretical - self._burst_ms() - now) // 1))

    def charge(self, now: int) -> None:
        self._theoretical = max(self._theoretical, now) + self._every_ms

    def standing(self, now: int) -> tuple[int, int]:
        ahead = max(0.0, self._theoretical - now)
        return int((self._limit.window_s * 1000 - ahead) // self._every_ms), int(self._every_ms)

    def _burst_ms(self) -> float:
        return self._every_ms * (self._limit.requests - 1)


class Limiter:
    """Three limits, all or none. Keeps `kept`, and says in its headers that it keeps `said`."""

    def __init__(
        self,
        kept: Limits,
        *,
        said: Limits | None = None,
        meter: Callable[[Limit], Meter] = SlidingLog,
        retry_off_s: int = 0,
    ) -> None:
        self._kept = kept
        self._said = said or kept
        self._meter = meter
        self._retry_off_s = retry_off_s
        self._meters: tuple[dict[str, Meter], ...] = ({}, {}, {})

    def admit(self, now_s: float, session: str | None, user: str, agent: str) -> Decision:
        """Decide on one request; `session` is None for a create."""
        now = round(now_s * 1000)
        asked = [(place, name) for place, name in enumerate((session, user, agent)) if name is not None]
        meters = [(place, self._of(place, name)) for place, name in asked]
        waits = {place: meter.wait_ms(now) for place, meter in meters}
        longest = max(waits, key=waits.__getitem__)
        if waits[longest] > 0:
            wait_ms = max(0, waits[longest] + 1000 * self._retry_off_s)
            return Decision(False, self._quotas(now, meters), SCOPES[longest], wait_ms, _seconds(wait_ms))
        for _, meter in meters:
            meter.charge(now)
        return Decision(True, self._quotas(now, meters))

    def _of(self, place: int, name: str) -> Meter:
        meters = self._meters[place]
        if name not in meters:
            meters[name] = self._meter(self._kept[place])
        return meters[name]

    def _quotas(self, now: int, meters: Iterable[tuple[int, Meter]]) -> tuple[Quota, ...]:
        return tuple(self._quota(now, place, meter) for place, meter in meters)

    def _quota(self, now: int, place: int, meter: Meter) -> Quota:
        remaining, reset_ms = meter.standing(now)
        short = self._said[place].requests - self._kept[place].requests
        return Quota(SCOPES[place], self._said[place], max(0, remaining + short), reset_ms)


class Fault(NamedTuple):
    """One way to be wrong: what the limiter does instead of what it says, and the limit that the oracle must name."""

    make: Callable[[Limits], Limiter]
    names: Scope


def off_by(scope: Scope, requests: int) -> Fault:
    """A limiter that says one thing, and keeps `requests` more for one limit."""

    def make(limits: Limits) -> Limiter:
        limit = getattr(limits, scope)
        kept = limits._replace(**{scope: limit._replace(requests=limit.requests + requests)})
        return Limiter(kept, said=limits)

    return Fault(make, scope)


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "61/minute": off_by("session", 1),
        "59/minute": off_by("session", -1),
        "1001/hour": off_by("user", 1),
        "999/hour": off_by("user", -1),
        "5001/hour": off_by("agent", 1),
        "4999/hour": off_by("agent", -1),
        "fixed window": Fault(lambda limits: Limiter(limits, meter=FixedWindow), "session"),
        "sliding counter": Fault(lambda limits: Limiter(limits, meter=SlidingCounter), "session"),
        "gcra": Fault(lambda limits: Limiter(limits, meter=Gcra), "session"),
        "Retry-After short": Fault(lambda limits: Limiter(limits, retry_off_s=-1), "session"),
        "Retry-After long": Fault(lambda limits: Limiter(limits, retry_off_s=1), "session"),
    }
)


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)
