"""Clients that are slow, that leave, or that send too much: real sockets on the loopback."""

import gc
import weakref
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio
from trio.testing import MockClock

from tests.server.apps import BIG, Gate, crashing, deaf, unread
from tests.server.http2 import client_context
from tests.server.raw import (
    GET,
    MIB,
    SHORT_S,
    TIMEOUT_S,
    UPGRADE,
    Client,
    Running,
    assert_cut,
    assert_serving,
    connect,
    drip,
    flood,
    masked,
    settle,
    start,
)
from vigil.server.http.budget import Traffic
from vigil.server.http.connection import Server
from vigil.server.http.listener import Endpoint, tls_context
from vigil.server.http.protocols import Limits, send_deadlines
from vigil.server.http.tls_wire import Stream, Wire


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
    assert logs[0]["where"].startswith("apps.py:")


@pytest.mark.parametrize("begun", [b"", GET])
async def test_a_connection_without_a_request_is_closed_after_the_idle_time(
    nursery: trio.Nursery, small_app: QuartTrio, begun: bytes
) -> None:
    server = await start(nursery, small_app, Limits(idle_s=SHORT_S))
    async with connect(server) as client:
        await client.send(begun)
        assert (await assert_cut(client)).count(b"HTTP/1.1") == bool(begun)


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
    nursery: trio.Nursery, small_app: QuartTrio, limits: Limits, begun: bytes
) -> None:
    server = await start(nursery, small_app, limits)
    async with connect(server) as client:
        await client.send(begun)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(TIMEOUT_S):
            await drip(client, b"GET / HTTP/1.1\r\nX: " + b"1" * 200)
    await assert_serving(server)


async def test_no_limit_on_the_client_cuts_a_handler_or_a_stream_that_takes_its_time(
    nursery: trio.Nursery, small_app: QuartTrio, gate: Gate
) -> None:
    limits = Limits(idle_s=SHORT_S, head_s=SHORT_S, body_s=SHORT_S, send_s=SHORT_S, linger_s=SHORT_S)
    server = await start(nursery, small_app, limits)
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
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app, Limits(send_s=SHORT_S))
    async with connect(server) as client:
        before = trio.lowlevel.current_statistics().tasks_living
        await client.send(GET.replace(b"/ ", b"/big "))
        await settle(lambda: trio.lowlevel.current_statistics().tasks_living > before)
        await settle(lambda: trio.lowlevel.current_statistics().tasks_living < before)
        assert len(await client.rest()) < len(BIG)


