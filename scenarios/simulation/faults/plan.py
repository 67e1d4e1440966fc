"""What goes wrong in a simulation and when: bands over the day, drawn from the seed before it begins.

A fault is a value with a time. Whoever obeys it (`scenarios.simulation.faults.faulty`,
`scenarios.simulation.faults.connection`) asks `Weather` what is the case now; nothing here touches a server.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple, get_args

from vigil.actors.core.suggestion import did_you_mean
from vigil.scenarios.errors import ScenarioError

Kind = Literal["crash", "slow-store", "full-store", "agent", "disconnect"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Band(NamedTuple):
    """One fault from one instant to another, in milliseconds from the beginning of the run.

    For `crash` it is the time that the server is down; `clean` says that it was told to stop.
    """

    kind: Kind
    from_ms: int
    to_ms: int
    clean: bool = False


class UnknownFault(ScenarioError):
    pass


class _Habit(NamedTuple):
    """How often a fault comes in a day, and for how many seconds."""

    a_day: int
    shortest_s: float
    longest_s: float


_HABITS: dict[Kind, _Habit] = {
    "crash": _Habit(8, 2, 40),
    "slow-store": _Habit(6, 60, 900),
    "full-store": _Habit(5, 20, 300),
    "agent": _Habit(6, 120, 1200),
    "disconnect": _Habit(8, 120, 1800),
}
_CLEAN_SHARE = 1 / 3  # of the times that the server goes down
_DAY_MS = 86_400_000
_SLOW_S = (0.010, 5.0)  # one commit of a slow store
BEFORE_CRASH_S = 15.0  # for so long commits hang, so that a crash finds some in the middle
_LOST_SHARE = 0.15  # of answers, while connections drop
_HUNG_UP_SHARE = 0.1  # of requests, likewise
_PATIENCE_S = 3.0  # of one who hangs up
_AGENT_FAULTS = (("fail", 0.3), ("hang", 0.2), ("crash", 0.2), ("empty", 0.1))

StoreFault = Literal["slow", "failing", "full"]
AgentFault = Literal["fail", "hang", "crash", "empty"]


def parse(text: str) -> tuple[Kind, ...]:
    """Read `none`, `all` or kinds with commas between. Raises UnknownFault."""
    if text in ("none", "all"):
        return KINDS if text == "all" else ()
    named = text.split(",")
    for name in named:
        if name not in KINDS:
            near = did_you_mean(name, KINDS) or f": write none, all, or some of {', '.join(KINDS)}"
            raise UnknownFault(f"{name[:60]!r} is not a fault{near}")
    return tuple(kind for kind in KINDS if kind in named)


def plan(seed: int, kinds: Sequence[Kind], length_ms: int) -> tuple[Band, ...]:
    """All bands of a run, by their beginning. The bands of one kind do not touch."""
    bands = [band for kind in kinds for band in _bands(kind, Random(f"{seed}/{kind}"), length_ms)]  # noqa: S311
    return tuple(sorted(bands, key=lambda band: (band.from_ms, band.kind)))


class Weather:
    """What is wrong right now. `random` draws how badly, in the order in which it strikes."""

    def __init__(self, random: Random) -> None:
        self.is_about_to_crash = False
        self.agents_fail = False
        self.drops_answers = False
        self.struck: dict[str, int] = {}
        self._random = random
        self._store: Counter[StoreFault] = Counter()

    @property
    def is_full(self) -> bool:
        return self._store["full"] > 0

    def begin(self, fault: StoreFault) -> None:
        self._store[fault] += 1

    def end(self, fault: StoreFault) -> None:
        self._store[fault] -= 1

    def store_faults(self) -> list[StoreFault]:
        """What is wrong with the store right now."""
        return [fault for fault, count in self._store.items() if count]

    def commit_delay_s(self) -> float:
        """How long the next commit takes."""
        if self.is_about_to_crash:
            return BEFORE_CRASH_S + 1
        if not self._store["slow"]:
            return 0.0
        self._strike("slow commits")
        shortest, longest = _SLOW_S
        return float(shortest * (longest / shortest) ** self._random.random())

    def refuses_commit(self) -> bool:
        if self.is_full:
            self._strike("refused commits")
        return self.is_full

    def kept_of(self, commits: int) -> int:
        """How many of the commits that a crash finds in the middle are on the disk, oldest first."""
        kept = self._random.randint(0, commits)
        self.struck["commits lost in a crash"] = (
            self.struck.get("commits lost in a crash", 0) + commits - kept
        )
        self.struck["commits kept in a crash"] = self.struck.get("commits kept in a crash", 0) + kept
        return kept

    def agent_fault(self) -> AgentFault | None:
        """What the next agent turn does instead of answering."""
        drawn = self._random.random() if self.agents_fail else 1.0
        for fault, share in _AGENT_FAULTS:
            if drawn < share:
                self._strike("agent faults")
                return fault  # type: ignore[return-value]
            drawn -= share
        return None

    def loses_answer(self) -> bool:
        is_lost = self.drops_answers and self._random.random() < _LOST_SHARE
        if is_lost:
            self._strike("answers lost")
        return is_lost

    def patience_s(self) -> float:
        """For how long the next client waits for its answer; infinite unless connections drop."""
        if not self.drops_answers or self._random.random() >= _HUNG_UP_SHARE:
            return float("inf")
        self._strike("requests given up")
        return self._random.random() * _PATIENCE_S

    def _strike(self, what: str) -> None:
        self.struck[what] = self.struck.get(what, 0) + 1


def _bands(kind: Kind, random: Random, length_ms: int) -> list[Band]:
    """One band somewhere in each of so many equal parts of the run."""
    habit = _HABITS[kind]
    count = max(1, round(habit.a_day * length_ms / _DAY_MS))
    part_ms = length_ms // count
    return [_band(kind, habit, random, n * part_ms, part_ms) for n in range(count)]


def _band(kind: Kind, habit: _Habit, random: Random, start_ms: int, room_ms: int) -> Band:
    lasts_ms = min(round(random.uniform(habit.shortest_s, habit.longest_s) * 1000), room_ms // 2)
    from_ms = start_ms + room_ms // 20 + random.randint(0, max(0, room_ms * 9 // 10 - lasts_ms))
    return Band(kind, from_ms, from_ms + lasts_ms, kind == "crash" and random.random() < _CLEAN_SHARE)
