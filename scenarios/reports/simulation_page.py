"""A simulation's report: one HTML file with the day's course, its faults, and whether it held.

What it says is the outcome's; how it looks is `simulation_report.html`; how plots are drawn is `plot.py`. No
network and no script: the file is all there is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from markupsafe import Markup

from vigil.scenarios.language import durations
from vigil.scenarios.reports import plot
from vigil.scenarios.reports.plot import Layer, Line, Plot, Span
from vigil.scenarios.simulation.faults.plan import Band
from vigil.scenarios.simulation.outcome import Exchange, Failure, Outcome
from vigil.server.docs import pages

WIDE = 1120
POINTS = 144  # of a plot over the whole day
STACKED = 5  # operations that have a colour of their own; the others share one
AROUND_MS = 10 * 60_000  # what is shown before and after a moment
MINUTE_MS = 60_000
_COLOURS = ("one", "four", "two", "three", "five")
_OTHER = "six"
_LATE_BELOW = (1, 10, 100, 1000, 5000, 10_000, 30_000, 60_000)  # ms; bounds of the histogram's bars
_FAULTS = {
    "clean restart": "good",
    "crash": "bad",
    "slow-store": "two",
    "full-store": "five",
    "agent": "three",
    "disconnect": "four",
}


class Figure(NamedTuple):
    """A plot with what stands over it."""

    title: str
    note: str
    plot: Plot

    @property
    def drawing(self) -> Markup:
        return plot.svg(self.plot)


class Bar(NamedTuple):
    """One row of a bar chart; `share` of the longest, in percent."""

    name: str
    number: int
    share: float
    colour: str


class Moment(NamedTuple):
    """A time of the day that is worth a look, with what waited or went wrong in it."""

    anchor: str
    exchanges: Sequence[Exchange]
    figure: Figure


class Stretch(NamedTuple):
    """From one instant of the run to another, in milliseconds."""

    from_ms: int
    to_ms: int


def page(outcome: Outcome) -> str:
    """The page as text."""
    moments = list(_moments(outcome))
    return pages.render(
        "scenarios/reports/simulation_page.html",
        outcome=outcome,
        failure=outcome.violation,
        failed=_failed(outcome, outcome.violation) if outcome.violation else None,
        repro=_repro(outcome),
        facts=list(_facts(outcome)),
        overview=_overview(outcome),
        figures=list(_figures(outcome)),
        charts=list(_charts(outcome)),
        statuses=_statuses(outcome),
        rows=list(_rows(outcome)),
        moments=moments,
        at={exchange.number: moment for moment in moments for exchange in moment.exchanges},
        clock=_clock,
        length=durations.show,
        number=_number,
    )


def _facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    settings = outcome.settings
    yield "people", _number(len(settings.only) if settings.only is not None else settings.people)
    yield "requests", _number(outcome.requests)
    yield "sessions", _number(outcome.sessions_begun)
    yield "429s", _number(sum(outcome.limits_hit.values()))
    yield "faults", _number(len(outcome.bands))
    yield "commits", _number(outcome.commits)
    yield "virtual time", f"{outcome.virtual_ms / 3_600_000:.1f} h"
    yield "real time", f"{outcome.real_s:.1f} s"
    yield "requests/s", _number(round(outcome.requests_a_second))


def _repro(outcome: Outcome) -> str:
    settings = outcome.settings
    notes = []
    if settings.only is not None:
        notes.append(f"only people {', '.join(map(str, settings.only))}")
    if settings.until_ms is not None:
        notes.append(f"until {_clock(settings.until_ms)}")
    return settings.repro + (f"  # {'; '.join(notes)}" if notes else "")


# --- over the day


def _figures(outcome: Outcome) -> Iterator[Figure]:
    day = Stretch(0, outcome.settings.length_ms)
    yield _stacked("Requests", "A minute, by operation.", outcome.requests_by_minute, day)
    yield _stacked("429s", "A minute, by operation.", outcome.refusals_by_minute, day)


def _overview(outcome: Outcome) -> Figure:
    """Live sessions over the whole width, and the faults in a row for each kind under them."""
    day = Stretch(0, outcome.settings.length_ms)
    kinds = sorted({_name(band) for band in outcome.bands})
    spans = [
        each
        for span in _spans(outcome.bands, day)
        for each in (span, span._replace(row=kinds.index(span.name)))
    ]
    live = [Line("live sessions", "one", _course(outcome.live_sessions, day, 2 * POINTS))]
    drawn = Plot(
        "Live sessions and faults",
        *_seconds(day),
        lines=live,
        spans=spans,
        rows=kinds,
        width=WIDE,
        show_time=plot.time_of_day,
    )
    return Figure("Live sessions", "How many there were each minute, and what was wrong meanwhile.", drawn)


def _stacked(title: str, note: str, counts: Mapping[str, Sequence[int]], day: Stretch) -> Figure:
    courses = {name: _course(series, day, POINTS) for name, series in _largest(counts).items()}
    layers = [
        Layer(name, colour, points)
        for (name, points), colour in zip(courses.items(), (*_COLOURS, _OTHER), strict=False)
    ]
    return Figure(
        title, note, Plot(f"{title} over the day", *_seconds(day), layers=layers, show_time=plot.time_of_day)
    )


def _largest(counts: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """The operations with most, and the sum of all others."""
    ordered = sorted(counts, key=lambda name: -sum(counts[name]))
    found = {name: counts[name] for name in ordered[:STACKED]}
    if others := [counts[name] for name in ordered[STACKED:]]:
        found["others"] = [sum(at) for at in zip(*others, strict=True)]
    return found


def _course(series: Sequence[int], stretch: Stretch, points: int) -> list[tuple[float, float]]:
    """(second, mean of a minute) in at most so many steps, over whole minutes."""
    first, last = stretch.from_ms // MINUTE_MS, min(len(series), -(-stretch.to_ms // MINUTE_MS))
    step = max(1, -(-(last - first) // points))
    chunks = ((minute, series[minute : min(minute + step, last)]) for minute in range(first, last, step))
    return [(minute * 60 + len(part) * 30, round(sum(part) / len(part), 2)) for minute, part in chunks]


def _spans(bands: Sequence[Band], stretch: Stretch) -> Iterator[Span]:
    for band in bands:
        if band.from_ms < stretch.to_ms and band.to_ms > stretch.from_ms:
            name = _name(band)
            yield Span(name, _FAULTS.get(name, _OTHER), band.from_ms / 1000, band.to_ms / 1000)


def _name(band: Band) -> str:
    return "clean restart" if band.clean else band.kind


def _seconds(stretch: Stretch) -> tuple[float, float]:
    return stretch.from_ms / 1000, stretch.to_ms / 1000


# --- charts and tables


def _charts(outcome: Outcome) -> Iterator[tuple[str, str, list[Bar]]]:
    """(title, note, bars)."""
    ends = {"inactivity": "four", "max_duration": "two", "ended": "one"}
    yield (
        "How sessions ended",
        "",
        [bar._replace(colour=ends.get(bar.name, _OTHER)) for bar in _bars(outcome.sessions_ended)],
    )
    yield (
        "Deadlines kept",
        "How late an expiry was on the disk. Late ones met a slow or full store, or a server that was down.",
        _bars(_lateness(outcome.lateness_ms), "four"),
    )
    yield "Limits hit", "429s by the limit that they name.", _bars(outcome.limits_hit, "two")
    yield "What the faults did", "", _bars(outcome.struck, "bad")
    yield "People", "By character.", _bars(outcome.people, "one")
    yield "Events heard", "Frames that listeners got.", _bars(outcome.events, "three")


def _bars(counts: Mapping[str, int], colour: str = _OTHER) -> list[Bar]:
    most = max(counts.values(), default=0) or 1
    return [Bar(name, count, round(100 * count / most, 2), colour) for name, count in counts.items()]


def _lateness(late: Mapping[int, int]) -> dict[str, int]:
    """How many were how late; bars at the end that are empty are left out."""
    counted: Counter[int] = Counter()
    for ms, count in late.items():
        counted[next((n for n, bound in enumerate(_LATE_BELOW) if ms < bound), len(_LATE_BELOW))] += count
    names = ["to the millisecond", *(f"below {durations.show(bound)}" for bound in _LATE_BELOW[1:])]
    names.append(f"{durations.show(_LATE_BELOW[-1])} or more")
    return {names[n]: counted[n] for n in range(max(counted, default=-1) + 1)}


def _statuses(outcome: Outcome) -> list[str]:
    return sorted(set(chain.from_iterable(outcome.answers.values())))


def _rows(outcome: Outcome) -> Iterator[tuple[str, int, list[int]]]:
    """(operation, requests, how many by status)."""
    for operation, by_status in outcome.answers.items():
        counts = [by_status.get(status, 0) for status in _statuses(outcome)]
        yield operation, sum(counts), counts


# --- moments


def _moments(outcome: Outcome) -> Iterator[Moment]:
    """The longest waits; those of about the same time are one moment. The worst moment comes first."""
    found: list[list[Exchange]] = []
    for exchange in sorted(outcome.worst, key=lambda one: one.at_ms):
        if found and exchange.at_ms - _end(found[-1]) <= AROUND_MS:
            found[-1].append(exchange)
        else:
            found.append([exchange])
    found.sort(key=lambda group: -max(one.took_ms for one in group))
    for number, group in enumerate(found, 1):
        yield _moment(outcome, f"moment-{number}", group)


def _moment(outcome: Outcome, anchor: str, group: Sequence[Exchange]) -> Moment:
    stretch = Stretch(max(0, group[0].at_ms - AROUND_MS), _end(group) + AROUND_MS)
    wrong = ", ".join(dict.fromkeys(span.name for span in _spans(outcome.bands, stretch)))
    title = f"{_clock(group[0].at_ms)}, {len(group)} long {'wait' if len(group) == 1 else 'waits'}"
    waits = [
        Span(
            f"#{one.number} {one.operation} {_status(one.status)}",
            "good" if 0 < one.status < 400 else "bad",  # noqa: PLR2004
            one.at_ms / 1000,
            (one.at_ms + one.took_ms) / 1000,
            row,
        )
        for row, one in enumerate(group)
    ]
    note = f"What was wrong around it: {wrong}." if wrong else "Nothing was wrong around it."
    return Moment(anchor, group, _around(outcome, title, note, stretch, waits))


def _failed(outcome: Outcome, failure: Failure) -> Figure:
    """The moment of the violation, with what it names."""
    exchanges = [one.exchange for one in failure.evidence]
    begin = min([failure.at_ms, *(one.at_ms for one in exchanges)])
    stretch = Stretch(max(0, begin - AROUND_MS), failure.at_ms + AROUND_MS)
    marks = [
        Span("violated", "bad", failure.at_ms / 1000, failure.at_ms / 1000),
        *(
            Span(
                f"#{one.number} {one.operation}", "one", one.at_ms / 1000, (one.at_ms + one.took_ms) / 1000, n
            )
            for n, one in enumerate(exchanges)
        ),
    ]
    note = "The violation is the red line; bars are the requests that it names."
    return _around(outcome, "Around it", note, stretch, marks)


def _around(outcome: Outcome, title: str, note: str, stretch: Stretch, marks: Sequence[Span]) -> Figure:
    points = (stretch.to_ms - stretch.from_ms) // MINUTE_MS + 1
    requests, refusals = _sum(outcome.requests_by_minute), _sum(outcome.refusals_by_minute)
    lines = [
        Line("live sessions", "one", _course(outcome.live_sessions, stretch, points)),
        Line("requests a minute", "six", _course(requests, stretch, points)),
        Line("429s a minute", "two", _course(refusals, stretch, points)),
    ]
    spans = [*_spans(outcome.bands, stretch), *marks]
    return Figure(
        title, note, Plot(title, *_seconds(stretch), lines=lines, spans=spans, show_time=plot.time_of_day)
    )


def _sum(counts: Mapping[str, Sequence[int]]) -> list[int]:
    return [sum(at) for at in zip(*counts.values(), strict=True)]


def _end(group: Sequence[Exchange]) -> int:
    return max(one.at_ms + one.took_ms for one in group)


# --- words


def _clock(ms: int) -> str:
    return plot.time_of_day(ms // 1000)


def _status(status: int) -> str:
    return str(status) if status else "no answer"


def _number(count: int) -> str:
    return f"{count:,}".replace(",", " ")
