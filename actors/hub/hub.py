"""Who receives what: publish a session's events, subscribe to them from an id on, cut slow readers (spec section 8).

Kept events are bounded three ways: by number and size for each session, and by size for all together, where the
oldest of all go first. An event is one `Notice` however many listen, so that it is encoded once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import trio

from vigil.actors.core.events import Broadcast, Created, Ended, Event, Expired, TimeoutUpdated

KEPT_MAX = 256
KEPT_BYTES_MAX = 256 * 1024
ALL_KEPT_BYTES_MAX = 64 * 1024 * 1024
UNREAD_MAX = 512
UNREAD_BYTES_MAX = 1024 * 1024
_ORDER_SLACK = 1024  # places in the order of all that may stand for nothing, however few the others are
_OVERHEAD_BYTES = 512  # of an event as Python keeps it, beside its texts


class Chunk(NamedTuple):
    """A piece of an answer that is being made. It has no id and is never kept."""

    session_id: str
    at: int
    message_id: str
    text: str


class Resync(NamedTuple):
    """Some events were missed: read the state anew. `id` is of the newest event."""

    id: int
    session_id: str
    at: int


News = Event | Chunk | Resync


class Notice:
    """What listeners get. The first one to send it sets `frame`, for the others to use."""

    __slots__ = ("bytes", "frame", "news")

    def __init__(self, news: News) -> None:
        self.news = news
        self.bytes = _bytes(news)
        self.frame: str | None = None


Ending = Literal["over", "stopping", "slow", "revoked", "broken"]
"""Why a subscription ended: the session did, the server does, the listener did not keep up or may listen no more,
or the session is quarantined."""


class Subscription:
    """One listener's unread notices. Iterate to read; `ended` tells why the iteration came to its end.

    A listener that has too many unread is cut: what was unread is dropped, and `cut` is set, so that one that is
    stuck in sending is woken too. One that waits for something in particular says with `wants` what it is: the rest
    is not its to read, and does not count.
    """

    __slots__ = ("_reader", "_unread", "_unread_bytes", "cut", "ended", "wants")

    def __init__(self) -> None:
        self.wants: Callable[[News], bool] | None = None
        self.ended: Ending | None = None
        self.cut = trio.Event()
        self._unread: deque[Notice] = deque()
        self._unread_bytes = 0
        self._reader: trio.lowlevel.Task | None = None

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Notice:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._unread:
            if self.ended is not None:
                raise StopAsyncIteration
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        notice = self._unread.popleft()
        self._unread_bytes -= notice.bytes
        return notice

    def put(self, notice: Notice) -> None:
        """Hand over a notice, or cut the listener that has too many unread already."""
        if self.ended is not None or (self.wants is not None and not self.wants(notice.news)):
            return
        if len(self._unread) >= UNREAD_MAX or self._unread_bytes + notice.bytes > UNREAD_BYTES_MAX:
            self.cut_off("slow")
            return
        self._unread.append(notice)
        self._unread_bytes += notice.bytes
        self._wake()

    def end(self, why: Ending) -> None:
        """End the iteration after what is unread."""
        if self.ended is None:
            self.ended = why
            self._wake()

    def cut_off(self, why: Ending) -> None:
        """End the iteration at once: what is unread is dropped, and a listener stuck in sending is woken."""
        self._unread.clear()
        self._unread_bytes = 0
        self.end(why)
        self.cut.set()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            trio.lowlevel.reschedule(reader)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED


_NOBODY: dict[Subscription, None] = {}  # shared by all channels without listeners, and never added to


class _Channel:
    """One session's kept events and listeners."""

    __slots__ = ("bytes", "dropped", "kept", "listeners")

    def __init__(self) -> None:
        self.kept: list[Event] = []  # oldest first, and few: a deque would weigh more than they do
        self.bytes = 0
        self.dropped = 0  # of its places in the order of all, the first so many stand for nothing any more
        self.listeners = _NOBODY  # in the order in which they came, so that it is the same in every run


