"""What the doctor finds: good, a warning or broken, each with what was seen and what to do. A value, and its text."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Level = Literal["good", "warning", "broken"]


class Finding(NamedTuple):
    """`advice` is empty when all is good."""

    level: Level
    subject: str
    seen: str
    advice: str = ""


def good(subject: str, seen: str) -> Finding:
    return Finding("good", subject, seen)


def warning(subject: str, seen: str, advice: str) -> Finding:
    return Finding("warning", subject, seen, advice)


def broken(subject: str, seen: str, advice: str) -> Finding:
    return Finding("broken", subject, seen, advice)


def text(findings: Iterable[Finding]) -> str:
    """A line for each, and under it what to do."""
    return "\n".join(
        f"{one.level:<8} {one.subject}: {one.seen}" + (f"\n         -> {one.advice}" if one.advice else "")
        for one in findings
    )


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing is broken: a warning is none."""
    return int(any(one.level == "broken" for one in findings))
