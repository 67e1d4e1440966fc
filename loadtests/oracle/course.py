"""How full the busiest window of each limit was over time, for people to look at. Proves nothing."""

from collections import Counter
from collections.abc import Iterator

from vigil.loadtests.oracle.answers import Standing
from vigil.loadtests.oracle.findings import Course, Limits
from vigil.loadtests.oracle.log import NONE, Log, Windows
from vigil.loadtests.oracle.window import Window
from vigil.loadtests.people.observation import SCOPES

POINTS = 240
REFUSALS_MAX = 400


def find_courses(log: Log, windows: Windows, limits: Limits) -> Iterator[Course]:
    """One course for each limit that a request counted for."""
    refusals, end_s = _refusals(log), log.end_s
    for place, scope in enumerate(SCOPES):
        if not windows[place]:
            continue
        subject = _busiest(windows[place], refusals[place])
        times = tuple(
            case.sent_s - log.begin_s
            for case in log.cases(Standing.REFUSED)
            if case.subjects[place] == subject and case.named in (place, NONE)
        )
        yield Course(
            scope,
            limits[place],
            log.subjects[place].names[subject],
            tuple(_points(windows[place][subject], log.begin_s, end_s)),
            times[:: len(times) // REFUSALS_MAX + 1],
        )


def _refusals(log: Log) -> list[Counter[int]]:
    """For each scope: how often each subject was refused by it."""
    found: list[Counter[int]] = [Counter() for _ in SCOPES]
    for case in log.cases(Standing.REFUSED):
        if case.named != NONE:
            found[case.named][case.subjects[case.named]] += 1
    return found


def _busiest(windows: list[Window], refusals: Counter[int]) -> int:
    return max(range(len(windows)), key=lambda number: (refusals[number], len(windows[number].sure_sent)))


def _points(window: Window, begin_s: float, end_s: float) -> Iterator[tuple[float, int, int]]:
    """From the first request of the run to its last answer."""
    for step in range(POINTS + 1):
        at_s = begin_s + (end_s - begin_s) * step / POINTS
        yield at_s - begin_s, window.fewest(at_s, at_s), window.most(at_s, at_s)
