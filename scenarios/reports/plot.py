"""Plots over time as inline SVG: axes with round figures, and what is drawn between them. Knows nothing of what is
plotted.

Colours are CSS classes of the page, so that one drawing is right in light and in dark.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from math import ceil, floor, log10
from typing import Literal, NamedTuple, TypeAlias

from markupsafe import Markup

WIDTH, HEIGHT = 560, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 26
_INSIDE = HEIGHT - _TOP - _BOTTOM
_ROW, _BAR = 18, 10  # of named rows under the plot
_LINES = 4  # about so many lines across
_TIMES_MAX = 7  # figures at the time axis
_HEADROOM = 1.04
_MINUTE_S = 60

Known: TypeAlias = tuple[float, float]
Point: TypeAlias = tuple[float, float | None]  # None: nothing was measured there, and nothing is drawn


# --- what is drawn; `colour` is a class of the page, instants are seconds, in their order


class Line(NamedTuple):
    name: str
    colour: str
    points: Sequence[Point]


class Layer(NamedTuple):
    """A part of a whole: layers stand on each other, and all have the same instants."""

    name: str
    colour: str
    points: Sequence[Known]


class Band(NamedTuple):
    """Between two values at each instant: (x, least, most)."""

    name: str
    colour: str
    points: Sequence[tuple[float, float, float]]


class Level(NamedTuple):
    """A horizontal line with its name."""

    name: str
    colour: str
    value: float


class Ticks(NamedTuple):
    """Marks at the lower edge."""

    name: str
    colour: str
    at: Sequence[float]


class Span(NamedTuple):
    """Something that lasted: over the whole height, or as a bar in the row of that number."""

    name: str
    colour: str
    from_s: float
    to_s: float
    row: int | None = None


def elapsed(seconds: float) -> str:
    """Time since the beginning: `45 s`, `2:30`, `1:05:00`."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{seconds:g} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_of_day(seconds: float) -> str:
    """Hours and minutes, `26:05`; with seconds where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}" + (f":{rest:02d}" if rest else "")


class Plot(NamedTuple):
    """From one second to another.

    `show` and `show_time` write a value and an instant, at the axes and in the notes that appear under a pointer.
    Named `rows` are under the plot; rows of spans without names are thin, from its top.
    """

    label: str
    from_s: float
    to_s: float
    lines: Sequence[Line] = ()
    layers: Sequence[Layer] = ()
    bands: Sequence[Band] = ()
    levels: Sequence[Level] = ()
    ticks: Sequence[Ticks] = ()
    spans: Sequence[Span] = ()
    rows: Sequence[str] = ()
    width: int = WIDTH
    show: Callable[[float], str] = "{:g}".format
    show_time: Callable[[float], str] = elapsed
    scale: Literal["linear", "log"] = "linear"  # of the values; layers need a linear one

    @property
    def height(self) -> int:
        return HEIGHT + _ROW * len(self.rows)

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(name, colour) of all that is drawn, each once; levels and bars name themselves."""
        spans = [span for span in self.spans if span.row is None]
        drawn = chain[Line | Layer | Band | Ticks | Span](
            self.lines, self.layers, self.bands, self.ticks, spans
        )
        return list(dict.fromkeys((each.name, each.colour) for each in drawn))


def svg(plot: Plot) -> Markup:
    """The drawing; says in words that there is nothing when there is nothing."""
    values = _values(plot)
    if not (values or plot.spans) or plot.to_s <= plot.from_s:
        return Markup('<p class="nothing">Nothing was measured.</p>')
    axes = _Axes(plot, *_range(plot, values))
    parts = chain(
        _spans(axes, whole=True),
        _layers(axes),
        _grid(axes),
        _bands(axes),
        _levels(axes),
        _ticks(axes),
        _lines(axes),
        _spans(axes, whole=False),
        _notes(axes),
    )
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        plot.width, plot.height, plot.label
    )
    return Markup("").join([head, *parts, Markup("</svg>")])


# --- axes


