"""Runs in virtual time that go the same way every time. The only place that touches Trio's private names.

Trio picks the order of tasks that are ready at the same moment by chance, so that nobody relies on one. Here that
chance comes from a seed. A test compares the traces of runs in several processes: it fails when a new Trio does
something else.
"""

import math
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio
import trio._core._run as _trio_run
from trio.abc import Clock

T = TypeVar("T")

_LONG_S = 1e9


class _JumpingClock(Clock):
    """Stands still while a task can run, and jumps to the next deadline when none can.

    Trio's MockClock does the same with a task of its own that has to be woken for each jump: this costs none.
    """

    def __init__(self) -> None:
        self._now_s = 0.0

    def start_clock(self) -> None:
        self._runner = _trio_run.GLOBAL_RUN_CONTEXT.runner

    def current_time(self) -> float:
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked only when no task can run. What `run_sync_soon` has queued, and who waits for that, goes first."""
        if self._runner.entry_queue.size():
            return 0.0
        if not self._may_jump_to(deadline):
            return _LONG_S
        self._now_s = max(self._now_s, deadline)
        return 0.0

    def _may_jump_to(self, deadline: float) -> bool:
        return deadline != math.inf and not self._runner.waiting_for_idle


class SteppedClock(_JumpingClock):
    """Stands still until somebody lets time pass: up to `until_s`, or while `waiting` callers wait for an answer.

    Then it jumps from deadline to deadline, whenever no task can run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.until_s = 0.0
        self.waiting = 0

    def _may_jump_to(self, deadline: float) -> bool:
        return super()._may_jump_to(deadline) and (self.waiting > 0 or deadline <= self.until_s)


def run(main: Callable[[], Awaitable[T]], *, seed: object = 0) -> T:
    """`trio.run` of `main` on a clock that jumps whenever all tasks wait, scheduled as `seed` says.

    Nothing in it may use a thread or a socket: virtual time does not wait for them. An interrupt is raised at a
    checkpoint of `main` alone: between two lines of a nursery it would lose a task for which others wait for ever.
    """
    order = {"_ALLOW_DETERMINISTIC_SCHEDULING": True, "_r": Random(str(seed))}  # noqa: S311  no secret
    before = {name: getattr(_trio_run, name) for name in order}
    vars(_trio_run).update(order)
    try:
        return trio.run(main, clock=_JumpingClock(), restrict_keyboard_interrupt_to_checkpoints=True)
    finally:
        vars(_trio_run).update(before)
