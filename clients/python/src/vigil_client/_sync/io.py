"""What has to differ between coroutines and threads. `_async/io.py` is the same for coroutines."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

T = TypeVar("T")
Act = Callable[[], T]  # something to be done, with what it gives
Lock = threading.Lock
sleep = time.sleep


def abandon(_data: Iterator[bytes]) -> None:
    """Leave an answer in the middle: generators that nobody awaits end by themselves."""


class Background:
    """Runs one function in a thread beside the block it is around, and ends it with the block."""

    def __init__(self, function: Act[None]) -> None:
        self._thread = threading.Thread(target=function, name="vigil-client", daemon=True)
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def pause(self, seconds: float) -> bool:
        """Sleep in the function. True when it is to end."""
        return self._stopping.wait(seconds)
