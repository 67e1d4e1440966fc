"""What the people saw, from each generating process to the one place where it is judged, in bounded batches.

Owns the batches and what is in them; knows neither limits nor percentiles. A batch is made of JSON values, so that
Locust can carry it from worker to master, and a pipe from there to `vigil load`.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

from vigil.loadtests.people.observation import Observation, as_rows
from vigil.loadtests.people.pacing import Clock
from vigil.loadtests.verdict.percentiles import Measurements

BATCH_ROWS_MAX = 2000

Batch: TypeAlias = dict[str, Any]

_ERRORS_MAX = 50  # different ones a batch


class Recorder:
    """What one process has seen and not yet sent on. `source` names the process, `cpu` tells its CPU seconds."""

    def __init__(self, source: str, clock: Clock, cpu: Clock) -> None:
        self.source = source
        self.measurements = Measurements()
        self.acknowledged = 0  # messages answered with 201 that were looked for at the end
        self.lost = 0  # those of them that were not found
        self.came = 0  # people, those who have left again too
        self.closing = False  # the run ends: who comes now would not be heard any more
        self.in_a_hurry = False  # it was interrupted: nobody begins anything more
        self._clock = clock
        self._cpu = cpu
        self._looked = (clock(), cpu())
        self._observations: list[Observation] = []
        self._errors: Counter[str] = Counter()
        self.measurements.goes_on(clock())

    def observe(self, observation: Observation) -> None:
        """For the oracle."""
        self._observations.append(observation)

    def measure(
        self, name: str, observation: Observation, due_s: float, lag_s: float, error: str = ""
    ) -> None:
        """For percentiles and progress. What got no answer took until it was given up."""
        ended_s = observation.received_s
        if ended_s is None:
            ended_s = self._clock()
        self.measurements.record(
            ended_s,
            name,
            ended_s - observation.sent_s,
            ended_s - due_s,
            lag_s=lag_s,
            failed=bool(error),
            refused=observation.scope,
        )
        if error and (len(self._errors) < _ERRORS_MAX or error in self._errors):
            self._errors[f"{name}: {error}"] += 1

    def batches(self, *, last: bool = False) -> Iterator[Batch]:
        """Everything since the last call, with at most BATCH_ROWS_MAX observations each; at least one batch.

        `last` says that nothing will come after it: who never says so was lost on the way.
        """
        self.measurements.goes_on(self._clock())
        observations, self._observations = self._observations, []
        errors, self._errors = self._errors, Counter()
        yield {
            "source": self.source,
            "cpu": self._cpu_share(),
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "came": self.came,
            "last": last,
            "errors": dict(errors),
            "measurements": self.measurements.drain(),
            "observations": as_rows(observations[:BATCH_ROWS_MAX]),
        }
        self.acknowledged = self.lost = self.came = 0
        for start in range(BATCH_ROWS_MAX, len(observations), BATCH_ROWS_MAX):
            yield {
                "source": self.source,
                "observations": as_rows(observations[start : start + BATCH_ROWS_MAX]),
            }

    def _cpu_share(self) -> float:
        """Of one core, since the last look."""
        wall_s, cpu_s = self._looked
        self._looked = (self._clock(), self._cpu())
        return (self._looked[1] - cpu_s) / max(1e-6, self._looked[0] - wall_s)
