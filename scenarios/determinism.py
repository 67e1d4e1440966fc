"""Runs in virtual time that go the same way every time. The only place that touches Trio's private names.

Trio picks the order of tasks that are ready at the same moment by chance, so that nobody relies on one. Here that
chance comes from a seed. A test compares the traces of runs in several processes: it fails when a new Trio does
something else.
"""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio
import trio._core._run as _trio_run
from trio.testing import MockClock

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]], *, seed: object = 0) -> T:
    """`trio.run` of `main` on a clock that jumps whenever all tasks wait, scheduled as `seed` says.

    Nothing in it may use a thread or a socket: virtual time does not wait for them.
    """
    order = {"_ALLOW_DETERMINISTIC_SCHEDULING": True, "_r": Random(str(seed))}  # noqa: S311  no secret
    before = {name: getattr(_trio_run, name) for name in order}
    vars(_trio_run).update(order)
    try:
        return trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        vars(_trio_run).update(before)
