"""A verdict for the terminal: what was run, tables of limits and latencies, thresholds, what failed and its proof."""

from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import NamedTuple

from vigil.loadtests.oracle.findings import Tally
from vigil.loadtests.verdict.percentiles import Histogram
from vigil.loadtests.verdict.verdict import NOT_REACHED, PERCENTS, WORDS, Exit, Verdict, state

ERRORS_MAX = 5
WIDTH = 160  # where nobody looks on: a file, a pipe

_COLOURS = {"held": 32, "failed": 31, NOT_REACHED: 33, WORDS[Exit.INCOMPLETE]: 33}
_FOLD_WIDTH = 100
_GAP = 2

_LIMITS = (
    "limit",
    "admitted",
    "refused",
    "over-admitted",
    "falsely refused",
    "undecided",
    "Retry-After",
    "headers",
    "verdict",
)
_TIMES = (*(f"p{percent:g}" for percent in PERCENTS), "max")


def text(verdict: Verdict, *, width: int = WIDTH, colours: bool = False) -> str:
    """Some thirty lines; the last ones say it all. Tables wider than `width` become lists. Ends without a newline."""
    show = _Show(width, colours)
    if not verdict.measured.sent:
        return _last_line(verdict, show)
    parts = (
        _limits(verdict, show),
        _latencies(verdict, show),
        _load(verdict, show),
        _thresholds(verdict, show),
    )
    blocks = [_headline(verdict), *("\n".join(part) for part in parts), _last_line(verdict, show)]
    return "\n\n".join(block for block in blocks if block)


