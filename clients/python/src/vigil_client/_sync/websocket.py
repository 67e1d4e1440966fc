# Made from clients/python/src/vigil_client/_async/websocket.py by clients/python/generate_sync.py: change that one.
"""A WebSocket on a connection of the HTTP client: text comes out, pings are answered. No task and no thread."""

import base64
import os
from collections.abc import Mapping

import httpcore
import httpx
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from vigil_client.answers import no_answer
from vigil_client.errors import BadAnswer, NoAnswer

_READ_BYTES = 65_536


def handshake() -> dict[str, str]:
    """The headers that ask for one."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }


class WebSocket:
    """Made from the 101 of a request with the headers of `handshake`."""

    def __init__(self, response: httpx.Response, asked_with: Mapping[str, str]) -> None:
        accepted = response.headers.get("Sec-WebSocket-Accept")
        if accepted != generate_accept_token(asked_with["Sec-WebSocket-Key"].encode()).decode():
            raise BadAnswer("What answered is no WebSocket server: does a proxy on the way pass upgrades on?")
        if "network_stream" not in response.extensions:
            raise BadAnswer("This transport has no connections that a WebSocket could use")
        self._response = response
        self._stream = response.extensions["network_stream"]
        self._protocol = Connection(ConnectionType.CLIENT)
        self._came: list[Event] = []
        self._text = ""

    def close(self) -> None:
        self._response.close()

    def receive(self, silence_s: float) -> str | int:
        """The next message, or the code with which the server closes. After so long a silence it pings.

        Raises NoAnswer when the connection is broken, or the ping brings nothing either.
        """
        while True:
            while self._came:
                got = self._taken(self._came.pop(0))
                if got is not None:
                    return got
            self._read(silence_s)

    def _taken(self, event: Event) -> str | int | None:
        if isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                return text
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            self._send(event.response())
            return int(event.code)
        return None

    def _read(self, silence_s: float) -> None:
        try:
            data = self._stream.read(_READ_BYTES, timeout=silence_s)
        except httpcore.ReadTimeout:
            self._send(Ping())
            data = self._read_pong(silence_s)
        except httpcore.NetworkError as error:
            raise no_answer(error, "The events broke off") from error
        self._feed(data)

    def _read_pong(self, silence_s: float) -> bytes:
        try:
            data: bytes = self._stream.read(_READ_BYTES, timeout=silence_s)
        except (httpcore.TimeoutException, httpcore.NetworkError) as error:
            raise no_answer(error, "The server went silent") from error
        return data

    def _feed(self, data: bytes) -> None:
        if not data:
            raise NoAnswer("The events broke off")
        try:
            self._protocol.receive_data(data)
            self._came += self._protocol.events()
        except RemoteProtocolError as error:
            raise no_answer(error, "The events are garbled") from error

    def _send(self, event: Event) -> None:
        """The other side may have gone: then reading says so."""
        try:
            self._stream.write(self._protocol.send(event), timeout=10)
        except (LocalProtocolError, httpcore.TimeoutException, httpcore.NetworkError):
            return
