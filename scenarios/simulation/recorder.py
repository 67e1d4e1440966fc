"""Counts everything that happens in a simulation and keeps one hash over it. It judges nothing.

It is called several times for each request, so it does as little as possible each time.
"""

import heapq
from collections import Counter, deque
from collections.abc import Collection
from hashlib import blake2b

from vigil.scenarios.simulation.outcome import Evidence, Exchange

MINUTE_MS = 60_000
WORST_KEPT = 20
BODY_SHOWN = 2000
EXCHANGES_KEPT = 5000  # the last ones, for whoever wants to know what led to a failure


class Recorder:
    """`start_ms` is the session time at which the run begins."""

    def __init__(self, start_ms: int) -> None:
        self.requests = 0
        self.answers: Counter[tuple[str, int]] = Counter()
        self.limits_hit: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.by_minute: Counter[tuple[str, int]] = Counter()
        self.refusals_by_minute: Counter[tuple[str, int]] = Counter()
        self.live_sessions: list[int] = []
        self._recent: deque[tuple[Exchange, str, bytes, bytes]] = deque(maxlen=EXCHANGES_KEPT)
        self._worst: list[tuple[int, int, Exchange]] = []
        self._start_ms = start_ms
        self._hash = blake2b(digest_size=16)

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()

    @property
    def worst(self) -> list[Exchange]:
        """The longest waits, longest first."""
        return [exchange for _, _, exchange in sorted(self._worst, reverse=True)]

    def note(self, what: str, at_ms: int, body: bytes = b"") -> None:
        """Something that is no request: a fault, a frame, a listener that came or went."""
        self._hash.update(b"%d %s %b\n" % (at_ms, what.encode(), body))

    def frame(self, kind: str, listener: str, at_ms: int, frame: bytes) -> None:
        self.events[kind] += 1
        self._hash.update(b"%d %s %b\n" % (at_ms, listener.encode(), frame))

    def sent(self, operation: str, at_ms: int) -> int:
        """A request goes out. Gives its number."""
        number = self.requests
        self.requests = number + 1
        self.by_minute[operation, (at_ms - self._start_ms) // MINUTE_MS] += 1
        return number

    def over(self, exchange: Exchange, target: str, request: bytes, answer: bytes) -> None:
        """It was answered, or never will be. `target` is the method and the path with its query."""
        _, person, operation, _, at_ms, took_ms, status = exchange
        self.answers[operation, status] += 1
        if status == 429:  # noqa: PLR2004
            self.refusals_by_minute[operation, at_ms // MINUTE_MS] += 1
        self._recent.append((exchange, target, request, answer))
        self._hash.update(
            b"%d %d %s %d %d\n%b\n%b\n"
            % (at_ms, person, operation.encode(), took_ms, status, request, answer)
        )
        if took_ms:
            self._note_worst(exchange)

    def evidence(self, numbers: Collection[int]) -> tuple[Evidence, ...]:
        """Those of the last exchanges that have these numbers, in their order."""
        return tuple(
            Evidence(exchange, f"{target} {_cut(request)}", _cut(answer))
            for exchange, target, request, answer in self._recent
            if exchange.number in numbers
        )

    def _note_worst(self, exchange: Exchange) -> None:
        entry = (exchange.took_ms, -exchange.number, exchange)
        if len(self._worst) < WORST_KEPT:
            heapq.heappush(self._worst, entry)
        elif entry > self._worst[0]:
            heapq.heapreplace(self._worst, entry)


def _cut(body: bytes) -> str:
    text = body.decode(errors="replace")
    return text if len(text) <= BODY_SHOWN else f"{text[:BODY_SHOWN]}..."


def series(counts: Counter[tuple[str, int]], minutes: int) -> dict[str, list[int]]:
    """Counts by operation and minute as one list an operation, in the order of the names."""
    found: dict[str, list[int]] = {name: [0] * minutes for name, _ in sorted(counts)}
    for (name, minute), count in counts.items():
        if minute < minutes:
            found[name][minute] += count
    return found
