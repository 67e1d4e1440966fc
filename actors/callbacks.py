"""From callbacks to tasks: wait for what somebody will say, once."""

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")
Callback = Callable[[T | Exception], None]
"""Told once what came of something: its value, or why there is none."""


async def await_callback(tell: Callable[[Callback[T]], None]) -> T:
    """What `tell` says to the callback it is given, at once or later. An exception that it says is raised.

    Cannot be cancelled: what is under way is carried out, whoever still listens.
    """
    heard: list[T | Exception] = []
    task = trio.lowlevel.current_task()
    is_waiting = False

    def hear(said: T | Exception) -> None:
        heard.append(said)
        if is_waiting:
            trio.lowlevel.reschedule(task)

    tell(hear)
    if not heard:
        is_waiting = True
        await trio.lowlevel.wait_task_rescheduled(_never_abort)
    (said,) = heard
    if isinstance(said, Exception):
        raise said
    return said


def _never_abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
