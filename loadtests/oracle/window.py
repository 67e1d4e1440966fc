"""One window of one subject, as it can be known from outside: bounds on what no client sees.

An admission happened at an unknown instant of an interval [sent, received]. Of n such intervals the k-th instant in
order lies between the k-th smallest `sent` and the k-th smallest `received`, whichever request it was: two sorted
lists are all that is kept, and every bound is a bisection.

`sure` are the admissions that happened, `all` are these and what may have been admitted (a request without an
answer has the interval [sent, infinity)). Bounds from below use `sure`, bounds from above use `all`, so a maybe is
never held against the server. Times are seconds of session time. `slack_s` is what a server's own rounding of its
clock may move an instant against another.

Knows nothing of headers, answers and verdicts.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Bounds(NamedTuple):
    """A number of seconds that is known to lie between two."""

    least_s: float
    most_s: float


class Fill(NamedTuple):
    """At least and at most so many in a window, and at least and at most so long until one of them leaves."""

    fewest: int
    most: int
    least_s: float
    most_s: float


class Over(NamedTuple):
    """`admitted` requests, the first sent at `first_s` and the last answered at `last_s`, within one window."""

    admitted: int
    first_s: float
    last_s: float


class Window:
    """What is known of one subject's admissions. Fill with `sent` and `received` in ascending order, then ask."""

    __slots__ = ("all_received", "all_sent", "length_s", "requests", "slack_s", "sure_received", "sure_sent")

    def __init__(self, requests: int, length_s: float, slack_s: float) -> None:
        self.requests = requests
        self.length_s = length_s
        self.slack_s = slack_s
        self.sure_sent: list[float] = []
        self.sure_received: list[float] = []
        self.all_sent: list[float] = []
        self.all_received: list[float] = []

    def share(self) -> None:
        """Keep one pair of lists when nothing is uncertain, as is usual."""
        if len(self.all_sent) == len(self.sure_sent):
            self.all_sent, self.all_received = self.sure_sent, self.sure_received

    def most(self, sent_s: float, received_s: float) -> int:
        """At most so many can lie in (t - length, t], for any t of the interval."""
        begun = bisect_right(self.all_sent, received_s)
        return begun - bisect_right(self.all_received, sent_s - self.length_s - self.slack_s)

    def fewest(self, sent_s: float, received_s: float) -> int:
        """At least so many lie in (t - length, t], for every t of the interval; the asker is not counted."""
        done = bisect_left(self.sure_received, sent_s)
        return max(0, done - bisect_left(self.sure_sent, received_s - self.length_s + self.slack_s))

    def wait(self, sent_s: float, received_s: float) -> Bounds | None:
        """How long after t, an instant of the interval, a full window has room again; None when it is not full.

        It is full until the newest `requests` before t are one fewer.
        """
        most = bisect_right(self.all_sent, received_s) - self.requests
        if most < 0:
            return None
        newest_s = min(self.all_received[most], received_s)
        sure = bisect_left(self.sure_received, sent_s) - self.requests
        least_s = self.sure_sent[sure] + self.length_s - received_s - self.slack_s if sure >= 0 else 0.0
        return Bounds(max(0.0, least_s), newest_s + self.length_s - sent_s + self.slack_s)

    def fill(self, sent_s: float, received_s: float, is_admitted: bool) -> Fill:
        """How full it is at t, an instant of the interval, and how long until one leaves.

        `is_admitted` is whether the asker was: then it is in the window. The wait means nothing when `fewest` is 0.
        """
        gone = bisect_right(self.all_received, sent_s - self.length_s - self.slack_s)
        may_be_gone = bisect_right(self.sure_sent, received_s - self.length_s + self.slack_s)
        most = bisect_right(self.all_sent, received_s) - gone
        fewest = max(0, bisect_left(self.sure_received, sent_s) - may_be_gone) + is_admitted
        if not fewest:
            return Fill(0, most, 0.0, 0.0)
        oldest_s = self.all_sent[gone]
        newest_s = received_s
        if may_be_gone < len(self.sure_received):
            newest_s = min(newest_s, self.sure_received[may_be_gone])
        least_s = oldest_s + self.length_s - self.slack_s - received_s
        return Fill(fewest, most, least_s, newest_s + self.length_s + self.slack_s - sent_s)

    def is_quiet(self, since_s: float, until_s: float) -> bool:
        """Whether surely nothing was admitted between two instants."""
        return bisect_right(self.all_sent, until_s) == bisect_left(self.all_received, since_s)

    def surely_admitted(self, after_s: float, until_s: float) -> bool:
        """Whether something was surely admitted between two instants."""
        return bisect_right(self.sure_received, until_s) > bisect_right(self.sure_sent, after_s)

    def was_full(self) -> bool:
        """Whether the limit was surely reached within some window."""
        length_s = self.length_s - self.slack_s
        last_of_full = self.sure_received[self.requests - 1 :]
        return any(last - first < length_s for first, last in zip(self.sure_sent, last_of_full, strict=False))

    def over(self) -> Iterator[Over]:
        """Each admission that makes more than `requests` within one window, wherever in their intervals they lie."""
        sent, received, limit = self.sure_sent, self.sure_received, self.requests
        length_s = self.length_s - self.slack_s
        for first, first_s in enumerate(sent[: max(0, len(sent) - limit)]):
            if received[first + limit] - first_s < length_s:
                last = bisect_left(received, first_s + length_s) - 1
                yield Over(last - first + 1, first_s, received[last])

    def undecided(self) -> int:
        """Admissions of which nobody can say whether they were one too many; those of `over` are among them."""
        sent, received, limit = self.all_sent, self.all_received, self.requests
        length_s = self.length_s + self.slack_s
        later = sent[limit:]
        return sum(
            sent_s - received_s < length_s for sent_s, received_s in zip(later, received, strict=False)
        )
