"""A WebSocket of Hypercorn's, with a share of the loop and an end that says why (RFC 6455, section 7.4.1).

It knows frames and close codes. It refuses to know what the app sends, and the socket below.
"""

from typing import Any

import trio
from hypercorn.protocol.events import Body, Data, Event, Request, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from vigil.server.http.budget import Share, Traffic

FRAMES_BURST = 1000
FRAMES_PER_S = 50.0  # a client answers our pings, and may send its own


class WebSocket(WSStream):
    """Frames are processed one by one, pings and pongs as well as messages; whoever sends too many is cut with 1008."""

    config: Any  # `server.http.protocols.ProtocolConfig`
    app_put: Any  # Hypercorn's, once there is an app

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._traffic: Traffic = self.config.traffic
        self._share = Share(self._traffic.turns, burst=FRAMES_BURST, per_s=FRAMES_PER_S)
        self._decided = trio.Event()  # the app has let it in or not

    async def handle(self, event: Event) -> None:
        if isinstance(event, Body | Data) and not self.closed:
            await self._decided.wait()  # a client that does not wait for the 101
            self._share.begin()
        await super().handle(event)
        if isinstance(event, StreamClosed):
            self._decided.set()
        elif isinstance(event, Request) and self.closed:  # a bad handshake, which Hypercorn has answered
            await self.send(StreamClosed(stream_id=self.stream_id))

    async def _accept(self, message: Any) -> None:
        await super()._accept(message)
        self._decided.set()

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            code = await self._code_for(event)
            if code is not None:
                return await self._end(code)
        return None

    async def _code_for(self, event: Any) -> int | None:
        """Do what the client's frame wants. Gives the code to close with, if it is the last."""
        if not await self._share.spend():
            self._traffic.cut("flood")
            return CloseReason.POLICY_VIOLATION
        if isinstance(event, CloseConnection):  # the client's own, or what is wrong with its frame
            code: int = event.code
            return code
        if isinstance(event, Ping):
            await self._send_wsproto_event(event.response())
        elif isinstance(event, Message):
            return await self._take(event)
        return None

    async def _take(self, event: Message[Any]) -> int | None:
        try:
            self.buffer.extend(event)
        except FrameTooLargeError:
            return CloseReason.MESSAGE_TOO_BIG
        if event.message_finished:
            await self.app_put(self.buffer.to_message())
            self.buffer.clear()
        return None

    async def _end(self, code: int) -> None:
        await self._send_wsproto_event(CloseConnection(code=code))
        await self.send(StreamClosed(stream_id=self.stream_id))
