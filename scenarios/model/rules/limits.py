"""Rate limits as the contract tells them (spec section 7): windows as plain lists of instants.

A request whose session may or may not have lived when it came is a doubt in its windows until its answer tells.
"""

from bisect import insort
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import orjson

from vigil.scenarios.model.observed import Answered, Violation, Why

_REFUSED = 429

Scope = Literal["session", "user", "agent"]
Rate = tuple[int, int]  # requests, seconds


class Named(NamedTuple):
    """One window that a request counts for."""

    scope: Scope
    subject: str
    rate: Rate


class Doubt:
    """A request that may have been charged."""

    def __init__(self, at: int) -> None:
        self.at = at


class Window:
    def __init__(self) -> None:
        self.hits: deque[int] = deque()
        self.doubts: list[Doubt] = []

    def forget(self, until: int) -> None:
        """Everything at `until` or before counts no longer."""
        hits = self.hits
        while hits and hits[0] <= until:
            hits.popleft()
        if self.doubts:
            self.doubts = [doubt for doubt in self.doubts if doubt.at > until]


class Stand(NamedTuple):
    """A window just before a request: so many counted, so many doubts, and the oldest of them all."""

    named: Named
    window: Window
    counted: int
    oldest: int
    doubts: tuple[Doubt, ...]

    @property
    def rate(self) -> Rate:
        return self.named.rate


class Charge(NamedTuple):
    """The result of counting a request. `admitted` is None when only its answer will tell."""

    at: int
    stands: tuple[Stand, ...]
    admitted: bool | None
    doubt: Doubt | None

    @property
    def has_doubts(self) -> bool:
        return any(stand.doubts for stand in self.stands)


