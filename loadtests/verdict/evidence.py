"""What was seen so far, in the one place that judges: batches in, progress and a verdict out.

Owns the bookkeeping between Locust and the judges (`oracle.py`, `percentiles.py`, `verdict.py`). No Locust here.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping

from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.people.collection import Batch
from vigil.loadtests.people.observation import Observation, from_rows
from vigil.loadtests.verdict.percentiles import Measurements, Second
from vigil.loadtests.verdict.thresholds import Threshold
from vigil.loadtests.verdict.verdict import Generator, Run, Verdict

KNOWN_AFTER_S = 2  # processes tell once a second what they saw
CPU_LOOKS = 5  # one after another, about a second apart: the least of them is what was used for long


class Evidence:
    """Everything that one run has shown. `before` are admissions of others that agents' windows may hold."""

    def __init__(self, limits: Limits, scale: float, before: Mapping[str, int] | None = None) -> None:
        self.scale = scale
        self.oracle = Oracle(limits, scale=scale, before=before)
        self.measurements = Measurements()
        self.errors: Counter[str] = Counter()
        self.acknowledged = 0
        self.lost = 0
        self.came = 0
        self.ran_s: float | None = None  # once the run has ended
        self.cpu_share = 0.0  # the most that a process used over CPU_LOOKS looks
        self.people_most = 0
        self._people: dict[str, int] = {}
        self._open: set[str] = set()  # processes that have not said their last
        self._cpu: dict[str, deque[float]] = {}

    def add(self, observations: list[Observation]) -> None:
        """What was seen otherwise than by Locust's people."""
        self.oracle.add(observations)

    def absorb(self, batch: Batch) -> None:
        self.oracle.add(from_rows(batch.get("observations", [])))
        if batch.get("end"):
            self.ran_s = batch["ran_s"]
        if "measurements" not in batch:
            return
        self.measurements.absorb(batch["measurements"])
        self.errors.update(batch["errors"])
        self.acknowledged += batch["acknowledged"]
        self.lost += batch["lost"]
        self.came += batch["came"]
        (self._open.discard if batch["last"] else self._open.add)(batch["source"])
        self._people[batch["source"]] = batch["people"]
        self.people_most = max(self.people_most, sum(self._people.values()))
        self._look_at_cpu(batch["source"], batch["cpu"])

    @property
    def missing(self) -> str:
        """Whether some of what was seen never came here, and what; "" when nothing is missing."""
        count = len(self._open)
        return f"{count} of {len(self._people)} processes were lost, with what they saw last" if count else ""

    def progress(self, ran_s: float, now_s: float) -> str:
        """One line: the newest second that is known of all processes, and what there was until now.

        `now_s` is of the clock that the seconds are of.
        """
        found = self.measurements
        newest = found.seconds.get(int(now_s) - KNOWN_AFTER_S, Second()).response
        p99_s = newest.at(99)
        refused = sum(second.refused.total() for second in found.seconds.values())
        return (
            f"{ran_s:4.0f} s  {sum(self._people.values()):5d} people  {newest.count:6d} requests/s  "
            f"p99 {'-' if p99_s is None else f'{p99_s * 1000:.1f} ms':>9}  429: {refused}  failed: {found.failed}"
        )

    def verdict(self, run: Run, thresholds: Iterable[Threshold], unreachable: str = "") -> Verdict:
        """Judge all of it."""
        generator = Generator(self.cpu_share, unreachable, dict(self.errors), self.acknowledged, self.lost)
        return Verdict(run, self.oracle.judge(), self.measurements, thresholds, generator)

    def _look_at_cpu(self, source: str, share: float) -> None:
        looks = self._cpu.setdefault(source, deque(maxlen=CPU_LOOKS))
        looks.append(share)
        if len(looks) == CPU_LOOKS:
            self.cpu_share = max(self.cpu_share, min(looks))
