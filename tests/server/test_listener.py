"""The server under clients that are hostile, broken or slow: real sockets on the loopback, one small app behind."""

import inspect
import resource
import shutil
import ssl
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import structlog
import trio
import trio.testing
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import H11Protocol, H11WSConnection
from hypercorn.protocol.ws_stream import WebsocketBuffer, WSStream
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from quart import Response, request, websocket
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import MockClock

from server.connection import Server
from server.listener import Endpoint, ListenError, listen, tls_context
from server.protocols import Limits, send_deadlines
from tests.server.raw import (
    GET,
    TIMEOUT_S,
    UPGRADE,
    Client,
    Running,
    connect,
    get,
    masked,
    open_descriptors,
    start,
)

MIB = 1024 * 1024
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
CLOSE_1009 = b"\x03\xf1"
SHORT_S = 0.2  # the limit that a test is about; every other one keeps its default
BIG = b"x" * (24 * MIB)  # more than the kernel buffers between two sockets


class Gate:
    """Where a handler says that it runs, and waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.opened = trio.Event()

    async def reached(self) -> None:
        with trio.fail_after(TIMEOUT_S):
            await self.entered.wait()

    async def passing(self) -> None:
        self.entered.set()
        await self.opened.wait()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def app(gate: Gate) -> QuartTrio:
    app = QuartTrio("front")
    app.websocket("/ws")(echo)
    app.get("/")(ok)
    app.post("/size")(size)
    app.post("/refuse")(refuse)
    app.get("/big")(big)

    @app.get("/gate")
    async def wait() -> str:
        await gate.passing()
        return "through"

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
    return str(len(await request.get_data()))


async def refuse() -> tuple[str, int]:
    return "too large", 413


async def big() -> bytes:
    return BIG


async def echo() -> None:
    while True:
        await websocket.send(str(len(await websocket.receive())))


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """Every log line of the test, whatever level the other tests are quiet at."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


async def assert_serving(server: Running) -> None:
    assert (await get(server)).body == b'{"ok":true}\n'


async def assert_cut(client: Client, within_s: float = SHORT_S + 1.0) -> bytes:
    """The connection ends by itself, soon; what came before."""
    with trio.fail_after(within_s):
        return await client.rest()


# -- one connection cannot harm another