class Limits:
    """All windows. They know who counted, not why."""

    def __init__(self) -> None:
        self._windows: dict[Scope, dict[str, Window]] = {"session": {}, "user": {}, "agent": {}}

    def clear(self) -> None:
        for windows in self._windows.values():
            windows.clear()

    def drop_session(self, session_id: str) -> None:
        self._windows["session"].pop(session_id, None)

    def charge(self, now: int, names: Sequence[Named], *, is_sure: bool = True) -> Charge:
        """Count one request. Without `is_sure` its session may have been over, and it counts for nothing then."""
        stands = self._stands(now, names)
        admitted = _is_admitted(stands)
        if is_sure and admitted is not None:
            if admitted:
                for stand in stands:
                    stand.window.hits.append(now)
            return Charge(now, stands, admitted, None)
        doubt = Doubt(now)
        if admitted is not False:
            for stand in stands:
                stand.window.doubts.append(doubt)
        return Charge(now, stands, admitted, doubt)

    def check(self, charge: Charge, answer: Answered, number: int) -> None:
        """The answer is of a live session: it was admitted, or it is a 429."""
        was_admitted = answer.status != _REFUSED
        if charge.admitted is not None and was_admitted != charge.admitted:
            raise _wrong_decision(charge, number)
        if charge.doubt is not None:
            self._settle(charge, charge.doubt, was_admitted=was_admitted)
        if charge.has_doubts:
            self._check_unsure(charge, answer, number, was_admitted=was_admitted)
        else:
            self._check_exact(charge, answer, number, was_admitted=was_admitted)

    def uncharged(self, charge: Charge) -> None:
        """The answer says that its session was over."""
        if charge.doubt is not None:
            self._settle(charge, charge.doubt, was_admitted=False)

    def _stands(self, now: int, names: Sequence[Named]) -> tuple[Stand, ...]:
        stands = []
        for named in names:
            scope, subject, rate = named
            window = self._windows[scope].get(subject)
            if window is None:
                window = self._windows[scope][subject] = Window()
            window.forget(now - rate[1] * 1000)
            hits = window.hits
            stands.append(Stand(named, window, len(hits), hits[0] if hits else now, tuple(window.doubts)))
        return tuple(stands)

    def _settle(self, charge: Charge, doubt: Doubt, *, was_admitted: bool) -> None:
        for stand in charge.stands:
            if doubt in stand.window.doubts:
                stand.window.doubts.remove(doubt)
                if was_admitted:
                    _count(stand.window, doubt.at)

    def _check_exact(self, charge: Charge, answer: Answered, number: int, *, was_admitted: bool) -> None:
        rates = []
        for (scope, _, (limit, seconds)), _, counted, oldest, _ in charge.stands:
            wait_ms = oldest + seconds * 1000 - charge.at if counted or was_admitted else 0
            rates.append(f'"{scope}";r={limit - counted - was_admitted};t={-(-wait_ms // 1000)}')
        expected = ", ".join(rates)
        if answer.headers.get("ratelimit") != expected:
            told = f"RateLimit is {answer.headers.get('ratelimit')}, not {expected}"
            raise Violation("7 ratelimit", Why(told, {"headers.RateLimit": expected}), number)
        if not was_admitted:
            self._check_refusal(charge, answer, number)

    def _check_refusal(self, charge: Charge, answer: Answered, number: int) -> None:
        waits = {
            stand.named.scope: (stand.oldest + stand.rate[1] * 1000 - charge.at, stand.rate)
            for stand in charge.stands
            if stand.counted >= stand.rate[0]
        }
        longest = max(wait for wait, _ in waits.values())
        details = orjson.loads(answer.body)["details"]
        wait_ms, rate = waits.get(details.get("scope"), (0, (0, 0)))
        expected = {"limit": rate[0], "windowSeconds": rate[1], "retryAfterMs": longest}
        if wait_ms != longest or details != expected | {"scope": details["scope"]}:
            raise Violation("7 refusal", f"the 429 says {details}, full are {waits}", number)
        if answer.headers.get("retry-after") != str(-(-longest // 1000)):
            right = str(-(-longest // 1000))
            why = Why(f"Retry-After is not {longest} ms rounded up", {"headers.Retry-After": right})
            raise Violation("7 retry-after", why, number)

    def _check_unsure(self, charge: Charge, answer: Answered, number: int, *, was_admitted: bool) -> None:
        """Each `r` is possible, and tells which doubts of its window were charged when it says all or none."""
        told = answer.headers.get("ratelimit", "").split(", ")
        if len(told) != len(charge.stands):
            raise Violation("7 ratelimit", f"RateLimit is {told}", number)
        for stand, part in zip(charge.stands, told, strict=True):
            left = int(part.partition(";r=")[2].partition(";")[0])
            of_doubts = stand.rate[0] - left - stand.counted - was_admitted
            if not 0 <= of_doubts <= len(stand.doubts):
                raise Violation("7 ratelimit", f"{part} with {stand.counted} counted", number)
            if of_doubts in (0, len(stand.doubts)):
                _resolve(stand, were_charged=of_doubts > 0)


def _is_admitted(stands: Sequence[Stand]) -> bool | None:
    """None where it hangs on doubts."""
    admitted: bool | None = True
    for named, _, counted, _, doubts in stands:
        if counted >= named.rate[0]:
            return False
        if counted + len(doubts) >= named.rate[0]:
            admitted = None
    return admitted


def policy(rates: Mapping[Scope, Rate]) -> str:
    return ", ".join(f'"{scope}";q={count};w={seconds}' for scope, (count, seconds) in rates.items())


def _resolve(stand: Stand, *, were_charged: bool) -> None:
    for doubt in stand.doubts:
        if doubt in stand.window.doubts:
            stand.window.doubts.remove(doubt)
            if were_charged:
                _count(stand.window, doubt.at)


def _count(window: Window, at: int) -> None:
    if not window.hits or at >= window.hits[-1]:
        window.hits.append(at)
        return
    hits = list(window.hits)
    insort(hits, at)
    window.hits = deque(hits)


def _wrong_decision(charge: Charge, number: int) -> Violation:
    stands = ", ".join(f"{s.named.scope} {s.counted} of {s.rate[0]} in {s.rate[1]} s" for s in charge.stands)
    if charge.admitted:
        return Violation(
            "7 refused with room", Why(f"429 with room: {stands}", {"status": {"less": 429}}), number
        )
    return Violation("7 over the limit", Why(f"admitted over a limit: {stands}", {"status": 429}), number)
