"""The report: one HTML file with the verdict, plots and tables; no network, no scripts, in light and dark.

What it says is `verdict.py`'s; how it looks is `report.html`; how plots are drawn is the room scenarios' `plot.py`.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup

from vigil.loadtests.oracle.findings import KINDS, Course, Finding
from vigil.loadtests.people.observation import SCOPES
from vigil.loadtests.verdict import text as verdict_text
from vigil.loadtests.verdict.percentiles import Histogram, Second
from vigil.loadtests.verdict.verdict import PERCENTS, Exit, Verdict, state
from vigil.scenarios.reports import plot
from vigil.scenarios.reports.plot import Band, Level, Line, Plot, Point, Ticks
from vigil.server.docs import pages

POINTS = 180
PROOFS_MAX = 3  # of each kind for each limit; the JSON has more
_CLASSES = {Exit.HELD: "held", Exit.INCOMPLETE: "open"}  # anything else is failed


class Figure(NamedTuple):
    """A plot with what stands over and under it."""

    title: str
    note: str
    plot: Plot
    drawing: Markup


class Row(NamedTuple):
    """One line of the table of times."""

    name: str
    requests: str
    failed: str
    times: tuple[str, ...]


def html(verdict: Verdict, made_at: datetime) -> str:
    """The page as text. `made_at` is what the page says of its own date."""
    return pages.render(
        "loadtests/verdict/report.html",
        verdict=verdict,
        word=verdict.word.capitalize(),
        colour=_CLASSES.get(verdict.result, "failed"),
        state=state,
        made_at=made_at.strftime("%Y-%m-%d %H:%M:%S %Z").strip(),
        facts=list(_facts(verdict)),
        findings=list(_findings(verdict)),
        figures=[*_measured(verdict), *map(_course, verdict.judgement.courses)],
        percents=[f"p{percent:g}" for percent in PERCENTS],
        rows=list(_rows(verdict)),
        errors=sorted(verdict.generator.errors.items(), key=lambda error: -error[1]),
        text=verdict_text,
    )


def _findings(verdict: Verdict) -> Iterator[Finding]:
    """The gravest first, a few of each kind for each limit."""
    for kind in KINDS:
        for tally in verdict.judgement.tallies:
            yield from [finding for finding in tally.findings if finding.kind == kind][:PROOFS_MAX]


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    measured, run = verdict.measured, verdict.run
    whole = measured.all_operations()
    yield "requests", verdict_text.number(measured.sent)
    yield "requests/s", f"{measured.sent / measured.duration_s():.0f}" if measured.sent else "-"
    yield "p50", _ms(whole.response.at(50))
    yield "p99", _ms(whole.response.at(99))
    yield "failed", verdict_text.share(measured.failed, measured.sent)
    yield "never sent", verdict_text.share(measured.due.unsent, measured.due.due)
    yield "people", verdict_text.number(run.people)
    if run.scale != 1:
        yield "time scale", f"{run.scale:g}"


def _measured(verdict: Verdict) -> Iterator[Figure]:
    course = list(verdict.measured.course(POINTS))
    x_max = float(max(1, verdict.measured.duration_s()))
    rates = Plot(
        "Requests per second over the run",
        0.0,
        x_max,
        [
            Line("requests/s", "one", [_rate(stretch, stretch[2].response.count) for stretch in course]),
            Line("failed/s", "bad", [_rate(stretch, stretch[2].failed) for stretch in course]),
        ],
    )
    yield _figure("Rate", "What was answered, and what failed, each second.", rates)
    lines = [
        Line(f"p{percent:g}", colour, _percentiles(course, percent))
        for percent, colour in ((99.0, "three"), (50.0, "one"))
    ]
    times = Plot("Response time over the run", 0.0, x_max, lines, show=_axis_ms, scale="log")
    yield _figure(
        "Response time",
        "From when a request was due to the head of its answer. Logarithmic; a gap is a second without an answer.",
        times,
    )
    refused = [
        Line(f"{scope} 429/s", colour, [_rate(stretch, stretch[2].refused[scope]) for stretch in course])
        for scope, colour in zip(SCOPES, ("one", "two", "three"), strict=True)
        if any(stretch[2].refused[scope] for stretch in course)
    ]
    if refused:
        refusals = Plot("Refusals per second by limit", 0.0, x_max, refused)
        yield _figure("Refusals", "429s each second, by the limit that they name.", refusals)


def _course(course: Course) -> Figure:
    band = Band("in the window, at least and at most", "one", course.points)
    window = Plot(
        f"Requests in one {course.scope}'s window over the run",
        0.0,
        course.points[-1][0],
        bands=[band],
        levels=[Level(f"limit {course.limit}", "bad", course.limit.requests)],
        ticks=[Ticks("429", "bad", course.refusals)] if course.refusals else [],
    )
    note = f"The {course.scope} refused most, or busiest: {course.subject}. Session time."
    return _figure(f"{course.scope.capitalize()} limit {course.limit}", note, window)


def _figure(title: str, note: str, drawn: Plot) -> Figure:
    return Figure(title, note, drawn, plot.svg(drawn))


def _rate(stretch: tuple[int, int, Second], count: int) -> tuple[float, float]:
    begin, length, _ = stretch
    return begin + length / 2, count / length


def _percentiles(course: list[tuple[int, int, Second]], percent: float) -> list[Point]:
    """With a gap where nothing was answered."""
    return [(begin + length / 2, second.response.at(percent)) for begin, length, second in course]


def _rows(verdict: Verdict) -> Iterator[Row]:
    measured = verdict.measured
    number = verdict_text.number
    for name, found in sorted(measured.operations.items()):
        yield Row(name, number(found.response.count), number(found.failed), _times(found.response))
    whole = measured.all_operations()
    yield Row("all", number(whole.response.count), number(whole.failed), _times(whole.response))
    yield Row("all, service time", "", "", _times(whole.service))


def _times(histogram: Histogram) -> tuple[str, ...]:
    times = (*(histogram.at(percent) for percent in PERCENTS), histogram.at(100))
    return tuple(map(verdict_text.milliseconds, times))


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{verdict_text.milliseconds(seconds)} ms"


def _axis_ms(seconds: float) -> str:
    return f"{float(f'{seconds * 1000:.3g}'):g} ms"
