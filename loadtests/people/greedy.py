"""People who want more than the limits give: one kind for each limit. `observation.py` says what traffic decides one.

They know the limits that the server is expected to keep, and obey `Retry-After` as they are told it. Whether any answer
was right is not their question.
"""

import re
from collections.abc import Callable, Generator, Iterator
from itertools import count
from typing import Any, ClassVar

from locust import tag, task

from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.people.client import Answer
from vigil.loadtests.people.observation import Scope
from vigil.loadtests.people.person import LIMITED, ScriptedPerson, Session

ROUND_TRIP_S = 0.02  # by which a probe that must be early is sent earlier
REFUSALS = 20  # asked for one at a time once a window is full
RECOVERY_S_MAX = 90.0  # a window longer than this, in real seconds, is not waited for
NEAR = 64  # requests before the limit, from which on only one person goes on

_EDGE_S = 0.002
_LONG_LIFE = {"timeoutMinutes": 1440, "maxDurationMinutes": 4320}
_REMAINING = re.compile(r'"(\w+)";r=(\d{1,9})', re.ASCII)


class Greedy(ScriptedPerson):
    """Asks for a session again and again: the cheapest request that counts."""

    abstract = True
    scope: ClassVar[Scope]

    @property
    def limit(self) -> Limit:
        limit: Limit = getattr(self.world.limits, self.scope)
        return limit

    @property
    def window_s(self) -> float:
        """Of the limit, in real seconds."""
        return self.world.real_s(self.limit.window_s)

    def fill(self, get: Callable[[], Answer]) -> Answer | None:
        """Ask without a pause until this limit refuses; None when it never does."""
        for _ in range(2 * self.limit.requests + NEAR):
            answer = get()
            if self.refuses(answer):
                return answer
            if answer.status == 0:
                return None
        return None

    def refuses(self, answer: Answer) -> bool:
        """Whether it was this person's own limit that refused: the others' remainders are not 0."""
        return answer.status == LIMITED and self.remaining(answer) in (0, None)

    def remaining(self, answer: Answer) -> int | None:
        """`r` of this limit; None when the server does not say."""
        return next(
            (int(r) for scope, r in _REMAINING.findall(answer.rate_limit) if scope == self.scope), None
        )

    def obey(self, get: Callable[[], Answer], refusal: Answer, *, early: bool) -> Generator[float]:
        """Wait as long as was said, to the letter; with `early`, ask once in vain a second before."""
        if not refusal.retry_after.isdigit() or refusal.received_s is None:
            return
        wait_s = self.world.real_s(int(refusal.retry_after))
        if early:
            too_early_s = refusal.sent_s + wait_s - self.world.real_s(1) - ROUND_TRIP_S
            if too_early_s > self.world.clock():
                yield too_early_s
                get()
        yield refusal.received_s + wait_s + 0.001

    def drip(self, get: Callable[[], Answer], times: int, pause_s: float) -> Generator[float]:
        """Ask now and then in vain: who refills slot by slot gives something here."""
        for _ in range(times):
            yield self.world.clock() + pause_s
            get()


class GreedyOnSession(Greedy):
    """Fills one session's minute, in one of three ways."""

    scope = "session"
    _numbers: ClassVar[Iterator[int]] = count()

    @tag("limits")
    @task
    def go_on(self) -> None:
        self.advance()

    def live(self) -> Generator[float]:
        yield self.world.clock() + self.rng.uniform(0, min(2.0, self.window_s / 10))
        self.agent = self.world.agents[0]
        session = self.create(config=_LONG_LIFE)
        if session is not None:
            tactics = (self.bursts, self.edges, self.bursts, self.edges, self.drips)
            yield from tactics[next(self._numbers) % len(tactics)](session)

    def bursts(self, session: Session) -> Generator[float]:
        """A window's worth at once, then as the server says, then a window's worth at once again."""
        early = self.rng.random() < 0.5  # noqa: PLR2004  every other one
        for _ in range(2):
            refusal = self.fill(lambda: self.ask("get", session))
            if refusal is None:
                return
            yield from self.obey(lambda: self.ask("get", session), refusal, early=early)
            early = not early
        self.fill(lambda: self.ask("get", session))

    def edges(self, session: Session) -> Generator[float]:
        """A window's worth spread out; then at each one's end, one request just inside, one just outside."""
        gap_s = max(ROUND_TRIP_S, self.window_s / 10 / self.limit.requests)
        admitted = []
        for _ in range(self.limit.requests):
            admitted.append(self.ask("get", session))
            yield admitted[-1].sent_s + gap_s
        self.ask("get", session)
        for one in admitted:
            if one.received_s is None:
                continue
            round_trip_s = one.received_s - one.sent_s
            inside_s = one.sent_s + self.window_s - 2 * round_trip_s - _EDGE_S
            if inside_s > self.world.clock():
                yield inside_s
                if self.world.clock() < inside_s + round_trip_s:  # later nobody could tell what is right
                    self.ask("get", session)
            yield one.received_s + self.window_s + _EDGE_S
            self.ask("get", session)

    def drips(self, session: Session) -> Generator[float]:
        """A window's worth at once, then one in vain after another until the window has passed."""
        self.fill(lambda: self.ask("get", session))
        pause_s = max(ROUND_TRIP_S, self.window_s / 50)
        yield from self.drip(lambda: self.ask("get", session), 52, pause_s)
        self.fill(lambda: self.ask("get", session))


