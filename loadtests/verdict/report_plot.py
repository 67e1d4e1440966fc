"""Line plots as inline SVG: axes with round figures, lines, bands and ticks. Knows nothing of what is plotted.

Colours are CSS classes of the page, so that one drawing is right in light and in dark.
"""

from collections.abc import Callable, Iterator, Sequence
from math import ceil, floor, log10
from typing import Literal, NamedTuple, TypeAlias

from markupsafe import Markup, escape

WIDTH, HEIGHT = 560, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 26
_LINES = 4  # about so many lines across

Point: TypeAlias = tuple[float, float | None]  # None: nothing was measured there, and nothing is drawn


class Line(NamedTuple):
    """`colour` is a class of the page; `steps` keeps each value until the next point."""

    name: str
    colour: str
    points: Sequence[Point]
    steps: bool = False


class Band(NamedTuple):
    """Between two values at each instant: (x, least, most)."""

    name: str
    colour: str
    points: Sequence[tuple[float, float, float]]


class Level(NamedTuple):
    """A horizontal line with a name."""

    name: str
    colour: str
    value: float


class Ticks(NamedTuple):
    """Marks at the lower edge."""

    name: str
    colour: str
    at: Sequence[float]


class Plot(NamedTuple):
    """`x_max` in seconds; `show` writes a value at the axis and in the notes that appear under a pointer."""

    label: str
    x_max: float
    lines: Sequence[Line] = ()
    bands: Sequence[Band] = ()
    levels: Sequence[Level] = ()
    ticks: Sequence[Ticks] = ()
    show: Callable[[float], str] = "{:g}".format
    scale: Literal["linear", "log"] = "linear"

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(name, colour) of all that is drawn and that a level does not name itself."""
        drawn: list[Line | Band | Ticks] = [*self.lines, *self.bands, *self.ticks]
        return [(each.name, each.colour) for each in drawn]


class _Axes(NamedTuple):
    plot: Plot
    least: float
    most: float

    def x(self, seconds: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * seconds / self.plot.x_max

    def y(self, value: float) -> float:
        height = HEIGHT - _TOP - _BOTTOM
        if self.plot.scale == "log":
            part = log10(max(value, self.least) / self.least) / log10(self.most / self.least)
        else:
            part = value / self.most
        return _TOP + height * (1 - part)


def svg(plot: Plot) -> Markup:
    """The drawing; says in words that there is nothing when there is nothing."""
    values = _values(plot)
    if not values or plot.x_max <= 0:
        return Markup('<p class="nothing">Nothing was measured.</p>')
    axes = _Axes(plot, *_range(plot, values))
    parts = [*_grid(axes), *_bands(axes), *_levels(axes), *_ticks(axes), *_lines(axes), *_notes(axes)]
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, plot.label)
    return Markup("").join([head, *parts, Markup("</svg>")])


def clock(seconds: float) -> str:
    """`45 s`, `2:30`, `1:05:00`."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{seconds:g} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


_MINUTE_S = 60
_TIME_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14_400,
    43_200,
    86_400,
)
_ROUND_STEPS = (1, 2, 5, 10)


def _values(plot: Plot) -> list[float]:
    values = [value for line in plot.lines for _, value in line.points if value is not None]
    return values + [most for band in plot.bands for _, _, most in band.points]


def _range(plot: Plot, values: list[float]) -> tuple[float, float]:
    most = max(*values, *(level.value for level in plot.levels), 1e-9)
    if plot.scale == "log":
        least = min((value for value in values if value > 0), default=most)
        low, high = floor(log10(least)), ceil(log10(most))
        return 10.0**low, 10.0 ** max(high, low + 1)
    step = _step(most)
    return 0.0, step * ceil(most * 1.04 / step)


def _step(most: float) -> float:
    rough = most / _LINES
    power = 10.0 ** floor(log10(rough))
    return next(step * power for step in _ROUND_STEPS if step * power >= rough * 0.999)


