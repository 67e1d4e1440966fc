"""What the oracle says: one tally for each limit, with the proofs. Values only."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from vigil.loadtests.oracle.answers import Limit
from vigil.loadtests.people.observation import Scope

FINDINGS_MAX = 10  # kept of each kind for each limit; all are counted

Kind = Literal[
    "over-admission", "false refusal", "Retry-After too early", "Retry-After too late", "wrong headers"
]

KINDS: tuple[Kind, ...] = get_args(Kind)  # the gravest first


class Limits(NamedTuple):
    """What the server is said to keep, in the order of SCOPES."""

    session: Limit = Limit(60, 60)
    user: Limit = Limit(1000, 3600)
    agent: Limit = Limit(5000, 3600)


class Finding(NamedTuple):
    """One proof. `subject` is the session, user or agent; instants in `text` are session seconds of the run."""

    scope: Scope
    kind: Kind
    subject: str
    text: str


@dataclass(slots=True)
class Tally:
    """One limit's row. An admission counts for every limit it is charged to, a 429 for the limit that it names.

    `undecided` are admissions and refusals of which nobody can say whether they were right. `retry_*` count 429s by
    the honesty of their Retry-After, `headers_*` the limit's items in RateLimit and RateLimit-Policy.
    """

    scope: Scope
    limit: Limit
    admitted: int = 0
    refused: int = 0
    over_admitted: int = 0
    falsely_refused: int = 0
    undecided: int = 0
    retry_honest: int = 0
    retry_early: int = 0
    retry_late: int = 0
    retry_undecided: int = 0
    headers_right: int = 0
    headers_wrong: int = 0
    headers_undecided: int = 0
    was_full: bool = False  # some window surely was: without it nothing is known but that nobody was refused
    findings: list[Finding] = field(default_factory=list)

    @property
    def retry_dishonest(self) -> int:
        return self.retry_early + self.retry_late

    @property
    def violations(self) -> int:
        return self.over_admitted + self.falsely_refused + self.retry_dishonest + self.headers_wrong

    @property
    def is_reached(self) -> bool:
        """Whether the traffic came to its edge."""
        return self.was_full or self.refused > 0

    @property
    def undecided_share(self) -> float:
        """Of all admissions and refusals, 0 to 1."""
        return self.undecided / max(1, self.admitted + self.refused)

    def found(self, kind: Kind, subject: str, text: str) -> None:
        """Keep a proof, unless there are enough of its kind."""
        if sum(finding.kind == kind for finding in self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(self.scope, kind, subject, text))


class Course(NamedTuple):
    """How full one subject's window was: (instant, at least, at most) in it, and when it refused.

    The subject is the one that was refused most often. Instants are session seconds of the run.
    """

    scope: Scope
    limit: Limit
    subject: str
    points: tuple[tuple[float, int, int], ...]
    refusals: tuple[float, ...]


class Judgement(NamedTuple):
    """One tally for each limit, in the order of SCOPES; a course for each limit that a request counted for.

    `unjudged` came after the oracle was full, or are of users or agents that several clocks reported.
    """

    tallies: tuple[Tally, ...]
    observations: int
    unjudged: int
    courses: tuple[Course, ...] = ()

    @property
    def violations(self) -> int:
        return sum(tally.violations for tally in self.tallies)

    @property
    def findings(self) -> list[Finding]:
        return [finding for tally in self.tallies for finding in tally.findings]
