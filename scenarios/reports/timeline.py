"""The timeline: one HTML file with every play that it is given, to be searched, opened and looked into.

What a play's drawing is made of is `timeline_lanes`'; how it is drawn is `timeline.js`, how the page looks
`timeline.html`. No network: the file is all there is.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from vigil.scenarios.language import durations
from vigil.scenarios.play.results import Judged, Play, Verdict
from vigil.scenarios.reports.timeline_lanes import drawing
from vigil.server.docs import pages

OPEN_MAX = 3  # failed plays that are open when the page is
_ORDER: dict[Verdict, int] = {"failed": 0, "held": 1, "skipped": 2}


class Entry(NamedTuple):
    """One play on the page."""

    number: int  # of its anchor
    play: Play
    took: str  # session time
    real: str
    counts: str
    is_open: bool
    drawing: dict[str, Any]
    haystack: str  # what the search looks through


def page(plays: Sequence[Play]) -> str:
    """The page as text. Failed plays come first, then the others as they are given."""
    ordered = sorted(plays, key=lambda play: _ORDER[play.verdict])
    entries = [_entry(number, play) for number, play in enumerate(ordered, 1)]
    return pages.render(
        "scenarios/reports/timeline.html",
        entries=entries,
        counts=Counter(play.verdict for play in plays),
        facts=list(_facts(plays)),
        place=_place,
    )


def _entry(number: int, play: Play) -> Entry:
    names = " ".join(session.name for session in play.sessions)
    return Entry(
        number=number,
        play=play,
        took=short(play.ended_ms - play.started_ms),
        real=_real(play.real_s),
        counts=_counts(play),
        is_open=number == 1 or (play.verdict == "failed" and number <= OPEN_MAX),
        drawing=drawing(play),
        haystack=" ".join((play.title, play.why, play.file, play.target, play.reason, names)).casefold(),
    )


def _facts(plays: Sequence[Play]) -> Iterator[tuple[str, str]]:
    yield "session time", short(sum(play.ended_ms - play.started_ms for play in plays))
    yield "real time", _real(sum(play.real_s for play in plays))
    yield "sessions", _number(sum(len(play.sessions) for play in plays))
    yield "requests", _number(sum(len(play.exchanges) for play in plays))
    yield "expectations", _number(sum(len(play.judged) for play in plays))


def _counts(play: Play) -> str:
    counts = {"session": len(play.sessions), "request": len(play.exchanges), "expectation": len(play.judged)}
    return ", ".join(f"{_number(count)} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


def _place(play: Play, judged: Judged) -> str:
    """Where an expectation stands and which step it belongs to."""
    label = next((step.label for step in play.steps if step.index == judged.step), "")
    return f"{play.file}:{judged.line}: {label}"


def short(ms: int) -> str:
    """A length for people, in whole seconds from one second on: `2h1m`, `250ms`."""
    return durations.show(round(ms, -3) or ms)


def _real(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _number(count: int) -> str:
    return f"{count:,}".replace(",", " ")
