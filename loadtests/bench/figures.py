"""Figures from rounds: median, least and most, and ratios inside the round. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypedDict


class Figure(TypedDict):
    median: float
    min: float
    max: float


def figure(values: Sequence[float], digits: int = 3) -> Figure:
    """Raises ValueError for no values."""
    if not values:
        raise ValueError("a figure needs at least one value")
    return {
        "median": round(median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def ratios(rounds: Sequence[Mapping[str, float]], ceiling: str) -> dict[str, Figure]:
    """Each name's values over the ceiling's of the same round: what slows a whole round down cancels out."""
    return {name: figure([one[name] / one[ceiling] for one in rounds]) for name in rounds[0]}
