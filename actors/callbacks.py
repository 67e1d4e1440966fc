"""From callbacks to tasks: wait in a task for a result that comes to a callback."""

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")
Callback = Callable[[T | Exception], None]
"""Called once with the result of something, or with the exception that it failed with."""


async def await_callback(start: Callable[[Callback[T]], None]) -> T:
    """Call `start` with a callback, and wait until that gets its result, at once or later. An exception is raised.

    Cannot be cancelled: what has been started is carried out, whether or not anybody still waits.
    """
    results: list[T | Exception] = []
    task = trio.lowlevel.current_task()
    is_waiting = False

    def on_result(result: T | Exception) -> None:
        results.append(result)
        if is_waiting:
            trio.lowlevel.reschedule(task)

    start(on_result)
    if not results:
        is_waiting = True
        await trio.lowlevel.wait_task_rescheduled(_never_abort)
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def _never_abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
