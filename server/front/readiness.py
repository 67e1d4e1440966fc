"""The task that looks at all sockets of the fast path at once, and who is served before others.

It owns the epoll and the time of the last look. It refuses to know what is read.
"""

import select
from collections.abc import Sequence
from typing import Protocol

import trio

_READY_MAX = 4096  # sockets that are seen to be ready at once
_LOOK_S = 0.004  # for so long, while there is something: what these looks bring shares a commit
_NEWCOMERS_MAX = 8  # that are served first, in as long as a look


class Reader(Protocol):
    def readable(self) -> None:
        """There is something on the socket, or its end. Must not raise."""


class Readiness:
    """Which sockets have something to read. The task that looks at them starts with the first."""

    def __init__(self) -> None:
        self.now_s = 0.0  # on Trio's clock, as of the last look at it
        self._newcomers = 0
        self._newcomers_until_s = 0.0
        self._poll: select.epoll | None = None
        self._watched: dict[int, Reader] = {}

    def has_time_for_newcomer(self) -> bool:
        """Whether one more new client is served before others; when many come at once, most wait like everybody."""
        self.look_at_the_clock()
        if self.now_s >= self._newcomers_until_s:
            self._newcomers, self._newcomers_until_s = 0, self.now_s + _LOOK_S
        self._newcomers += 1
        return self._newcomers <= _NEWCOMERS_MAX

    def watch(self, descriptor: int, reader: Reader) -> None:
        """Have a connection read its socket whenever there is something."""
        if descriptor in self._watched:
            return
        if self._poll is None:
            self._poll = select.epoll()
            trio.lowlevel.spawn_system_task(self._look, self._poll)
        self._watched[descriptor] = reader
        self._poll.register(descriptor, select.EPOLLIN)

    def unwatch(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None and self._poll is not None:
            self._poll.unregister(descriptor)

    def look_at_the_clock(self) -> None:
        self.now_s = trio.current_time()

    async def _look(self, poll: select.epoll) -> None:
        with poll:
            while True:
                await trio.lowlevel.wait_readable(poll.fileno())
                self.look_at_the_clock()
                until_s = self.now_s + _LOOK_S
                while self.now_s < until_s and (ready := poll.poll(0, _READY_MAX)):
                    await self._read_all(ready, until_s)

    async def _read_all(self, ready: Sequence[tuple[int, int]], until_s: float) -> None:
        """Serve those that have sent something: each once before any is served again, whatever it sends meanwhile.

        When that takes long, whoever else waits for the loop (timers, new clients) has a turn in between.
        """
        for descriptor, _ in ready:
            if self.now_s >= until_s:
                await trio.lowlevel.checkpoint()
                self.look_at_the_clock()
                until_s = self.now_s + _LOOK_S
            if descriptor in self._watched:  # one before it may have ended it
                self._watched[descriptor].readable()
                self.look_at_the_clock()