class Hub:
    """The channels of all sessions that have kept events or listeners.

    A session whose only event so far is that of its creation needs no channel: `only_event` makes that one again
    from the session when somebody asks for it, and `recall` keeps it once there are more. It gives None when the
    session has more, or its creation is no longer kept.
    """

    def __init__(self, only_event: Callable[[str], Event | None] = lambda _: None) -> None:
        self._only_event = only_event
        self._channels: dict[str, _Channel] = {}
        self._order: deque[_Channel] = deque()  # a place for each kept event of all channels, oldest first
        self._order_max = _ORDER_SLACK  # beyond it those that stand for nothing are given up
        self._bytes = 0

    def __len__(self) -> int:
        """How many listen."""
        return sum(len(channel.listeners) for channel in self._channels.values())

    def publish(self, events: Sequence[Event]) -> None:
        """Keep one session's committed events and hand them to those who listen. Its last event ends its channel."""
        session_id = events[0].session_id
        if type(events[-1].data) in _LAST:
            self._close(session_id, [Notice(event) for event in events], "over")
            return
        channel = self._channels.get(session_id) or self._channel(session_id)
        self._keep(channel, events)
        if channel.listeners:
            for event in events:
                _hand_out(channel, Notice(event))
        if not channel.kept:
            self._drop_if_empty(session_id, channel)

    def recall(self, event: Event) -> None:
        """Keep a session's first event before its second is published; it was told when it happened."""
        channel = self._channel(event.session_id)
        if not channel.kept:
            self._keep(channel, (event,))

    def say(self, chunk: Chunk) -> None:
        """Hand a piece of an answer to those who listen."""
        channel = self._channels.get(chunk.session_id)
        if channel is not None and channel.listeners:
            _hand_out(channel, Notice(chunk))

    def subscribe(self, session_id: str, after: int | None, newest: int, now: int) -> Subscription:
        """Listen from now on; with `after`, from the event after that id, or from a resync.

        `newest` is the id of the session's newest committed event.
        """
        if after == 0 and newest == 1 and (event := self._only_event(session_id)) is not None:
            self.recall(event)
        channel = self._channel(session_id)
        subscription = Subscription()
        for notice in self._missed(session_id, channel, after, newest, now):
            subscription.put(notice)
        if channel.listeners is _NOBODY:
            channel.listeners = {}
        channel.listeners[subscription] = None
        return subscription

    def unsubscribe(self, session_id: str, subscription: Subscription) -> None:
        channel = self._channels.get(session_id)
        if channel is not None:
            channel.listeners.pop(subscription, None)
            self._drop_if_empty(session_id, channel)

    def resync(self, session_id: str, newest: int, now: int) -> None:
        """Events may have been lost on their way: tell the listeners to read the state anew."""
        channel = self._channels.get(session_id)
        if channel is not None:
            self._empty(channel)
            _hand_out(channel, Notice(Resync(newest, session_id, now)))

    def abandon(self, session_id: str) -> None:
        """The session is quarantined: end its channel."""
        self._close(session_id, (), "broken")

    def _channel(self, session_id: str) -> _Channel:
        channel = self._channels.get(session_id)
        if channel is None:
            channel = self._channels[session_id] = _Channel()
        return channel

    def _missed(
        self, session_id: str, channel: _Channel, after: int | None, newest: int, now: int
    ) -> Iterable[Notice]:
        if after is None or after == newest:
            return ()
        missed = [event for event in channel.kept if event.id > after]
        is_whole = after < newest and len(missed) == newest - after
        return map(Notice, missed) if is_whole else (Notice(Resync(newest, session_id, now)),)

    def _keep(self, channel: _Channel, events: Sequence[Event]) -> None:
        size = sum(map(_bytes, events))
        kept, order = channel.kept, self._order
        kept += events
        order.extend([channel] * len(events))
        channel.bytes += size
        self._bytes += size
        while len(kept) > KEPT_MAX or channel.bytes > KEPT_BYTES_MAX:
            channel.dropped += 1
            self._drop_oldest_of(channel)
        if self._bytes > ALL_KEPT_BYTES_MAX:
            self._make_room()
        if len(order) > self._order_max:
            self._tidy_order()

    def _drop_oldest_of(self, channel: _Channel) -> Event:
        event = channel.kept.pop(0)
        size = _bytes(event)
        channel.bytes -= size
        self._bytes -= size
        return event

    def _make_room(self) -> None:
        """Let go of the oldest events of all."""
        while self._bytes > ALL_KEPT_BYTES_MAX:
            channel = self._order.popleft()
            if channel.dropped:
                channel.dropped -= 1
                continue
            event = self._drop_oldest_of(channel)
            if not channel.kept:
                self._drop_if_empty(event.session_id, channel)

    def _tidy_order(self) -> None:
        """Give up the places that stand for nothing.

        In place: the garbage collector would go through all of a new one, again and again.
        """
        order = self._order
        for _ in range(len(order)):
            channel = order.popleft()
            if channel.dropped:
                channel.dropped -= 1
            else:
                order.append(channel)
        self._order_max = 2 * len(order) + _ORDER_SLACK

    def _close(self, session_id: str, last: Iterable[Notice], why: Ending) -> None:
        channel = self._channels.pop(session_id, None)
        if channel is None:
            return
        self._empty(channel)
        for listener in channel.listeners:
            for notice in last:
                listener.put(notice)
            listener.end(why)

    def _empty(self, channel: _Channel) -> None:
        while channel.kept:
            channel.dropped += 1
            self._drop_oldest_of(channel)

    def _drop_if_empty(self, session_id: str, channel: _Channel) -> None:
        if not channel.kept and not channel.listeners:
            self._channels.pop(session_id, None)


def _hand_out(channel: _Channel, notice: Notice) -> None:
    cut = []
    for listener in channel.listeners:
        listener.put(notice)
        if listener.ended is not None:
            cut.append(listener)
    for listener in cut:
        del channel.listeners[listener]


def _bytes(news: News) -> int:
    """About how long the news is as UTF-8, without making its JSON, and what keeping it costs beside."""
    if isinstance(news, Event):
        data = news.data
        text_bytes = _EVENT_BYTES.get(type(data))
        return _OVERHEAD_BYTES if text_bytes is None else _OVERHEAD_BYTES + text_bytes(data)
    return _OVERHEAD_BYTES + (_utf8_bytes(news.text) if isinstance(news, Chunk) else 0)


def _message_bytes(data: Broadcast) -> int:
    message = data.message
    return _utf8_bytes(f"{message.content}{message.metadata}{message.attachments}")


def _metadata_bytes(data: Created | TimeoutUpdated) -> int:
    return _utf8_bytes(data.session.metadata)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


_LAST = frozenset((Expired, Ended))
_EVENT_BYTES: dict[type, Callable[[Any], int]] = {
    Broadcast: _message_bytes,
    Created: _metadata_bytes,
    TimeoutUpdated: _metadata_bytes,
}
