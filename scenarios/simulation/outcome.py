"""The outcome of a simulation, as values: everything that the summary, the JSON file and the report say.

All instants and lengths are integer milliseconds; `*_at_ms` count from the beginning of the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from vigil.scenarios.simulation.faults.plan import Band, Kind


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is made of: the same settings give the same run, to the byte.

    `only` names the people that take part, of all `people`; `until_ms` ends the day early. With both a failing
    run is cut down.
    """

    seed: int
    people: int = 1000
    hours: float = 24.0
    mix: str = "realistic"
    faults: tuple[Kind, ...] = ()
    only: tuple[int, ...] | None = None
    until_ms: int | None = None

    @property
    def planned_ms(self) -> int:
        """What everything is drawn for, so that a run that ends early is the beginning of the whole one."""
        return round(self.hours * 3_600_000)

    @property
    def length_ms(self) -> int:
        return self.planned_ms if self.until_ms is None else min(self.planned_ms, self.until_ms)

    @property
    def repro(self) -> str:
        """The command that runs this again, but for `only` and `until_ms`."""
        faults = ",".join(self.faults) or "none"
        return (
            f"vigil simulate --seed {self.seed} --people {self.people} --hours {self.hours:g} "
            f"--mix {self.mix} --faults {faults}"
        )


class Exchange(NamedTuple):
    """One request as the history of a run keeps it. `status` is 0 when no answer came."""

    number: int
    person: int
    operation: str
    session: str | None
    at_ms: int
    took_ms: int
    status: int


class Evidence(NamedTuple):
    """An exchange word by word, long bodies cut. `answer` is "" when none came."""

    exchange: Exchange
    request: str  # method, target and body
    answer: str


class Failure(NamedTuple):
    """The first thing that the contract forbids. `evidence` are the exchanges it names, as far as still known."""

    rule: str
    message: str
    at_ms: int
    evidence: tuple[Evidence, ...]
    expected: Mapping[str, Any] = {}  # see `observed.Why`


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run, over. Series have one figure for each minute of the day."""

    version: str
    settings: Settings
    violation: Failure | None  # None: it held
    hash: str  # over every request, answer and event, in order
    virtual_ms: int  # to the end of the last deadline and tombstone
    real_s: float  # the only figure here that differs between two runs
    requests: int
    commits: int  # of the store: what requests, agent turns and timers changed
    answers: Mapping[str, Mapping[str, int]]  # operation -> status ("lost": no answer came) -> how many
    limits_hit: Mapping[str, int]  # scope -> 429s
    sessions_begun: int
    sessions_ended: Mapping[str, int]  # inactivity, max_duration, ended
    events: Mapping[str, int]  # type -> frames that listeners got
    bands: Sequence[Band]
    struck: Mapping[str, int]  # what the faults did, and how often
    people: Mapping[str, int]  # character -> how many
    live_sessions: Sequence[int]
    requests_by_minute: Mapping[str, Sequence[int]]  # operation -> per minute
    refusals_by_minute: Mapping[str, Sequence[int]]  # operation -> 429s per minute
    lateness_ms: Mapping[int, int]  # how late expiries were on the disk -> how many
    worst: Sequence[Exchange]  # the longest waits, longest first

    @property
    def requests_a_second(self) -> float:
        return self.requests / self.real_s if self.real_s else 0.0


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON would have it: the fields of `Outcome`, named tuples as objects."""
    body = asdict(outcome)
    violation = outcome.violation
    body["held"] = violation is None
    body["repro"] = outcome.settings.repro
    body["bands"] = [band._asdict() for band in outcome.bands]
    body["worst"] = [exchange._asdict() for exchange in outcome.worst]
    body["lateness_ms"] = {str(late): count for late, count in outcome.lateness_ms.items()}
    body["violation"] = violation and {
        **violation._asdict(),
        "evidence": [
            {**one.exchange._asdict(), "request": one.request, "answer": one.answer}
            for one in violation.evidence
        ],
    }
    return body
