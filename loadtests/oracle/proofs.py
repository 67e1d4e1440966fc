"""The proofs themselves: each observation against the windows that it names, in one walk over the log.

Fills one tally for each limit. Knows nothing of where observations come from and of what a verdict makes of them.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from math import ceil

from vigil.loadtests.oracle.answers import Standing
from vigil.loadtests.oracle.findings import Tally
from vigil.loadtests.oracle.log import NONE, Case, Log, Windows
from vigil.loadtests.oracle.window import Bounds, Over, Window
from vigil.loadtests.people.observation import SCOPES

_SOON_S = 0.001  # a wait is never shorter: a refused request waits at least a millisecond


class Trial:
    """One judgement of one log. What was received after `unseen_from_s` is left alone: requests are missing there."""

    def __init__(
        self, log: Log, windows: Windows, tallies: Sequence[Tally], unseen_from_s: float, slack_s: float
    ) -> None:
        self._log = log
        self._windows = windows
        self._tallies = tallies
        self._unseen_from_s = unseen_from_s
        self._slack_s = slack_s
        self._begin_s = log.begin_s
        self._has_several_clocks = any(subjects.of_several_clocks for subjects in log.subjects)
        self._refusals: defaultdict[tuple[int, int, int], tuple[list[float], list[float]]]
        self._refusals = defaultdict(lambda: ([], []))

    def run(self) -> int:
        """Fill the tallies. Gives the number of observations that were left alone."""
        for place in range(len(SCOPES)):
            self._count_admissions(place)
        for case in self._log.cases(Standing.REFUSED):
            sent, received = self._refusals[case.subjects]
            sent.append(case.sent_s)
            received.append(case.received_s)
        return sum(not self._judge(case) for case in self._log.cases(Standing.ADMITTED, Standing.REFUSED))

    def _count_admissions(self, place: int) -> None:
        """Over-admission, and what might be, of all windows of one scope."""
        tally, subjects = self._tallies[place], self._log.subjects[place]
        worst: list[tuple[Over, int]] = []
        for number, window in enumerate(self._windows[place]):
            if number in subjects.of_several_clocks:
                continue
            over = list(window.over())
            tally.over_admitted += len(over)
            tally.undecided += max(0, window.undecided() - len(over))
            tally.was_full |= bool(over) or window.was_full()
            if over:
                worst.append((max(over), number))
        for most, number in sorted(worst, reverse=True):
            tally.found("over-admission", subjects.names[number], self._over(tally, most))

    def _judge(self, case: Case) -> bool:
        """Judge one answer. False when it had to be left alone."""
        if case.received_s >= self._unseen_from_s:
            return False
        places = known = [place for place, number in enumerate(case.subjects) if number != NONE]
        if self._has_several_clocks:
            known = [place for place in places if not self._is_of_several_clocks(place, case)]
        for place in known:
            self._judge_rate(place, case)
            if case.is_admitted:
                self._tallies[place].admitted += 1
        if not case.is_admitted and (known == places or case.named in known):
            self._judge_refusal(case, known)
        return known == places

    # --- RateLimit

    def _judge_rate(self, place: int, case: Case) -> None:
        tally, wrong = self._tallies[place], _wrong_rate(place, case, self._window(place, case))
        if wrong is None:
            tally.headers_right += 1
        elif not wrong:
            tally.headers_undecided += 1
        else:
            tally.headers_wrong += 1
            tally.found("wrong headers", self._subject(place, case), f"{wrong}: {self._when(case)}")

    # --- 429

    def _judge_refusal(self, case: Case, places: list[int]) -> None:
        """A 429 stands or falls with the limit that it names; one that names none, with all of them."""
        if case.named != NONE and case.subjects[case.named] == NONE:
            tally = self._tallies[case.named]
            tally.refused += 1
            tally.falsely_refused += 1
            text = f"named by a 429 to a request that does not count for it: {self._when(case)}"
            tally.found("false refusal", "", text)
            return
        asked = places if case.named == NONE else [case.named]
        windows = [self._window(place, case) for place in asked]
        most = [window.most(case.sent_s, case.received_s) for window in windows]
        nearest = max(range(len(asked)), key=lambda at: most[at] / windows[at].requests)
        place, tally = asked[nearest], self._tallies[asked[nearest]]
        tally.refused += 1
        if all(count < window.requests for count, window in zip(most, windows, strict=True)):
            tally.falsely_refused += 1
            text = (
                f"refused while at most {most[nearest]} of {tally.limit.requests} could be in any window of "
            )
            text += f"{tally.limit.window}: {self._when(case)}"
            tally.found("false refusal", self._subject(place, case), text)
            return
        if not any(window.fewest(case.sent_s, case.received_s) >= window.requests for window in windows):
            tally.undecided += 1
        self._judge_retry(case, place, [self._window(each, case) for each in places], windows)

    def _judge_retry(self, case: Case, place: int, all_windows: list[Window], asked: list[Window]) -> None:
        """`asked` are the windows that may be the full one, one of them surely could be."""
        tally, subject = self._tallies[place], self._subject(place, case)
        if case.retry_s == NONE:
            tally.headers_wrong += 1
            tally.found(
                "wrong headers", subject, f"a 429 without a Retry-After in seconds: {self._when(case)}"
            )
            return
        waits = [window.wait(case.sent_s, case.received_s) for window in asked]
        least = [
            wait.least_s for window in all_windows if (wait := window.wait(case.sent_s, case.received_s))
        ]
        wait = Bounds(max(_SOON_S, *least), max(each.most_s for each in waits if each))
        early = _early(case, wait) or self._refused_again(case, all_windows)
        late = _late(case, wait) or self._admitted_before(case, asked)
        if early:
            tally.retry_early += 1
            tally.found("Retry-After too early", subject, f"{early}: {self._when(case)}")
        elif late:
            tally.retry_late += 1
            tally.found("Retry-After too late", subject, f"{late}: {self._when(case)}")
        elif ceil(wait.least_s) == ceil(wait.most_s):
            tally.retry_honest += 1
        else:
            tally.retry_undecided += 1

    def _refused_again(self, case: Case, windows: list[Window]) -> str:
        """The same request surely after Retry-After, with nothing in between, and yet refused."""
        promised_s = case.received_s + case.retry_s + self._slack_s
        sent, received = self._refusals[case.subjects]
        later = bisect_left(sent, promised_s)
        if later == len(sent) or received[later] >= self._unseen_from_s:
            return ""
        if not all(window.is_quiet(case.sent_s, received[later]) for window in windows):
            return ""
        after_s = sent[later] - case.received_s
        return f"Retry-After {case.retry_s}, and refused again {after_s:.3f} s later with nothing in between"

    def _admitted_before(self, case: Case, windows: list[Window]) -> str:
        """Another request for the full window, a whole second or more before Retry-After, and yet admitted."""
        until_s = case.sent_s + case.retry_s - 1 - self._slack_s
        if len(windows) != 1 or not windows[0].surely_admitted(case.received_s, until_s):
            return ""
        return f"Retry-After {case.retry_s}, and a request was admitted more than a second before that"

    # --- words

    def _over(self, tally: Tally, worst: Over) -> str:
        first_s, last_s = worst.first_s - self._begin_s, worst.last_s - self._begin_s
        return (
            f"{worst.admitted} admitted within {tally.limit.window}, whatever the network did: the first was sent at "
            f"{first_s:.3f} s, the last was answered at {last_s:.3f} s"
        )

    def _when(self, case: Case) -> str:
        return f"sent at {case.sent_s - self._begin_s:.3f} s, answered at {case.received_s - self._begin_s:.3f} s"

    # --- who

    def _window(self, place: int, case: Case) -> Window:
        return self._windows[place][case.subjects[place]]

    def _subject(self, place: int, case: Case) -> str:
        return self._log.subjects[place].names[case.subjects[place]]

    def _is_of_several_clocks(self, place: int, case: Case) -> bool:
        return case.subjects[place] in self._log.subjects[place].of_several_clocks


def _wrong_rate(place: int, case: Case, window: Window) -> str | None:
    """None when the limit's item in RateLimit is right, "" when it may be, else what is wrong with it."""
    remaining, reset_s = case.remaining[place], case.resets_s[place]
    if remaining == NONE:
        return "no RateLimit item that can be read"
    fewest, most, least_s, most_s = window.fill(case.sent_s, case.received_s, case.is_admitted)
    least_left, most_left = max(0, window.requests - most), max(0, window.requests - fewest)
    if not least_left <= remaining <= most_left:
        return f"r={remaining} where {_range(least_left, most_left)} are left"
    if not fewest:
        return "" if most else None  # an empty window has nothing to wait for
    if most > window.requests:
        return ""
    if not least_s <= reset_s < most_s + 1:
        return f"t={reset_s} where one more fits in {max(0.0, least_s):.3f} to {most_s:.3f} s"
    return None if most == fewest and ceil(least_s) == ceil(most_s) else ""


def _early(case: Case, wait: Bounds) -> str:
    if case.retry_s < wait.least_s:
        return f"Retry-After {case.retry_s} where it stays full for {wait.least_s:.3f} s at least"
    if case.retry_ms != NONE and case.retry_ms < wait.least_s * 1000 - 1:
        return f"retryAfterMs {case.retry_ms} where it stays full for {wait.least_s:.3f} s at least"
    if case.retry_ms != NONE and case.retry_s * 1000 < case.retry_ms:
        return f"Retry-After {case.retry_s} with retryAfterMs {case.retry_ms}"
    return ""


def _late(case: Case, wait: Bounds) -> str:
    if case.retry_s - 1 >= wait.most_s:
        return f"Retry-After {case.retry_s} where there is room after {wait.most_s:.3f} s at most"
    if case.retry_ms > wait.most_s * 1000 + 1:
        return f"retryAfterMs {case.retry_ms} where there is room after {wait.most_s:.3f} s at most"
    if case.retry_ms != NONE and case.retry_s * 1000 >= case.retry_ms + 1000:
        return f"Retry-After {case.retry_s} with retryAfterMs {case.retry_ms}"
    return ""


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"
