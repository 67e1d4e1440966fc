"""What may be said on a connection, and that Hypercorn is still what `server.http.protocols` was written against."""

import inspect
import resource
import zlib
from collections.abc import Callable
from typing import Any

import h2.events
import h2.settings
import h11
import pytest
import trio
import trio.testing
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import h11 as hypercorn_h11
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from quart_trio import QuartTrio

from tests.server.apps import crashing
from tests.server.http2 import connect_http2, connect_tls
from tests.server.raw import (
    GET,
    MIB,
    SHORT_S,
    UPGRADE,
    assert_cut,
    assert_serving,
    connect,
    flood,
    get,
    masked,
    start,
)
from vigil.server.http.listener import Endpoint
from vigil.server.http.protocols import Limits
from vigil.server.http.websocket import WebSocket

DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


CLOSE_1009 = b"\x03\xf1"


H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


async def test_http2_by_prior_knowledge_is_refused_on_a_plain_port(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.send(H2_PREFACE)
        assert (await assert_cut(client)).startswith(b"HTTP/1.1 400 ")
    await assert_serving(server)


async def test_an_upgrade_to_h2c_is_answered_in_http1_and_data_frames_after_it_cost_that_connection(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    """Hypercorn #329: DATA after the response ended the process."""
    server = await start(nursery, small_app)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    async with connect(server) as client:
        assert (await client.ask(GET.removesuffix(b"\r\n") + upgrade)).status == 200
        await client.send(H2_PREFACE + b"\0\0\1\0\0\0\0\0\1x")
        assert (await assert_cut(client)).startswith(b"HTTP/1.1 400 ")
    await assert_serving(server)


async def test_compression_of_websocket_messages_is_never_agreed_to(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        answer = await client.ask(UPGRADE % DEFLATE)
        assert answer.status == 101
        assert b"sec-websocket-extensions" not in answer.headers
        await client.send(masked(0x81, b"hello"))
        assert await client.frame() == (0x81, b"5")


async def test_a_compressed_frame_that_would_inflate_to_500_mb_is_a_protocol_error_and_costs_no_memory(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    deflate = zlib.compressobj(wbits=-15)
    bomb = (deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)) * 500
    server = await start(nursery, small_app, Limits(message_bytes=1 << 40))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with connect(server) as client:
        await client.ask(UPGRADE % DEFLATE)
        await client.send(masked(0xC1, bomb))
        assert b"524288000" not in await assert_cut(client)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    await assert_serving(server)


@pytest.mark.parametrize(
    "more", [masked(0x81, b"x" * 5000), masked(0x01, b"x" * 3000) + masked(0x00, b"x" * 2000)]
)
async def test_a_websocket_message_over_the_bound_is_closed_with_1009(
    nursery: trio.Nursery, small_app: QuartTrio, more: bytes
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        await client.send(masked(0x81, b"x" * 4096))
        assert await client.frame() == (0x81, b"4096")
        await client.send(more)
        assert await client.frame() == (0x88, CLOSE_1009)
        await assert_cut(client)


async def test_a_client_that_goes_on_sending_after_1009_is_cut(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        assert await flood(client, masked(0x01, b"x" * 5000), masked(0x00, b"x" * 60_000)) < 32 * MIB


BAD: dict[str, tuple[bytes, int]] = {
    "garbage": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3.0\r\nHost: test\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a NUL in a header": (b"GET / HTTP/1.1\r\nHost: test\r\nX: a\0b\r\n\r\n", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : test\r\n\r\n", 400),
    "a target without a path": (b"GET ?a=1 HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a tunnel": (b"CONNECT test:443 HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a long header line": (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
    "a long header line in one read": (
        b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        431,
    ),
    "10 000 headers": (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a: b\r\n" * 10_000 + b"\r\n", 431),
    "101 headers": (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a: b\r\n" * 100 + b"\r\n", 431),
    "two lengths": (
        b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
    ),
    "a length and chunks": (
        b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "an unknown encoding": (b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a bad chunk": (b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_request_that_is_none_gets_a_bare_status_and_is_closed(
    nursery: trio.Nursery, small_app: QuartTrio, name: str, logs: list[Any]
) -> None:
    data, status = BAD[name]
    server = await start(nursery, small_app)
    async with connect(server) as client:
        answer = await client.ask(data)
        assert (answer.status, answer.body, answer.headers[b"connection"]) == (status, b"", b"close")
        assert await assert_cut(client) == b""
    await assert_serving(server)
    assert logs == []


GOOD: dict[str, bytes] = {
    "bare line feeds": b"GET / HTTP/1.1\nHost: test\n\n",
    "HTTP/1.0 without a host": b"GET / HTTP/1.0\r\n\r\n",
    "an absolute target": b"GET http://test/?a=1 HTTP/1.1\r\nHost: test\r\n\r\n",
    "an absolute target without a path": b"GET HTTP://test HTTP/1.1\r\nHost: test\r\n\r\n",
}


@pytest.mark.parametrize("name", GOOD)
async def test_an_unusual_request_is_still_a_request(
    nursery: trio.Nursery, small_app: QuartTrio, name: str
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        assert (await client.ask(GOOD[name])).body == b'{"ok":true}\n'


async def test_pipelined_requests_are_answered_in_order(nursery: trio.Nursery, small_app: QuartTrio) -> None:
    server = await start(nursery, small_app)
    post = b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"
    async with connect(server) as client:
        await client.send(GET + post + GET)
        assert [(await client.answer()).body for _ in range(3)] == [b'{"ok":true}\n', b"3", b'{"ok":true}\n']


async def test_an_answer_names_its_date_and_not_its_server(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    answer = await get(await start(nursery, small_app))
    assert b"date" in answer.headers
    assert b"server" not in answer.headers


async def test_tls_serves_http1_to_who_offers_nothing_else(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, small_app, endpoint=secure)
    assert server.urls == [f"https://127.0.0.1:{server.port}"]
    async with connect_tls(server, secure, "http/1.1") as client:
        assert (await client.ask(GET)).body == b'{"ok":true}\n'
        head = b"POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 700000\r\n\r\n"
        assert (await client.ask(head + b"x" * 600_000)).status == 413


async def test_tls_serves_http2_to_who_offers_it(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, small_app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        number = await http2.ask("/")
        headers = dict((await http2.until(h2.events.ResponseReceived, number)).headers)
        assert headers[":status"] == "200"
        assert "server" not in headers
        assert (await http2.until(h2.events.DataReceived, number)).data == b'{"ok":true}\n'


async def test_data_after_an_early_answer_ends_its_stream_and_no_other(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    """Hypercorn #329 where it can still be met: this one ended the process."""
    server = await start(nursery, small_app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        upload = await http2.ask("/refuse", "POST", end=False)
        await http2.until(h2.events.StreamEnded, upload)
        http2.h2.send_data(upload, b"x" * 1000)
        await http2.flush()
        assert (await http2.until(h2.events.StreamReset, upload)).error_code == 0
        await http2.until(h2.events.StreamEnded, await http2.ask("/"))


async def test_a_handler_that_crashes_in_its_answer_resets_the_stream(
    nursery: trio.Nursery, secure: Endpoint
) -> None:
    server = await start(nursery, crashing, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        await http2.until(h2.events.StreamReset, await http2.ask("/midway"))
        await http2.until(h2.events.StreamEnded, await http2.ask("/"))


async def test_an_http2_client_that_gives_no_window_is_cut(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, small_app, Limits(send_s=SHORT_S, linger_s=SHORT_S), secure)
    no_window = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    async with connect_http2(server, secure, no_window) as http2:
        number = await http2.ask("/big")
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await http2.until(h2.events.StreamEnded, number)


async def test_http2_offers_no_websockets_and_a_connect_costs_only_its_stream(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, small_app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        number = await http2.ask("/ws", "CONNECT", end=False, protocol="websocket")
        assert http2.h2.remote_settings.enable_connect_protocol == 0
        came = await http2.until(h2.events.ResponseReceived, number)
        assert dict(came.headers)[":status"] == "400"
        await http2.until(h2.events.StreamEnded, await http2.ask("/"))


PROTOCOL = "self, app, config, context, task_group, connection_state, ssl, client, server, send"


RELIED_ON: dict[Callable[..., Any], str] = {
    H11Protocol.__init__: PROTOCOL,
    H11Protocol.handle: "self, event",
    H11Protocol.initiate: "self",
    H11Protocol._check_protocol: "self, event",
    H11Protocol.stream_send: "self, event",
    H11Protocol._create_stream: "self, request",
    H11Protocol._send_error_response: "self, status_code",
    H2Protocol.__init__: PROTOCOL,
    H2Protocol.handle: "self, event",
    H2Protocol.stream_send: "self, event",
    H2Protocol._handle_events: "self, events",
    H2Protocol._create_stream: "self, request",
    H2Protocol._window_updated: "self, stream_id",
    H2Protocol._send_data: "self, stream_id",
    H2Protocol._flush: "self",
    TaskGroup.spawn_app: "self, app, config, scope, send",
    WorkerContext: "max_requests",
    Lifespan: "app, config, state",
    WebsocketBuffer: "max_length",
    WSStream.__init__: "self, app, config, context, task_group, ssl, client, server, send, stream_id",
    h11.Connection._process_error: "self, role",
    RawData: "data, address",
    Updated: "idle",
    Closed: "",
}


@pytest.mark.parametrize("relied_on", RELIED_ON, ids=lambda point: getattr(point, "__qualname__", "?"))
def test_hypercorn_still_has_what_is_overridden_and_called(relied_on: Callable[..., Any]) -> None:
    """When this fails after an update of Hypercorn, read `server.http.protocols` against its new source."""
    assert ", ".join(inspect.signature(relied_on).parameters) == RELIED_ON[relied_on]


def test_hypercorn_still_has_the_attributes_that_are_read() -> None:
    """Each override must be reached from Hypercorn's own code, or it would be silently dead."""
    assert h11.Connection(h11.SERVER)._receive_buffer.maybe_extract_at_most(1) is None
    assert h11.Connection(h11.SERVER).client_is_waiting_for_100_continue is False
    buffer = WebsocketBuffer(1)
    assert (buffer.length, buffer.max_length) == (0, 1)
    assert H11WSConnection.their_state is None
    assert "self.buffer = WebsocketBuffer(" in inspect.getsource(WSStream)
    assert vars(hypercorn_h11)["WSStream"] is WebSocket
    assert H11Protocol._create_stream.__globals__ is vars(hypercorn_h11)
    for owner, calls in (
        (
            H11Protocol,
            ("self._check_protocol(", "self._create_stream(", "self.stream = WSStream(", "self.stream_send,"),
        ),
        (
            H2Protocol,
            (
                "self._handle_events(",
                "self._create_stream(",
                "self.stream_send,",
                "self.streams.pop(",
                "del self.stream_buffers[",
            ),
        ),
    ):
        assert [call for call in calls if call not in inspect.getsource(owner)] == []


@pytest.mark.parametrize("more", [GET, b"\0\0\0", GET * 1000], ids=["request", "bytes", "much"])
async def test_what_comes_after_the_last_request_of_a_connection_does_not_spoil_its_answer(
    nursery: trio.Nursery, small_app: QuartTrio, more: bytes
) -> None:
    server = await start(nursery, small_app)
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for _ in range(10):  # whoever runs first, the app or the reader
        async with connect(server) as client:
            await client.send(last + more)
            assert (await client.answer()).status == 200
            assert await assert_cut(client) == b""
