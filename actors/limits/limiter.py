"""Rate limits: exact sliding windows over ring buffers (spec section 7).

A window is (now - length, now]. Each keeps the instants of the requests it admitted, eight bytes each, and is
dropped when it is empty. Session, user and agent are checked and charged in one step: all or none.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import NamedTuple

from vigil.actors.core.errors import RateLimited
from vigil.actors.core.quotas import Limit, Quota, Refused, Scope
from vigil.actors.core.records import maker
from vigil.actors.stores.base import SaveWindow

_NEVER = 2**63  # beyond every instant
_quota = maker(Quota)


class _Rule(NamedTuple):
    """One limit as it stands for some subjects, and where their windows are. Shared by all of them."""

    scope: Scope
    limit: Limit
    requests: int  # of the limit, read on every request
    window_ms: int
    windows: "dict[str, Window]"


class Window:
    """The instants of one subject's admitted requests, in a ring that follows their number up and down.

    `frees_at` is when the oldest of them counts no longer; never, in an empty window. `left` so many more fit, below 0
    after a limit was lowered: both as of the last look.
    """

    __slots__ = ("_head", "_ring", "frees_at", "left", "rule", "size", "subject")

    def __init__(self, rule: _Rule, subject: str, admitted_at: Iterable[int] = ()) -> None:
        self.rule = rule
        self.subject = subject
        self._ring = array("q", admitted_at)
        self._head = 0
        self.size = self.left = self.frees_at = 0
        self._count(len(self._ring))

    def __iter__(self) -> Iterator[int]:
        """Oldest first."""
        return iter(self._unrolled())

    def obey(self, rule: _Rule) -> None:
        """Count by another limit from now on. What a shorter window has forgotten stays forgotten."""
        self.rule = rule
        self._count(self.size)

    def look(self, now: int) -> None:
        """Forget what no longer counts."""
        if self.frees_at <= now:
            self._forget(now - self.rule.window_ms)

    def charge(self, now: int) -> Quota:
        """Count one more request; there must be room."""
        rule, size, ring = self.rule, self.size, self._ring
        if size == len(ring):
            self._resize(min(max(4, 2 * size), rule.requests))
            ring = self._ring
        ring[(self._head + size) % len(ring)] = now
        if not size:
            self.frees_at = now + rule.window_ms
        self.size = size + 1
        self.left = left = self.left - 1
        return _quota((rule.scope, rule.limit, left, self.frees_at - now))

    def quota(self, now: int) -> Quota:
        """How it stands; `reset_ms` is 0 when the window is empty."""
        scope, limit, requests, window_ms, _ = self.rule
        if not self.size:
            return Quota(scope, limit, requests, 0)
        surplus = max(0, -self.left)
        frees_at = self._ring[(self._head + surplus) % len(self._ring)] + window_ms
        return Quota(scope, limit, max(0, self.left), frees_at - now)

    def empty_at(self) -> int:
        """When the newest of its requests no longer counts."""
        newest: int = self._ring[(self._head + self.size - 1) % len(self._ring)]
        return newest + self.rule.window_ms

    def _forget(self, until_ms: int) -> None:
        """Drop what was admitted at `until_ms` or before."""
        ring, head, size = self._ring, self._head, self.size
        while size and ring[head] <= until_ms:
            head = (head + 1) % len(ring)
            size -= 1
        self._head = head
        self._count(size)
        if len(ring) > 4 * size + 4:
            self._resize(2 * size)

    def _count(self, size: int) -> None:
        self.size = size
        self.left = self.rule.requests - size
        self.frees_at = self._ring[self._head] + self.rule.window_ms if size else _NEVER

    def _resize(self, capacity: int) -> None:
        self._ring = self._unrolled() + array("q", bytes(8 * (capacity - self.size)))
        self._head = 0

    def _unrolled(self) -> "array[int]":
        return (self._ring[self._head :] + self._ring[: self._head])[: self.size]


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
        self._windows: dict[Scope, dict[str, Window]] = {"session": {}, "user": {}, "agent": {}}
        self._usual = session, user, agent
        self._rules = self._rules_for(*self._usual)
        self._overrides = overrides or {}
        self._own_rules = self._rules_of(self._overrides)
        self._empty_at: list[tuple[int, Scope, str]] = []  # a heap, one entry a window
        self._admitted = 0
        self._refused: dict[Scope, int] = {"session": 0, "user": 0, "agent": 0}

    def admit(
        self, now: int, user_id: str, agent_id: str, session_id: str | None = None
    ) -> tuple[Quota, ...]:
        """Charge one request to all its windows, or raise RateLimited and charge none.

        A request that names no session (create) counts for the user and the agent alone.
        """
        windows = self._find(user_id, agent_id, session_id)
        for window in windows:
            if window.frees_at <= now:
                window.look(now)
            if window.left <= 0:
                raise RateLimited(self._refuse(now, windows))
        for window in windows:
            if not window.size:
                self._keep(now, window)
        self._admitted += 1
        return tuple([window.charge(now) for window in windows])

    def use_overrides(
        self,
        overrides: Mapping[str, tuple[Limit | None, Limit | None]],
        agent_of: Callable[[str], str | None],
    ) -> None:
        """From now on these agents have limits of their own; what was admitted goes on to count. `agent_of` names a
        session's agent.
        """
        before, self._overrides = self._overrides, overrides
        if overrides == before:
            return
        self._own_rules = self._rules_of(overrides)
        for scope in ("session", "agent"):
            for subject, window in self._windows[scope].items():
                agent_id = agent_of(subject) if scope == "session" else subject
                if agent_id is not None and overrides.get(agent_id) != before.get(agent_id):
                    window.obey(self._own_rules.get(agent_id, self._rules)[_RULE_INDEX[scope]])

    def drop_session(self, session_id: str) -> None:
        """The session is over: nothing will be counted for it again."""
        self._windows["session"].pop(session_id, None)

    def forget_empty(self, now: int) -> None:
        """Drop windows in which nothing counts any more."""
        while self._empty_at and self._empty_at[0][0] <= now:
            _, scope, subject = heapq.heappop(self._empty_at)
            window = self._windows[scope].get(subject)
            if window is None:
                continue
            window.look(now)
            if window.size:
                heapq.heappush(self._empty_at, (window.empty_at(), scope, subject))
            else:
                del self._windows[scope][subject]

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
            rule = self._own_rules.get(agent_id, self._rules)[_RULE_INDEX[scope]]
            window = Window(rule, subject, admitted_at)
            rule.windows[subject] = window
            heapq.heappush(self._empty_at, (window.empty_at(), rule.scope, subject))

    def statistics(self) -> LimitStats:
        return LimitStats(self._admitted, dict(self._refused), sum(map(len, self._windows.values())))

    def _rules_of(
        self, overrides: Mapping[str, tuple[Limit | None, Limit | None]]
    ) -> dict[str, tuple[_Rule, ...]]:
        session, user, agent = self._usual
        return {
            agent_id: self._rules_for(own_session or session, user, own_agent or agent)
            for agent_id, (own_session, own_agent) in overrides.items()
        }

    def _rules_for(self, session: Limit, user: Limit, agent: Limit) -> tuple[_Rule, ...]:
        limits: dict[Scope, Limit] = {"session": session, "user": user, "agent": agent}
        return tuple(
            _Rule(scope, limit, limit.requests, limit.window_ms, self._windows[scope])
            for scope, limit in limits.items()
        )

    def _find(self, user_id: str, agent_id: str, session_id: str | None) -> tuple[Window, ...]:
        """The windows that a request counts for; one that holds nothing yet is new and not kept."""
        session, user, agent = self._own_rules.get(agent_id, self._rules)
        of_user = user.windows.get(user_id) or Window(user, user_id)
        of_agent = agent.windows.get(agent_id) or Window(agent, agent_id)
        if session_id is None:
            return of_user, of_agent
        return session.windows.get(session_id) or Window(session, session_id), of_user, of_agent

    def _keep(self, now: int, window: Window) -> None:
        """Hold on to a window that is about to get its first request."""
        rule, subject = window.rule, window.subject
        if subject not in rule.windows:
            rule.windows[subject] = window
            heapq.heappush(self._empty_at, (now + rule.window_ms, rule.scope, subject))

    def _refuse(self, now: int, windows: tuple[Window, ...]) -> Refused:
        for window in windows:
            window.look(now)
        full = [window for window in windows if window.left <= 0]
        scope, limit, _, wait_ms = max((window.quota(now) for window in full), key=attrgetter("reset_ms"))
        self._refused[scope] += 1
        quotas = tuple([window.quota(now) for window in windows])
        return Refused(scope, limit.requests, limit.window_s, wait_ms, quotas)


_RULE_INDEX = {"session": 0, "user": 1, "agent": 2}  # in the tuple that `_rules_for` gives
