"""Ends a process that got a signal to stop and cannot: after a number of seconds, whatever the disk does.

A commit that hangs cannot be cancelled, and a read that hangs stops the event loop itself. So the system, not the
loop, notifies this of signals, and it waits in a thread of its own. It knows nothing of what there is to finish.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

AFTER_GRACE_S = 5.0  # spec section 10
_SAY_S = 0.5  # for the last words, which may hang like all else
_STOPS = frozenset({signal.SIGINT, signal.SIGTERM})


@contextmanager
def last_resort(patience_s: float, last_words: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """From the first signal to stop on, the process has `patience_s`; then come `last_words`, and exit code 1.

    To be entered inside of Trio's run, whose own way of hearing of signals it takes a place in. Gives what begins the
    wait without a signal.
    """
    countdown = threading.Thread(target=_count_down, args=(patience_s, last_words), daemon=True)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    trio_receives = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def begin() -> None:
        with suppress(RuntimeError):  # it is under way
            countdown.start()

    threading.Thread(target=_pass_on, args=(receiver, trio_receives, begin), daemon=True).start()
    try:
        yield begin
    finally:
        signal.set_wakeup_fd(trio_receives)
        sender.close()


def _pass_on(receiver: socket.socket, trio_receives: int, begin: Callable[[], None]) -> None:
    """The system writes each signal's number."""
    with receiver:
        while numbers := receiver.recv(64):
            with suppress(OSError):  # a full pipe wakes Trio too
                os.write(trio_receives, numbers)
            if _STOPS.intersection(numbers):
                begin()


def _count_down(patience_s: float, last_words: Callable[[], object]) -> None:
    time.sleep(patience_s)
    words = threading.Thread(target=last_words, daemon=True)
    words.start()
    words.join(_SAY_S)
    os._exit(1)
