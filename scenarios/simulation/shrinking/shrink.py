"""Cuts a run that failed down to the shortest beginning, the fewest faults and the fewest people that still fail.

What is left is the same simulation with narrower settings; `scenarios.simulation.shrinking.script` tells it as a
scenario.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from vigil.scenarios.simulation.outcome import Outcome, Settings

T = TypeVar("T")

Run = Callable[[Settings], Outcome]
Tell = Callable[[str], None]
_PRECISION_MS = 60_000  # of the end of a day that only fails after it


def shrink(failed: Outcome, run: Run, tell: Tell = lambda _: None) -> Outcome:
    """The smallest run found that violates the rule that `failed` does. `tell` gets a line for each step forward."""
    return _Search(failed, run, tell).search()


def fewest(things: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Some of `things`, in their order, that fail, none of which can be left out: delta debugging by Zeller."""
    pieces = 2
    while len(things) >= 2:  # noqa: PLR2004
        size = -(-len(things) // pieces)
        parts = [things[n : n + size] for n in range(0, len(things), size)]
        rests = [[one for one in things if one not in part] for part in parts]
        smaller = next((some for some in [*parts, *rests] if len(some) < len(things) and fails(some)), None)
        if smaller is not None:
            things, pieces = smaller, 2 if smaller in parts else max(pieces - 1, 2)
        elif size == 1:
            break
        else:
            pieces = min(len(things), pieces * 2)
    return things


class _Search:
    def __init__(self, failed: Outcome, run: Run, tell: Tell) -> None:
        assert failed.violation is not None  # nobody shrinks what held
        self._rule = failed.violation.rule
        self._best = failed
        self._run = run
        self._tell = tell

    def search(self) -> Outcome:
        """Each cut may make room for another: until nothing gets smaller."""
        size = (0, 0)
        while size != (size := self._size()):
            self._cut_time()
            self._cut_people()
            self._cut_faults()
        return self._best

    def _size(self) -> tuple[int, int]:
        return self._best.settings.length_ms, self._best.requests

    def _fails(self, settings: Settings) -> bool:
        outcome = self._run(settings)
        if outcome.violation is None or outcome.violation.rule != self._rule:
            return False
        self._best = outcome
        people = settings.people if settings.only is None else len(settings.only)
        self._tell(f"still fails: {people} people, {settings.length_ms / 60_000:.1f} minutes")
        return True

    def _cut_time(self) -> None:
        settings, found = self._best.settings, self._best.violation
        assert found is not None
        if found.at_ms + 1 < settings.length_ms:
            self._fails(replace(settings, until_ms=found.at_ms + 1))
        elif (
            found.at_ms > settings.length_ms
        ):  # in the days after: what is left over was left somewhere before
            self._bisect_time()

    def _bisect_time(self) -> None:
        holds, fails = 0, self._best.settings.length_ms
        while fails - holds > _PRECISION_MS:
            middle = (holds + fails) // 2
            if self._fails(replace(self._best.settings, until_ms=middle)):
                fails = middle
            else:
                holds = middle

    def _cut_people(self) -> None:
        settings, found = self._best.settings, self._best.violation
        assert found is not None
        concerned = sorted({one.exchange.person for one in found.evidence})
        everybody = range(settings.people) if settings.only is None else settings.only
        if concerned and len(concerned) < len(everybody):
            self._fails(replace(settings, only=tuple(concerned)))
        now = self._best.settings
        left = list(range(now.people) if now.only is None else now.only)
        fewest(left, lambda some: self._fails(replace(self._best.settings, only=tuple(some))))

    def _cut_faults(self) -> None:
        faults = self._best.settings.faults
        if faults and not self._fails(replace(self._best.settings, faults=())):
            fewest(faults, lambda some: self._fails(replace(self._best.settings, faults=tuple(some))))
