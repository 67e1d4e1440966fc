"""A verdict for the terminal: what was run, tables of limits and latencies, thresholds, what failed and its proof."""

from collections import Counter
from collections.abc import Iterator, Sequence
from textwrap import TextWrapper

from loadtests.oracle_tally import Tally
from loadtests.percentiles import Histogram
from loadtests.verdict import PERCENTS, Exit, Verdict

ERRORS_MAX = 5

_LAST_WORDS = {
    Exit.HELD: "HELD",
    Exit.FAILED: "FAILED",
    Exit.OVERLOADED: "GENERATOR OVERLOADED",
    Exit.UNREACHABLE: "TARGET NOT REACHABLE",
}
_LIMITS = (
    "limit",
    "admitted",
    "refused",
    "over-admitted",
    "falsely refused",
    "undecided",
    "Retry-After",
    "headers",
)
_TIMES = (*(f"p{percent:g}" for percent in PERCENTS), "max")
_FOLD = TextWrapper(width=100, initial_indent="  ", subsequent_indent="    ", break_long_words=False)


def text(verdict: Verdict) -> str:
    """Some thirty lines; the last ones say it all. Ends without a newline."""
    parts = (_limits(verdict), _latencies(verdict), _load(verdict), _thresholds(verdict))
    blocks = [_headline(verdict), *("\n".join(part) for part in parts), _last_line(verdict)]
    return "\n\n".join(block for block in blocks if block)


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


def _limits(verdict: Verdict) -> Iterator[str]:
    rows: list[Sequence[str]] = [_LIMITS]
    for tally in verdict.judgement.tallies:
        undecided = share(tally.undecided, tally.admitted + tally.refused)
        counts = map(number, (tally.admitted, tally.refused, tally.over_admitted, tally.falsely_refused))
        rows.append((f"{tally.scope} {tally.limit}", *counts, undecided, retries(tally), headers(tally)))
    yield from _table(rows)
    if verdict.judgement.unjudged:
        yield f"{number(verdict.judgement.unjudged)} observations were not judged: too many, or from several machines"


def _latencies(verdict: Verdict) -> Iterator[str]:
    measured = verdict.measured
    rows: list[Sequence[str]] = [("response time, ms", "requests", "failed", *_TIMES)]
    for name, found in sorted(measured.operations.items()):
        rows.append((name, number(found.response.count), number(found.failed), *_times(found.response)))
    whole = measured.all_operations()
    rows.append(("all", number(whole.response.count), number(whole.failed), *_times(whole.response)))
    rows.append(("all, service time", "", "", *_times(whole.service)))
    yield from _table(rows)


def _load(verdict: Verdict) -> Iterator[str]:
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
        yield _FOLD.fill(f"{number(count)} times {error}")


def _thresholds(verdict: Verdict) -> Iterator[str]:
    rows = [
        ("held" if outcome.held else "FAILED", outcome.threshold.text, outcome.shown)
        for outcome in verdict.outcomes
    ]
    return iter(_table(rows)) if rows else iter(())


def _last_line(verdict: Verdict) -> str:
    word = _LAST_WORDS[verdict.exit_code]
    if not verdict.problems:
        reached = [tally.scope for tally in verdict.judgement.tallies if tally.is_reached]
        which = f"; reached: {', '.join(reached)}" if reached else "; none of the limits was reached"
        return f"{word}: nothing speaks against the limits{which}"
    return "\n".join([word, *map(_FOLD.fill, verdict.problems)])


def _times(histogram: Histogram) -> tuple[str, ...]:
    times = (*(histogram.at(percent) for percent in PERCENTS), histogram.at(100))
    return tuple(map(milliseconds, times))


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
