"""The verdict: what one run has shown, as a list of checks, and the exit code, which is decided here and nowhere else.

Owns what is checked, in which order, and with which exit code a check fails. Knows no Locust; what a person reads on
the terminal is `verdict_text.py`, the page is `report.py`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from loadtests.observation import Scope
from loadtests.oracle_tally import Judgement, Kind, Tally
from loadtests.percentiles import Histogram, Measurements
from loadtests.thresholds import Outcome, Threshold, evaluate
from scenarios.junit import Case

CPU_SHARE_MAX = 0.9  # of one core, by one generating process
LAG_P99_S_MAX = 0.1  # of requests that could have been sent: later than that is the generator's own doing
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)


class Exit(IntEnum):
    """Exit codes of `vigil load`. 2 is a command line that cannot be run."""

    HELD = 0
    FAILED = 1
    USAGE = 2
    OVERLOADED = 3
    UNREACHABLE = 4


class Run(NamedTuple):
    """What was run. `must_reach` are the limits that the traffic was there to fill."""

    profile: str
    target: str
    people: int
    seconds: float
    scale: float = 1.0
    must_reach: Collection[Scope] = ()


class Generator(NamedTuple):
    """How the generating side did. `cpu_share` is the most that one process used for some seconds, 1.0 a whole core.

    `unreachable` says why nothing could be sent at all, "" otherwise. `acknowledged` messages were looked for at the
    end, `lost` of them were not there.
    """

    cpu_share: float = 0.0
    unreachable: str = ""
    errors: Mapping[str, int] = MappingProxyType({})
    acknowledged: int = 0
    lost: int = 0


class Check(NamedTuple):
    """One thing that must hold. `problem` is "" when it does, `code` the exit code when it does not."""

    name: str
    problem: str = ""
    code: Exit = Exit.FAILED
    skipped: str = ""


class Verdict:
    """What came out of one run. The first check that failed decides the exit code.

    A proof against a limit comes before an overloaded generator, for it is one however slow the generator was; the
    thresholds come after it, for then they measure the wrong thing.
    """

    def __init__(
        self,
        run: Run,
        judgement: Judgement,
        measured: Measurements,
        thresholds: Iterable[Threshold],
        generator: Generator = Generator(),  # noqa: B008 - a value, never changed
    ) -> None:
        self.run = run
        self.judgement = judgement
        self.measured = measured
        self.generator = generator
        undecided = _undecided(judgement)
        self.outcomes = tuple(evaluate(threshold, measured, undecided) for threshold in thresholds)
        self.checks = tuple(self._checks())

    @property
    def exit_code(self) -> Exit:
        return next((check.code for check in self.checks if check.problem), Exit.HELD)

    @property
    def problems(self) -> list[str]:
        """One sentence for each check that failed."""
        return [f"{check.name}: {check.problem}" for check in self.checks if check.problem]

    def cases(self) -> list[Case]:
        """For `scenarios.junit.junit`."""
        return [Case(check.name, 0.0, check.problem or None, check.skipped or None) for check in self.checks]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values. Times are seconds, shares 0 to 1."""
        measured = self.measured
        return {
            "profile": self.run.profile,
            "target": self.run.target,
            "people": self.run.people,
            "seconds": round(self.run.seconds, 3),
            "timeScale": self.run.scale,
            "exitCode": int(self.exit_code),
            "problems": self.problems,
            "limits": [_tally_json(tally) for tally in self.judgement.tallies],
            "observations": self.judgement.observations,
            "unjudged": self.judgement.unjudged,
            "operations": {
                name: {
                    "requests": found.response.count,
                    "failed": found.failed,
                    "serviceTime": _times_json(found.service),
                    "responseTime": _times_json(found.response),
                }
                for name, found in sorted({**measured.operations, "": measured.all_operations()}.items())
            },
            "requestsPerSecond": measured.sent / measured.duration_s() if measured.sent else 0.0,
            "due": measured.due.due,
            "neverSent": measured.due.unsent,
            "generator": {
                "lag": _times_json(measured.lag),
                "cpuShare": round(self.generator.cpu_share, 3),
            },
            "messages": {"acknowledged": self.generator.acknowledged, "lost": self.generator.lost},
            "errors": dict(self.generator.errors),
            "thresholds": [_outcome_json(outcome) for outcome in self.outcomes],
        }

    def _checks(self) -> Iterator[Check]:
        yield Check("the target answers", self.generator.unreachable, Exit.UNREACHABLE)
        yield Check(
            "samples were taken", "" if self.measured.sent else "there are none: nothing was measured"
        )
        for tally in self.judgement.tallies:
            yield from _limit_checks(tally)
        yield self._messages()
        yield Check("the generator keeps up", self._overload(), Exit.OVERLOADED)
        for tally in self.judgement.tallies:
            if tally.scope in self.run.must_reach:
                yield Check(f"{_title(tally)}: brought to its edge", "" if tally.is_reached else _NOT_REACHED)
        for outcome in self.outcomes:
            yield Check(
                f"threshold {outcome.threshold.text}", "" if outcome.held else f"it was {outcome.shown}"
            )

    def _messages(self) -> Check:
        acknowledged, lost = self.generator.acknowledged, self.generator.lost
        problem = f"{lost} of {acknowledged} could not be read back" if lost else ""
        skipped = "" if acknowledged else "none was looked for"
        return Check("no acknowledged message is lost", problem, skipped=skipped)

    def _overload(self) -> str:
        """Why the figures are the generator's and not the server's; "" when they are not."""
        share, lag_s = self.generator.cpu_share, self.measured.lag.at(99)
        advice = "use more --processes or fewer --users"
        if share >= CPU_SHARE_MAX:
            return f"one of its processes used {share:.0%} of a core: {advice}"
        if lag_s is not None and lag_s > LAG_P99_S_MAX:
            return f"its requests went out {lag_s * 1000:.0f} ms late (p99): {advice}"
        return ""


