"""A session's events, one after another, whatever happens to the connection."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Self

from vigil_client._async.caller import AsyncCaller
from vigil_client._async.io import sleep
from vigil_client._async.websocket import AsyncWebSocket, handshake
from vigil_client.calls import Call
from vigil_client.errors import ApiError, BadAnswer, NoAnswer, SessionGone, VigilError
from vigil_client.events import Event, Resync, SessionEnded, SessionExpired, ending_of, event_of
from vigil_client.retrying import backoff_s, is_passing

SILENCE_S = 30.0
OVER, BROKEN = 1000, 1006  # close codes
BEYOND_ALL_IDS = 2**53 - 1  # answered with a resync, which names the newest id


class AsyncEvents:
    """Iterate over it. `last_event_id` is where it stands: keep it to go on from there later."""

    def __init__(
        self,
        caller: AsyncCaller,
        call: Callable[[int, Mapping[str, str]], Call],
        last_event_id: int | None,
        patience_s: float,
    ) -> None:
        self.last_event_id = last_event_id
        self._caller = caller
        self._call = call
        self._patience_s = patience_s
        self._socket: AsyncWebSocket | None = None
        self._is_over = False
        self._was_there = False  # the session, once
        self._losses = 0

    async def __aenter__(self) -> Self:
        """Listens from here on: nothing that happens later is missed."""
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._is_over:
            event = await self._next()
            if event is not None:
                return event
        await self._hang_up()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._is_over = True
        await self._hang_up()

    async def _next(self) -> Event | None:
        """The next event; None when there is none yet, or no more."""
        try:
            socket = self._socket or await self._connect()
        except SessionGone as gone:
            if not self._was_there:
                raise
            return ending_of(gone)  # it ended while nobody listened
        try:
            got = await socket.receive(SILENCE_S)
        except NoAnswer:
            got = BROKEN
        if isinstance(got, int):
            self._is_over = got == OVER
            await self._lost()
            return None
        return self._kept(_event(got))

    async def _lost(self) -> None:
        await self._hang_up()
        if not self._is_over:
            await sleep(backoff_s(self._losses))
        self._losses += 1

    def _kept(self, event: Event) -> Event | None:
        """None for what was heard before."""
        self._losses = 0
        if event.id is not None:
            if event.id <= (self.last_event_id or 0) and not isinstance(event, Resync):
                return None
            self.last_event_id = event.id
        self._is_over = self._is_over or isinstance(event, SessionExpired | SessionEnded)
        return event

    async def _connect(self) -> AsyncWebSocket:
        """A connection, tried for as long as the patience lasts."""
        until, failed = time.monotonic() + self._patience_s, 0
        while True:
            try:
                return await self._open()
            except VigilError as error:
                pause_s = _pause_s(error, failed)
                if not is_passing(error) or time.monotonic() + pause_s > until:
                    self._is_over = True
                    raise
            failed += 1
            await sleep(pause_s)

    async def _open(self) -> AsyncWebSocket:
        headers = handshake()
        asked = BEYOND_ALL_IDS if self.last_event_id is None else self.last_event_id
        response = await self._caller.once(self._call(asked, headers))
        try:
            socket = AsyncWebSocket(response, headers)
            if self.last_event_id is None:
                self.last_event_id = await _where_it_stands(socket)
        except BaseException:
            await response.aclose()
            raise
        self._socket, self._was_there = socket, True
        return socket

    async def _hang_up(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.aclose()


async def _where_it_stands(socket: AsyncWebSocket) -> int:
    """The newest id: with it a first connection that breaks at once can be gone on from, too."""
    got = await socket.receive(SILENCE_S)
    if isinstance(got, int):
        raise NoAnswer(f"The server closed the events with {got}")
    return _event(got).id or 0


def _event(text: str) -> Event:
    try:
        return event_of(json.loads(text))
    except ValueError as error:
        raise BadAnswer("A frame of the events is no event") from error


def _pause_s(error: VigilError, failed: int) -> float:
    asked = error.retry_after_s if isinstance(error, ApiError) else None
    return asked or backoff_s(failed)