class GreedyOnMany(Greedy):
    """Fills a window that many sessions share, and keeps each of these under its own limit."""

    abstract = True
    leads: ClassVar[bool] = True  # goes to the limit and beyond; the others stop near it

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._sessions: list[Session] = []
        self._spare = max(1, self.world.limits.session.requests - 2)

    def live(self) -> Generator[float]:
        yield self.start_s()
        refusal = self.fill(self.get)
        if refusal is None or not self.leads:
            return
        yield from self.drip(self.get, REFUSALS, 0.002)
        if self.window_s > RECOVERY_S_MAX:
            slot_s = self.window_s / self.limit.requests
            yield from self.drip(self.get, 5, 1.3 * slot_s)
            return
        for early in (True, False):
            yield from self.obey(self.get, refusal, early=early)
            refusal = self.fill(self.get)
            if refusal is None:
                return

    def fill(self, get: Callable[[], Answer]) -> Answer | None:
        """As `Greedy.fill`; who does not lead stops before it matters how many are under way at once."""
        if self.leads:
            return super().fill(get)
        left: int | None = self.limit.requests
        while left is not None and left > NEAR:
            answer = get()
            left = self.remaining(answer) if answer.status else None
        return None

    def start_s(self) -> float:
        """When to begin."""
        return self.world.clock() + self.rng.uniform(0, min(1.0, self.window_s / 100))

    def get(self) -> Answer:
        """One request on a session that has room; on a new one, when none has."""
        session = self._with_room()
        if session is None:
            return self.last
        return self.ask("get", session)

    def user(self) -> str:
        """Whose the next session is."""
        return self.user_id

    def rest_session_s(self) -> int:
        """After how much session time a session that was full may be asked again."""
        return self.world.limits.session.window_s

    def _with_room(self) -> Session | None:
        """A session that has not asked too much within its window; None when the server refuses a new one."""
        rest_s = self.world.real_s(self.rest_session_s()) + ROUND_TRIP_S
        now_s = self.world.clock()
        for session in self._sessions:
            if session.asked < self._spare:
                return session
            if now_s - session.asked_s > rest_s:
                session.asked = 0
                return session
        made = self.create(self.user(), _LONG_LIFE)
        if made is not None:
            self._sessions.insert(0, made)
        elif self.last.status == LIMITED and self._sessions:
            return self._sessions[
                0
            ]  # refused, as it should be: its limit, and the session's own has some room
        return made


class GreedyOnUser(GreedyOnMany):
    """One user with many sessions."""

    scope = "user"

    def on_start(self) -> None:
        self.agent = self.world.agents[0]
        super().on_start()

    @tag("limits")
    @task
    def go_on(self) -> None:
        self.advance()


class GreedyOnAgent(GreedyOnMany):
    """One agent asked by many users."""

    scope = "agent"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.agent = self.world.agents[-1]
        self._users = 0

    @tag("limits")
    @task
    def go_on(self) -> None:
        self.advance()

    def start_s(self) -> float:
        """When the others have what they need of the same agent; with one for itself, nearly at once."""
        share = 1.25 if len(self.world.agents) == 1 else 0.1
        return super().start_s() + share * self.world.real_s(self.world.limits.session.window_s)

    def user(self) -> str:
        """A new one before the user's own limit is reached; each session is charged as often as it may be."""
        self._users += 1
        sessions_each = max(1, (self.world.limits.user.requests - 2) // (self._spare + 1))
        return f"{self.user_id}-{self._users // sessions_each}"

    def rest_session_s(self) -> int:
        """Earlier its user would be asked too much."""
        return max(super().rest_session_s(), self.world.limits.user.window_s)


class AgentCrowd(GreedyOnAgent):
    """Helps to fill the agent's window from other places, and leaves the limit itself to the one who leads."""

    leads = False
