"""The clock: exact at deadlines, never back, follows the wall forward, resumes (spec section 10)."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.measure import examples
from vigil.actors.core.records import Anchor
from vigil.actors.runtime.clock import ScaledClock

EPOCH_MS = 1_795_338_000_123
DAY_MS = 86_400_000

scales = st.one_of(st.sampled_from([0.5, 1.0, 60.0, 1440.0, 100_000.0]), st.floats(0.5, 100_000))


class Wall:
    """A wall clock that tests set by hand, in milliseconds, and that shows whole ones."""

    def __init__(self, at_ms: float) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        return int(self.at_ms)


def virtually(work: Callable[[MockClock], None], uptime_s: float = 0.0) -> None:
    """Run `work` on a Trio clock that has been up for so long."""

    async def main() -> None:
        clock.jump(uptime_s)
        work(clock)

    clock = MockClock()
    trio.run(main, clock=clock)


async def pass_both(mock_clock: MockClock, wall: Wall, seconds: float) -> None:
    mock_clock.jump(seconds)
    wall.at_ms += seconds * 1000


# --- exactness


@examples(300)
@given(st.integers(0, 2**42), st.integers(0, 400 * DAY_MS), scales, st.floats(0, 10_000_000))
def test_now_at_a_deadline_is_exactly_that_instant(
    start_ms: int, later_ms: int, scale: float, uptime_s: float
) -> None:
    at = start_ms + later_ms

    def work(mock: MockClock) -> None:
        clock = ScaledClock(start_ms, scale=scale)
        deadline = clock.deadline(at)
        mock.jump(max(0.0, deadline - trio.current_time()))
        while trio.current_time() < deadline:  # the jump itself may have been rounded down
            mock.jump(math.ulp(deadline))
        assert clock.now() == at

    virtually(work, uptime_s)


@examples(25)
@given(
    st.lists(st.integers(0, DAY_MS), min_size=1, max_size=30),
    st.sampled_from([0.5, 1.0, 60.0, 1440.0, 100_000.0]),
    st.floats(0, 1_000_000),
)
def test_a_task_that_sleeps_until_a_deadline_wakes_at_exactly_that_instant(
    waits: list[int], scale: float, uptime_s: float
) -> None:
    async def main() -> None:
        mock.jump(uptime_s)
        clock = ScaledClock(EPOCH_MS, scale=scale)
        for at in sorted(EPOCH_MS + wait for wait in waits):
            await trio.sleep_until(clock.deadline(at))
            assert clock.now() == at

    mock = MockClock(autojump_threshold=0)
    trio.run(main, clock=mock)


@pytest.mark.parametrize("scale", [0.5, 1.0, 60.0, 100_000.0])
async def test_it_runs_scale_times_as_fast_as_real_time(scale: float, mock_clock: MockClock) -> None:
    clock = ScaledClock(EPOCH_MS, scale=scale)
    assert clock.now() == EPOCH_MS
    mock_clock.jump(90.0)
    assert clock.now() == EPOCH_MS + 90_000 * scale


async def test_a_deadline_is_wall_distance_divided_by_scale(mock_clock: MockClock) -> None:
    mock_clock.jump(5.0)
    clock = ScaledClock(EPOCH_MS, scale=60)
    assert clock.deadline(EPOCH_MS + 3_600_000) == pytest.approx(65.0)
    assert clock.deadline(EPOCH_MS) == pytest.approx(5.0)


async def test_a_deadline_in_the_past_lies_in_the_past_of_trios_clock(mock_clock: MockClock) -> None:
    mock_clock.jump(5.0)
    clock = ScaledClock(EPOCH_MS)
    assert clock.deadline(EPOCH_MS - 1000) == pytest.approx(4.0)


async def test_reading_it_often_does_not_make_it_drift(mock_clock: MockClock) -> None:
    """Rounding happens on the way out only: what is read does not feed back."""
    clock = ScaledClock(EPOCH_MS, scale=3.0)
    for _ in range(10_000):
        mock_clock.jump(0.0001)
        clock.now()
    assert clock.now() == EPOCH_MS + 3000


# --- the anchor


async def test_without_an_anchor_it_starts_at_the_wall_clock(mock_clock: MockClock) -> None:
    assert ScaledClock.resume(None, wall=Wall(EPOCH_MS), scale=60).now() == EPOCH_MS


@pytest.mark.parametrize(("scale", "down_session_ms"), [(1.0, 7_000), (60.0, 420_000), (0.5, 3_500)])
async def test_it_goes_on_from_the_anchor_with_the_down_time_at_the_new_scale(
    scale: float, down_session_ms: int, mock_clock: MockClock
) -> None:
    anchor = Anchor(wall_ms=EPOCH_MS, session_ms=EPOCH_MS + 9 * DAY_MS)
    clock = ScaledClock.resume(anchor, wall=Wall(EPOCH_MS + 7_000), scale=scale)
    assert clock.now() == anchor.session_ms + down_session_ms


async def test_a_wall_clock_behind_the_anchor_goes_on_from_the_anchor(mock_clock: MockClock) -> None:
    wall = Wall(EPOCH_MS - DAY_MS)
    clock = ScaledClock.resume(Anchor(EPOCH_MS, EPOCH_MS + 5), wall=wall)
    assert clock.now() == EPOCH_MS + 5
    await pass_both(mock_clock, wall, 60.0)
    assert clock.follow_wall() == 0
    assert clock.now() == EPOCH_MS + 60_005


async def test_an_anchor_is_this_instant_on_both_clocks(mock_clock: MockClock) -> None:
    wall = Wall(EPOCH_MS)
    clock = ScaledClock(EPOCH_MS, scale=60, wall=wall)
    await pass_both(mock_clock, wall, 10.0)
    assert clock.anchor() == Anchor(EPOCH_MS + 10_000, EPOCH_MS + 600_000)


async def test_in_virtual_time_the_anchor_knows_session_time_alone(mock_clock: MockClock) -> None:
    clock = ScaledClock(EPOCH_MS)
    mock_clock.jump(1.0)
    assert clock.anchor() == Anchor(EPOCH_MS + 1000, EPOCH_MS + 1000)
    assert clock.follow_wall() == 0


async def test_many_restarts_lose_and_gain_no_time(mock_clock: MockClock) -> None:
    wall = Wall(EPOCH_MS)
    clock = ScaledClock.resume(None, wall=wall)
    for _ in range(1000):
        await pass_both(mock_clock, wall, 1.25)
        clock = ScaledClock.resume(clock.anchor(), wall=wall)
        assert clock.follow_wall() == 0
    assert clock.now() == EPOCH_MS + 1_250_000


# --- following the wall


@pytest.mark.parametrize("scale", [0.5, 1.0, 60.0])
async def test_a_forward_jump_of_the_wall_clock_is_followed_once(scale: float, mock_clock: MockClock) -> None:
    wall = Wall(EPOCH_MS)
    clock = ScaledClock(EPOCH_MS, scale=scale, wall=wall)
    await pass_both(mock_clock, wall, 10.0)
    wall.at_ms += 3_600_000  # the machine was suspended
    assert clock.follow_wall() == 3_600_000 * scale
    assert clock.follow_wall() == 0
    assert clock.now() == EPOCH_MS + 3_610_000 * scale


async def test_after_a_jump_deadlines_come_earlier_by_it(mock_clock: MockClock) -> None:
    wall = Wall(EPOCH_MS)
    clock = ScaledClock(EPOCH_MS, wall=wall)
    wall.at_ms += 40_000
    clock.follow_wall()
    mock_clock.jump(clock.deadline(EPOCH_MS + 100_000))
    assert (trio.current_time(), clock.now()) == (60.0, EPOCH_MS + 100_000)


async def test_a_wall_clock_that_goes_back_is_ignored_and_so_is_its_return(
    mock_clock: MockClock,
) -> None:
    wall = Wall(EPOCH_MS)
    clock = ScaledClock(EPOCH_MS, wall=wall)
    wall.at_ms -= 3_600_000
    assert clock.follow_wall() == 0
    await pass_both(mock_clock, wall, 10.0)
    assert clock.now() == EPOCH_MS + 10_000
    wall.at_ms += 3_600_000
    assert clock.follow_wall() == 0
    assert clock.now() == EPOCH_MS + 10_000


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 60.0, 1440.0])
async def test_rounding_never_adds_up_to_a_jump(scale: float, mock_clock: MockClock) -> None:
    """The wall clock shows whole milliseconds; catching up with it over and over must not creep forward."""
    wall = Wall(EPOCH_MS + 0.999)  # reads low by nearly one when it is anchored
    clock = ScaledClock(EPOCH_MS, scale=scale, wall=wall)
    jumps = 0
    for _ in range(20_000):
        await pass_both(mock_clock, wall, 0.0137)
        jumps += clock.follow_wall()
    assert jumps == 0
    assert clock.now() == pytest.approx(EPOCH_MS + 274_000 * scale, abs=1)


async def test_a_slow_monotonic_clock_is_corrected_in_total_not_twice(mock_clock: MockClock) -> None:
    wall = Wall(EPOCH_MS)
    clock = ScaledClock(EPOCH_MS, wall=wall)
    for _ in range(1000):
        mock_clock.jump(59.99)
        wall.at_ms += 60_000
        clock.follow_wall()
    assert clock.now() == pytest.approx(wall.at_ms, abs=1)


moves = st.lists(
    st.tuples(
        st.floats(0, 3600),  # seconds that pass on Trio's clock
        st.integers(-2 * DAY_MS, 2 * DAY_MS) | st.integers(-3, 3),  # what the wall clock is off by afterwards
        st.booleans(),  # whether somebody follows it
    ),
    max_size=30,
)


@examples(150)
@given(moves, scales)
def test_it_never_goes_back_and_runs_on_from_the_further_of_its_two_sources(
    moves: list[tuple[float, int, bool]], scale: float
) -> None:
    def work(mock: MockClock) -> None:
        wall = Wall(EPOCH_MS)
        clock = ScaledClock(EPOCH_MS, scale=scale, wall=wall)
        seen = [clock.now()]
        expected = float(EPOCH_MS)
        for passed_s, off_ms, follow in moves:
            mock.jump(passed_s)
            wall.at_ms = max(0.0, wall.at_ms + passed_s * 1000 + off_ms)
            seen.append(clock.now())
            expected += passed_s * 1000 * scale
            if follow:
                jump = clock.follow_wall()
                assert jump >= 0
                assert clock.now() == seen[-1] + jump
                expected = max(expected, EPOCH_MS + (wall() - EPOCH_MS) * scale)
                seen.append(clock.now())
            assert clock.now() == pytest.approx(expected, abs=scale + 2)
        assert all(earlier <= later for earlier, later in pairwise(seen))

    virtually(work)
