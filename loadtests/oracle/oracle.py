"""The oracle: proves from outside whether a server keeps its three limits exactly (spec section 7).

It knows what a client can know: when each request went out, when its answer came in, and what the answer said. An
admission is an unknown instant in between, so everything is proven from intervals, for every instant they allow:

- over-admission: more than the limit allows were admitted within one window, whatever the network did;
- false refusal: a 429 although the window that it names had room whenever it was decided;
- a dishonest Retry-After or retryAfterMs: too early (still full then), or too late (room a whole second before);
- wrong RateLimit and RateLimit-Policy headers.

What is neither provably right nor provably wrong is counted as undecided. A request without an answer may have been
admitted at any time since it was sent: it excuses a refusal, and never accuses. `observation.py` says which traffic
lets the oracle decide.

Taken for granted: whoever charges the windows reports here (each user, and each agent while the run lasts, is the
run's own); the server's clock runs at the client's rate times the scale, and its wall clock is not set meanwhile;
all agents have one limit. Out of scope: a server that is stopped or crashes during the run (windows saved, or
emptied), and several machines without a common clock: a user or an agent that two of them report is left unjudged.

Pure; no code from `actors`, no Locust, no clock.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from vigil.loadtests.oracle.answers import Standing, policies, scopes_of, standing
from vigil.loadtests.oracle.course import find_courses
from vigil.loadtests.oracle.findings import Judgement, Limits, Tally
from vigil.loadtests.oracle.log import Log
from vigil.loadtests.oracle.proofs import Trial
from vigil.loadtests.oracle.window import Window
from vigil.loadtests.people.observation import SCOPES, Observation

OBSERVATIONS_MAX = 2_000_000
SLACK_S = 0.001  # session time: a server counts in whole milliseconds


class Oracle:
    """Takes observations in any order, from any number of workers; judges when asked.

    `scale` is the server's `--time-scale`: observations are in real seconds, limits in session seconds. `before`
    says of users and agents (by id) how many admissions their window may hold as the run begins. After
    `observations_max` it forgets what comes, and judges nothing that this could matter to.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        scale: float = 1.0,
        slack_s: float = SLACK_S,
        before: Mapping[str, int] | None = None,
        observations_max: int = OBSERVATIONS_MAX,
    ) -> None:
        self._limits = limits
        self._scale = scale
        self._slack_s = slack_s
        self._before = dict(before or {})
        self._observations_max = observations_max
        self._log = Log(scale)
        self._policies = _Policies(limits)
        self._seen = self._forgotten = 0
        self._unseen_from_s = math.inf

    def add(self, observations: Iterable[Observation], clock: str = "") -> None:
        """Observations whose instants are of one clock: all processes of one machine share theirs."""
        for seen in observations:
            self._seen += 1
            kind = standing(seen)
            self._policies.check(seen, kind)
            if kind is Standing.FREE:
                continue
            if len(self._log) < self._observations_max:
                self._log.append(seen, kind, clock)
            else:
                self._forgotten += 1
                self._unseen_from_s = min(self._unseen_from_s, seen.sent_s * self._scale)

    def judge(self) -> Judgement:
        """Prove what can be proven of all that was added so far."""
        tallies = [replace(tally, findings=list(tally.findings)) for tally in self._policies.tallies]
        windows = self._log.windows(self._empty_window, self._before)
        unjudged = Trial(self._log, windows, tallies, self._unseen_from_s, self._slack_s).run()
        courses = tuple(find_courses(self._log, windows, self._limits))
        return Judgement(tuple(tallies), self._seen, unjudged + self._forgotten, courses)

    def _empty_window(self, place: int) -> Window:
        limit = self._limits[place]
        return Window(limit.requests, limit.window_s, self._slack_s)


class _Policies:
    """What answers say of the limits themselves: tallies with wrong headers and nothing else."""

    def __init__(self, limits: Limits) -> None:
        self.tallies = [Tally(scope, limit) for scope, limit in zip(SCOPES, limits, strict=True)]

    def check(self, seen: Observation, kind: Standing) -> None:
        """Counted answers and 429s name the limits that they count for; other answers carry neither header."""
        if kind is Standing.MAYBE:
            return
        expected = () if kind is Standing.FREE else scopes_of(seen)
        named = policies(seen.policy)
        for tally in self.tallies:
            limit = tally.limit if tally.scope in expected else None
            if named is None or named.get(tally.scope) != limit:
                self._note(tally, f"RateLimit-Policy is {seen.policy!r} on {_answer(seen)}")
        if kind is Standing.FREE and seen.rate_limit:
            self._note(
                self.tallies[0], f"RateLimit is {seen.rate_limit!r} on {_answer(seen)}, which is not counted"
            )

    def _note(self, tally: Tally, text: str) -> None:
        tally.headers_wrong += 1
        tally.found("wrong headers", "", text)


def _answer(seen: Observation) -> str:
    return f"the answer {seen.status} to {seen.operation}"
