"""What has to differ between coroutines and threads. `_sync/io.py` is the same for threads, written by hand."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")
Act = Callable[[], Coroutine[Any, Any, T]]  # something to be done, with what it gives
Lock = anyio.Lock
sleep = anyio.sleep


async def abandon(data: AsyncIterator[bytes]) -> None:
    """Leave an answer in the middle. An error at its innermost read is what ends all the generators in it at once."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async for _ in data:
            pass


class Background:
    """Runs one function beside the block it is around, and ends it with the block."""

    def __init__(self, function: Act[None]) -> None:
        self._function = function
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._function)
        return self

    async def __aexit__(self, *_: object) -> None:
        """What the block raised goes on as it is: the function itself raises nothing that it expects."""
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def pause(self, seconds: float) -> bool:
        """Sleep in the function. True when it is to end."""
        await anyio.sleep(seconds)
        return False
