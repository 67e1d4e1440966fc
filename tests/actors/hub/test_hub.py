"""The hub: who hears of what, in which order, and what is kept for those who come back (spec section 8)."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.measure import examples
from vigil.actors.core.events import Broadcast, Ended, Event, Renewed
from vigil.actors.core.records import Message
from vigil.actors.hub import hub as hub_module
from vigil.actors.hub.hub import (
    KEPT_BYTES_MAX,
    KEPT_MAX,
    UNREAD_BYTES_MAX,
    UNREAD_MAX,
    Chunk,
    Hub,
    Notice,
    Resync,
    Subscription,
)

T0 = 1_795_338_000_000


def event(n: int, session_id: str = "s-1", data: Any = None) -> Event:
    return Event(n, session_id, T0 + n, data or Renewed(T0, n))


def events(first: int, last: int, session_id: str = "s-1") -> list[Event]:
    return [event(n, session_id) for n in range(first, last + 1)]


def long_event(n: int, size: int, session_id: str = "s-1") -> Event:
    return event(n, session_id, Broadcast(Message("m", T0 + n, "u", False, "x" * size, "{}", "")))


def subscribe(hub: Hub, after: int | None, newest: int, session_id: str = "s-1") -> Subscription:
    return hub.subscribe(session_id, after, newest, T0)


async def heard(subscription: Subscription) -> list[int | str]:
    """Everything unread: ids of events, texts of chunks, `resync ID`."""
    got: list[int | str] = []

    async def read() -> None:
        async for notice in subscription:
            got.append(word(notice))  # noqa: PERF401  what was read before the cancellation counts

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return got


def word(notice: Notice) -> int | str:
    news = notice.news
    if isinstance(news, Resync):
        return f"resync {news.id}"
    return news.text if isinstance(news, Chunk) else news.id


# --- from where


async def test_without_an_id_a_listener_hears_from_now_on(autojump_clock: MockClock) -> None:
    hub = Hub()
    hub.publish(events(1, 3))
    listener = subscribe(hub, None, 3)
    assert await heard(listener) == []
    hub.publish(events(4, 5))
    assert await heard(listener) == [4, 5]


@pytest.mark.parametrize(
    ("after", "expected"),
    [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, []), (4, ["resync 3"]), (2**62, ["resync 3"])],
)
async def test_with_an_id_a_listener_hears_everything_after_it_or_a_resync(
    autojump_clock: MockClock, after: int, expected: list[int | str]
) -> None:
    hub = Hub()
    hub.publish(events(1, 3))
    listener = subscribe(hub, after, 3)
    hub.publish(events(4, 4))
    assert await heard(listener) == [*expected, 4]


def kept(hub: Hub) -> int:
    return sum(len(channel.kept) for channel in hub._channels.values())


async def test_after_a_restart_nothing_is_kept(autojump_clock: MockClock) -> None:
    assert await heard(subscribe(Hub(), 5, 7)) == ["resync 7"]
    assert await heard(subscribe(Hub(), 7, 7)) == []
    assert await heard(subscribe(Hub(), 0, 7)) == ["resync 7"]


async def test_what_was_kept_before_a_gap_is_not_taken_for_the_whole(autojump_clock: MockClock) -> None:
    hub = Hub()
    hub.publish([*events(1, 3), *events(5, 6)])
    assert await heard(subscribe(hub, 2, 6)) == ["resync 6"]
    assert await heard(subscribe(hub, 4, 6)) == [5, 6]


async def test_a_resync_tells_all_listeners_and_lets_go_of_what_was_kept(autojump_clock: MockClock) -> None:
    hub = Hub()
    hub.publish(events(1, 3))
    listener = subscribe(hub, None, 3)
    hub.resync("s-1", 4, T0)
    hub.publish(events(5, 5))
    assert await heard(listener) == ["resync 4", 5]
    assert await heard(subscribe(hub, 3, 5)) == ["resync 5"]
    assert await heard(subscribe(hub, 4, 5)) == [5]


async def test_sessions_do_not_hear_each_other(autojump_clock: MockClock) -> None:
    hub = Hub()
    one, other = subscribe(hub, 0, 0, "s-1"), subscribe(hub, 0, 0, "s-2")
    hub.publish([event(1, "s-1")])
    hub.publish([event(1, "s-2"), event(2, "s-2")])
    assert (await heard(one), await heard(other)) == ([1], [1, 2])


async def test_all_listeners_share_one_notice(autojump_clock: MockClock) -> None:
    """So that an event is encoded once however many listen."""
    hub = Hub()
    listeners = [subscribe(hub, None, 0) for _ in range(3)]
    hub.publish(events(1, 1))
    notices = [await anext(listener) for listener in listeners]
    assert len({id(notice) for notice in notices}) == 1


# --- chunks


async def test_a_chunk_goes_to_those_who_listen_and_is_never_kept(autojump_clock: MockClock) -> None:
    hub = Hub()
    hub.say(Chunk("s-1", T0, "m-1", "nobody hears"))
    listener = subscribe(hub, 0, 0)
    hub.publish(events(1, 1))
    hub.say(Chunk("s-1", T0, "m-1", "piece"))
    assert await heard(listener) == [1, "piece"]
    assert await heard(subscribe(hub, 0, 1)) == [1]


# --- the end


async def test_the_last_event_ends_the_iteration_after_what_is_unread(autojump_clock: MockClock) -> None:
    hub = Hub()
    listener = subscribe(hub, None, 0)
    hub.publish([*events(1, 2), event(3, data=Ended(T0))])
    got = [word(notice) async for notice in listener]
    assert (got, listener.ended) == ([1, 2, 3], "over")
    assert (len(hub), hub._channels, hub._bytes, kept(hub)) == (0, {}, 0, 0)


async def test_a_waiting_listener_wakes_at_the_end(autojump_clock: MockClock) -> None:
    hub = Hub()
    listener = subscribe(hub, None, 0)

    async def read() -> None:
        assert [word(notice) async for notice in listener] == [1]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        hub.publish([event(1, data=Ended(T0))])
    assert listener.ended == "over"


async def test_a_quarantined_session_ends_its_listeners(autojump_clock: MockClock) -> None:
    hub = Hub()
    listener = subscribe(hub, None, 0)
    hub.publish(events(1, 1))
    hub.abandon("s-1")
    assert [word(notice) async for notice in listener] == [1]
    assert (listener.ended, hub._channels) == ("broken", {})


async def test_who_has_gone_hears_nothing_and_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    hub = Hub()
    listener = subscribe(hub, None, 0)
    assert len(hub) == 1
    hub.unsubscribe("s-1", listener)
    hub.unsubscribe("s-1", listener)
    assert (len(hub), hub._channels) == (0, {})
    hub.publish(events(1, 1))
    assert await heard(listener) == []


async def test_a_reader_that_is_cancelled_loses_nothing(autojump_clock: MockClock) -> None:
    hub = Hub()
    listener = subscribe(hub, None, 0)
    with trio.move_on_after(1):
        await anext(listener)
    hub.publish(events(1, 2))
    assert await heard(listener) == [1, 2]


# --- bounds


async def test_at_most_256_events_of_a_session_are_kept(autojump_clock: MockClock) -> None:
    assert (KEPT_MAX, KEPT_BYTES_MAX) == (256, 256 * 1024)
    hub = Hub()
    hub.publish(events(1, 300))
    assert await heard(subscribe(hub, 44, 300)) == list(range(45, 301))
    assert await heard(subscribe(hub, 43, 300)) == ["resync 300"]


async def test_at_most_256_kib_of_a_session_are_kept(autojump_clock: MockClock) -> None:
    hub = Hub()
    for n in range(1, 101):
        hub.publish([long_event(n, 9_000)])
        assert hub._bytes <= KEPT_BYTES_MAX
    fit = KEPT_BYTES_MAX // Notice(long_event(1, 9_000)).bytes
    assert await heard(subscribe(hub, 100 - fit, 100)) == list(range(101 - fit, 101))
    assert await heard(subscribe(hub, 99 - fit, 100)) == ["resync 100"]


def test_what_is_kept_is_counted_as_it_goes_over_the_wire() -> None:
    plain = event(1, "s-1", Broadcast(Message("m", T0, "u", False, "x" * 1000, "{}", "")))
    faces = event(1, "s-1", Broadcast(Message("m", T0, "u", False, "\N{GRINNING FACE}" * 1000, "{}", "")))
    assert Notice(faces).bytes - Notice(plain).bytes == 3000


async def test_one_event_over_the_bound_is_heard_but_not_kept(autojump_clock: MockClock) -> None:
    hub = Hub()
    listener = subscribe(hub, None, 0)
    hub.publish([long_event(1, KEPT_BYTES_MAX)])
    assert await heard(listener) == [1]
    assert await heard(subscribe(hub, 0, 1)) == ["resync 1"]
    assert (hub._bytes, kept(hub)) == (0, 0)


async def test_of_all_sessions_together_the_oldest_events_go_first(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Notice(event(1)).bytes
    monkeypatch.setattr(hub_module, "ALL_KEPT_BYTES_MAX", 10 * size)
    hub = Hub()
    for n in (1, 2):
        for s in range(5):
            hub.publish([event(n, f"s-{s}")])
    hub.publish(events(3, 5, "s-0"))
    assert hub._bytes == 10 * size
    told = [await heard(subscribe(hub, 0, 5 if s == 0 else 2, f"s-{s}")) for s in range(5)]
    assert told == [["resync 5"], ["resync 2"], ["resync 2"], [1, 2], [1, 2]]
    assert await heard(subscribe(hub, 1, 5, "s-0")) == [2, 3, 4, 5]


async def test_the_order_of_all_holds_no_more_than_twice_what_is_kept(autojump_clock: MockClock) -> None:
    """However often one session's oldest event goes, and however many sessions end."""
    hub = Hub()
    for n in range(1, 5 * hub_module._ORDER_SLACK):
        for session in range(3):
            hub.publish([event(n, f"s-{session}")])
    assert kept(hub) == 3 * KEPT_MAX
    assert len(hub._order) <= 2 * kept(hub) + hub_module._ORDER_SLACK
    for n in range(5 * hub_module._ORDER_SLACK):
        hub.publish([event(1, f"short-{n}"), event(2, f"short-{n}", Ended(0))])
    assert len(hub._order) <= 2 * kept(hub) + hub_module._ORDER_SLACK