_PROMISES: tuple[tuple[str, str, tuple[Kind, ...]], ...] = (
    ("over-admission", "over_admitted", ("over-admission",)),
    ("false refusal", "falsely_refused", ("false refusal",)),
    ("Retry-After", "retry_dishonest", ("Retry-After too early", "Retry-After too late")),
    ("RateLimit headers", "headers_wrong", ("wrong headers",)),
)
_NOT_REACHED = "no request came to it: send more, or for longer"


def _limit_checks(tally: Tally) -> Iterator[Check]:
    skipped = "" if tally.admitted or tally.refused else "no request counted for it"
    for promise, count, kinds in _PROMISES:
        proofs = [finding for finding in tally.findings if finding.kind in kinds]
        times, problem = getattr(tally, count), ""
        if times:
            subject = f" ({tally.scope} {proofs[0].subject})" if proofs[0].subject else ""
            problem = f"{_times(times)}: {proofs[0].text}{subject}"
        yield Check(f"{_title(tally)}: {promise}", problem, skipped=skipped)


def _title(tally: Tally) -> str:
    return f"{tally.scope} limit {tally.limit}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _undecided(judgement: Judgement) -> float | None:
    """Of the worst limit; None when nothing was judged."""
    shares = [tally.undecided_share for tally in judgement.tallies if tally.admitted or tally.refused]
    return max(shares, default=None)


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "scope": tally.scope,
        "limit": str(tally.limit),
        "reached": tally.is_reached,
        "admitted": tally.admitted,
        "refused": tally.refused,
        "overAdmitted": tally.over_admitted,
        "falselyRefused": tally.falsely_refused,
        "undecided": tally.undecided,
        "retryAfter": {
            "honest": tally.retry_honest,
            "tooEarly": tally.retry_early,
            "tooLate": tally.retry_late,
            "undecided": tally.retry_undecided,
        },
        "headers": {
            "right": tally.headers_right,
            "wrong": tally.headers_wrong,
            "undecided": tally.headers_undecided,
        },
        "findings": [finding._asdict() for finding in tally.findings],
    }


def _times_json(histogram: Histogram) -> dict[str, float | None]:
    times = {f"p{percent:g}": histogram.at(percent) for percent in PERCENTS}
    return {**times, "max": histogram.max_s if histogram.count else None, "mean": histogram.mean_s}


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {"threshold": outcome.threshold.text, "value": outcome.value, "held": outcome.held}
