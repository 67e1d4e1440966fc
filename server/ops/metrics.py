"""What Prometheus sees. Requests are counted as they end; everything else is read from the rooms when asked for."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from math import inf
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from vigil.actors.core.events import Broadcast, Created, Ended, Expired, Renewed
from vigil.actors.runtime.counters import LATENESS_BUCKETS_MS, MAILBOX_BUCKETS
from vigil.actors.runtime.directory import Directory
from vigil.actors.stores.base import COMMIT_BUCKETS_S
from vigil.server.http.budget import Cut, Traffic
from vigil.server.ops.health import LoopLag

_REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_REQUEST_BOUNDS_S = (*_REQUEST_BUCKETS_S, inf)

# metric, what it counts, event type, label
_EVENTS: tuple[tuple[str, str, type, str], ...] = (
    ("vigil_sessions_created", "Sessions created", Created, ""),
    ("vigil_sessions_ended", "Live sessions ended by request", Ended, ""),
    ("vigil_sessions_expired", "Sessions that expired", Expired, "reason"),
    ("vigil_sessions_renewed", "Renewals, by activity or by request", Renewed, ""),
    ("vigil_messages", "Messages stored", Broadcast, "author"),
)


class Metrics:
    """One registry for one site."""

    def __init__(self, directory: Directory, lag: LoopLag, traffic: Traffic) -> None:
        self._registry = CollectorRegistry()
        requests = Requests()
        self.request = requests.note
        self._registry.register(requests)
        self._registry.register(_Rooms(directory, lag))
        self._registry.register(_Connections(traffic))

    def text(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)


class _Took:
    """How long the requests of one route took."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * len(_REQUEST_BOUNDS_S)
        self.seconds = 0.0


class Requests:
    """Requests answered, as plain numbers until somebody asks."""

    def __init__(self) -> None:
        self._by_status: Counter[tuple[str, int]] = Counter()
        self._took: defaultdict[str, _Took] = defaultdict(_Took)

    def note(self, route: str, status: int, seconds: float) -> None:
        self._by_status[route, status] += 1
        took = self._took[route]
        took.buckets[bisect_left(_REQUEST_BUCKETS_S, seconds)] += 1
        took.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily("vigil_requests", "Requests answered", labels=("route", "status"))
        for (route, status), count in self._by_status.items():
            answered.add_metric((route, str(status)), count)
        yield answered
        took = HistogramMetricFamily(
            "vigil_request_seconds", "From complete headers to the answer", labels=("route",)
        )
        for route, one in self._took.items():
            counted = dict(zip(_REQUEST_BOUNDS_S, one.buckets, strict=True))
            took.add_metric((route,), _buckets(counted), one.seconds)
        yield took


class _Rooms:
    """Reads the counters that actors keep."""

    def __init__(self, directory: Directory, lag: LoopLag) -> None:
        self._directory = directory
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        yield from self._sessions()
        yield from self._events()
        yield from self._limits()
        yield from self._timing()

    def _sessions(self) -> Iterator[Metric]:
        counts = self._directory.counts()
        sessions = GaugeMetricFamily("vigil_sessions", "Sessions by state", labels=("state",))
        sessions.add_metric(("active",), counts.active)
        sessions.add_metric(("expired",), counts.expired)
        sessions.add_metric(("invalid",), counts.invalid)
        yield sessions
        yield GaugeMetricFamily(
            "vigil_sessions_expiring_soon",
            "Live sessions inside their warning threshold",
            counts.expiring_soon,
        )
        yield GaugeMetricFamily("vigil_turns", "Agent turns running or waiting", len(self._directory.turns))
        yield CounterMetricFamily(
            "vigil_actor_crashes", "Crashes of actors", self._directory.publisher.counters.crashes
        )

    def _events(self) -> Iterator[Metric]:
        events = self._directory.publisher.counters.events
        for name, meaning, kind, label in _EVENTS:
            family = CounterMetricFamily(name, meaning, labels=(label,) if label else ())
            for (counted, detail), count in events.items():
                if counted is kind:
                    family.add_metric((detail,) if label else (), count)
            yield family

    def _limits(self) -> Iterator[Metric]:
        stats = self._directory.limits.statistics()
        decisions = CounterMetricFamily(
            "vigil_rate_limit_decisions",
            "Requests admitted by all their limits, or refused by one",
            labels=("decision", "scope"),
        )
        decisions.add_metric(("admitted", "all"), stats.admitted)
        for scope, refused in stats.refused.items():
            decisions.add_metric(("refused", scope), refused)
        yield decisions
        yield GaugeMetricFamily("vigil_rate_limit_windows", "Rate-limit windows in memory", stats.windows)

    def _timing(self) -> Iterator[Metric]:
        counters, commits = self._directory.publisher.counters, self._directory.store.statistics()
        yield _histogram(
            "vigil_commit_seconds",
            "Commits to the store, each for all writers that waited",
            dict(zip((*COMMIT_BUCKETS_S, inf), commits.buckets, strict=True)),
            commits.seconds,
        )
        yield CounterMetricFamily("vigil_commit_writes", "Writes in those commits", commits.writes)
        depths, depths_sum = counters.depth()
        yield _histogram(
            "vigil_mailbox_depth",
            "Commands that waited in a mailbox when its actor took them up",
            {bound: depths[bound] for bound in (*MAILBOX_BUCKETS, inf)},
            depths_sum,
        )
        yield _histogram(
            "vigil_expiry_lateness_seconds",
            "From expiresAt to the expiry, in session time",
            {bound / 1000: counters.lateness[bound] for bound in (*LATENESS_BUCKETS_MS, inf)},
            counters.lateness_sum_ms / 1000,
        )
        yield GaugeMetricFamily(
            "vigil_event_loop_lag_seconds", "Longest delay within the last ten seconds", self._lag.worst()
        )


class _Connections:
    """Reads what connections take of what all share."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        traffic = self._traffic
        yield GaugeMetricFamily("vigil_connections", "Connections that are open", traffic.connections)
        yield GaugeMetricFamily("vigil_connections_limit", "How many can be", traffic.connections_max)
        yield GaugeMetricFamily("vigil_websockets", "WebSockets among them", traffic.websockets)
        yield GaugeMetricFamily("vigil_websockets_limit", "How many can be", traffic.websockets_max)
        yield GaugeMetricFamily(
            "vigil_unsent_bytes", "Bytes of answers that wait for their readers", traffic.unsent.bytes
        )
        cuts = CounterMetricFamily(
            "vigil_connections_cut", "Connections cut for the others' sake", labels=("reason",)
        )
        for reason in get_args(Cut):
            cuts.add_metric((reason,), traffic.cuts[reason])
        yield cuts
        yield CounterMetricFamily(
            "vigil_connections_full", "Times that there was no descriptor for a client", traffic.full
        )


def _histogram(name: str, meaning: str, counts: Mapping[float, int], total: float) -> Metric:
    family = HistogramMetricFamily(name, meaning)
    family.add_metric((), _buckets(counts), total)
    return family


def _buckets(counts: Mapping[float, int]) -> list[tuple[str, int]]:
    """Prometheus wants running totals by upper bound."""
    totals = accumulate(counts.values())
    return [
        ("+Inf" if bound == inf else str(bound), total) for bound, total in zip(counts, totals, strict=True)
    ]
