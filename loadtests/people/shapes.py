"""How the number of people changes while a test runs: tables of (until, people, spawned a second).

Pure; `locustfile.py` makes Locust's load shape of it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Stage(NamedTuple):
    """Until this part of the run time, so many parts of the people."""

    until: float
    people: float


SHAPES: Mapping[str, tuple[Stage, ...]] = MappingProxyType(
    {
        "spike": (Stage(0.3, 0.2), Stage(0.6, 1.0), Stage(1.0, 0.2)),
        "stairs": (Stage(0.2, 0.2), Stage(0.4, 0.4), Stage(0.6, 0.6), Stage(0.8, 0.8), Stage(1.0, 1.0)),
    }
)


def tick(shape: str, at_s: float, run_time_s: float, people: int, ramp_s: float) -> tuple[int, float] | None:
    """How many people at `at_s`, and how many of them to spawn a second; None when the run is over."""
    for stage in SHAPES[shape]:
        if at_s < stage.until * run_time_s:
            return max(1, round(stage.people * people)), max(1.0, people / ramp_s)
    return None
