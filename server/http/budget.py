"""What one connection may take of what all share: turns of the event loop, memory for answers, descriptors.

It owns the counts and the rules, one `Traffic` for a server. It refuses to know protocols, sockets and what a
connection does with its share: who is over it gets False, or is cut by a function of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import structlog
import trio

_log = structlog.get_logger()

MIB = 1024 * 1024
UNSENT_BYTES_MAX = 64 * MIB
TURN_UNITS = 16  # of work, each about as much as one small frame: less than a millisecond
_ANSWER_BYTES = 256 * 1024  # are made in a millisecond or two
RECENT_S = 1.0  # an answer is not called slow before
_ROOM = 8  # one part in so many is made free at a time
_WEBSOCKETS_MAX = 0.75  # of all connections: the rest is for requests
_LOG_EVERY_S = 10.0

Cut = Literal["flood", "unsent", "idle"]
"""Why a connection was cut: it sent more than its share, it did not read, or its descriptor was needed."""


class Turns:
    """A queue for those who want more of the loop: one of them goes on in each turn, in the order of asking.

    So a hundred connections with endless work cost everybody else no more than one of them does. Nobody waits before
    `free` units are spent, from one wait to the next.
    """

    def __init__(self, free: int = 0) -> None:
        self._lock = trio.Lock()
        self._free = self._left = free

    async def wait(self) -> None:
        if self._left <= 0:
            async with self._lock:
                self._left = self._free

    def spend(self, units: int) -> None:
        self._left -= units


class Share:
    """The work of one connection: `TURN_UNITS` in a turn of the loop, and in the long run `per_s` and what it earns.

    `burst` is what it may have saved up.
    """

    def __init__(self, turns: Turns, *, burst: int, per_s: float) -> None:
        self._turns = turns
        self._burst = burst
        self._per_s = per_s
        self._left = float(burst)
        self._filled_at = trio.current_time()
        self._in_turn = 0

    def begin(self) -> None:
        """The connection has waited for its client: others have had their turn."""
        self._in_turn = 0

    async def spend(self, units: int = 1) -> bool:
        """Account for work that comes next, when this connection's turn has come. Gives False when it is too much."""
        self._left -= units
        if self._left < 0:
            self._fill()
        self._in_turn += units
        if self._in_turn > TURN_UNITS:
            await self._turns.wait()
            self._in_turn = units
        return self._left >= 0

    def earn(self, units: int) -> None:
        """Something useful was done for the client: what belongs to that is no flood."""
        self._left = min(self._burst, self._left + units)

    def _fill(self) -> None:
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._filled_at) * self._per_s)
        self._filled_at = now


class Waiting:
    """An answer that its client has not taken yet. `cut` ends the connection."""

    __slots__ = ("began_at", "cut", "size", "taken")

    def __init__(self, cut: Callable[[], None], size: int) -> None:
        self.cut = cut
        self.size = size  # as long as the last byte waits, all are held
        self.taken = 0
        self.began_at = trio.current_time()

    def took(self, size: int) -> None:
        """The client, or the kernel for it, has taken so many bytes more."""
        self.taken += size


class Unsent:
    """The bytes of all answers that wait for their readers, and their bound: beyond it the slowest readers are cut."""

    def __init__(self, bytes_max: int, cut: Callable[[Cut, int], None]) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max
        self._cut = cut
        self._waiting: set[Waiting] = set()

    def enter(self, cut: Callable[[], None], size: int) -> Waiting:
        """An answer begins to wait. Others may be cut for it, and it itself if it alone is too much."""
        waiting = Waiting(cut, size)
        self._waiting.add(waiting)
        self.bytes += size
        if self.bytes > self._bytes_max:
            self._make_room(waiting)
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """It waits no more, sent or not. Does nothing the second time."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            self.bytes -= waiting.size

    @contextmanager
    def holding(self, cut: Callable[[], None], size: int) -> Iterator[Waiting]:
        waiting = self.enter(cut, size)
        try:
            yield waiting
        finally:
            self.leave(waiting)

    def _make_room(self, newest: Waiting) -> None:
        """The newest goes last: what has not begun to be taken is not slow."""
        wanted = self._bytes_max - self._bytes_max // _ROOM
        now = trio.current_time()
        others = self._waiting - {newest}
        slowest = [*sorted(others, key=lambda one: slowness(one.taken, now - one.began_at)), newest]
        count = 0
        while self.bytes > wanted:
            one = slowest[count]
            count += 1
            self.leave(one)
            one.cut()
        self._cut("unsent", count)


def slowness(taken: int, seconds: float) -> tuple[bool, float]:
    """The order in which readers are cut: by bytes a second, and those who have only begun after all others."""
    return seconds < RECENT_S, taken / max(seconds, RECENT_S)


class Traffic:
    """All connections of one server, as counts for metrics and as bounds.

    `connections_max` is how many descriptors there are for them.
    """

    def __init__(self, *, unsent_bytes_max: int = UNSENT_BYTES_MAX, connections_max: int = 1_000_000) -> None:
        self.turns = Turns()
        self.handshakes = Turns()  # TLS: each costs as much as a request
        self.long_answers = Turns(_ANSWER_BYTES)  # that take long to make
        self.unsent = Unsent(unsent_bytes_max, self.cut)
        self.connections = 0
        self.connections_max = connections_max
        self.websockets = 0
        self.websockets_max = int(connections_max * _WEBSOCKETS_MAX)
        self.cuts: Counter[Cut] = Counter()
        self.full = 0  # how often nobody could be accepted, or no WebSocket opened
        self._quiet_until: dict[str, float] = {}

    @contextmanager
    def connection(self) -> Iterator[None]:
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    @property
    def has_room_for_websocket(self) -> bool:
        return self.websockets < self.websockets_max

    @contextmanager
    def websocket(self) -> Iterator[None]:
        self.websockets += 1
        try:
            yield
        finally:
            self.websockets -= 1

    @property
    def room(self) -> int:
        """How many more can be accepted."""
        return max(0, self.connections_max - self.connections)

    @property
    def a_few(self) -> int:
        """How many are closed at a time, so that who comes next need not make room again."""
        return self.connections_max // _ROOM + 1

    def wanted_room(self) -> int:
        """How many must go before the next is accepted."""
        return 0 if self.room else self.a_few

    def cut(self, why: Cut, count: int = 1) -> None:
        """So many connections were cut."""
        self.cuts[why] += count
        self._say(why, "connections cut", why=why, count=count, so_far=self.cuts[why])

    def is_full(self, what: str) -> None:
        """There was no descriptor for somebody."""
        self.full += 1
        self._say(
            what, what, connections=self.connections, websockets=self.websockets, maximum=self.connections_max
        )

    def _say(self, kind: str, event: str, **fields: object) -> None:
        """One line of a kind in ten seconds: who floods a server would else flood its log."""
        now = trio.current_time()
        if now >= self._quiet_until.get(kind, now):
            self._quiet_until[kind] = now + _LOG_EVERY_S
            _log.warning(event, **fields)
