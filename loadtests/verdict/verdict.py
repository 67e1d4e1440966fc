"""The verdict: what one run has shown, as a list of checks, and the exit code, which is decided here and nowhere else.

Owns what is checked, in which order, and with which exit code a check fails. Knows no Locust; what a person reads on
the terminal is `verdict_text.py`, the page is `report.py`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from vigil.loadtests.oracle.findings import Judgement, Kind, Tally
from vigil.loadtests.people.observation import Scope
from vigil.loadtests.verdict.percentiles import Histogram, Measurements
from vigil.loadtests.verdict.thresholds import Outcome, Threshold, evaluate
from vigil.scenarios.reports.junit import Case

CPU_SHARE_MAX = 0.9  # of one core, by one generating process
LAG_P99_S_MAX = 0.1  # of requests that could have been sent: later than that is the generator's own doing
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)
REQUESTS_MIN = 100  # of fewer even the p99 is but the slowest one
UNSENT_SHARE_MAX = 0.1  # of what fell due, unless a threshold says what may be
EARLY_S_MAX = 1.0  # a run that ends so much before its time has ended in time


class Exit(IntEnum):
    """Exit codes of `vigil load`. 2 is a command line that cannot be run; an interrupt is 128 and the signal."""

    HELD = 0
    FAILED = 1
    USAGE = 2
    OVERLOADED = 3
    UNREACHABLE = 4
    INCOMPLETE = 5


WORDS: Mapping[Exit, str] = MappingProxyType(
    {
        Exit.HELD: "held",
        Exit.FAILED: "failed",
        Exit.OVERLOADED: "generator overloaded",
        Exit.UNREACHABLE: "target not reachable",
        Exit.INCOMPLETE: "incomplete",
    }
)
NOT_REACHED = "not reached"

_SIGNALLED = 128


class Ending(NamedTuple):
    """How a run ended. `planned_s` is 0 where the people decide when it is over; `planned_people` 0 where nobody said.

    `signal` is the number of the signal that ended it, 0 for none; `lost` says what of the run was never heard of.
    """

    planned_s: float = 0.0
    planned_people: int = 0
    came: int = 0
    signal: int = 0
    lost: str = ""


class Run(NamedTuple):
    """What was run. `must_reach` are the limits that the traffic was there to fill."""

    profile: str
    target: str
    people: int
    seconds: float
    scale: float = 1.0
    must_reach: Collection[Scope] = ()
    ending: Ending = Ending()


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
    thresholds come after it, for then they measure the wrong thing. A run that is not whole proves what it proves, and
    cannot be said to have held. What was seen and lost on the way, though, could be what a proof rests on.
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
    def result(self) -> Exit:
        return next((check.code for check in self.checks if check.problem), Exit.HELD)

    @property
    def exit_code(self) -> int:
        """That of the result; of an interrupted run, whatever it has shown, that of the signal."""
        signal = self.run.ending.signal
        return _SIGNALLED + signal if signal else self.result

    @property
    def word(self) -> str:
        return WORDS[self.result]

    @property
    def problems(self) -> list[str]:
        """One sentence for each check that failed."""
        return [f"{check.name}: {check.problem}" for check in self.checks if check.problem]

    def cases(self) -> list[Case]:
        """For `scenarios.reports.junit.junit`."""
        return [_case(check) for check in self.checks]

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values. Times are seconds, shares 0 to 1."""
        measured = self.measured
        return {
            "profile": self.run.profile,
            "target": self.run.target,
            "people": self.run.people,
            "seconds": round(self.run.seconds, 3),
            "timeScale": self.run.scale,
            "verdict": self.word,
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
        yield Check("nothing that was seen is missing", self.run.ending.lost, Exit.INCOMPLETE)
        for tally in self.judgement.tallies:
            yield from _limit_checks(tally)
        yield self._messages()
        cut = self._cut()
        yield Check("the run went to its end", cut, Exit.INCOMPLETE)
        yield Check("the generator keeps up", self._overload(), Exit.OVERLOADED)
        yield from self._of_a_whole_run() if not cut else ()
        for outcome in self.outcomes:
            if outcome.value is not None or not cut:
                problem = "" if outcome.held else f"it was {outcome.shown}"
                yield Check(f"threshold {outcome.threshold.text}", problem)

    def _of_a_whole_run(self) -> Iterator[Check]:
        """What a run that went to its end must have had before anything can be said to have held in it."""
        ending = self.run.ending
        yield Check("enough was measured", self._starved(), Exit.INCOMPLETE)
        missing = f"{ending.came} of {ending.planned_people}" if ending.came < ending.planned_people else ""
        yield Check("everybody came", missing, Exit.INCOMPLETE)
        for tally in self.judgement.tallies:
            if tally.scope in self.run.must_reach:
                problem = "" if tally.is_reached else "no request came to it: send more, or for longer"
                yield Check(f"{_title(tally)}: brought to its edge", problem, Exit.INCOMPLETE)

    def _cut(self) -> str:
        """Why the run is not whole; "" when it is."""
        ending, ran_s = self.run.ending, self.run.seconds
        of = f" of {ending.planned_s:.0f} s" if ending.planned_s else ""
        after = f"after {ran_s:.0f} s{of}, with {_requests(self.measured.sent)} sent"
        if ending.signal:
            return f"interrupted {after}"
        return f"it ended {after}" if ran_s < ending.planned_s - EARLY_S_MAX else ""

    def _starved(self) -> str:
        """Why what was measured is too little to say anything; "" when it is not."""
        due, unsent = self.measured.due
        if self.measured.sent < REQUESTS_MIN:
            return _too_few(self.measured.sent)
        is_bounded = any(outcome.threshold.metric == "unsent" for outcome in self.outcomes)
        if unsent > UNSENT_SHARE_MAX * due and not is_bounded:
            return f"{unsent} of {due} requests that fell due were never sent: the people still waited for answers"
        return ""

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
_SHOWN_UNREACHED = (
    "headers_wrong"  # every answer shows its headers; the other promises bind at the edge alone
)
_NOT_THE_SERVERS = frozenset({Exit.OVERLOADED, Exit.UNREACHABLE, Exit.INCOMPLETE})


def state(tally: Tally) -> str:
    """A limit in a word: failed, held, or not reached, which says nothing about it."""
    if tally.violations:
        return WORDS[Exit.FAILED]
    return WORDS[Exit.HELD] if tally.is_reached else NOT_REACHED


def _case(check: Check) -> Case:
    """JUnit tells a failure of what was tested from a test that could not be carried out."""
    if check.problem and check.code in _NOT_THE_SERVERS:
        return Case(check.name, 0.0, error=f"{WORDS[check.code]}: {check.problem}")
    return Case(check.name, 0.0, check.problem or None, check.skipped or None)


def _too_few(sent: int) -> str:
    if not sent:
        return "there are no samples: nothing was measured"
    advice = "more --users, a longer --run-time, or a server with a higher --time-scale"
    return f"{_requests(sent)}, and fewer than {REQUESTS_MIN} say nothing: {advice}"


def _requests(count: int) -> str:
    return "one request" if count == 1 else f"{count or 'no'} requests"


def _limit_checks(tally: Tally) -> Iterator[Check]:
    for promise, count, kinds in _PROMISES:
        is_shown = tally.is_reached or (count == _SHOWN_UNREACHED and tally.admitted)
        skipped = "" if is_shown else NOT_REACHED
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
        "verdict": state(tally),
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
