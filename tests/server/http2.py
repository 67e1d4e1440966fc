"""A client that speaks TLS, and one that speaks HTTP/2 frame by frame over it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import trio

from tests.server.raw import TIMEOUT_S, Client, Running, connect
from vigil.server.http.listener import Endpoint


class Http2:
    """A client that speaks HTTP/2 frame by frame."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.events: list[h2.events.Event] = []

    async def flush(self) -> None:
        await self.client.send(self.h2.data_to_send())

    async def ask(self, path: str, method: str = "GET", *, end: bool = True, **pseudo: str) -> int:
        number = self.h2.get_next_available_stream_id()
        named = {":method": method, ":path": path, ":scheme": "https", ":authority": "localhost"}
        named |= {f":{name}": value for name, value in pseudo.items()}
        self.h2.send_headers(number, list(named.items()), end_stream=end)
        await self.flush()
        return number

    async def until(self, kind: type[h2.events.Event], stream_id: int) -> Any:
        """The next event of this kind on the stream; EOFError when the connection ends instead."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and getattr(event, "stream_id", 0) == stream_id:
                    self.events.remove(event)
                    return event
            with trio.fail_after(TIMEOUT_S):
                data = await self.client.stream.receive_some()
            if not data:
                raise EOFError
            self.events += self.h2.receive_data(data)
            await self.flush()


def client_context(endpoint: Endpoint, *alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=endpoint.tls_cert)
    context.set_alpn_protocols(alpn)
    return context


@asynccontextmanager
async def connect_tls(server: Running, endpoint: Endpoint, *alpn: str) -> AsyncIterator[Client]:
    async with connect(server) as plain:
        context = client_context(endpoint, *alpn)
        tls = trio.SSLStream(plain.stream, context, server_hostname="localhost", https_compatible=True)
        await tls.do_handshake()
        yield Client(tls)  # type: ignore[arg-type]


@asynccontextmanager
async def connect_http2(
    server: Running, endpoint: Endpoint, settings: dict[Any, int] | None = None
) -> AsyncIterator[Http2]:
    async with connect_tls(server, endpoint, "h2") as client:
        http2 = Http2(client)
        http2.h2.local_settings = h2.settings.Settings(initial_values=settings)
        http2.h2.initiate_connection()
        await http2.flush()
        yield http2
