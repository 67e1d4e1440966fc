"""Plots over time as inline SVG: stacks, lines, and spans of time behind them. Knows nothing of what is plotted.

Colours are CSS classes of the page, so that one drawing is right in light and in dark.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil, floor, log10
from typing import NamedTuple, TypeAlias

from markupsafe import Markup

WIDTH, HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 16, 12, 26
_ROW, _BAR = 18, 10  # of named rows under the plot
_LINES = 4  # about so many lines across
_TIMES_MAX = 8  # figures at the time axis

Point: TypeAlias = tuple[float, float]


class Line(NamedTuple):
    """Values at instants, in the order of time."""

    name: str
    colour: str
    points: Sequence[Point]


class Span(NamedTuple):
    """Something that lasted: over the whole height, or as a bar in the row of that number."""

    name: str
    colour: str
    from_s: float
    to_s: float
    row: int | None = None


class Plot(NamedTuple):
    """From one second to another. The lines of `stacks` stand on each other and have the same instants.

    Named `rows` are under the plot; rows of spans without names are thin, from its top.
    """

    label: str
    from_s: float
    to_s: float
    stacks: Sequence[Line] = ()
    lines: Sequence[Line] = ()
    spans: Sequence[Span] = ()
    rows: Sequence[str] = ()
    width: int = WIDTH

    @property
    def height(self) -> int:
        return HEIGHT + _ROW * len(self.rows)

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(name, colour) of all that is drawn but for bars, each once."""
        spans = [span for span in self.spans if span.row is None]
        drawn: list[Line | Span] = [*self.lines, *self.stacks, *spans]
        return list(dict.fromkeys((each.name, each.colour) for each in drawn))


class _Axes(NamedTuple):
    plot: Plot
    most: float

    @property
    def left(self) -> int:
        return _LEFT if not self.plot.rows else 2 * _LEFT

    @property
    def right(self) -> int:
        return self.plot.width - _RIGHT

    def x(self, seconds: float) -> float:
        """Where an instant is; those outside are at the edge."""
        length = max(1e-9, self.plot.to_s - self.plot.from_s)
        share = (seconds - self.plot.from_s) / length
        return self.left + (self.right - self.left) * min(1.0, max(0.0, share))

    def y(self, value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - value / self.most)


def svg(plot: Plot) -> Markup:
    """The drawing."""
    axes = _Axes(plot, _most(plot))
    parts = [*_spans(axes, whole=True), *_stacks(axes), *_grid(axes), *_lines(axes)]
    parts += [*_spans(axes, whole=False), *_notes(axes)]
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        plot.width, plot.height, plot.label
    )
    return Markup("").join([head, *parts, Markup("</svg>")])


def clock(seconds: float) -> str:
    """Time of the run as hours and minutes, `26:05`; with seconds where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}" + (f":{rest:02d}" if rest else "")


_TIME_STEPS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800, 604_800)
_ROUND_STEPS = (1, 2, 5, 10)


def _most(plot: Plot) -> float:
    values = [value for line in plot.lines for _, value in line.points]
    most = max([*values, *_sums(plot.stacks), 1.0])
    step = _step(most)
    return step * ceil(most * 1.02 / step)


def _sums(stacks: Sequence[Line]) -> list[float]:
    return [sum(value for _, value in at) for at in zip(*(line.points for line in stacks), strict=True)]


def _step(most: float) -> float:
    rough = most / _LINES
    power = 10.0 ** floor(log10(rough))
    return next(step * power for step in _ROUND_STEPS if step * power >= rough * 0.999)


def _grid(axes: _Axes) -> Iterator[Markup]:
    step = _step(axes.most / 1.02)
    for count in range(int(axes.most / step + 1e-9) + 1):
        y = axes.y(count * step)
        yield from _level(axes, y, f"{count * step:g}")
    for n, name in enumerate(axes.plot.rows):
        yield from _level(axes, _row(n) + _BAR / 2, name)
    for seconds in _times(axes.plot):
        x = axes.x(seconds)
        anchor = "end" if x > axes.right - _RIGHT else "middle"
        yield Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            x if anchor == "middle" else axes.plot.width, axes.plot.height - 8, anchor, clock(seconds)
        )


def _level(axes: _Axes, y: float, name: str) -> Iterator[Markup]:
    yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
        axes.left, axes.right, y, y
    )
    yield Markup('<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
        axes.left - 7, y + 3.5, name
    )


def _row(number: int) -> int:
    """The upper edge of a bar in a named row."""
    return HEIGHT - _BOTTOM + (_ROW - _BAR) + _ROW * number


def _times(plot: Plot) -> list[int]:
    length = plot.to_s - plot.from_s
    step = next((step for step in _TIME_STEPS if length / step <= _TIMES_MAX), _TIME_STEPS[-1])
    return list(range(ceil(plot.from_s / step) * step, floor(plot.to_s) + 1, step))


def _stacks(axes: _Axes) -> Iterator[Markup]:
    heights = [[value for _, value in line.points] for line in axes.plot.stacks]
    tops = [list(accumulate(at)) for at in zip(*heights, strict=True)]
    for n, line in enumerate(axes.plot.stacks):
        if not line.points:
            continue
        xs = [axes.x(x) for x, _ in line.points]
        upper = [f"{x:.1f} {axes.y(top[n]):.1f}" for x, top in zip(xs, tops, strict=True)]
        lower = [f"{x:.1f} {axes.y(top[n - 1] if n else 0):.1f}" for x, top in zip(xs, tops, strict=True)]
        path = "L".join([*upper, *reversed(lower)])
        yield Markup('<path class="stack {}" d="M{}Z"/>').format(line.colour, path)


def _lines(axes: _Axes) -> Iterator[Markup]:
    for line in axes.plot.lines:
        path = "L".join(f"{axes.x(x):.1f} {axes.y(value):.1f}" for x, value in line.points)
        if path:
            yield Markup('<path class="line {}" d="M{}"/>').format(line.colour, path)


def _spans(axes: _Axes, *, whole: bool) -> Iterator[Markup]:
    for span in axes.plot.spans:
        if (span.row is None) != whole:
            continue
        x = axes.x(span.from_s)
        width = max(1.6, axes.x(span.to_s) - x)
        y, height = _extent(axes.plot, span)
        title = f"{span.name}, {clock(span.from_s)} to {clock(span.to_s)}"
        yield Markup(
            '<rect class="{} {}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>'
        ).format(
            "span" if whole and span.from_s < span.to_s else "bar", span.colour, x, y, width, height, title
        )


def _extent(plot: Plot, span: Span) -> tuple[int, int]:
    if span.row is None:
        return _TOP, HEIGHT - _TOP - _BOTTOM
    return (_row(span.row), _BAR) if plot.rows else (_TOP + 3 + 7 * span.row, 5)


def _notes(axes: _Axes) -> Iterator[Markup]:
    """What it was at each instant, for a pointer that rests there."""
    lines = [line for line in (*axes.plot.lines, *axes.plot.stacks) if line.points]
    instants = [x for x, _ in lines[0].points] if lines else []
    width = (axes.right - axes.left) / max(1, len(instants))
    for n, x in enumerate(instants):
        values = [f"{line.name}: {line.points[n][1]:g}" for line in lines if n < len(line.points)]
        spans = [span.name for span in axes.plot.spans if span.row is None and span.from_s <= x < span.to_s]
        yield Markup(
            '<rect class="note" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>'
        ).format(
            axes.x(x) - width / 2,
            _TOP,
            width,
            HEIGHT - _TOP - _BOTTOM,
            "\n".join([clock(x), *values, *spans]),
        )
