"""HTTP/2 as Hypercorn has it, with a share of the loop, deadlines where a client gives no window, and early answers.

It knows frames, streams and windows. It refuses to know sockets, TLS and what the app does. Whoever sends more than
its share of frames hears GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, section 7).
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, InformationalResponse, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol

from vigil.server.http.budget import TURN_UNITS, Share
from vigil.server.http.http2_frames import Http2Frames
from vigil.server.http.protocols import (
    PIECE_BYTES,
    UNITS_BURST,
    UNITS_FOR_ANSWER,
    UNITS_PER_S,
    USEFUL_BYTES,
    ProtocolConfig,
    pieces,
    send_deadlines,
)
from vigil.server.http.request_heads import HOST

_HOSTS = (b"host", b":authority")
_UNITS_FOR_DATA = 2  # what a client sends for each DATA frame: two windows


class Http2(H2Protocol):
    """HTTP/2 with a deadline where a client gives no window, and early answers that end an upload."""

    config: ProtocolConfig
    cut: Callable[[], None]  # the whole connection, at once
    has_heads = False
    answers_after_eof = False
    lingers = True

    @property
    def send_s(self) -> float:
        return self.config.limits.send_s

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._share = Share(self.config.traffic.turns, burst=UNITS_BURST, per_s=UNITS_PER_S)
        self._frames = Http2Frames()
        self._sent = trio.lowlevel.ParkingLot()
        codes = h2.settings.SettingCodes
        self.connection.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: self.config.h2_max_concurrent_streams,
                codes.MAX_HEADER_LIST_SIZE: self.config.h2_max_header_list_size,
            },
        )

    async def handle(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._take(event.data)
        else:
            await super().handle(event)
        if self.closed:
            self._sent.unpark_all()
            self.connection_state.clear()  # it holds this

    async def _take(self, data: bytes) -> None:
        """Hand h2 a few frames at a time, and none to a client that has sent too many."""
        self._share.begin()
        for piece, units in self._frames.pieces(data, TURN_UNITS):
            if not await self._share.spend(units):
                await self._calm_down()
            if self.connection.state_machine.state is h2.connection.ConnectionState.CLOSED:
                return
            await super().handle(RawData(piece))

    async def _calm_down(self) -> None:
        self.config.traffic.cut("flood")
        with suppress(h2.exceptions.ProtocolError):
            self.connection.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        await self._flush()
        await self.send(Closed())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed):
            await self._abandon(event.stream_id)
        if isinstance(event, EndBody):
            self._share.earn(UNITS_FOR_ANSWER)
        data = event.data if isinstance(event, Body) else b""
        parts: list[StreamEvent] = [Body(event.stream_id, piece) for piece in pieces(data)]  # type: ignore[arg-type]
        next_deadline = send_deadlines(self.config.limits.send_s, len(data))
        with (
            self.config.traffic.unsent.holding(self.cut, len(data)) as waiting,
            trio.CancelScope(deadline=next_deadline()) as scope,
        ):
            for part in parts or [event]:
                scope.deadline = next_deadline()
                await super().stream_send(part)
                waiting.took(PIECE_BYTES)
            while isinstance(event, EndBody) and event.stream_id in self.stream_buffers and not self.closed:
                await self._sent.park()
        if scope.cancelled_caught:
            await self.send(Closed())

    async def _send_data(self, stream_id: int) -> None:
        """Hypercorn calls an answer complete before it has sent the end, and at shutdown says GOAWAY in between."""
        before = self._held(stream_id)
        await super()._send_data(stream_id)
        if before - self._held(stream_id) >= USEFUL_BYTES:
            self._share.earn(_UNITS_FOR_DATA)
        self._sent.unpark_all()

    def _held(self, stream_id: int) -> int:
        """Bytes that wait for a window."""
        return len(self.stream_buffers[stream_id].buffer) if stream_id in self.stream_buffers else 0

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        """Nothing: RFC 9113 5.3.2 lets a server ignore it. Hypercorn would remember streams that never come."""

    async def _abandon(self, stream_id: int) -> None:
        """A handler that ends in the middle of its answer must not leave the client waiting for the rest."""
        if stream_id in self.stream_buffers:
            self._reset(stream_id, h2.errors.ErrorCodes.INTERNAL_ERROR)
            await self._window_updated(stream_id)
            await self._flush()

    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.RequestReceived) and _is_malformed(event):
                self._refuse(event)
            elif isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._reset(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
            else:
                if isinstance(event, h2.events.DataReceived) and len(event.data) >= USEFUL_BYTES:
                    self._share.earn(1)
                await super()._handle_events([event])
        await self._flush()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        headers = dict(request.headers)
        waits = headers.get(b"expect", b"").lower() == b"100-continue"
        send_continue = partial(self._send_continue, request.stream_id) if waits else None
        self.connection_state.update(method=headers[b":method"].decode(), send_continue=send_continue)
        await super()._create_stream(request)

    def _refuse(self, request: h2.events.RequestReceived) -> None:
        """With a bare 400. A malformed request costs its stream and not the others (RFC 9113 8.1.1)."""
        head = [(b":status", b"400"), *self.config.response_headers("h2")]
        with suppress(h2.exceptions.ProtocolError):
            self.connection.send_headers(request.stream_id, head, end_stream=True)
        if request.stream_ended is None:
            self._reset(request.stream_id, h2.errors.ErrorCodes.NO_ERROR)

    async def _send_continue(self, stream_id: int) -> None:
        """The app wants the body: say so to a client that waits for that (RFC 9110 10.1.1)."""
        if stream_id in self.streams:
            await super().stream_send(InformationalResponse(stream_id, [], 100))

    def _reset(self, stream_id: int, code: h2.errors.ErrorCodes) -> None:
        with suppress(h2.exceptions.ProtocolError):
            self.connection.reset_stream(stream_id, code)


def _is_malformed(request: h2.events.RequestReceived) -> bool:
    """Whether no app should see it. CONNECT has no target."""
    headers = dict(request.headers)
    method, target = headers[b":method"], headers.get(b":path", b"")
    if method == b"CONNECT" or not method.isascii() or not target.startswith(b"/") or not target.isascii():
        return True
    return any(name in _HOSTS and not HOST.fullmatch(value) for name, value in request.headers)
