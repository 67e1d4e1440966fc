"""A plot shows what it was given, inside its frame, with few round figures at its axes."""

import re

import pytest

from vigil.scenarios.reports.plot import (
    HEIGHT,
    WIDTH,
    Band,
    Layer,
    Level,
    Line,
    Plot,
    Span,
    Ticks,
    elapsed,
    svg,
    time_of_day,
)

LABEL = "a plot"


def places(path: str) -> list[tuple[float, ...]]:
    return [tuple(map(float, point.split())) for point in path.strip("MZ").split("L")]


def test_layers_stand_on_each_other_and_stay_inside() -> None:
    layers = [Layer("a", "one", [(0, 4.0), (60, 6.0)]), Layer("b", "two", [(0, 5.0), (60, 1.0)])]
    whole = Line("whole", "bad", [(0, 9.0), (60, 7.0)])
    drawing = str(svg(Plot(LABEL, 0.0, 60.0, [whole], layers)))
    lower, upper, line = map(places, re.findall(r'class="(?:layer|line) \w+" d="([^"]*)"', drawing))
    assert upper[2:] == lower[1::-1]  # the second begins where the first ends
    assert upper[:2] == line
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in lower + upper)


def test_a_line_has_a_gap_where_nothing_was_measured_and_a_dot_for_a_point_alone() -> None:
    line = Line("p99", "one", [(0, 1.0), (1, 2.0), (2, None), (3, 2.0), (4, None)])
    drawing = str(svg(Plot(LABEL, 0.0, 4.0, [line])))
    path = re.search(r'class="line one" d="([^"]*)"', drawing)
    assert path is not None
    first, alone = path[1].split("M")[1:]
    assert first.count("L") == 1
    assert alone.endswith("h0")
    assert "p99: -" in drawing


def test_a_plot_stays_inside_its_frame() -> None:
    line = Line("x", "one", [(0, 0.0), (30, 77.0), (60, 59.0), (90, 10.0)])
    drawing = str(svg(Plot(LABEL, 0.0, 60.0, [line], levels=[Level("limit", "bad", 60)])))
    points = re.search(r'class="line one" d="([^"]*)"', drawing)
    assert points is not None
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places(points[1]))


def test_a_span_outside_the_plot_is_cut_at_its_edge() -> None:
    drawing = str(svg(Plot(LABEL, 60.0, 120.0, spans=[Span("late", "bad", 100.0, 9000.0)])))
    (place,) = re.findall(r'class="span bad" x="([\d.]+)" y="\d+" width="([\d.]+)"', drawing)
    assert sum(map(float, place)) <= WIDTH


def test_named_rows_are_under_the_plot_and_make_it_higher() -> None:
    spans = [Span("crash", "bad", 10.0, 20.0, row=0), Span("slow", "two", 20.0, 30.0, row=1)]
    drawing = str(svg(Plot(LABEL, 0.0, 60.0, spans=spans, rows=["crash", "slow"])))
    height = re.search(r'viewBox="0 0 \d+ (\d+)"', drawing)
    assert height is not None
    bars = [int(y) for y in re.findall(r'class="bar \w+" x="[\d.]+" y="(\d+)"', drawing)]
    assert int(height[1]) > HEIGHT
    assert HEIGHT - 26 < bars[0] < bars[1] < int(height[1])


def test_a_band_is_drawn_between_its_values_and_its_ticks_at_the_lower_edge() -> None:
    band = Band("window", "one", [(0, 0.0, 2.0), (10, 4.0, 8.0)])
    drawing = str(svg(Plot(LABEL, 0.0, 10.0, bands=[band], ticks=[Ticks("429", "bad", [5.0])])))
    path = re.search(r'class="band one" d="([^"]*)"', drawing)
    assert path is not None
    (_, first_most), (_, last_most), (_, last_least), (_, first_least) = places(path[1])
    assert last_most < last_least < first_most < first_least
    assert 'class="tick bad" d="M300.0 174V165"' in drawing


def test_the_legend_names_each_thing_once_and_no_bars() -> None:
    spans = [
        Span("crash", "bad", 1.0, 2.0),
        Span("crash", "bad", 3.0, 4.0),
        Span("waited", "one", 1.0, 2.0, 0),
    ]
    plot = Plot(LABEL, 0.0, 10.0, [Line("live", "one", [])], ticks=[Ticks("429", "two", [])], spans=spans)
    assert plot.legend == [("live", "one"), ("429", "two"), ("crash", "bad")]


@pytest.mark.parametrize(
    "plot", [Plot(LABEL, 0.0, 60.0), Plot(LABEL, 5.0, 5.0, [Line("x", "one", [(5, 1.0)])])]
)
def test_a_plot_without_values_or_without_length_says_so(plot: Plot) -> None:
    assert "Nothing was measured." in svg(plot)


@pytest.mark.parametrize("value", [0, 1e-9, 0.3, 1, 7, 99, 100, 101, 5000, 123_456])
def test_axes_have_few_round_figures(value: float) -> None:
    drawing = str(svg(Plot(LABEL, 0.0, 10.0, [Line("x", "one", [(0, 0.0), (10, value)])])))
    assert 3 <= drawing.count('class="grid"') <= 8


@pytest.mark.parametrize("length_s", [0.5, 40, 330, 7200, 86_400, 7 * 86_400])
def test_the_time_axis_has_few_figures_and_they_are_round(length_s: float) -> None:
    drawing = str(svg(Plot(LABEL, 0.0, length_s, [Line("x", "one", [(0, 1.0)])], show_time="{:g}".format)))
    shown = [float(text) for text in re.findall(r'y="192" text-anchor="\w+">([^<]+)<', drawing)]
    assert 3 <= len(shown) <= 8
    assert shown[-1] <= length_s


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (0.5, "0.5 s"), (60, "1:00"), (150, "2:30"), (3900, "1:05:00")]
)
def test_times_since_the_beginning_are_short(seconds: float, shown: str) -> None:
    assert elapsed(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "00:00"), (3660, "01:01"), (93_600, "26:00"), (3661, "01:01:01")]
)
def test_times_of_the_day_are_hours_and_minutes(seconds: float, shown: str) -> None:
    assert time_of_day(seconds) == shown