class _Show(NamedTuple):
    """How wide the terminal is, and whether it has colours."""

    width: int
    colours: bool

    def paint(self, word: str) -> str:
        """A word of a verdict in its colour; other text as it is."""
        code = _COLOURS.get(word.strip().lower())
        return f"\x1b[{code}m{word}\x1b[0m" if code and self.colours else word

    def fold(self, text: str) -> str:
        width = min(self.width, _FOLD_WIDTH)
        return fill(
            text,
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )

    def table(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """The first column to the left, the others to the right; where that is too wide, each row as a list."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        if sum(widths) + _GAP * (len(widths) - 1) > self.width:
            return self._list(rows)
        head, *body = (self._row(row, widths) for row in rows)
        return [head, *map(self._painted, body)]

    def _row(self, row: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = row
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return (" " * _GAP).join([first.ljust(widths[0]), *cells]).rstrip()

    def _painted(self, line: str) -> str:
        """A row whose last word is that of a verdict, in the colour of it."""
        word = next((word for word in _COLOURS if line.endswith(f" {word}")), "")
        return line.removesuffix(word) + self.paint(word)

    def _list(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """`head: a 1, b 2`, folded. The first row has the names of the columns."""
        (title, *names), *others = rows
        lines = [title]
        for first, *cells in others:
            pairs = (f"{name} {cell}" for name, cell in zip(names, cells, strict=True) if cell)
            lines.append(self._painted(self.fold(f"{first}: {', '.join(pairs)}")))
        return lines


def milliseconds(seconds: float | None) -> str:
    """Three significant digits: `0.83`, `12.4`, `1240`."""
    if seconds is None:
        return "-"
    value = float(f"{seconds * 1000:.3g}")
    return f"{value:.0f}" if value >= _WHOLE_FROM else f"{value:g}"


def number(count: int) -> str:
    """`12 345`."""
    return f"{count:,}".replace(",", " ")


def share(part: int, whole: int) -> str:
    """`12 (0.3 %)`, or `0`."""
    return f"{number(part)} ({part / whole:.2%})".replace("%", " %") if part and whole else number(part)


def retries(tally: Tally) -> str:
    """Retry-After in words: `24 honest, 2 too early`."""
    counts = {
        "too early": tally.retry_early,
        "too late": tally.retry_late,
        "honest": tally.retry_honest,
        "undecided": tally.retry_undecided,
    }
    return ", ".join(f"{number(count)} {name}" for name, count in counts.items() if count) or "-"


def headers(tally: Tally) -> str:
    """The limit's items in RateLimit and RateLimit-Policy, in words."""
    if tally.headers_wrong:
        return f"{number(tally.headers_wrong)} wrong"
    return "as they should be" if tally.headers_right or tally.headers_undecided else "-"


_WHOLE_FROM = 100


def _headline(verdict: Verdict) -> str:
    run = verdict.run
    scale = "" if run.scale == 1 else f", time scale {run.scale:g}"
    return f"{run.profile} against {run.target}: {run.people} people, {run.seconds:.0f} s{scale}"


def _limits(verdict: Verdict, show: _Show) -> Iterator[str]:
    rows: list[Sequence[str]] = [_LIMITS]
    for tally in verdict.judgement.tallies:
        undecided = share(tally.undecided, tally.admitted + tally.refused)
        counts = map(number, (tally.admitted, tally.refused, tally.over_admitted, tally.falsely_refused))
        told = retries(tally), headers(tally), state(tally)
        rows.append((f"{tally.scope} {tally.limit}", *counts, undecided, *told))
    yield from show.table(rows)
    if verdict.judgement.unjudged:
        yield f"{number(verdict.judgement.unjudged)} observations were not judged: too many, or from several machines"


def _latencies(verdict: Verdict, show: _Show) -> Iterator[str]:
    measured = verdict.measured
    rows: list[Sequence[str]] = [("response time, ms", "requests", "failed", *_TIMES)]
    for name, found in sorted(measured.operations.items()):
        rows.append((name, number(found.response.count), number(found.failed), *_times(found.response)))
    whole = measured.all_operations()
    rows.append(("all", number(whole.response.count), number(whole.failed), *_times(whole.response)))
    rows.append(("all, service time", "", "", *_times(whole.service)))
    yield from show.table(rows)


def _load(verdict: Verdict, show: _Show) -> Iterator[str]:
    measured, generator = verdict.measured, verdict.generator
    rate = measured.sent / measured.duration_s() if measured.sent else 0.0
    due, unsent = measured.due
    yield f"{rate:.1f} requests/s; {number(due)} fell due, never sent: {share(unsent, due)}"
    lag = milliseconds(measured.lag.at(99))
    yield f"generator: p99 {lag} ms late, {generator.cpu_share:.0%} of a core at most"
    if generator.acknowledged:
        found = generator.acknowledged - generator.lost
        yield f"{number(found)} of {number(generator.acknowledged)} acknowledged messages were read back"
    for error, count in Counter(generator.errors).most_common(ERRORS_MAX):
        yield show.fold(f"{number(count)} times {error}")


def _thresholds(verdict: Verdict, show: _Show) -> Iterator[str]:
    for outcome in verdict.outcomes:
        word = WORDS[Exit.HELD] if outcome.held else WORDS[Exit.FAILED].upper()
        yield f"{show.paint(word.ljust(_WORD_WIDTH))}{outcome.threshold.text}  {outcome.shown}"


_WORD_WIDTH = 8


def _last_line(verdict: Verdict, show: _Show) -> str:
    """And what failed, if anything did. An incomplete run is summed up in the line itself."""
    word = show.paint(verdict.word.upper())
    if verdict.result is Exit.INCOMPLETE:
        first = next(check.problem for check in verdict.checks if check.problem)
        return "\n".join([f"{word}: {first}", *map(show.fold, verdict.problems[1:])])
    if verdict.problems:
        return "\n".join([word, *map(show.fold, verdict.problems)])
    reached = [tally.scope for tally in verdict.judgement.tallies if tally.is_reached]
    if not reached:
        return f"{word}: no limit was reached, so none is proven"
    return f"{word}: nothing speaks against the limits; reached: {', '.join(reached)}"


def _times(histogram: Histogram) -> tuple[str, ...]:
    times = (*(histogram.at(percent) for percent in PERCENTS), histogram.at(100))
    return tuple(map(milliseconds, times))
