"""A test of the async client runs on Trio and on asyncio; the same of the sync client runs as it is."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import anyio
import pytest


def on_either_loop(test: Callable[..., Any]) -> Callable[..., Any]:
    """Two tests without an event loop around them, out of a coroutine function."""

    @wraps(test)
    def run(loop: str, **fixtures: Any) -> None:
        anyio.run(partial(test, **fixtures), backend=loop)

    loop = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = inspect.signature(test)
    run.__signature__ = own.replace(parameters=[loop, *own.parameters.values()])  # type: ignore[attr-defined]
    both: Callable[..., Any] = pytest.mark.parametrize("loop", ["trio", "asyncio"])(run)
    return both


def as_it_is(test: Callable[..., Any]) -> Callable[..., Any]:
    return test