class _Axes(NamedTuple):
    plot: Plot
    least: float
    most: float

    @property
    def left(self) -> int:
        return _LEFT if not self.plot.rows else 2 * _LEFT

    @property
    def right(self) -> int:
        return self.plot.width - _RIGHT

    def x(self, seconds: float) -> float:
        """Where an instant is; those outside are at the edge."""
        share = (seconds - self.plot.from_s) / (self.plot.to_s - self.plot.from_s)
        return self.left + (self.right - self.left) * min(1.0, max(0.0, share))

    def y(self, value: float) -> float:
        if self.plot.scale == "log":
            share = log10(max(value, self.least) / self.least) / log10(self.most / self.least)
        else:
            share = value / self.most
        return _TOP + _INSIDE * (1 - share)


_TIME_STEPS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800, 604_800),
)
_ROUND_STEPS = (1, 2, 5, 10)


def _values(plot: Plot) -> list[float]:
    values = [value for line in plot.lines for _, value in line.points if value is not None]
    values += [most for band in plot.bands for _, _, most in band.points]
    return values + [heights[-1] for heights in _heights(plot)]


def _heights(plot: Plot) -> list[list[float]]:
    """How high each layer reaches, at one instant after the other."""
    at_once = zip(*([value for _, value in layer.points] for layer in plot.layers), strict=True)
    return [list(accumulate(values)) for values in at_once]


def _range(plot: Plot, values: list[float]) -> tuple[float, float]:
    most = max([*values, *(level.value for level in plot.levels), 0.0]) or 1.0
    if plot.scale == "log":
        least = min((value for value in values if value > 0), default=most)
        low, high = floor(log10(least)), ceil(log10(most))
        return 10.0**low, 10.0 ** max(high, low + 1)
    step = _step(most)
    return 0.0, step * ceil(most * _HEADROOM / step)


def _step(most: float) -> float:
    rough = most / _LINES
    power = 10.0 ** floor(log10(rough))
    return next(step * power for step in _ROUND_STEPS if step * power >= rough * 0.999)


def _grid(axes: _Axes) -> Iterator[Markup]:
    for value in _marks(axes):
        yield from _across(axes, axes.y(value), axes.plot.show(value))
    for n, name in enumerate(axes.plot.rows):
        yield from _across(axes, _row(n) + _BAR / 2, name)
    for seconds in _times(axes.plot):
        x = axes.x(seconds)
        anchor = "end" if x > axes.right - _RIGHT else "middle"
        yield Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            x if anchor == "middle" else axes.plot.width,
            axes.plot.height - 8,
            anchor,
            axes.plot.show_time(seconds),
        )


def _marks(axes: _Axes) -> list[float]:
    if axes.plot.scale == "log":
        return [10.0**power for power in range(round(log10(axes.least)), round(log10(axes.most)) + 1)]
    step = _step(axes.most / _HEADROOM)
    return [step * count for count in range(int(axes.most / step + 1e-9) + 1)]


def _times(plot: Plot) -> list[float]:
    length = plot.to_s - plot.from_s
    step = next((step for step in _TIME_STEPS if length / step <= _TIMES_MAX), _TIME_STEPS[-1])
    return [step * n for n in range(ceil(plot.from_s / step), floor(plot.to_s / step + 1e-9) + 1)]


def _across(axes: _Axes, y: float, name: str) -> Iterator[Markup]:
    yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
        axes.left, axes.right, y, y
    )
    yield Markup('<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
        axes.left - 7, y + 3.5, name
    )


def _row(number: int) -> int:
    """The upper edge of a bar in a named row."""
    return HEIGHT - _BOTTOM + (_ROW - _BAR) + _ROW * number


# --- values


def _lines(axes: _Axes) -> Iterator[Markup]:
    for line in axes.plot.lines:
        path = "".join(_path(axes, stretch) for stretch in _unbroken(line.points))
        if path:
            yield Markup('<path class="line {}" d="{}"/>').format(line.colour, path)