async def test_a_byte_after_a_websocket_upgrade_costs_only_that_connection(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    """Hypercorn #225: this one ended the process."""
    server = await start(nursery, app)
    async with connect(server) as client:
        await client.send(UPGRADE % b"" + b"x")
        await assert_cut(client)
    await assert_serving(server)


H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


async def test_http2_by_prior_knowledge_is_refused_on_a_plain_port(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        await client.send(H2_PREFACE)
        assert (await assert_cut(client)).startswith(b"HTTP/1.1 400 ")
    await assert_serving(server)


async def test_an_upgrade_to_h2c_is_answered_in_http1_and_data_frames_after_it_cost_that_connection(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    """Hypercorn #329: DATA after the response ended the process."""
    server = await start(nursery, app)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
    async with connect(server) as client:
        assert (await client.ask(GET.removesuffix(b"\r\n") + upgrade)).status == 200
        await client.send(H2_PREFACE + b"\0\0\1\0\0\0\0\0\1x")
        assert (await assert_cut(client)).startswith(b"HTTP/1.1 400 ")
    await assert_serving(server)


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


@pytest.mark.parametrize(("path", "status"), [("/at-once", 500), ("/midway", 200), ("/group", 500)])
async def test_a_handler_that_crashes_is_one_log_line_and_one_client_with_an_error(
    nursery: trio.Nursery, path: str, status: int, logs: list[Any]
) -> None:
    server = await start(nursery, crashing)
    logs.clear()
    async with connect(server) as client, connect(server) as other:
        await client.send(GET.replace(b"/ ", path.encode() + b" "))
        assert (await assert_cut(client)).startswith(b"HTTP/1.1 %d" % status)
        assert (await other.ask(GET)).status == 200
    assert [line["log_level"] for line in logs] == ["error"]
    assert logs[0]["error"].startswith("ValueError")
    assert logs[0]["where"].startswith("test_listener.py:")


# -- clients that are slow


@pytest.mark.parametrize("begun", [b"", GET])
async def test_a_connection_without_a_request_is_closed_after_the_idle_time(
    nursery: trio.Nursery, app: QuartTrio, begun: bytes
) -> None:
    server = await start(nursery, app, Limits(idle_s=SHORT_S))
    async with connect(server) as client:
        await client.send(begun)
        assert (await assert_cut(client)).count(b"HTTP/1.1") == bool(begun)


async def drip(client: Client, data: bytes) -> None:
    """Send a byte at a time, often enough that no pause is ever long."""
    for byte in data:
        await client.send(bytes([byte]))
        await trio.sleep(SHORT_S / 10)


@pytest.mark.parametrize(
    ("limits", "begun"),
    [
        (Limits(head_s=SHORT_S), b""),
        (Limits(head_s=SHORT_S), GET),
        (Limits(body_s=SHORT_S), b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 9999\r\n\r\n"),
        (Limits(body_s=SHORT_S), b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
async def test_a_request_that_comes_in_drops_is_cut_when_its_time_is_over(
    nursery: trio.Nursery, app: QuartTrio, limits: Limits, begun: bytes
) -> None:
    server = await start(nursery, app, limits)
    async with connect(server) as client:
        await client.send(begun)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(TIMEOUT_S):
            await drip(client, b"GET / HTTP/1.1\r\nX: " + b"1" * 200)
    await assert_serving(server)


async def test_no_limit_on_the_client_cuts_a_handler_or_a_stream_that_takes_its_time(
    nursery: trio.Nursery, app: QuartTrio, gate: Gate
) -> None:
    limits = Limits(idle_s=SHORT_S, head_s=SHORT_S, body_s=SHORT_S, send_s=SHORT_S, linger_s=SHORT_S)
    server = await start(nursery, app, limits)
    async with (
        connect(server) as waiting,
        connect(server) as pipelined,
        connect(server) as streaming,
        connect(server) as listening,
    ):
        await listening.ask(UPGRADE % b"")
        await waiting.send(GET.replace(b"/ ", b"/gate "))
        await pipelined.send(GET.replace(b"/ ", b"/gate ") + GET)
        await streaming.send(GET.replace(b"/ ", b"/stream "))
        await trio.sleep(4 * SHORT_S)
        gate.opened.set()
        assert (await waiting.answer()).body == b"through"
        assert (await pipelined.answer()).body == b"through"
        assert (await pipelined.answer()).status == 200
        assert b"last" in await assert_cut(streaming)
        await listening.send(masked(0x81, b"still here"))
        assert await listening.frame() == (0x81, b"10")


async def test_a_client_that_does_not_read_its_answer_is_cut_and_leaves_nothing(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app, Limits(send_s=SHORT_S))
    async with connect(server) as client:
        before = trio.lowlevel.current_statistics().tasks_living
        await client.send(GET.replace(b"/ ", b"/big "))
        await settle(lambda: trio.lowlevel.current_statistics().tasks_living > before)
        await settle(lambda: trio.lowlevel.current_statistics().tasks_living < before)
        assert len(await client.rest()) < len(BIG)


async def test_a_client_that_reads_slowly_but_steadily_gets_its_whole_answer(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app, Limits(send_s=0.5))
    async with connect(server) as client:
        await client.send(GET.replace(b"/ ", b"/big "))
        await client.until(b"\r\n\r\n")
        for _ in range(12):
            await client.exactly(len(BIG) // 24)
            await trio.sleep(0.06)
        await client.exactly(len(BIG) // 2)


async def test_a_long_answer_has_a_deadline_for_each_piece_and_one_for_all(autojump_clock: MockClock) -> None:
    next_deadline = send_deadlines(Limits(send_s=30.0), 64 * 1024 * 100)
    began = trio.current_time()
    assert next_deadline() == began + 30
    await trio.sleep(120)
    assert next_deadline() == began + 130


async def settle(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces."""
    with trio.fail_after(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


# -- WebSockets


async def test_compression_of_websocket_messages_is_never_agreed_to(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        answer = await client.ask(UPGRADE % DEFLATE)
        assert answer.status == 101
        assert b"sec-websocket-extensions" not in answer.headers
        await client.send(masked(0x81, b"hello"))
        assert await client.frame() == (0x81, b"5")


async def test_a_compressed_frame_that_would_inflate_to_500_mb_is_a_protocol_error_and_costs_no_memory(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    deflate = zlib.compressobj(wbits=-15)
    bomb = (deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)) * 500
    server = await start(nursery, app, Limits(message_bytes=1 << 40))
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
    nursery: trio.Nursery, app: QuartTrio, more: bytes
) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        await client.send(masked(0x81, b"x" * 4096))
        assert await client.frame() == (0x81, b"4096")
        await client.send(more)
        assert await client.frame() == (0x88, CLOSE_1009)
        await assert_cut(client)


async def test_a_client_that_goes_on_sending_after_1009_is_cut(nursery: trio.Nursery, app: QuartTrio) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        assert await flood(client, masked(0x01, b"x" * 5000), masked(0x00, b"x" * 60_000)) < 32 * MIB


async def flood(client: Client, first: bytes, then: bytes, bytes_max: int = 1024 * MIB) -> int:
    """Send without reading until the server has had enough; how many bytes went."""
    await client.send(first)
    for sent in range(0, bytes_max, len(then)):
        try:
            await client.send(then)
        except trio.BrokenResourceError:
            return sent
    return bytes_max


# -- requests that are not


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
    nursery: trio.Nursery, app: QuartTrio, name: str, logs: list[Any]
) -> None:
    data, status = BAD[name]
    server = await start(nursery, app)
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
    nursery: trio.Nursery, app: QuartTrio, name: str
) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        assert (await client.ask(GOOD[name])).body == b'{"ok":true}\n'


async def test_pipelined_requests_are_answered_in_order(nursery: trio.Nursery, app: QuartTrio) -> None:
    server = await start(nursery, app)
    post = b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"
    async with connect(server) as client:
        await client.send(GET + post + GET)
        assert [(await client.answer()).body for _ in range(3)] == [b'{"ok":true}\n', b"3", b'{"ok":true}\n']


async def test_an_answer_names_its_date_and_not_its_server(nursery: trio.Nursery, app: QuartTrio) -> None:
    answer = await get(await start(nursery, app))
    assert b"date" in answer.headers
    assert b"server" not in answer.headers


# -- clients that go


async def test_a_client_that_closes_its_side_after_the_request_gets_the_answer(
    nursery: trio.Nursery, app: QuartTrio, gate: Gate
) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        await client.send(GET.replace(b"/ ", b"/gate "))
        await client.end()
        await gate.reached()
        await trio.testing.wait_all_tasks_blocked()
        gate.opened.set()
        assert (await client.answer()).body == b"through"
        assert await assert_cut(client) == b""


async def test_a_client_that_closed_its_side_and_never_gets_an_answer_is_let_go(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app, Limits(send_s=SHORT_S))
    async with connect(server) as client:
        await client.send(GET.replace(b"/ ", b"/gate "))
        await client.end()
        assert await assert_cut(client) == b""


async def test_a_reset_in_the_middle_of_an_answer_is_no_event(
    nursery: trio.Nursery, app: QuartTrio, logs: list[Any]
) -> None:
    server = await start(nursery, app)
    client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
    before = trio.lowlevel.current_statistics().tasks_living
    await client.send(GET.replace(b"/ ", b"/big "))
    await client.exactly(100_000)
    client.reset()
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living < before)
    await assert_serving(server)
    assert logs == []


# -- bodies


async def test_a_client_that_expects_100_is_told_to_go_on(nursery: trio.Nursery, app: QuartTrio) -> None:
    server = await start(nursery, app)
    async with connect(server) as client:
        head = b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        assert (await client.ask(head)).status == 100
        assert (await client.ask(b"abc")).body == b"3"


async def unread(scope: Any, _receive: Any, send: Any) -> None:
    """An ASGI app that answers 413 and reads nothing."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


POST_1_GB = b"POST /refuse HTTP/1.1\r\nHost: test\r\nContent-Length: 1073741824\r\n\r\n"


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_is_still_sending_gets_the_early_answer_intact(
    nursery: trio.Nursery, app: QuartTrio, reads: bool
) -> None:
    server = await start(nursery, app if reads else unread)
    for _ in range(5):
        async with connect(server) as client:
            assert (await client.ask(POST_1_GB + b"x" * 600_000)).status == 413
            await client.end()
            assert await assert_cut(client) == b""


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_sends_a_gigabyte_after_413_is_cut(
    nursery: trio.Nursery, app: QuartTrio, reads: bool
) -> None:
    server = await start(nursery, app if reads else unread)
    idle_tasks = trio.lowlevel.current_statistics().tasks_living
    async with connect(server) as client:
        assert await flood(client, POST_1_GB, bytes(MIB)) < 32 * MIB
        assert client.unread == b""
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living <= idle_tasks)


async def test_a_client_that_stops_sending_after_413_is_closed_after_a_moment(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app, Limits(linger_s=SHORT_S))
    async with connect(server) as client:
        assert (await client.ask(POST_1_GB)).status == 413
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(TIMEOUT_S):
            await drip(client, b"x" * 100)


# -- many clients


async def test_thousands_of_idle_connections_stop_nobody_and_leave_nothing(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    server = await start(nursery, app)
    await assert_serving(server)
    await settle(lambda: True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(2000, (hard - 200) // 2)
    tasks, descriptors = trio.lowlevel.current_statistics().tasks_living, open_descriptors()
    idle = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(count)]
    for half_asked in idle[::2]:
        await half_asked.send_all(GET[:10])
    await assert_serving(server)
    assert open_descriptors() >= descriptors + 2 * count
    for stream in idle:
        stream.socket.close()
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
    assert open_descriptors() <= descriptors
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await assert_serving(server)


@asynccontextmanager
async def no_free_descriptors() -> AsyncIterator[None]:
    """Nothing in this process can open a file or accept a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with trio.socket.socket() as first_free:
        limit = first_free.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_free_descriptor_idle_connections_make_room_for_new_ones(
    nursery: trio.Nursery, app: QuartTrio, logs: list[Any]
) -> None:
    server = await start(nursery, app)
    async with connect(server) as idle:
        await idle.ask(GET)
        with trio.socket.socket() as sock:
            async with no_free_descriptors():
                await sock.connect(("127.0.0.1", server.port))
                assert (await Client(trio.SocketStream(sock)).ask(GET)).status == 200
            assert await assert_cut(idle) == b""
    assert [line["event"] for line in logs] == ["cannot accept"]


async def test_accepting_goes_on_when_descriptors_are_back(
    nursery: trio.Nursery, app: QuartTrio, gate: Gate, logs: list[Any]
) -> None:
    server = await start(nursery, app)
    async with connect(server) as busy:
        await busy.send(GET.replace(b"/ ", b"/gate "))
        await gate.reached()
        with trio.socket.socket() as sock:
            client = Client(trio.SocketStream(sock))
            async with no_free_descriptors():
                await sock.connect(("127.0.0.1", server.port))
                await client.send(GET)
                await trio.sleep(3 * SHORT_S)
                assert len(logs) == 1
            assert (await client.answer()).status == 200
        gate.opened.set()
        assert (await busy.answer()).body == b"through"


# -- shutdown


async def test_shutdown_closes_what_is_idle_finishes_what_runs_and_refuses_what_is_new(
    app: QuartTrio, gate: Gate
) -> None:
    farewells: list[str] = []
    app.after_serving(lambda: farewells.append("app"))
    async with trio.open_nursery() as own:
        server = await start(own, app)
        async with (
            connect(server) as busy,
            connect(server) as idle,
            connect(server) as half,
            connect(server) as new,
        ):
            await idle.ask(GET)
            await half.send(GET[:10])
            await busy.send(GET.replace(b"/ ", b"/gate "))
            await gate.reached()
            server.shutdown.set()
            for client in (idle, half, new):
                assert await assert_cut(client) == b""
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("127.0.0.1", server.port)
            assert farewells == []
            gate.opened.set()
            assert (await busy.answer()).body == b"through"
            assert await assert_cut(busy) == b""
            with trio.fail_after(1.0):
                await settle(lambda: not own.child_tasks)
    assert farewells == ["app"]


@pytest.mark.parametrize(
    "asked",
    [GET.replace(b"/ ", b"/" + path + b" ") for path in (b"gate", b"stream", b"big")] + [UPGRADE % b""],
)
async def test_what_has_not_finished_when_the_grace_period_ends_is_cut(app: QuartTrio, asked: bytes) -> None:
    """A handler that waits, a stream, a client that does not read, a WebSocket that ignores it all."""
    async with trio.open_nursery() as own:
        server = await start(own, app, Limits(grace_s=SHORT_S))
        async with connect(server) as client:
            await client.send(asked)
            await trio.testing.wait_all_tasks_blocked(0.05)
            server.shutdown.set()
            began = trio.current_time()
            with trio.fail_after(1.5):
                await settle(lambda: not own.child_tasks)
            assert trio.current_time() - began >= SHORT_S
            assert len(await client.rest()) < len(BIG)


async def test_a_server_that_is_cancelled_does_not_wait_for_a_client_that_does_not_read(
    app: QuartTrio,
) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as own:
            server = await start(own, app)
            async with connect(server) as client:
                await client.send(GET.replace(b"/ ", b"/big "))
                await trio.testing.wait_all_tasks_blocked(0.05)
                own.cancel_scope.cancel()


# -- TLS and HTTP/2


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command makes the certificate, and there is none")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, *new.split(), *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Endpoint:
    return Endpoint(port=0, tls_cert=certificate[0], tls_key=certificate[1])


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


@asynccontextmanager
async def connect_tls(server: Running, endpoint: Endpoint, *alpn: str) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=endpoint.tls_cert)
    context.set_alpn_protocols(alpn)
    async with connect(server) as plain:
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


async def test_tls_serves_http1_to_who_offers_nothing_else(
    nursery: trio.Nursery, app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, app, endpoint=secure)
    assert server.urls == [f"https://127.0.0.1:{server.port}"]
    async with connect_tls(server, secure, "http/1.1") as client:
        assert (await client.ask(GET)).body == b'{"ok":true}\n'
        assert (await client.ask(POST_1_GB + b"x" * 600_000)).status == 413


async def test_tls_serves_http2_to_who_offers_it(
    nursery: trio.Nursery, app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        number = await http2.ask("/")
        headers = dict((await http2.until(h2.events.ResponseReceived, number)).headers)
        assert headers[":status"] == "200"
        assert "server" not in headers
        assert (await http2.until(h2.events.DataReceived, number)).data == b'{"ok":true}\n'


@pytest.mark.parametrize("said", [b"", GET])
async def test_who_does_not_speak_tls_is_cut_after_the_handshake_time(
    nursery: trio.Nursery, app: QuartTrio, secure: Endpoint, said: bytes, logs: list[Any]
) -> None:
    server = await start(nursery, app, Limits(handshake_s=SHORT_S), secure)
    async with connect(server) as client:
        await client.send(said)
        assert b"HTTP" not in await assert_cut(client)
    assert logs == []


async def test_data_after_an_early_answer_ends_its_stream_and_no_other(
    nursery: trio.Nursery, app: QuartTrio, secure: Endpoint
) -> None:
    """Hypercorn #329 where it can still be met: this one ended the process."""
    server = await start(nursery, app, endpoint=secure)
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
    nursery: trio.Nursery, app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, app, Limits(send_s=SHORT_S, linger_s=SHORT_S), secure)
    no_window = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    async with connect_http2(server, secure, no_window) as http2:
        number = await http2.ask("/big")
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await http2.until(h2.events.StreamEnded, number)


async def test_http2_offers_no_websockets_and_a_connect_costs_only_its_connection(
    nursery: trio.Nursery, app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        number = await http2.ask("/ws", "CONNECT", end=False, protocol="websocket")
        assert http2.h2.remote_settings.enable_connect_protocol == 0
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await http2.until(h2.events.ResponseReceived, number)
    async with connect_http2(server, secure) as http2:
        await http2.until(h2.events.StreamEnded, await http2.ask("/"))


async def test_http2_at_shutdown_finishes_its_streams_and_says_goaway(
    app: QuartTrio, gate: Gate, secure: Endpoint
) -> None:
    async with trio.open_nursery() as own:
        server = await start(own, app, endpoint=secure)
        async with connect_http2(server, secure) as http2:
            number = await http2.ask("/gate")
            await gate.reached()
            server.shutdown.set()
            gate.opened.set()
            await http2.until(h2.events.StreamEnded, number)
            await http2.until(h2.events.ConnectionTerminated, 0)


# -- starting


async def test_port_0_takes_a_free_port_and_ipv6_addresses_stand_in_brackets(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    try:
        server = await start(nursery, app, endpoint=Endpoint(host="::1", port=0))
    except ListenError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert server.urls == [f"http://[::1]:{server.port}"]
    assert server.port > 0


async def refused(endpoint: Endpoint) -> str:
    """The one line of why the endpoint cannot be served."""
    with pytest.raises(ListenError) as error, trio.fail_after(TIMEOUT_S):
        await listen(unread, endpoint, shutdown=trio.Event())
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_a_taken_port_is_one_clear_line(nursery: trio.Nursery, app: QuartTrio) -> None:
    server = await start(nursery, app)
    why = await refused(Endpoint(port=server.port))
    assert why == f"port {server.port} on 127.0.0.1 is taken: stop what listens there, or choose another port"


async def test_a_port_is_free_again_as_soon_as_the_server_has_stopped(app: QuartTrio) -> None:
    async with trio.open_nursery() as own:
        server = await start(own, app)
        async with connect(server) as client:
            await client.ask(GET)
            server.shutdown.set()
            await client.rest()
    async with trio.open_nursery() as own:
        again = await start(own, app, endpoint=Endpoint(port=server.port))
        again.shutdown.set()


class Nowhere(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *_: Any) -> Any:
        raise trio.socket.gaierror(-2, "Name or service not known")

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


async def test_an_address_that_cannot_be_had_is_one_clear_line() -> None:
    trio.socket.set_custom_hostname_resolver(Nowhere())
    assert await refused(Endpoint(host="nowhere")) == "no address is known for the host 'nowhere'"
    assert await refused(Endpoint(host="192.0.2.1")) == "192.0.2.1 is not an address of this machine"
    assert await refused(Endpoint(port=65536)) == "port 65536 is not between 0 and 65535"
    assert (await refused(Endpoint(host="a" * 64))).startswith(f"cannot listen on {'a' * 64} port 3000: ")


def test_a_certificate_that_cannot_be_used_is_one_clear_line(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    openssl = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    other, locked, text = tmp_path / "other.pem", tmp_path / "locked.pem", tmp_path / "text.pem"
    subprocess.run([*openssl, "-out", str(other)], check=True, capture_output=True)
    subprocess.run(
        [*openssl, "-aes256", "-pass", "pass:secret", "-out", str(locked)], check=True, capture_output=True
    )
    text.write_text("not a certificate")
    missing = tmp_path / "missing.pem"
    cases = {
        (cert, None): "TLS needs a certificate and its key: set both or neither",
        (missing, key): f"cannot read {missing}: No such file or directory",
        (cert, tmp_path): f"cannot read {tmp_path}: Is a directory",
        (cert, other): f"{other} is not the key of the certificate {cert}",
        (text, key): f"{text} and {key} are not a certificate and its key in PEM without a passphrase",
        (cert, locked): f"{cert} and {locked} are not a certificate and its key in PEM without a passphrase",
    }
    for (tls_cert, tls_key), why in cases.items():
        with pytest.raises(ListenError) as error:
            tls_context(Endpoint(tls_cert=tls_cert, tls_key=tls_key))
        assert str(error.value) == why


# -- the seams


async def test_a_connection_can_be_handed_over_with_bytes_already_read(
    nursery: trio.Nursery, app: QuartTrio
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    served = Server(app)
    async with connect(Running([f":{listener.socket.getsockname()[1]}"], trio.Event())) as client:
        await client.send(GET)
        stream = await listener.accept()
        nursery.start_soon(served.serve_connection, stream, bytes(await stream.receive_some(7)))
        assert (await client.answer()).body == b'{"ok":true}\n'
        assert len(served.connections) == 1
    await settle(lambda: not served.connections)
    listener.socket.close()


PROTOCOL = "self, app, config, context, task_group, connection_state, ssl, client, server, send"
RELIED_ON: dict[Callable[..., Any], str] = {
    H11Protocol.__init__: PROTOCOL,
    H11Protocol.handle: "self, event",
    H11Protocol.initiate: "self",
    H11Protocol._check_protocol: "self, event",
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
    StreamBuffer: "event_class",
    RawData: "data, address",
    Updated: "idle",
    Closed: "",
}


@pytest.mark.parametrize("relied_on", RELIED_ON, ids=lambda point: getattr(point, "__qualname__", "?"))
def test_hypercorn_still_has_what_is_overridden_and_called(relied_on: Callable[..., Any]) -> None:
    """When this fails after an update of Hypercorn, read `server.protocols` against its new source."""
    assert ", ".join(inspect.signature(relied_on).parameters) == RELIED_ON[relied_on]


def test_hypercorn_still_has_the_attributes_that_are_read() -> None:
    """Each override must be reached from Hypercorn's own code, or it would be silently dead."""
    buffer = WebsocketBuffer(1)
    assert (buffer.length, buffer.max_length) == (0, 1)
    assert isinstance(inspect.getattr_static(StreamBuffer, "complete"), property)
    assert H11WSConnection.their_state is None
    assert "self.buffer = WebsocketBuffer(" in inspect.getsource(WSStream)
    for owner, calls in (
        (
            H11Protocol,
            ("self._check_protocol(", "self._create_stream(", "self.stream = WSStream(", "self.stream_send,"),
        ),
        (
            H2Protocol,
            ("self._handle_events(", "self._create_stream(", "self.stream_send,", "self.streams.pop("),
        ),
    ):
        assert [call for call in calls if call not in inspect.getsource(owner)] == []
