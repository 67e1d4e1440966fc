"""What the windows of the limits cost in memory."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from tests.actors.limits.asking import T0, burst, plain
from tests.measure import examples
from vigil.actors.core.errors import RateLimited
from vigil.actors.core.quotas import Limit
from vigil.actors.limits.limiter import Limits


def rings(limits: Limits) -> Iterator[tuple[int, int, int]]:
    """(requests that count, slots, bytes a slot) of every window."""
    for windows in limits._windows.values():
        for window in windows.values():
            yield window.size, len(window._ring), window._ring.itemsize


def test_an_admitted_request_takes_eight_bytes_a_window() -> None:
    limits = plain()
    burst(limits, 60)
    assert next(rings(limits)) == (60, 60, 8)
    assert all(slots <= 2 * size and wide == 8 for size, slots, wide in rings(limits))


def test_a_ring_is_never_larger_than_its_limit() -> None:
    limits = plain(session="5000/hour", user="1500/hour")
    burst(limits, 1500)
    assert [slots for _, slots, _ in rings(limits)] == [2048, 1500, 2048]


def test_a_ring_gives_back_what_a_burst_took() -> None:
    limits = plain(session="5000/hour", user="5000/hour")
    burst(limits, 5000)
    limits.admit(T0 + 3_600_000, "u", "a", "s")
    assert all(slots <= 4 for _, slots, _ in rings(limits))


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=60), st.integers(1, 90))
def test_a_ring_follows_the_requests_that_count_up_and_down(bursts: list[tuple[int, int]], most: int) -> None:
    limits = Limits(Limit(most, 1), Limit(10**6, 3600), Limit(10**6, 3600))
    now = T0
    for gap, count in bursts:
        now += gap
        for _ in range(count):
            try:
                limits.admit(now, "u", "a", "s")
            except RateLimited:
                break
        size, slots, _ = next(rings(limits))
        assert slots <= max(4 * size + 4, 4)
        assert slots <= most
