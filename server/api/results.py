"""What an operation gives: the one shape of results, whichever way a request came in.

The gateway carries results out, in one place (`gateway._carry_out`). This module refuses to know how.
"""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeAlias

from vigil.actors.callbacks import Callback
from vigil.actors.core.commands import Transition


class Stream(Protocol):
    """A body that is still being made. Whoever is given one closes it, read or not."""

    def __aiter__(self) -> "Stream": ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


Body = bytes | Stream

Immediate: TypeAlias = bytes
"""The body of the answer, at hand. Plain bytes: a wrapper would cost every read an object."""


class Deferred(NamedTuple):
    """A command for the actors, and how its outcome becomes the body. It needs no task: a callback gets the outcome."""

    tell: Callable[[Callback[Transition]], None]
    encode: Callable[[Transition], bytes]


Streaming: TypeAlias = Coroutine[Any, Any, Body]
"""Work for a task, as it waits more than once: its body is whole at the end, or a stream."""

Result: TypeAlias = Immediate | Deferred | Streaming
