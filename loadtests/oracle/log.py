"""All observations that bear on limits, in columns: some 70 bytes each. Knows nothing of proofs.

Instants are turned into session seconds on the way in, headers into numbers, ids into small integers.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from vigil.loadtests.oracle.answers import Rate, Standing, rates, scopes_of, seconds
from vigil.loadtests.oracle.window import Window
from vigil.loadtests.people.observation import SCOPES, Observation

NONE = -1  # in a column: no such subject, no such header

Windows: TypeAlias = tuple[list[Window], ...]  # for each scope: by subject


class Case(NamedTuple):
    """One observation. `subjects`, `remaining` and `resets_s` are in the order of SCOPES; NONE where absent."""

    sent_s: float
    received_s: float
    is_admitted: bool
    subjects: tuple[int, int, int]
    remaining: tuple[int, int, int]
    resets_s: tuple[int, int, int]
    retry_s: int
    retry_ms: int
    named: int


class Subjects:
    """The sessions, users or agents that were seen: their numbers, and which of them several clocks reported."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.of_several_clocks: set[int] = set()
        self._numbers: dict[str, int] = {}
        self._clocks: list[str] = []

    def find(self, name: str) -> int:
        """Its number; NONE when it was not seen."""
        return self._numbers.get(name, NONE)

    def number(self, name: str | None, clock: str) -> int:
        """Its number, a new one when it was not seen before; NONE for nobody."""
        if name is None:
            return NONE
        number = self._numbers.get(name, NONE)
        if number == NONE:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
            self._clocks.append(clock)
        elif self._clocks[number] != clock:
            self.of_several_clocks.add(number)
        return number


class Log:
    """`scale` turns real seconds into session seconds."""

    def __init__(self, scale: float) -> None:
        self.subjects = tuple(Subjects() for _ in SCOPES)
        self._scale = scale
        self._sent = array("d")
        self._received = array("d")
        self._standing = array("b")
        self._numbers = tuple(array("i") for _ in SCOPES)
        self._remaining = tuple(array("i") for _ in SCOPES)
        self._reset = tuple(array("i") for _ in SCOPES)
        self._retry_s = array("i")
        self._retry_ms = array("q")
        self._named = array("b")

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def begin_s(self) -> float:
        return min(self._sent, default=0.0)

    @property
    def end_s(self) -> float:
        """When the last answer came in."""
        return max(filter(math.isfinite, self._received), default=self.begin_s)

    def append(self, seen: Observation, standing: Standing, clock: str) -> None:
        """One observation that was charged, may have been, or was refused."""
        self._sent.append(seen.sent_s * self._scale)
        self._received.append(math.inf if seen.received_s is None else seen.received_s * self._scale)
        self._standing.append(standing)
        named = rates(seen.rate_limit) or {}
        if named.keys() != set(scopes_of(seen)):
            named = {}
        ids = (None if seen.operation == "create" else seen.session, seen.user, seen.agent)
        for place, scope in enumerate(SCOPES):
            self._numbers[place].append(self.subjects[place].number(ids[place], clock))
            remaining, reset_s = named.get(scope, _ABSENT)
            self._remaining[place].append(remaining)
            self._reset[place].append(reset_s)
        retry_s = seconds(seen.retry_after)
        self._retry_s.append(NONE if retry_s is None else retry_s)
        self._retry_ms.append(NONE if seen.retry_after_ms is None else seen.retry_after_ms)
        self._named.append(SCOPES.index(seen.scope) if seen.scope in SCOPES else NONE)

    def windows(self, make: Callable[[int], Window], before: Mapping[str, int]) -> Windows:
        """What is known of each subject's admissions. `make` gives the empty window of a scope's place."""
        windows = tuple([make(place) for _ in self.subjects[place].names] for place in range(len(SCOPES)))
        self._put_before(windows, before)
        sent, received = list(self._sent), list(self._received)  # each float is made once
        charged = [at for at, standing in enumerate(self._standing) if standing != Standing.REFUSED]
        for at, window in self._of(windows, sorted(charged, key=sent.__getitem__)):
            window.all_sent.append(sent[at])
            if self._standing[at] == Standing.ADMITTED:
                window.sure_sent.append(sent[at])
        for at, window in self._of(windows, sorted(charged, key=received.__getitem__)):
            window.all_received.append(received[at])
            if self._standing[at] == Standing.ADMITTED:
                window.sure_received.append(received[at])
        for window in (window for of_scope in windows for window in of_scope):
            window.share()
        return windows

    def cases(self, *of: Standing) -> Iterator[Case]:
        """The observations of some standings, in the order in which they were sent."""
        wanted = [at for at, standing in enumerate(self._standing) if standing in of]
        for at in sorted(wanted, key=self._sent.__getitem__):
            yield self._case(at)

    def _case(self, at: int) -> Case:
        session, user, agent = self._numbers
        remaining, reset = self._remaining, self._reset
        return Case(
            self._sent[at],
            self._received[at],
            self._standing[at] == Standing.ADMITTED,
            (session[at], user[at], agent[at]),
            (remaining[0][at], remaining[1][at], remaining[2][at]),
            (reset[0][at], reset[1][at], reset[2][at]),
            self._retry_s[at],
            self._retry_ms[at],
            self._named[at],
        )

    def _of(self, windows: Windows, order: list[int]) -> Iterator[tuple[int, Window]]:
        """Each of some observations with each of the windows that it counts for."""
        for numbers, of_scope in zip(self._numbers, windows, strict=True):
            for at in order:
                if (number := numbers[at]) != NONE:
                    yield at, of_scope[number]

    def _put_before(self, windows: Windows, before: Mapping[str, int]) -> None:
        """What others may have been admitted before the run began."""
        begin_s = self.begin_s
        for subjects, of_scope in zip(self.subjects, windows, strict=True):
            for name, count in before.items():
                if (number := subjects.find(name)) != NONE:
                    of_scope[number].all_sent += [-math.inf] * count
                    of_scope[number].all_received += [begin_s] * count


_ABSENT = Rate(NONE, NONE)
