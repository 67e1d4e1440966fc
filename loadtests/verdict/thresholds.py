"""Thresholds as data: `p99<250ms`, `send.p95<80ms`, `errors<1%`, `rate>100/s`, read and evaluated.

Owns the little language. Knows the measurements; knows nothing of limits but the share of undecided cases.

    [OPERATION.][service.]METRIC COMPARE BOUND

METRIC is p0 to p100 (`p99.9` too), `mean` or `max` with a bound in us, ms or s; `errors` or `unsent` or `undecided`
(of all requests, all that fell due, all decisions of the worst limit) in percent; `rate` in requests per second (/s).
COMPARE is <, <=, > or >=. Times are response times, from when a request was due; `service.` takes service times.
"""

import operator
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from vigil.actors.core.errors import VigilError
from vigil.loadtests.verdict.percentiles import Histogram, Measurements, Operation

Unit: TypeAlias = str

_SHAPE = re.compile(
    r"(?:(?P<operation>[a-z][a-z _-]*)\.)??(?P<service>service\.)?(?P<metric>[a-z]+|p\d{1,3}(?:\.\d{1,4})?)"
    r"\s*(?P<compare><=|>=|<|>)\s*(?P<bound>\d{1,12}(?:\.\d{1,9})?)\s*(?P<unit>us|ms|s|%|/s)",
    re.ASCII,
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)
_TIMES: Mapping[Unit, float] = MappingProxyType({"us": 1e-6, "ms": 1e-3, "s": 1.0})
_UNITS: Mapping[str, Mapping[Unit, float]] = MappingProxyType(
    {
        "mean": _TIMES,
        "max": _TIMES,
        "errors": MappingProxyType({"%": 0.01}),
        "unsent": MappingProxyType({"%": 0.01}),
        "undecided": MappingProxyType({"%": 0.01}),
        "rate": MappingProxyType({"/s": 1.0}),
    }
)
_OF_THE_WHOLE_RUN = frozenset({"unsent", "undecided"})
_PERCENT_MAX = 100.0


class BadThreshold(VigilError):
    """A threshold that cannot be read."""

    example = "p99<250ms, send.p95<80ms, errors<1%, rate>100/s"


class Threshold(NamedTuple):
    """`bound` is in seconds, a share of 1, or per second; `percent` is of percentiles only; `operation` "" is all."""

    text: str
    operation: str
    is_service: bool
    metric: str
    percent: float | None
    compare: str
    bound: float
    unit: Unit


class Outcome(NamedTuple):
    """`value` is in the unit of the bound's `Threshold.bound`; None when there was nothing to measure: not held."""

    threshold: Threshold
    value: float | None
    held: bool

    @property
    def shown(self) -> str:
        """The value as the threshold was written: `83.1ms`."""
        if self.value is None:
            return "no samples"
        unit = self.threshold.unit
        return f"{self.value / _factor(self.threshold.metric, unit):.4g}{unit}"


def parse(text: str) -> Threshold:
    """Read one threshold. Raises BadThreshold with what is wrong and how it is written."""
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise BadThreshold(f"{text!r} is not a threshold")
    metric, unit = match["metric"], match["unit"]
    percent = _percent(text, metric)
    units = _units(text, metric)
    if unit not in units:
        raise BadThreshold(f"{text!r}: {metric} is measured in {' or '.join(units)}, not in {unit}")
    operation = match["operation"] or ""
    if operation and metric in _OF_THE_WHOLE_RUN:
        raise BadThreshold(f"{text!r}: {metric} is known of the whole run, not of one operation")
    if match["service"] and units is not _TIMES:
        raise BadThreshold(f"{text!r}: service times have percentiles, mean and max; {metric} is none")
    bound = float(match["bound"]) * units[unit]
    return Threshold(
        text.strip(), operation, bool(match["service"]), metric, percent, match["compare"], bound, unit
    )


def evaluate(threshold: Threshold, measured: Measurements, undecided: float | None) -> Outcome:
    """Hold one threshold against a run. `undecided` is the worst limit's share (0 to 1), None if none was judged."""
    value = undecided if threshold.metric == "undecided" else _value(threshold, measured)
    held = value is not None and _COMPARE[threshold.compare](value, threshold.bound)
    return Outcome(threshold, value, held)


def _percent(text: str, metric: str) -> float | None:
    if not metric[1:2].isdigit():
        return None
    percent = float(metric[1:])
    if percent > _PERCENT_MAX:
        raise BadThreshold(f"{text!r}: percentiles go from p0 to p100")
    return percent


def _units(text: str, metric: str) -> Mapping[Unit, float]:
    if metric[1:2].isdigit():
        return _TIMES
    if metric not in _UNITS:
        raise BadThreshold(
            f"{text!r}: {metric!r} is not measured; there are p50, p99 and so on, {', '.join(_UNITS)}"
        )
    return _UNITS[metric]


def _factor(metric: str, unit: Unit) -> float:
    return _UNITS.get(metric, _TIMES)[unit]


def _value(threshold: Threshold, measured: Measurements) -> float | None:
    if threshold.metric == "unsent":
        due, unsent = measured.due
        return unsent / due if due else None
    found = measured.operations.get(threshold.operation) if threshold.operation else measured.all_operations()
    if found is None or not found.response.count:
        return None
    if threshold.metric == "rate":
        return found.response.count / measured.duration_s()
    if threshold.metric == "errors":
        return found.failed / found.response.count
    return _time(threshold, _series(threshold, found))


def _series(threshold: Threshold, operation: Operation) -> Histogram:
    return operation.service if threshold.is_service else operation.response


def _time(threshold: Threshold, histogram: Histogram) -> float | None:
    if threshold.percent is not None:
        return histogram.at(threshold.percent)
    return histogram.max_s if threshold.metric == "max" else histogram.mean_s
