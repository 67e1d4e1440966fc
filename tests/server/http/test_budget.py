"""What one connection may take of what all share: turns of the loop, memory for answers, descriptors."""

from contextlib import ExitStack
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from vigil.server.http.budget import RECENT_S, TURN_UNITS, Share, Traffic, Turns, slowness
from vigil.server.http.http2_frames import Http2Frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PING = b"\0\0\x08\6\1" + bytes(12)


# --- turns of the loop


async def test_those_who_wait_go_on_one_after_another_and_each_once_before_any_again() -> None:
    turns, went = Turns(), list[str]()

    async def work(name: str) -> None:
        for _ in range(3):
            await turns.wait()
            went.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(work, name)
        seen = 0
        while seen < 9:
            await trio.lowlevel.checkpoint()
            assert (
                len(went) - seen <= 2
            )  # this task comes before them in one turn, and after them in the next
            seen = len(went)
    assert sorted(went[:3]) == sorted(went[3:6]) == sorted(went[6:]) == ["a", "b", "c"]


async def test_nobody_waits_before_what_is_free_is_spent() -> None:
    turns = Turns(free=100)
    with trio.testing.assert_no_checkpoints():
        await turns.wait()
        turns.spend(99)
        await turns.wait()
    turns.spend(1)
    with trio.testing.assert_checkpoints():
        await turns.wait()


async def test_a_share_is_so_many_units_in_a_turn() -> None:
    share = Share(Turns(), burst=1000, per_s=0)
    share.begin()
    with trio.testing.assert_no_checkpoints():
        for _ in range(TURN_UNITS):
            assert await share.spend()
    with trio.testing.assert_checkpoints():
        assert await share.spend()


async def test_who_spends_more_than_it_saved_is_told_until_time_or_useful_work_pays(
    autojump_clock: MockClock,
) -> None:
    share = Share(Turns(), burst=20, per_s=2)
    assert [await share.spend() for _ in range(21)] == [True] * 20 + [False]
    await trio.sleep(5)
    assert await share.spend(5)
    assert not await share.spend(10)
    share.earn(30)
    assert await share.spend(20), "no more than the burst is saved"
    assert not await share.spend(1)


# --- answers that wait


async def test_beyond_the_bound_the_slowest_readers_are_cut_and_who_has_only_begun_last(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    traffic, cut = Traffic(unsent_bytes_max=800), list[str]()

    def waits(name: str) -> Any:
        return traffic.unsent.enter(lambda: cut.append(name), 200)

    slow, drip, quick = waits("slow"), waits("drip"), waits("quick")
    await trio.sleep(2 * RECENT_S)
    drip.took(1)
    quick.took(100)
    waits("new")
    assert (traffic.unsent.bytes, cut) == (800, [])
    waits("newest")
    assert cut == ["slow", "drip"], "down to seven eighths, so that the next need not cut again"
    assert traffic.unsent.bytes == 600
    assert traffic.cuts["unsent"] == 2
    for one in (slow, drip, quick):
        traffic.unsent.leave(one)
    assert traffic.unsent.bytes == 400
    assert [(line["why"], line["count"]) for line in logs] == [("unsent", 2)]


async def test_the_newest_answer_is_not_cut_for_others_that_are_as_new() -> None:
    traffic, cut = Traffic(unsent_bytes_max=800), list[str]()

    def waits(name: str) -> Any:
        return traffic.unsent.enter(lambda: cut.append(name), 300)

    for earlier in (waits("first"), waits("second")):
        earlier.took(100)
    waits("newest")
    assert sorted(cut) in (["first"], ["second"])


async def test_an_answer_that_alone_is_too_much_is_cut() -> None:
    traffic, cut = Traffic(unsent_bytes_max=100), list[str]()
    traffic.unsent.enter(lambda: cut.append("it"), 101)
    assert (cut, traffic.unsent.bytes) == (["it"], 0)


def test_slowness_is_bytes_a_second_after_the_first_second() -> None:
    readers = {"new": (0, 0.5), "none": (0, 2.0), "some": (100, 2.0), "as many, longer": (100, 9.0)}
    assert sorted(readers, key=lambda name: slowness(*readers[name])) == [
        "none",
        "as many, longer",
        "some",
        "new",
    ]


# --- descriptors


async def test_websockets_leave_a_quarter_of_the_connections_to_requests() -> None:
    traffic = Traffic(connections_max=8)
    with ExitStack() as stack:
        for _ in range(6):
            assert traffic.has_room_for_websocket
            stack.enter_context(traffic.websocket())
        assert not traffic.has_room_for_websocket
    assert traffic.websockets == 0


async def test_one_line_of_a_kind_is_logged_in_ten_seconds(
    autojump_clock: MockClock, logs: list[Any]
) -> None:
    traffic = Traffic()
    for _ in range(5):
        traffic.cut("flood")
        traffic.is_full("cannot accept")
    assert [line["event"] for line in logs] == ["connections cut", "cannot accept"]
    await trio.sleep(10)
    traffic.cut("flood")
    assert (logs[-1]["why"], logs[-1]["so_far"], traffic.full) == ("flood", 6, 5)


# --- frames of HTTP/2


def test_bytes_are_cut_between_frames_and_each_costs_something() -> None:
    pieces = list(Http2Frames().pieces(PREFACE + PING * 100, 16))
    assert b"".join(piece for piece, _ in pieces) == PREFACE + PING * 100
    assert sum(units for _, units in pieces) == 100
    assert max(units for _, units in pieces) == 16


@pytest.mark.parametrize("size", [1, 7, 24, 33])
def test_frames_are_found_however_they_arrive(size: int) -> None:
    frames, data = Http2Frames(), PREFACE + PING * 20
    units = [
        units
        for start in range(0, len(data), size)
        for _, units in frames.pieces(data[start : start + size], 16)
    ]
    assert sum(units) >= 20


def test_a_request_a_reset_and_a_frame_full_of_settings_cost_more_than_a_ping_and_data_costs_little() -> None:
    def cost(kind: int, size: int) -> int:
        frame = size.to_bytes(3) + bytes([kind, 0]) + bytes(4) + bytes(size)
        return sum(units for _, units in Http2Frames().pieces(PREFACE + frame, 10**6))

    assert [cost(6, 8), cost(1, 20), cost(3, 4), cost(0, 16_384)] == [1, 8, 24, 1]
    assert cost(4, 16_384) == 129
