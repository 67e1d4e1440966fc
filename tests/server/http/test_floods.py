"""A client that floods is cut with the code that says so, and one that does not is not: real sockets."""

import gc
import select
import weakref
from collections import Counter
from contextlib import suppress
from typing import Any

import h2.events
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from tests.fakes import Bystander
from tests.harness import running_api
from tests.server.fronts import request
from tests.server.http2 import connect_http2
from tests.server.raw import (
    GET,
    TIMEOUT_S,
    UPGRADE,
    Client,
    assert_cut,
    assert_serving,
    connect,
    masked,
    start,
)
from vigil.loadtests.bench.attacks import ATTACKS
from vigil.server.api import answers
from vigil.server.front import readiness
from vigil.server.front.fast_path import FastPath
from vigil.server.http.budget import MIB, Traffic
from vigil.server.http.connection import Server
from vigil.server.http.listener import Endpoint

ENHANCE_YOUR_CALM, POLICY_VIOLATION = 11, b"\x03\xf0"
H2_FLOODS = [name for name in ATTACKS if name.startswith("h2-") and name != "h2-continuations"]
WS_FLOODS = [name for name in ATTACKS if name.startswith("ws-") and name != "ws-pings"]


@pytest.mark.parametrize("name", WS_FLOODS)
async def test_a_websocket_that_floods_is_closed_with_1008(
    nursery: trio.Nursery, small_app: QuartTrio, name: str, logs: list[Any]
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        nursery.start_soon(_send_until_cut, client, ATTACKS[name].then)
        while (frame := await client.frame())[0] != 0x88:
            pass
        assert frame[1] == POLICY_VIOLATION
    await assert_serving(server)
    assert [(line["event"], line["why"]) for line in logs] == [("connections cut", "flood")]


async def _send_until_cut(client: Client, data: bytes) -> None:
    try:
        with trio.fail_after(TIMEOUT_S):
            await client.stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def test_a_websocket_that_sends_now_and_then_is_not_cut(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        for _ in range(200):
            await client.send(masked(0x8A, b"") + masked(0x81, b"hello"))
            assert await client.frame() == (0x81, b"5")


@pytest.mark.parametrize("name", H2_FLOODS)
async def test_an_http2_client_that_floods_is_told_to_calm_down(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint, name: str, logs: list[Any]
) -> None:
    server = await start(nursery, small_app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        nursery.start_soon(_send_until_cut, http2.client, ATTACKS[name].then * 5)
        assert (await _terminated(http2)).error_code == ENHANCE_YOUR_CALM
    assert ("connections cut", "flood") in [(line["event"], line.get("why")) for line in logs]


async def _terminated(http2: Any) -> h2.events.ConnectionTerminated:
    """The server's GOAWAY. The client's own h2 does not know of the streams that the flood opened."""
    data = b""
    while b"\x07\0\0\0\0\0" not in data:
        with trio.fail_after(TIMEOUT_S):
            more = await http2.client.stream.receive_some()
        assert more, "the connection ended without GOAWAY"
        data += more
    goaway = data.index(b"\x07\0\0\0\0\0")
    terminated = h2.events.ConnectionTerminated()
    terminated.error_code = int.from_bytes(data[goaway + 10 : goaway + 14])
    return terminated


async def test_a_busy_http2_client_is_no_flood(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, small_app, endpoint=secure)
    async with connect_http2(server, secure) as http2:
        for _ in range(400):
            await http2.until(h2.events.StreamEnded, await http2.ask("/"))


async def test_a_body_in_chunks_of_one_byte_is_refused_when_it_goes_on(
    nursery: trio.Nursery, small_app: QuartTrio, logs: list[Any]
) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.send(head)
        nursery.start_soon(_send_until_cut, client, b"1\r\nx\r\n" * 50_000)
        assert (await client.answer()).status == 400
        await assert_cut(client)
    await assert_serving(server)
    assert [line["why"] for line in logs] == ["flood"]


async def test_a_body_in_chunks_of_a_hundred_bytes_is_taken(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = await start(nursery, small_app)
    async with connect(server) as client:
        answer = await client.ask(head + (b"64\r\n" + b"x" * 100 + b"\r\n") * 2500 + b"0\r\n\r\n")
        assert answer.body == b"250000"


async def test_between_the_slices_of_a_flood_others_have_their_turn(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    bystander = Bystander()
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        nursery.start_soon(bystander.run)
        await client.send(masked(0x8A, b"") * 1500)
        while (await client.frame())[0] != 0x88:
            pass
        assert bystander.turns >= 1000 // 16


# --- a crowd on the hot path


async def test_each_ready_client_is_served_once_before_any_is_served_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "_LOOK_S", 0.0)  # others have a turn after each
    served: list[int] = []

    class Client:
        def __init__(self, number: int) -> None:
            self.number = number

        def readable(self) -> None:
            served.append(self.number)

    ready = readiness.Readiness()
    ready._watched = {number: Client(number) for number in range(5)}
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await ready._read_all([(number, select.EPOLLIN) for number in range(5)], until_s=0.0)
    assert served == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize("asked", ["?limit=1000", "/{id}/messages?limit=100"])
async def test_of_many_long_answers_one_is_made_in_a_turn(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else ten clients who ask for such an answer at once stop the loop for as long as ten of them take."""
    many, bystander = 10, Bystander()
    made_at: list[int] = []
    encode = answers.encode

    def noted(body: Any) -> bytes:
        made_at.append(bystander.turns)
        return encode(body)

    async with running_api() as api, trio.open_nursery() as nursery:
        session_id = (await api.create())["sessionId"]
        api.site.traffic.long_answers.spend(MIB)  # more than is free
        monkeypatch.setattr(answers, "encode", noted)
        monkeypatch.setattr(api.site.traffic.long_answers, "_free", 0)
        nursery.start_soon(bystander.run)
        async with trio.open_nursery() as askers:
            for _ in range(many):
                askers.start_soon(api.request, "GET", asked.format(id=session_id))
        nursery.cancel_scope.cancel()
    assert len(made_at) == many
    assert max(Counter(made_at).values()) <= 2  # who goes first in a turn is drawn: it or the bystander


async def _nothing(*_: object) -> None:
    """An app that nobody gets to."""


async def _send_for_ever(client: trio.SocketStream, data: bytes) -> None:
    while True:
        await client.send_all(data)


async def test_who_does_not_read_is_cut_when_unsent_answers_are_too_many() -> None:
    async with running_api() as api:
        await api.create()
        traffic = Traffic(unsent_bytes_max=1)
        server = Server(_nothing, first=FastPath(api.site), traffic=traffic)
        ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
        async with trio.open_nursery() as nursery, ours:
            nursery.start_soon(server.serve_connection, theirs)
            with trio.fail_after(TIMEOUT_S), pytest.raises(trio.BrokenResourceError):
                await _send_for_ever(ours, request("GET", "/{id}") * 50)
    assert traffic.cuts["unsent"] == 1
    assert traffic.unsent.bytes == 0


async def test_who_was_cut_for_what_is_unsent_leaves_nothing_to_the_garbage_collector() -> None:
    """Its answer least of all: what the collector has frozen it never frees."""
    async with running_api() as api:
        await api.create()
        server = Server(_nothing, first=FastPath(api.site), traffic=Traffic(unsent_bytes_max=1))
        ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
        gc.disable()
        try:
            async with trio.open_nursery() as nursery, ours:
                nursery.start_soon(server.serve_connection, theirs)
                await trio.testing.wait_all_tasks_blocked()
                (connection,) = map(weakref.ref, server.connections)
                with trio.fail_after(TIMEOUT_S), suppress(trio.BrokenResourceError):
                    await _send_for_ever(ours, request("GET", "/{id}") * 50)
            assert server.traffic.cuts["unsent"] == 1
            assert connection() is None
        finally:
            gc.enable()


# --- descriptors


async def test_when_connections_run_out_several_idle_ones_are_closed_in_one_go(
    nursery: trio.Nursery, small_app: QuartTrio, logs: list[Any]
) -> None:
    traffic = Traffic(connections_max=16)
    server = await start(nursery, small_app, traffic=traffic)
    clients = [Client(await trio.open_tcp_stream("127.0.0.1", server.port)) for _ in range(17)]
    assert (await clients[-1].ask(GET)).status == 200
    for first in clients[:3]:
        assert await assert_cut(first) == b""
    assert (await clients[3].ask(GET)).status == 200
    assert traffic.cuts["idle"] == 3
    for client in clients:
        client.socket.close()
