"""Latencies to three significant digits, in little memory, mergeable over workers; and what else is measured.

Owns the histogram (HDR-style: buckets one part in 1024 of their value wide), the record of each operation, and the
course of the run second by second. Knows nothing of Locust, limits or verdicts. Own code and not the `hdrhistogram`
package: that is dense (200 KB a histogram, and there is one for every second), and needs pbr and setuptools to run.

Service time is from the first byte out to the head of the answer; response time is from when the request was due
(open model: a request that could not be sent in time has waited, and that waiting counts). Lag is how late the
generator itself was.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

_WHOLE = 100  # percent
_FINE = 2048  # below it every microsecond has its own bucket; above it 1024 to 2047 parts of a power of two
_FINE_BITS = _FINE.bit_length() - 1


class Histogram:
    """Counts of durations, in seconds. Every percentile is within half a part in a thousand; the maximum is exact."""

    __slots__ = ("_counts", "count", "max_s", "sum_s")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.max_s = 0.0
        self.sum_s = 0.0

    def record(self, duration_s: float) -> None:
        self._counts[_bucket(max(0, round(duration_s * 1e6)))] += 1
        self.count += 1
        self.sum_s += duration_s
        self.max_s = max(self.max_s, duration_s)

    def merge(self, other: "Histogram") -> None:
        self._counts.update(other._counts)
        self.count += other.count
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    @property
    def mean_s(self) -> float | None:
        return self.sum_s / self.count if self.count else None

    def at(self, percent: float) -> float | None:
        """The least recorded duration that `percent` (0-100) of all do not exceed; None without any."""
        if not self.count:
            return None
        if percent >= _WHOLE:
            return self.max_s
        rank, seen = percent / _WHOLE * self.count, 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                return min(_middle_us(bucket) / 1e6, self.max_s)
        return self.max_s

    def to_json(self) -> Json:
        return {"counts": list(self._counts.items()), "max_s": self.max_s, "sum_s": self.sum_s}

    @classmethod
    def from_json(cls, data: Json) -> "Histogram":
        histogram = cls()
        histogram._counts = Counter(dict(data["counts"]))
        histogram.count = histogram._counts.total()
        histogram.max_s, histogram.sum_s = data["max_s"], data["sum_s"]
        return histogram


class Operation:
    """What was measured of one operation."""

    __slots__ = ("failed", "response", "service")

    def __init__(self) -> None:
        self.service = Histogram()
        self.response = Histogram()
        self.failed = 0

    def merge(self, other: "Operation") -> None:
        self.service.merge(other.service)
        self.response.merge(other.response)
        self.failed += other.failed

    def to_json(self) -> Json:
        return {"service": self.service.to_json(), "response": self.response.to_json(), "failed": self.failed}

    @classmethod
    def from_json(cls, data: Json) -> "Operation":
        operation = cls()
        operation.service = Histogram.from_json(data["service"])
        operation.response = Histogram.from_json(data["response"])
        operation.failed = data["failed"]
        return operation


class Second:
    """What ended within one second of the run (or several, merged). `refused` counts 429s by scope."""

    __slots__ = ("failed", "refused", "response")

    def __init__(self) -> None:
        self.response = Histogram()
        self.failed = 0
        self.refused: Counter[str] = Counter()

    def merge(self, other: "Second") -> None:
        self.response.merge(other.response)
        self.failed += other.failed
        self.refused.update(other.refused)

    def to_json(self) -> Json:
        return {"response": self.response.to_json(), "failed": self.failed, "refused": dict(self.refused)}

    @classmethod
    def from_json(cls, data: Json) -> "Second":
        second = cls()
        second.response = Histogram.from_json(data["response"])
        second.failed = data["failed"]
        second.refused = Counter(data["refused"])
        return second


class Due(NamedTuple):
    """Paced requests: how many fell due, and how many of them were never sent."""

    due: int
    unsent: int


class Measurements:
    """All that is measured besides the limits. A worker records and drains; the master absorbs.

    Seconds are whole seconds of the clock that `ended_s` is of, which all workers of one machine share.
    """

    def __init__(self) -> None:
        self._clear()

    def record(
        self,
        ended_s: float,
        operation: str,
        service_s: float,
        response_s: float,
        *,
        lag_s: float = 0.0,
        failed: bool = False,
        refused: str = "",
    ) -> None:
        """One request that ended at `ended_s`. `failed` is an answer nobody wanted, or none; a 429 sought is not.

        `refused` is the scope of a 429, "" for any other answer.
        """
        self.sent += 1
        self.lag.record(max(0.0, lag_s))
        found = self.operations.get(operation) or self.operations.setdefault(operation, Operation())
        found.service.record(service_s)
        found.response.record(response_s)
        second = self.seconds.get(int(ended_s)) or self.seconds.setdefault(int(ended_s), Second())
        second.response.record(response_s)
        if failed:
            found.failed += 1
            second.failed += 1
        if refused:
            second.refused[refused] += 1

    def goes_on(self, now_s: float) -> None:
        """The run lasts at `now_s`, though nothing may have ended for long."""
        self.seconds.setdefault(int(now_s), Second())

    def never_sent(self, requests: int) -> None:
        """So many fell due, and the run ended or their person left before they could be sent."""
        self.unsent += requests

    @property
    def due(self) -> Due:
        return Due(self.sent + self.unsent, self.unsent)

    @property
    def failed(self) -> int:
        return sum(operation.failed for operation in self.operations.values())

    def all_operations(self) -> Operation:
        """Every operation as one."""
        whole = Operation()
        for operation in self.operations.values():
            whole.merge(operation)
        return whole

    def duration_s(self) -> int:
        """From the first second to the last, both counted, whatever ended in them."""
        return max(self.seconds) - min(self.seconds) + 1 if self.seconds else 0

    def course(self, points_max: int) -> Iterator[tuple[int, int, Second]]:
        """The run as at most `points_max` stretches: begin (seconds since the first), length, what ended."""
        if not self.seconds:
            return
        start = min(self.seconds)
        step = -(-self.duration_s() // points_max)
        for begin in range(0, self.duration_s(), step):
            stretch = Second()
            for second in range(start + begin, start + begin + step):
                if second in self.seconds:
                    stretch.merge(self.seconds[second])
            yield begin, min(step, self.duration_s() - begin), stretch

    def drain(self) -> Json:
        """Everything since the last drain, as JSON values, for `absorb`."""
        data = {
            "operations": {name: operation.to_json() for name, operation in self.operations.items()},
            "seconds": [[at, second.to_json()] for at, second in self.seconds.items()],
            "lag": self.lag.to_json(),
            "sent": self.sent,
            "unsent": self.unsent,
        }
        self._clear()
        return data

    def absorb(self, data: Json) -> None:
        """Add what a worker drained."""
        for name, operation in data["operations"].items():
            self.operations.setdefault(name, Operation()).merge(Operation.from_json(operation))
        for at, second in data["seconds"]:
            self.seconds.setdefault(at, Second()).merge(Second.from_json(second))
        self.lag.merge(Histogram.from_json(data["lag"]))
        self.sent += data["sent"]
        self.unsent += data["unsent"]

    def _clear(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.seconds: dict[int, Second] = {}
        self.lag = Histogram()
        self.sent = 0
        self.unsent = 0


def _bucket(duration_us: int) -> int:
    """Below 2048 us the microsecond itself; above it the power of two and its 1024 parts, counted on."""
    shift = duration_us.bit_length() - _FINE_BITS
    return duration_us if shift <= 0 else (shift << (_FINE_BITS - 1)) + (duration_us >> shift)


def _middle_us(bucket: int) -> float:
    """The middle of a bucket; the inverse of `_bucket`."""
    if bucket < _FINE:
        return bucket
    half = _FINE >> 1
    shift, part = divmod(bucket - half, half)
    return ((part + half) << shift) + ((1 << shift) - 1) / 2