async def test_what_is_kept_is_let_go_of_when_sessions_end(autojump_clock: MockClock) -> None:
    hub = Hub()
    for s in range(2000):
        hub.publish([*events(1, 5, f"s-{s}"), event(6, f"s-{s}", Ended(T0))])
    assert (hub._channels, hub._bytes, kept(hub)) == ({}, 0, 0)


@pytest.mark.parametrize(("many", "size"), [(UNREAD_MAX, 0), (UNREAD_BYTES_MAX // 20_512, 20_000)])
async def test_a_listener_that_does_not_read_is_cut_and_the_others_lose_nothing(
    autojump_clock: MockClock, many: int, size: int
) -> None:
    hub = Hub()
    slow, quick = subscribe(hub, None, 0), subscribe(hub, None, 0)
    got: list[int | str] = []
    for n in range(1, many + 1):
        hub.publish([long_event(n, size)])
        got += await heard(quick) if n % 16 == 0 else []
    assert slow.ended is None
    hub.publish([long_event(many + 1, size)])
    assert slow.cut.is_set()
    assert (str(slow.ended), len(hub)) == ("slow", 1)
    assert [notice async for notice in slow] == [], "what was unread is dropped"
    assert len(slow._unread) == 0
    assert got + await heard(quick) == list(range(1, many + 2))
    assert quick.ended is None


# --- exactly once, or a resync


class Client:
    """A listener that resumes with its last id, and checks on the way that it hears everything once, in order."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.last = 0
        self.scope = trio.CancelScope()
        self.gone = trio.Event()
        self.gone.set()

    @property
    def is_connected(self) -> bool:
        return not self.gone.is_set() and not self.scope.cancel_called

    async def connect(self, newest: int, task_status: trio.TaskStatus[None]) -> None:
        subscription = self.hub.subscribe("s-1", self.last, newest, T0)
        self.gone, self.scope = trio.Event(), trio.CancelScope()
        may_resync = newest - self.last > FEW
        with self.scope:
            task_status.started()
            async for notice in subscription:
                self.take(notice, newest if may_resync else None)
                may_resync = False  # it comes first or not at all
        self.hub.unsubscribe("s-1", subscription)
        self.gone.set()

    def take(self, notice: Notice, resync_id: int | None) -> None:
        expected = self.last + 1 if resync_id is None else f"resync {resync_id}"
        assert word(notice) == expected
        assert not isinstance(notice.news, Chunk)
        self.last = notice.news.id


FEW = 4  # events that are kept, so that a short history has them fall out

publishing = st.tuples(st.just("publish"), st.integers(1, 6))
coming_and_going = st.tuples(st.sampled_from(["connect", "disconnect"]), st.integers(0, 2))
moves = st.lists(
    st.one_of(publishing, coming_and_going, st.tuples(st.just("let run"), st.integers(0, 3))), max_size=30
)


async def play(plays: Sequence[tuple[str, int]]) -> None:
    hub, newest = Hub(), 0
    async with trio.open_nursery() as nursery:
        clients = [Client(hub) for _ in range(3)]
        for what, n in [*plays, *(("connect", n) for n in range(3))]:
            match what:
                case "publish":
                    hub.publish(events(newest + 1, newest + n))
                    newest += n
                case "connect" if not clients[n].is_connected:
                    await clients[n].gone.wait()
                    await nursery.start(clients[n].connect, newest)
                case "disconnect":
                    clients[n].scope.cancel()
                case "let run":
                    await trio.sleep(n)
        await wait_all_tasks_blocked()
        assert [client.last for client in clients] == [newest] * 3
        nursery.cancel_scope.cancel()


@examples(400)
@given(moves)
def test_who_resumes_with_its_last_id_hears_everything_once_in_order_or_one_resync(
    plays: Sequence[tuple[str, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_module, "KEPT_MAX", FEW)
        trio.run(play, plays, clock=MockClock(autojump_threshold=0))
