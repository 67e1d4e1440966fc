"""Counts of what happened, as plain numbers: whoever wants metrics reads them here, off the way of requests."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from typing import Any

from actors.events import Broadcast, Event, Expired

LATENESS_BUCKETS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 1000)
MAILBOX_BUCKETS = (1, 2, 4, 8, 16, 32, 64)

_BEYOND = float("inf")
_DETAIL: dict[type, Callable[[Any], str]] = {
    Expired: lambda expired: expired.reason,
    Broadcast: lambda broadcast: "agent" if broadcast.message.is_agent else "user",
}


class Tally:
    """Histograms count by a bucket's upper bound, with `inf` for what is beyond the last."""

    def __init__(self) -> None:
        self.events: Counter[tuple[type, str]] = Counter()  # by type and detail
        self.lateness: Counter[float] = Counter()  # of expiries, in ms
        self.lateness_sum_ms = 0
        self.depth: Counter[float] = Counter()  # of mailboxes, when they were emptied
        self.depth_sum = 0
        self.crashes = 0

    def note(self, event: Event) -> None:
        kind = type(event.data)
        detail = _DETAIL.get(kind)
        self.events[kind, detail(event.data) if detail else ""] += 1
        if isinstance(event.data, Expired):
            late_ms = event.at - event.data.expired_at
            self.lateness[_bucket(LATENESS_BUCKETS_MS, late_ms)] += 1
            self.lateness_sum_ms += late_ms

    def note_depth(self, depth: int) -> None:
        self.depth[_bucket(MAILBOX_BUCKETS, depth)] += 1
        self.depth_sum += depth


def _bucket(bounds: tuple[int, ...], value: int) -> float:
    return bounds[bisect_left(bounds, value)] if value <= bounds[-1] else _BEYOND
