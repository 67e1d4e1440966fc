"""Rate limits: exact sliding windows over ring buffers (spec section 7).

A window is (now - length, now]. Each keeps the instants of the requests it admitted, eight bytes each, and is
dropped when it is empty. Session, user and agent are checked and charged in one step: all or none.
"""

import heapq
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from actors.errors import RateLimited
from actors.stores.base import SaveWindow

Scope = Literal["session", "user", "agent"]

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600}
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


class Window:
    """The instants of admitted requests in a ring that grows as it fills, never beyond what was admitted."""

    __slots__ = ("_head", "_ring", "_size")

    def __init__(self, admitted_at: Iterable[int] = ()) -> None:
        self._ring = array("q", admitted_at)
        self._head = 0
        self._size = len(self._ring)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return (self[n] for n in range(self._size))

    def __getitem__(self, n: int) -> int:
        """The n-th oldest instant."""
        return self._ring[(self._head + n) % len(self._ring)]

    def forget(self, until_ms: int) -> None:
        """Drop what was admitted at `until_ms` or before."""
        while self._size and self._ring[self._head] <= until_ms:
            self._head = (self._head + 1) % len(self._ring)
            self._size -= 1

    def append(self, at_ms: int) -> None:
        if self._size == len(self._ring):
            self._ring = array("q", [*self, *([0] * max(4, self._size))])
            self._head = 0
        self._ring[(self._head + self._size) % len(self._ring)] = at_ms
        self._size += 1


class _Charge(NamedTuple):
    """One window that a request counts for."""

    scope: Scope
    subject: str
    limit: Limit
    window: Window

    def room(self) -> int:
        return self.limit.requests - len(self.window)

    def reset_ms(self, now: int) -> int:
        """Until one more request fits than fits now; 0 when the window is empty."""
        if not len(self.window):
            return 0
        return self.window[max(0, -self.room())] + self.limit.window_ms - now


class LimitStats(NamedTuple):
    """Decisions so far. A refusal counts for the scope it was refused for."""

    admitted: int
    refused: dict[Scope, int]
    windows: int


class Limits:
    """All windows of the service. `overrides` gives an agent its own session and agent limits."""

    def __init__(
        self,
        session: Limit,
        user: Limit,
        agent: Limit,
        overrides: Mapping[str, tuple[Limit | None, Limit | None]] | None = None,
    ) -> None:
        self._session = session
        self._user = user
        self._agent = agent
        self._overrides = dict(overrides or {})
        self._windows: dict[Scope, dict[str, Window]] = {"session": {}, "user": {}, "agent": {}}
        self._empty_at: list[tuple[int, Scope, str, int]] = []  # a heap, one entry a window
        self._admitted = 0
        self._refused: dict[Scope, int] = {"session": 0, "user": 0, "agent": 0}

    def admit(
        self, now: int, user_id: str, agent_id: str, session_id: str | None = None
    ) -> tuple[Quota, ...]:
        """Charge one request to all its windows, or raise RateLimited and charge none.

        A request that names no session (create) counts for the user and the agent alone.
        """
        charges = self._charges(now, user_id, agent_id, session_id)
        full = [charge for charge in charges if charge.room() <= 0]
        if full:
            raise RateLimited(self._refuse(now, full, charges))
        for charge in charges:
            if not len(charge.window):
                self._keep(now, charge)
            charge.window.append(now)
        self._admitted += 1
        return _quotas(now, charges)

    def drop_session(self, session_id: str) -> None:
        """The session is over: nothing will be counted for it again."""
        self._windows["session"].pop(session_id, None)

    def forget_empty(self, now: int) -> None:
        """Drop windows in which nothing counts any more."""
        while self._empty_at and self._empty_at[0][0] <= now:
            _, scope, subject, window_ms = heapq.heappop(self._empty_at)
            window = self._windows[scope].get(subject)
            if window is None:
                continue
            window.forget(now - window_ms)
            if len(window):
                newest = window[len(window) - 1]
                heapq.heappush(self._empty_at, (newest + window_ms, scope, subject, window_ms))
            else:
                del self._windows[scope][subject]

    def next_empty_at(self) -> int | None:
        """When `forget_empty` may next find something."""
        return self._empty_at[0][0] if self._empty_at else None

    def saved(self) -> list[SaveWindow]:
        """Every window, for a clean stop."""
        return [
            SaveWindow(scope, subject, tuple(window))
            for scope, windows in self._windows.items()
            for subject, window in windows.items()
        ]

    def restore(self, windows: Iterable[SaveWindow], agent_of: Callable[[str], str | None]) -> None:
        """Go on from a clean stop. `agent_of` names a session's agent, or None when the session is gone."""
        for scope, subject, admitted_at in windows:
            agent_id = agent_of(subject) if scope == "session" else subject
            if agent_id is None or not admitted_at:
                continue
            name = _SCOPES[scope]
            limit = self._limit(name, agent_id)
            self._windows[name][subject] = Window(admitted_at)
            heapq.heappush(
                self._empty_at, (admitted_at[-1] + limit.window_ms, name, subject, limit.window_ms)
            )

    def statistics(self) -> LimitStats:
        return LimitStats(self._admitted, dict(self._refused), sum(map(len, self._windows.values())))

    def _limit(self, scope: Scope, agent_id: str) -> Limit:
        if scope == "user":
            return self._user
        session, agent = self._overrides.get(agent_id, (None, None))
        return (session or self._session) if scope == "session" else (agent or self._agent)

    def _charges(self, now: int, user_id: str, agent_id: str, session_id: str | None) -> list[_Charge]:
        subjects: list[tuple[Scope, str]] = [("user", user_id), ("agent", agent_id)]
        if session_id is not None:
            subjects.insert(0, ("session", session_id))
        charges = []
        for scope, subject in subjects:
            limit = self._limit(scope, agent_id)
            window = self._windows[scope].get(subject)
            if window is None:
                window = Window()
            window.forget(now - limit.window_ms)
            charges.append(_Charge(scope, subject, limit, window))
        return charges

    def _keep(self, now: int, charge: _Charge) -> None:
        """Hold on to a window that is about to get its first request."""
        windows = self._windows[charge.scope]
        if charge.subject not in windows:
            windows[charge.subject] = charge.window
            window_ms = charge.limit.window_ms
            heapq.heappush(self._empty_at, (now + window_ms, charge.scope, charge.subject, window_ms))

    def _refuse(self, now: int, full: list[_Charge], charges: list[_Charge]) -> Refused:
        longest = max(full, key=lambda charge: charge.reset_ms(now))
        self._refused[longest.scope] += 1
        return Refused(
            longest.scope,
            longest.limit.requests,
            longest.limit.window_s,
            longest.reset_ms(now),
            _quotas(now, charges),
        )


_SCOPES: dict[str, Scope] = {"session": "session", "user": "user", "agent": "agent"}


def _quotas(now: int, charges: list[_Charge]) -> tuple[Quota, ...]:
    return tuple(
        Quota(charge.scope, charge.limit, max(0, charge.room()), charge.reset_ms(now)) for charge in charges
    )
