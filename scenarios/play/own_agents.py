"""Agents of a server in another process that do what a script says: a small HTTP server on loopback.

Each is a webhook of that server. It echoes, and is slow, fails or hangs as it was told.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import h11
import trio

from vigil.scenarios.language.verbs import AgentBehaviour

RECEIVE_BYTES = 65_536
WELL = AgentBehaviour.model_validate("well")


class OwnAgents:
    """`scale` is how many times as fast as real time session time runs."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self.behaviours: dict[str, AgentBehaviour] = {}
        self.port = 0

    def url(self, agent_id: str) -> str:
        return f"http://127.0.0.1:{self.port}/{agent_id}"

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while asked := await _request(connection, stream):
                await self._answer(connection, stream, *asked)
                if connection.our_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            return  # the server gave up, or crashed

    async def _answer(
        self, connection: h11.Connection, stream: trio.SocketStream, path: str, turn: dict[str, Any]
    ) -> None:
        behaviour = self.behaviours.get(path.removeprefix("/"), WELL)
        if behaviour.is_ == "hanging":
            await trio.sleep_forever()
        await trio.sleep((behaviour.slow or 0) / 1000 / self._scale)
        works = behaviour.is_ != "failing"
        status = 200 if works else 500
        body = json.dumps({"content": turn["message"]["content"]} if works else {}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            await stream.send_all(connection.send(event) or b"")


@asynccontextmanager
async def running_agents(scale: float) -> AsyncIterator[OwnAgents]:
    """Agents on a free port until the block is left."""
    agents = OwnAgents(scale)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, agents._serve, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        agents.port = listeners[0].socket.getsockname()[1]
        yield agents
        nursery.cancel_scope.cancel()


async def _request(connection: h11.Connection, stream: trio.SocketStream) -> tuple[str, Any] | None:
    """The path and the JSON body of the next request; None when there is none."""
    path, body = "", b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(RECEIVE_BYTES))
        elif isinstance(event, h11.Request):
            path = event.target.decode()
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return path, json.loads(body)
        else:
            return None
