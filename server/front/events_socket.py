"""The events WebSocket once it is open: notices out, everything in ignored, a close code at the end (spec section 8).

Frames over 4 KiB from the client never get here: the listener closes with 1009.
"""

from typing import Protocol

import trio

from vigil.actors.hub.hub import Ending, Subscription
from vigil.server.api.wire_events import frame

CLOSE_CODES: dict[Ending, int] = {
    "over": 1000,
    "stopping": 1001,
    "revoked": 1008,
    "broken": 1011,
    "slow": 1013,
}


class Socket(Protocol):
    """An accepted WebSocket."""

    async def send(self, data: str) -> None: ...

    async def receive(self) -> str | bytes: ...


async def send_events(socket: Socket, subscription: Subscription) -> int:
    """Send what the subscription brings until it ends. Gives the code to close with."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ignore_what_comes, socket)
        nursery.start_soon(_stop_when_cut, subscription, nursery.cancel_scope)
        async for notice in subscription:
            await socket.send(frame(notice))
        nursery.cancel_scope.cancel()
    assert subscription.ended is not None  # nothing else ends the iteration
    return CLOSE_CODES[subscription.ended]


async def _ignore_what_comes(socket: Socket) -> None:
    while True:
        await socket.receive()


async def _stop_when_cut(subscription: Subscription, sending: trio.CancelScope) -> None:
    """A send that waits for a listener who does not read would wait on."""
    await subscription.cut.wait()
    sending.cancel()