def _unbroken(points: Sequence[Point]) -> Iterator[list[Known]]:
    """The parts of a line between its gaps."""
    stretch: list[Known] = []
    for x, value in points:
        if value is not None:
            stretch.append((x, value))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _path(axes: _Axes, points: Sequence[Known]) -> str:
    """One stretch; a point alone is a line of no length, whose round ends show as a dot."""
    path = "L".join(_place(axes, x, value) for x, value in points)
    return f"M{path}" if len(points) > 1 else f"M{path}h0"


def _place(axes: _Axes, x: float, value: float) -> str:
    return f"{axes.x(x):.1f} {axes.y(value):.1f}"


def _layers(axes: _Axes) -> Iterator[Markup]:
    heights = _heights(axes.plot)
    for n, layer in enumerate(axes.plot.layers):
        if not layer.points:
            continue
        upper = [_place(axes, x, at[n]) for (x, _), at in zip(layer.points, heights, strict=True)]
        lower = [
            _place(axes, x, at[n - 1] if n else 0) for (x, _), at in zip(layer.points, heights, strict=True)
        ]
        path = "L".join([*upper, *reversed(lower)])
        yield Markup('<path class="layer {}" d="M{}Z"/>').format(layer.colour, path)


def _bands(axes: _Axes) -> Iterator[Markup]:
    for band in axes.plot.bands:
        upper = [_place(axes, x, most) for x, _, most in band.points]
        lower = [_place(axes, x, least) for x, least, _ in reversed(band.points)]
        yield Markup('<path class="band {}" d="M{}Z"/>').format(band.colour, "L".join(upper + lower))
        yield Markup('<path class="line {}" d="M{}"/>').format(band.colour, "L".join(upper))


def _levels(axes: _Axes) -> Iterator[Markup]:
    for level in axes.plot.levels:
        y = axes.y(level.value)
        yield Markup('<line class="level {}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            level.colour, axes.left, axes.right, y, y
        )
        yield Markup('<text class="name {}" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            level.colour, axes.right - 4, y - 5, level.name
        )


def _ticks(axes: _Axes) -> Iterator[Markup]:
    floor_y = HEIGHT - _BOTTOM
    for ticks in axes.plot.ticks:
        path = "".join(f"M{axes.x(at):.1f} {floor_y}V{floor_y - 9}" for at in ticks.at)
        if path:
            yield Markup('<path class="tick {}" d="{}"/>').format(ticks.colour, path)


def _spans(axes: _Axes, *, whole: bool) -> Iterator[Markup]:
    for span in axes.plot.spans:
        if (span.row is None) != whole:
            continue
        x = axes.x(span.from_s)
        width = max(1.6, axes.x(span.to_s) - x)
        y, height = _extent(axes.plot, span)
        show = axes.plot.show_time
        title = f"{span.name}, {show(span.from_s)} to {show(span.to_s)}"
        yield Markup(
            '<rect class="{} {}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>'
        ).format(
            "span" if whole and span.from_s < span.to_s else "bar", span.colour, x, y, width, height, title
        )


def _extent(plot: Plot, span: Span) -> tuple[int, int]:
    if span.row is None:
        return _TOP, _INSIDE
    return (_row(span.row), _BAR) if plot.rows else (_TOP + 3 + 7 * span.row, 5)


def _notes(axes: _Axes) -> Iterator[Markup]:
    """What it was at each instant, for a pointer that rests there."""
    plot = axes.plot
    every: list[Line | Layer] = [*plot.lines, *plot.layers]
    lines = [line for line in every if line.points]
    instants = [x for x, _ in lines[0].points] if lines else []
    width = (axes.right - axes.left) / max(1, len(instants))
    for n, x in enumerate(instants):
        values = [(line.name, line.points[n][1]) for line in lines if n < len(line.points)]
        texts = [f"{name}: {'-' if value is None else plot.show(value)}" for name, value in values]
        spans = [span.name for span in plot.spans if span.row is None and span.from_s <= x < span.to_s]
        yield Markup(
            '<rect class="note" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>'
        ).format(axes.x(x) - width / 2, _TOP, width, _INSIDE, "\n".join([plot.show_time(x), *texts, *spans]))
