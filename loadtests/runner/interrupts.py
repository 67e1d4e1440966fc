"""Signals that end a load test: the first in order, with what there is; a second at once.

Owns the handlers while a run lasts. Knows nothing of what is run: it is told what the first signal is to do, and what
to kill at the second.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SIGNALLED = 128  # the exit code of who was ended by a signal is this and its number


class Interrupted(BaseException):
    """The first signal came while nothing was under way that it could end in order."""


def _raise() -> NoReturn:
    raise Interrupted


class Interrupts:
    """What came of signals so far. `kill` ends everything that was started, without asking."""

    def __init__(self, kill: Callable[[], object]) -> None:
        self.number = 0  # of the first signal, 0 for none
        self._kill = kill
        self._is_leaving = False
        self._react: Callable[[], object] = _raise

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Signals come here; under nohup SIGHUP does not. A second one leaves with SystemExit.

        Afterwards, who was interrupted once has nothing left to do that another signal should wait for; who was
        interrupted twice is leaving already.
        """
        ours = [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._come) for number in ours}
        try:
            yield
        finally:
            for number, handler in before.items():
                if not self._is_leaving:
                    signal.signal(number, signal.SIG_DFL if self.number else handler)

    @contextmanager
    def answered_by(self, react: Callable[[], object]) -> Iterator[None]:
        """Inside the block the first signal calls `react`, from a signal handler; outside it raises Interrupted."""
        self._react = react
        try:
            yield
        finally:
            self._react = _raise

    def _come(self, number: int, _: object) -> None:
        if not self.number:
            self.number = number
            self._react()
            return
        self._is_leaving = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        self._kill()
        sys.exit(_SIGNALLED + number)
