"""The oracle as a library, for one sliding limit of any API: what was seen in, what is proven out.

An admission is an unknown instant between a request and its answer; what is said here holds for every instant in
between. Knows neither HTTP nor the API. See `oracle.window` for the bounds.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vigil.loadtests.oracle.window import Window

Outcome = Literal["admitted", "refused", "unknown"]

FINDINGS_MAX = 10  # that are told in words


class Seen(NamedTuple):
    """One request. Instants are seconds of one clock; `retry_after_s` is what a refusal promised."""

    subject: str
    sent_s: float
    received_s: float
    outcome: Outcome
    retry_after_s: float | None = None


@dataclass
class Judgement:
    """Counts, and the first findings in words. `reached` says whether some window was surely full."""

    admitted: int = 0
    refused: int = 0
    unknown: int = 0
    over_admitted: int = 0
    falsely_refused: int = 0
    retry_early: int = 0
    retry_late: int = 0
    undecided: int = 0
    reached: bool = False
    findings: list[str] = field(default_factory=list)

    @property
    def is_proven_wrong(self) -> bool:
        return bool(self.over_admitted or self.falsely_refused or self.retry_early or self.retry_late)

    def found(self, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)


def judge(seen: Iterable[Seen], requests: int, window_s: float, slack_s: float = 0.001) -> Judgement:
    """Prove what can be proven. Nothing but what is in `seen` may have counted for these subjects."""
    judgement = Judgement()
    by_subject: defaultdict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_subject[one.subject].append(one)
    for subject, all_ in by_subject.items():
        _judge_subject(judgement, subject, all_, _window(all_, requests, window_s, slack_s))
    return judgement


def _window(seen: Sequence[Seen], requests: int, window_s: float, slack_s: float) -> Window:
    window = Window(requests, window_s, slack_s)
    sure = [one for one in seen if one.outcome == "admitted"]
    maybe = [one for one in seen if one.outcome != "refused"]
    window.sure_sent = sorted(one.sent_s for one in sure)
    window.sure_received = sorted(one.received_s for one in sure)
    window.all_sent = sorted(one.sent_s for one in maybe)
    window.all_received = sorted(
        one.received_s if one.outcome == "admitted" else float("inf") for one in maybe
    )
    return window


def _judge_subject(judgement: Judgement, subject: str, seen: Sequence[Seen], window: Window) -> None:
    judgement.admitted += sum(one.outcome == "admitted" for one in seen)
    judgement.unknown += sum(one.outcome == "unknown" for one in seen)
    over = list(window.over())
    judgement.over_admitted += len(over)
    judgement.undecided += max(0, window.undecided() - len(over))
    judgement.reached |= bool(over) or window.was_full()
    if over:
        worst = max(over)
        judgement.found(
            f"{subject}: {worst.admitted} admitted within {window.length_s:g} s, not {window.requests}: "
            f"the first sent at {worst.first_s:.3f} s, the last answered at {worst.last_s:.3f} s"
        )
    for one in seen:
        if one.outcome == "refused":
            judgement.refused += 1
            _judge_refusal(judgement, one, window)


def _judge_refusal(judgement: Judgement, one: Seen, window: Window) -> None:
    most = window.most(one.sent_s, one.received_s)
    if most < window.requests:
        judgement.falsely_refused += 1
        judgement.found(
            f"{one.subject}: refused at {one.sent_s:.3f} s while at most {most} of {window.requests} were in the window"
        )
        return
    if window.fewest(one.sent_s, one.received_s) < window.requests:
        judgement.undecided += 1
    wait = window.wait(one.sent_s, one.received_s)
    if one.retry_after_s is None or wait is None:
        return
    if one.retry_after_s < wait.least_s:
        judgement.retry_early += 1
        judgement.found(
            f"{one.subject}: told at {one.sent_s:.3f} s to wait {one.retry_after_s:g} s, and it stays full for "
            f"{wait.least_s:.3f} s at least"
        )
    elif one.retry_after_s - 1 >= wait.most_s:
        judgement.retry_late += 1
        judgement.found(
            f"{one.subject}: told at {one.sent_s:.3f} s to wait {one.retry_after_s:g} s, and there is room after "
            f"{wait.most_s:.3f} s at most"
        )
