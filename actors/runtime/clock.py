"""Session time: the time by which sessions live. It follows the wall clock, never goes back, and may run faster.

Owns the relation of three clocks: session time, Trio's clock, on which tasks sleep, and the wall clock. Nothing else in
`actors` reads the wall clock. In virtual time (Trio's MockClock) there is no wall clock to follow.

Between two looks at the wall clock, session time is Trio's clock and an offset. So two readings are always in order,
and a deadline can be given to Trio.
"""

from collections.abc import Callable

import trio

from vigil.actors.core.records import Anchor


class ScaledClock:
    """Session time in integer milliseconds, running `scale` times as fast as real time.

    `wall` gives the wall clock in milliseconds since the epoch; without it only Trio's clock counts. `current_s` is
    `trio.current_time`, without its look-up of the run on each call.
    """

    def __init__(self, start_ms: int, *, scale: float = 1.0, wall: Callable[[], int] | None = None) -> None:
        self.scale = scale
        self._ms_per_s = 1000.0 * scale
        self._start_ms = start_ms
        self.current_s = trio.lowlevel.current_clock().current_time
        self._start_s = self.current_s()
        self._wall = wall
        self._anchor = Anchor(wall() if wall else start_ms, start_ms)

    @classmethod
    def resume(cls, anchor: Anchor | None, *, wall: Callable[[], int], scale: float = 1.0) -> "ScaledClock":
        """Continue from a stored anchor, the time since then counted at `scale`; without one, from the wall clock."""
        wall_ms = wall()
        if anchor is None:
            return cls(wall_ms, scale=scale, wall=wall)
        down_ms = max(0, wall_ms - anchor.wall_ms)
        return cls(anchor.session_ms + int(down_ms * scale), scale=scale, wall=wall)

    @property
    def follows_wall(self) -> bool:
        return self._wall is not None

    def now(self) -> int:
        """The current instant of session time, to the nearest millisecond: at `deadline(t)` it is `t`."""
        return self.at(self.current_s())

    def at(self, instant_s: float) -> int:
        """Session time at an instant of Trio's clock."""
        return self._start_ms + round((instant_s - self._start_s) * self._ms_per_s)

    def deadline(self, at_ms: float) -> float:
        """The instant of Trio's clock at which `now()` will be `at_ms`."""
        return self._start_s + (at_ms - self._start_ms) / self._ms_per_s

    def anchor(self) -> Anchor:
        """This instant on both clocks, for the store to keep."""
        return Anchor(self._wall() if self._wall else self.now(), self.now())

    def follow_wall(self) -> int:
        """Catch up with a wall clock that jumped forward (a suspended machine, a corrected clock).

        Gives the jump in milliseconds of session time, 0 when there was none. A wall clock that went back is
        ignored: deadlines and cursors that were handed out stay true.
        """
        if self._wall is None:
            return 0
        should_be = self._anchor.session_ms + (self._wall() - self._anchor.wall_ms) * self.scale
        jump = int(should_be - self.now())
        if jump <= self.scale:  # a millisecond of rounding is not a jump
            return 0
        self._start_ms += jump
        return jump