async def test_a_client_that_reads_slowly_but_steadily_gets_its_whole_answer(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app, Limits(send_s=1.5))
    async with connect(server) as client:
        await client.send(GET.replace(b"/ ", b"/big "))
        await client.until(b"\r\n\r\n")
        for _ in range(12):
            await client.exactly(len(BIG) // 24)
            await trio.sleep(0.15)
        await client.exactly(len(BIG) // 2)


async def test_a_long_answer_has_a_deadline_for_each_piece_and_one_for_all(autojump_clock: MockClock) -> None:
    next_deadline = send_deadlines(30.0, 64 * 1024 * 100)
    began = trio.current_time()
    assert next_deadline() == began + 30
    await trio.sleep(120)
    assert next_deadline() == began + 130


async def test_a_client_that_closes_its_side_after_the_request_gets_the_answer(
    nursery: trio.Nursery, small_app: QuartTrio, gate: Gate
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.send(GET.replace(b"/ ", b"/gate "))
        await client.end()
        await gate.reached()
        await trio.testing.wait_all_tasks_blocked()
        gate.opened.set()
        assert (await client.answer()).body == b"through"
        assert await assert_cut(client) == b""


async def test_a_client_that_closed_its_side_and_never_gets_an_answer_is_let_go(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app, Limits(send_s=SHORT_S))
    async with connect(server) as client:
        await client.send(GET.replace(b"/ ", b"/gate "))
        await client.end()
        assert await assert_cut(client) == b""


async def test_a_reset_in_the_middle_of_an_answer_is_no_event(
    nursery: trio.Nursery, small_app: QuartTrio, logs: list[Any]
) -> None:
    server = await start(nursery, small_app)
    client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
    before = trio.lowlevel.current_statistics().tasks_living
    await client.send(GET.replace(b"/ ", b"/big "))
    await client.exactly(100_000)
    client.reset()
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living < before)
    await assert_serving(server)
    assert logs == []


async def test_a_handler_hears_that_its_client_has_gone_and_may_tidy_up(
    nursery: trio.Nursery, gate: Gate
) -> None:
    async def tidy(scope: Any, receive: Any, _send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        while (await receive())["type"] != "http.disconnect":
            gate.entered.set()
        await trio.sleep(0.01)
        gate.opened.set()

    server = await start(nursery, tidy)
    async with connect(server) as client:
        await client.send(GET)
        await gate.reached()
        client.reset()
        with trio.fail_after(TIMEOUT_S):
            await gate.opened.wait()


async def test_a_handler_that_goes_on_without_its_client_is_ended(nursery: trio.Nursery) -> None:
    server = await start(nursery, deaf, Limits(aftermath_s=SHORT_S))
    await trio.testing.wait_all_tasks_blocked()
    before = trio.lowlevel.current_statistics().tasks_living
    client = Client(await trio.open_tcp_stream("127.0.0.1", server.port))
    await client.send(GET)
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living > before)
    client.reset()
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living <= before)


async def test_a_client_that_expects_100_is_told_to_go_on(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        head = b"POST /size HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        assert (await client.ask(head)).status == 100
        assert (await client.ask(b"abc")).body == b"3"


POST_REFUSED = b"POST /refuse HTTP/1.1\r\nHost: test\r\n"
POST_1_GB = POST_REFUSED + b"Content-Length: 1073741824\r\n\r\n"


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_is_still_sending_gets_the_early_answer_intact(
    nursery: trio.Nursery, small_app: QuartTrio, reads: bool
) -> None:
    server = await start(nursery, small_app if reads else unread)
    for _ in range(5):
        async with connect(server) as client:
            assert (await client.ask(POST_1_GB + b"x" * 600_000)).status == 413
            await client.end()
            assert await assert_cut(client) == b""


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\n123", b"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"]
)
async def test_an_answer_before_the_end_of_its_request_says_that_it_is_the_last(
    nursery: trio.Nursery, small_app: QuartTrio, framing: bytes
) -> None:
    """Else a client would send its next request on a connection that is closing."""
    server = await start(nursery, small_app)
    async with connect(server) as client:
        answer = await client.ask(POST_REFUSED + framing)
        assert (answer.status, answer.headers[b"connection"]) == (413, b"close")
        assert await assert_cut(client) == b""


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 3\r\n\r\n123", b"Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n0\r\n\r\n"]
)
async def test_an_answer_to_a_whole_request_that_nobody_read_is_not_the_last(
    nursery: trio.Nursery, small_app: QuartTrio, framing: bytes
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        for _ in range(20):
            answer = await client.ask(POST_REFUSED + framing)
            assert (answer.status, answer.headers.get(b"connection")) == (413, None)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_client_that_sends_a_gigabyte_after_413_is_cut(
    nursery: trio.Nursery, small_app: QuartTrio, reads: bool
) -> None:
    server = await start(nursery, small_app if reads else unread)
    idle_tasks = trio.lowlevel.current_statistics().tasks_living
    async with connect(server) as client:
        assert await flood(client, POST_1_GB, bytes(MIB)) < 32 * MIB
        assert client.unread == b""
    await settle(lambda: trio.lowlevel.current_statistics().tasks_living <= idle_tasks)


async def test_a_client_that_stops_sending_after_413_is_closed_after_a_moment(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app, Limits(linger_s=SHORT_S))
    async with connect(server) as client:
        assert (await client.ask(POST_1_GB)).status == 413
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(TIMEOUT_S):
            await drip(client, b"x" * 100)


@pytest.mark.parametrize("said", [b"", GET])
async def test_who_does_not_speak_tls_is_cut_after_the_handshake_time(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint, said: bytes, logs: list[Any]
) -> None:
    server = await start(nursery, small_app, Limits(handshake_s=SHORT_S), secure)
    async with connect(server) as client:
        await client.send(said)
        assert b"HTTP" not in await assert_cut(client)
    assert logs == []


async def test_a_connection_can_be_handed_over_with_bytes_already_read(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    served = Server(small_app)
    async with connect(Running([f":{listener.socket.getsockname()[1]}"], trio.Event())) as client:
        await client.send(GET)
        stream = await listener.accept()
        nursery.start_soon(served.serve_connection, stream, bytes(await stream.receive_some(7)))
        assert (await client.answer()).body == b'{"ok":true}\n'
        assert len(served.connections) == 1
    await settle(lambda: not served.connections)
    listener.socket.close()


# --- what is left of a connection: what the garbage collector has frozen it never frees


async def left_over(app: QuartTrio, stream: Stream, client: trio.abc.Stream, sent: bytes) -> object:
    """The connection, once its client has sent this and is gone, if nobody has collected garbage since."""
    server = Server(app)
    gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve_connection, stream)
            await client.send_all(sent)
            await trio.testing.wait_all_tasks_blocked(SHORT_S)
            (connection,) = map(weakref.ref, server.connections)
            await trio.aclose_forcefully(client)
        return connection()
    finally:
        gc.enable()


@pytest.mark.parametrize("sent", [b"", GET, UPGRADE % b""])
async def test_a_client_that_has_gone_leaves_nothing_to_the_garbage_collector(
    small_app: QuartTrio, sent: bytes
) -> None:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    assert await left_over(small_app, theirs, ours, sent) is None


async def test_an_http2_client_that_has_gone_leaves_nothing_to_the_garbage_collector(
    small_app: QuartTrio, secure: Endpoint
) -> None:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    client = trio.SSLStream(ours, client_context(secure, "h2"), server_hostname="localhost")
    context = tls_context(secure)
    assert context is not None
    tls = trio.SSLStream(Wire(theirs, Traffic()), context, server_side=True, https_compatible=True)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    assert await left_over(small_app, tls, client, preface) is None
