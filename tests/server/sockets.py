"""A site on a real socket in this process, and a client of its events that is not the server's own library."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket

from tests.harness import BASE, OWNER, Api, running_api
from tests.server.raw import TIMEOUT_S, Running, start
from vigil.actors.core.quotas import Limit
from vigil.server.front.quart_app import make_app
from vigil.server.http.protocols import DEFAULTS, Limits

MANY = Limit(1_000_000, 60)


@dataclass(frozen=True)
class Served:
    api: Api
    running: Running

    @property
    def port(self) -> int:
        return self.running.port


@asynccontextmanager
async def serving(limits: Limits = DEFAULTS, **changes: Any) -> AsyncIterator[Served]:
    """A site behind the real listener; `changes` are to its plan. Stopped at the end as a server stops."""
    async with running_api(**{"session_limit": MANY, **changes}) as api, trio.open_nursery() as nursery:
        served = Served(api, await start(nursery, make_app(api.site), limits))
        yield served
        api.site.stop_taking_requests()
        served.running.shutdown.set()


@asynccontextmanager
async def listening(
    port: int,
    session_id: str,
    query: str = "",
    *,
    credential: str | None = OWNER,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
) -> AsyncIterator[WebSocketConnection]:
    """An open events WebSocket. Raises ConnectionRejected."""
    sent = [(name.encode(), value.encode()) for name, value in headers]
    if credential is not None:
        sent.append((b"Authorization", f"Bearer {credential}".encode()))
    path = f"{BASE}/{session_id}/events{query}"
    async with (
        _closing_what_the_library_leaves_open() as sockets,
        open_websocket(
            "127.0.0.1", port, path, use_ssl=False, extra_headers=sent, subprotocols=subprotocols or None
        ) as socket,
    ):
        sockets.append(socket)
        yield socket


@asynccontextmanager
async def _closing_what_the_library_leaves_open() -> AsyncIterator[list[WebSocketConnection]]:
    """Its own side of a connection that the server has closed, even when that was while it closed it itself."""
    sockets: list[WebSocketConnection] = []
    try:
        yield sockets
    finally:
        for socket in sockets:
            await trio.aclose_forcefully(socket._stream)


async def event(socket: WebSocketConnection) -> Any:
    """The next one."""
    with trio.fail_after(TIMEOUT_S):
        return json.loads(await socket.get_message())


async def events(socket: WebSocketConnection, count: int) -> list[Any]:
    return [await event(socket) for _ in range(count)]


async def rest(socket: WebSocketConnection) -> tuple[list[Any], int]:
    """All events until the server closes, and the code with which it does."""
    found = []
    with trio.fail_after(TIMEOUT_S):
        while (text := await _message(socket)) is not None:
            found.append(json.loads(text))
    assert socket.closed is not None
    return found, socket.closed.code


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what the server's tasks do in their own time."""
    with trio.fail_after(TIMEOUT_S):
        while not is_so():  # noqa: ASYNC110  there is no event to wait for
            await trio.sleep(0.01)


async def _message(socket: WebSocketConnection) -> str | bytes | None:
    try:
        return await socket.get_message()
    except ConnectionClosed:
        return None