def _grid(axes: _Axes) -> Iterator[Markup]:
    for value in _marks(axes):
        y = axes.y(value)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, WIDTH - _RIGHT, y, y
        )
        yield Markup('<text class="axis" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT - 7, y + 3.5, axes.plot.show(value)
        )
    step = next((step for step in _TIME_STEPS if axes.plot.x_max / step <= _TIMES_MAX), _TIME_STEPS[-1])
    for count in range(int(axes.plot.x_max / step + 1e-9) + 1):
        yield Markup('<text class="axis" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            axes.x(count * step), HEIGHT - 8, clock(count * step)
        )


_TIMES_MAX = 7


def _marks(axes: _Axes) -> list[float]:
    if axes.plot.scale == "log":
        return [10.0**power for power in range(round(log10(axes.least)), round(log10(axes.most)) + 1)]
    step = _step(axes.most / 1.04)
    return [step * count for count in range(int(axes.most / step + 1e-9) + 1)]


def _lines(axes: _Axes) -> Iterator[Markup]:
    for line in axes.plot.lines:
        stretches = (_path(axes, stretch, steps=line.steps) for stretch in _unbroken(line.points))
        yield Markup('<path class="line {}" d="{}"/>').format(line.colour, "".join(stretches))


def _unbroken(points: Sequence[Point]) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line between its gaps."""
    stretch: list[tuple[float, float]] = []
    for x, value in points:
        if value is not None:
            stretch.append((x, value))
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch


def _path(axes: _Axes, points: Sequence[tuple[float, float]], *, steps: bool) -> str:
    """One stretch; a point alone is a line of no length, whose round ends show as a dot."""
    path: list[str] = []
    for x, value in points:
        if steps and path:
            path.append(f"H{axes.x(x):.1f}")
        path.append(f"{'L' if path else 'M'}{axes.x(x):.1f} {axes.y(value):.1f}")
    return "".join(path) if len(points) > 1 else f"{path[0]}h0"


def _bands(axes: _Axes) -> Iterator[Markup]:
    for band in axes.plot.bands:
        upper = [f"{axes.x(x):.1f} {axes.y(most):.1f}" for x, _, most in band.points]
        lower = [f"{axes.x(x):.1f} {axes.y(least):.1f}" for x, least, _ in reversed(band.points)]
        yield Markup('<path class="band {}" d="M{}Z"/>').format(band.colour, "L".join(upper + lower))
        yield Markup('<path class="line {}" d="M{}"/>').format(band.colour, "L".join(upper))


def _levels(axes: _Axes) -> Iterator[Markup]:
    for level in axes.plot.levels:
        y = axes.y(level.value)
        yield Markup('<line class="level {}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            level.colour, _LEFT, WIDTH - _RIGHT, y, y
        )
        yield Markup('<text class="name {}" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            level.colour, WIDTH - _RIGHT - 4, y - 5, level.name
        )


def _ticks(axes: _Axes) -> Iterator[Markup]:
    floor_y = HEIGHT - _BOTTOM
    for ticks in axes.plot.ticks:
        path = "".join(f"M{axes.x(at):.1f} {floor_y}V{floor_y - 9}" for at in ticks.at)
        if path:
            yield Markup('<path class="tick {}" d="{}"/>').format(ticks.colour, path)


def _notes(axes: _Axes) -> Iterator[Markup]:
    """What was measured at each instant, for a pointer that rests there."""
    lines = [line for line in axes.plot.lines if line.points]
    for at, (x, _) in enumerate(lines[0].points if lines else ()):
        texts = [
            f"{line.name}: {'-' if value is None else axes.plot.show(value)}"
            for line, value in ((line, line.points[at][1]) for line in lines if at < len(line.points))
        ]
        width = (WIDTH - _LEFT - _RIGHT) / max(1, len(lines[0].points))
        yield Markup(
            '<rect class="note" x="{:.1f}" y="{}" width="{:.1f}" height="{}"><title>{}</title></rect>'
        ).format(
            axes.x(x) - width / 2, _TOP, width, HEIGHT - _TOP - _BOTTOM, escape("\n".join([clock(x), *texts]))
        )
