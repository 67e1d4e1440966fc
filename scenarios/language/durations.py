"""Durations as people say them: `4m30s`, `3h02m`, `250ms`. Inside they are integer milliseconds."""

import re
from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART = r"\d+(?:\.\d+)?(?:ms|d|h|m|s)"
PATTERN = rf"(?:{_PART})+"

_DAYS_MAX = 30


def parse(text: object) -> int:
    """Milliseconds of `1d2h3m4s5ms`, each part at most once and in this order. Raises ValueError."""
    if not isinstance(text, str) or re.fullmatch(PATTERN, text, re.ASCII) is None:
        raise ValueError(f"{repr(text)[:60]} is not a duration: write 4m30s, 3h, 1d or 250ms")
    parts = re.findall(r"([\d.]+)(ms|d|h|m|s)", text)
    sizes = [_UNITS_MS[unit] for _, unit in parts]
    if any(small >= big for big, small in pairwise(sizes)):
        raise ValueError(f"{repr(text)[:60]} is not a duration: each unit once, the largest first")
    whole = sum(float(number) * size for (number, _), size in zip(parts, sizes, strict=True))
    if whole != round(whole) or whole > _DAYS_MAX * _UNITS_MS["d"]:
        raise ValueError(f"{text!r} is not a duration in whole milliseconds of at most {_DAYS_MAX} days")
    return round(whole)


def show(ms: int) -> str:
    """The shortest text that `parse` reads as `ms`; a minus in front when it is negative."""
    if ms == 0:
        return "0s"
    text, rest = "", abs(ms)
    for unit, size in _UNITS_MS.items():
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return f"-{text}" if ms < 0 else text


Duration = Annotated[
    int,
    Field(ge=0),
    BeforeValidator(parse),
    WithJsonSchema({"type": "string", "pattern": f"^{PATTERN}$", "examples": ["4m30s", "3h", "250ms"]}),
]
