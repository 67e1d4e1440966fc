"""The apps behind the server under test: a small one, and three that behave badly."""

from collections.abc import AsyncIterator
from typing import Any

import trio
import trio.testing
from quart import Response, request, websocket
from quart_trio import QuartTrio

from tests.server.raw import MIB, TIMEOUT_S

BIG = b"x" * (24 * MIB)  # more than the kernel buffers between two sockets


class Gate:
    """Where a handler says that it runs, and waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.opened = trio.Event()
        self.answer = "through"

    async def reached(self) -> None:
        with trio.fail_after(TIMEOUT_S):
            await self.entered.wait()

    async def passing(self) -> None:
        self.entered.set()
        await self.opened.wait()


def gated(gate: Gate) -> QuartTrio:
    app = QuartTrio("front")
    app.websocket("/ws")(echo)
    app.get("/")(ok)
    app.post("/size")(size)
    app.post("/refuse")(refuse)
    app.get("/big")(big)

    @app.get("/gate")
    async def wait() -> str:
        await gate.passing()
        return gate.answer

    @app.get("/stream")
    async def stream() -> Response:
        async def ticks() -> AsyncIterator[bytes]:
            yield b"first"
            await gate.passing()
            yield b"last"

        response = Response(ticks())
        response.timeout = None
        return response

    return app


async def ok() -> dict[str, bool]:
    return {"ok": True}


async def size() -> str:
    await request.scope["state"]["send_continue"]()  # the body is wanted
    return str(len(await request.get_data()))


async def refuse() -> tuple[str, int]:
    return "too large", 413


async def big() -> bytes:
    return BIG


async def echo() -> None:
    while True:
        await websocket.send(str(len(await websocket.receive())))


async def crashing(scope: Any, _receive: Any, send: Any) -> None:
    """An ASGI app that breaks at the point that its path names."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"12")]})
        await send({"type": "http.response.body", "body": b'{"ok":true}\n'})
        return
    if scope["path"] == "/midway":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
    if scope["path"] == "/group":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("in a nursery")
    raise ValueError("in a handler")


async def unread(scope: Any, _receive: Any, send: Any) -> None:
    """An ASGI app that answers 413 when its queue is full, and reads nothing of it."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await trio.testing.wait_all_tasks_blocked(0.02)
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def deaf(scope: Any, _receive: Any, _send: Any) -> None:
    """An ASGI app that never hears that its client has gone."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await trio.sleep_forever()
