"""Counts of what happened, as plain numbers.

Owns the numbers; refuses to know a metrics format. Counting is on every request's path, so it is an addition to a dict;
names, labels and cumulative buckets are made when somebody reads them.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

from vigil.actors.core.events import Broadcast, Event, Expired

LATENESS_BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 1000)
MAILBOX_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

_BEYOND = float("inf")
_DETAIL: dict[type, Callable[[Any], str]] = {
    Expired: lambda expired: expired.reason,
    Broadcast: lambda broadcast: "agent" if broadcast.message.is_agent else "user",
}


class Counters:
    """Histograms count by a bucket's upper bound, with `inf` for what is beyond the last."""

    def __init__(self) -> None:
        self.events: Counter[tuple[type, str]] = Counter()  # by type and detail
        self.lateness: Counter[float] = Counter()  # of expiries, in ms
        self.lateness_sum_ms = 0
        self.depths: Counter[int] = Counter()  # how many commands an actor took up at once, and how often
        self.crashes = 0

    def note(self, event: Event) -> None:
        data = event.data
        kind = type(data)
        self.events[kind, _DETAIL[kind](data) if kind in _DETAIL else ""] += 1
        if kind is Expired:
            self._note_lateness(event.at - data.expired_at)  # type: ignore[union-attr]

    def _note_lateness(self, late_ms: int) -> None:
        self.lateness[_bucket(LATENESS_BUCKETS_MS, late_ms)] += 1
        self.lateness_sum_ms += late_ms

    def depth(self) -> tuple[Counter[float], int]:
        """Of mailboxes, when they were emptied: a histogram, and the sum."""
        buckets: Counter[float] = Counter()
        for depth, times in self.depths.items():
            buckets[_bucket(MAILBOX_BUCKETS, depth)] += times
        return buckets, sum(depth * times for depth, times in self.depths.items())


def _bucket(bounds: tuple[int, ...], value: int) -> float:
    return bounds[bisect_left(bounds, value)] if value <= bounds[-1] else _BEYOND
