"""What argparse reads numbers with. Each refuses in words that a person can use, and says what is right."""

import argparse
import math
import re
from collections.abc import Callable
from datetime import timedelta


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """From `least` to `most`, in ASCII digits."""
    said = f"a whole number from {least} to {most}" if most is not None else f"a whole number from {least} on"

    def read(text: str) -> int:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else -1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} is not {said}")
        return number

    return read


def number(*, most: float, least: float | None = None) -> Callable[[str], float]:
    """From `least` to `most`; without `least` anything above 0."""
    said = f"a number {'above 0' if least is None else f'from {least:g}'} to {most:g}"

    def read(text: str) -> float:
        value = float(text) if _DECIMAL.fullmatch(text) else math.nan
        if not (0 if least is None else least) <= value <= most or (least is None and not value):
            raise argparse.ArgumentTypeError(f"{text[:_SHOWN]!r} is not {said}")
        return value

    return read


def duration(*, most: timedelta, least: timedelta = timedelta(0)) -> Callable[[str], timedelta]:
    """`90d`, `12h` or `30m`."""

    def read(text: str) -> timedelta:
        match = _DURATION.fullmatch(text)
        span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
        if span is None or not least <= span <= most:
            raise argparse.ArgumentTypeError(
                f"{text[:_SHOWN]!r} is not a time such as 90d, 12h or 30m, up to {most.days}d"
            )
        return span

    return read


_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_DURATION = re.compile(r"(\d{1,6})([dhm])", re.ASCII)
_DIGITS_MAX = 20
_DECIMAL = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)
_SHOWN = 60
