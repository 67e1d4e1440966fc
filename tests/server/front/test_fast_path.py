"""Connections on the hot path: what is served there, what is handed on and how, and clients that misbehave."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from tests.harness import Api, running_api
from tests.server.apps import deaf
from tests.server.fronts import SESSION_ID, request
from tests.server.raw import SHORT_S, TIMEOUT_S, Client, Running, assert_cut, connect, flood, settle, start
from vigil.actors.core.quotas import Limit
from vigil.server.front.fast_connection import FastConnection
from vigil.server.front.fast_path import FastPath
from vigil.server.front.fast_states import COMMITTING, SENDING, SENDING_COMMITTING
from vigil.server.front.quart_app import make_app
from vigil.server.front.readiness import Readiness
from vigil.server.http.connection import Server
from vigil.server.http.listener import Endpoint
from vigil.server.http.protocols import DEFAULTS, Limits

GET = request("GET", "/{id}")
BEAT = request("POST", "/{id}/heartbeat")
SEND = request("POST", "/{id}/messages", b'{"content":"hello"}')
HISTORY = request("GET", "/{id}/messages")
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"


@asynccontextmanager
async def serving(
    limits: Limits = DEFAULTS, endpoint: Endpoint | None = None, app: Any = None, **changes: Any
) -> AsyncIterator[tuple[Api, Running]]:
    """A site with one session behind the real listener, hot path first; `app` takes the place of Quart."""
    many = Limit(1_000_000, 60)
    async with (
        running_api(session_limit=many, user_limit=many, **changes) as api,
        trio.open_nursery() as nursery,
    ):
        await api.create()
        first = FastPath(api.site)
        running = await start(nursery, app or make_app(api.site), limits, endpoint, first)
        yield api, running
        api.site.stop_taking_requests()
        running.shutdown.set()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FastConnection]:
    """The connections that the fast path has made."""
    noted: list[FastConnection] = []
    make = FastPath.__call__

    def note(path: FastPath, *given: Any) -> FastConnection:
        noted.append(make(path, *given))
        return noted[-1]

    monkeypatch.setattr(FastPath, "__call__", note)
    return noted


def hold_commits(api: Api) -> trio.Event:
    """No commit comes back until the event is set."""
    opened = trio.Event()
    submit = api.site.directory.store.submit

    async def later(writes: Any, done: Any) -> None:
        await opened.wait()
        submit(writes, done)

    def held(writes: Any, done: Any) -> None:
        trio.lowlevel.spawn_system_task(later, writes, done)

    api.site.directory.store.submit = held  # type: ignore[method-assign]
    return opened


async def test_hot_requests_never_see_the_app_behind_them() -> None:
    async with serving(app=deaf) as (_, server), connect(server) as client:
        for message in (GET, BEAT, SEND, HISTORY, request("POST", "/{id}/renew")):
            assert (await client.ask(message)).status in {200, 201}


async def test_pipelined_requests_are_answered_in_their_order_hot_or_not() -> None:
    async with serving() as (_, server), connect(server) as client:
        await client.send(GET + SEND + BEAT + HISTORY + LIVEZ + SEND + GET)
        answers = [await client.answer() for _ in range(7)]
        assert [answer.status for answer in answers] == [200, 201, 200, 200, 200, 201, 200]
        assert answers[3].body.count(b'"content"') == 1
        assert answers[4].body == b'{"status":"ok"}'


async def test_more_pipelined_requests_than_one_batch_are_all_answered() -> None:
    async with serving() as (_, server), connect(server) as client:
        await client.send(GET * 500)
        assert {(await client.answer()).status for _ in range(500)} == {200}


async def test_what_is_answered_does_not_wait_for_the_next_request_of_the_pipeline() -> None:
    async with serving() as (api, server), connect(server) as client:
        gate = hold_commits(api)
        await client.send(GET + BEAT)
        assert (await client.answer()).status == 200
        gate.set()
        assert (await client.answer()).status == 200


async def test_who_sends_on_without_reading_is_read_no_further_while_a_request_is_under_way(
    made: list[FastConnection],
) -> None:
    async with serving() as (api, server), connect(server) as client:
        gate = hold_commits(api)
        await client.send(BEAT)
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, GET * 3000)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(made[0]._received) < 4 * 65_536
            gate.set()
            assert {(await client.answer()).status for _ in range(3001)} == {200}


async def test_an_answer_that_is_there_while_earlier_ones_are_being_sent_comes_after_them(
    made: list[FastConnection],
) -> None:
    async with running_api() as api, trio.open_nursery() as nursery:
        await api.create()
        server = Server(deaf, first=FastPath(api.site))
        ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
        theirs.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 1)  # as little as there can be
        client = Client(ours)
        nursery.start_soon(server.serve_connection, theirs)
        gate = hold_commits(api)
        await client.send(GET * 15 + SEND + HISTORY)
        await settle(lambda: bool(made) and made[0]._state is SENDING_COMMITTING)
        gate.set()
        await settle(lambda: made[0]._state is SENDING)
        answers = [await client.answer() for _ in range(17)]
        assert [answer.status for answer in answers] == [200] * 15 + [201, 200]
        assert answers[-1].body.count(b'"content"') == 1
        await settle(lambda: made[0].idle)
        assert server.traffic.unsent.bytes == 0
        await ours.aclose()


async def test_an_answer_to_a_client_who_has_gone_waits_for_nobody(made: list[FastConnection]) -> None:
    async with serving() as (api, server):
        gate = hold_commits(api)
        async with connect(server) as client:
            assert (await client.ask(GET)).status == 200
            await client.send(BEAT)
            await settle(lambda: made[0]._state is COMMITTING)
            client.reset()
        await settle(lambda: made[0]._task is None)
        gate.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert made[0]._traffic.unsent.bytes == 0
        assert not made[0]._answers


async def test_a_bug_on_one_connection_leaves_the_others_alone(
    logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as (_, server), connect(server) as client, connect(server) as other:
        assert [(await one.ask(GET)).status for one in (client, other)] == [200, 200]

        def crash(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(FastConnection, "_serve", crash)
            await client.send(GET)
            assert await assert_cut(client) == b""
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["connection crashed"]
        assert (await other.ask(GET)).status == 200


@pytest.mark.parametrize("message", [GET, SEND], ids=["get", "send"])
async def test_a_request_in_pieces_is_served(message: bytes) -> None:
    async with serving(app=deaf) as (_, server), connect(server) as client:
        for at in range(0, len(message), 40):
            await client.send(message[at : at + 40])
            await trio.testing.wait_all_tasks_blocked()
        assert (await client.answer()).status in {200, 201}


@pytest.mark.parametrize("at", [3, 60, -5])
async def test_a_request_that_stops_half_way_is_handed_on_and_served_when_the_rest_comes(at: int) -> None:
    async with serving() as (_, server), connect(server) as client:
        await client.send(GET + SEND[:at])
        assert (await client.answer()).status == 200
        await trio.sleep(SHORT_S)
        await client.send(SEND[at:] + GET)
        assert [(await client.answer()).status for _ in range(2)] == [201, 200]


@pytest.mark.parametrize("at", [3, 60, -5])
async def test_a_request_that_never_comes_whole_is_cut_in_time(at: int) -> None:
    async with serving(Limits(head_s=SHORT_S, body_s=SHORT_S)) as (_, server), connect(server) as client:
        await client.send(SEND[:at])
        await assert_cut(client)


async def test_a_connection_that_is_idle_is_closed_and_a_busy_one_is_not() -> None:
    async with (
        serving(Limits(idle_s=SHORT_S)) as (_, server),
        connect(server) as idle,
        connect(server) as busy,
    ):
        for _ in range(10):
            assert (await busy.ask(GET)).status == 200
            await trio.sleep(SHORT_S / 5)
        assert await assert_cut(idle) == b""
        await assert_cut(busy)


async def test_a_client_that_closes_its_side_gets_its_answers() -> None:
    async with serving() as (_, server), connect(server) as client:
        await client.send(GET + SEND)
        await client.end()
        assert (await assert_cut(client)).count(b"HTTP/1.1 20") == 2


async def test_a_client_that_resets_leaves_nothing(logs: list[Any]) -> None:
    async with serving() as (_, server):
        async with connect(server) as first:  # after it the task is there that looks at all sockets
            assert (await first.ask(GET)).status == 200
            before = trio.lowlevel.current_statistics().tasks_living - 1
        async with connect(server) as client:
            assert (await client.ask(GET)).status == 200
            await client.send(GET)
            client.reset()
        await settle(lambda: trio.lowlevel.current_statistics().tasks_living == before)
        assert not [line for line in logs if line["event"] == "connection crashed"]


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with serving(Limits(send_s=SHORT_S)) as (_, server), connect(server) as client:
        with trio.fail_after(10 * TIMEOUT_S):
            assert await flood(client, GET, GET * 200) > 0


async def test_another_transport_is_served_behind_the_hot_path() -> None:
    async with serving() as (_, server), connect(server) as client:
        assert (await client.ask(GET)).status == 200
        stream = request("POST", "/{id}/messages", b'{"content":"x","transport":"sse"}')
        await client.send(stream)
        assert b"text/event-stream" in await client.until(b"\r\n\r\n")


async def test_an_upgrade_after_hot_requests_opens_a_websocket() -> None:
    upgrade = request(
        "GET",
        "/{id}/events?lastEventId=0",
        None,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    async with serving() as (_, server), connect(server) as client:
        assert (await client.ask(SEND)).status == 201
        assert (await client.ask(upgrade)).status == 101
        assert b"sessionCreated" in await client.until(b"}}")


async def test_both_ways_in_work_over_tls(secure: Endpoint) -> None:
    assert secure.tls_cert is not None
    context = ssl.create_default_context(cafile=str(secure.tls_cert))
    context.set_alpn_protocols(["http/1.1"])
    async with serving(endpoint=secure) as (_, server):
        plain = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)
        client = Client(stream)
        await client.send(GET + SEND[:70])
        assert (await client.answer()).status == 200
        await client.send(SEND[70:] + LIVEZ + GET)
        assert [(await client.answer()).status for _ in range(3)] == [201, 200, 200]
        await stream.aclose()


async def test_at_shutdown_the_idle_are_closed_and_what_is_under_way_is_finished() -> None:
    async with (
        serving(Limits(grace_s=1000)) as (api, server),
        connect(server) as idle,
        connect(server) as busy,
    ):
        gate = hold_commits(api)
        assert (await idle.ask(GET)).status == 200
        await busy.send(BEAT + GET)
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.shutdown.set()
        assert await assert_cut(idle) == b""
        gate.set()
        assert (await busy.answer()).status == 200
        await assert_cut(busy)


async def test_after_the_grace_period_a_client_is_cut_whatever_it_waits_for() -> None:
    async with serving(Limits(grace_s=SHORT_S)) as (api, server), connect(server) as client:
        gate = hold_commits(api)
        await client.send(BEAT)
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.shutdown.set()
        await assert_cut(client)
        gate.set()


def test_the_session_of_the_tests_is_the_first_of_a_site() -> None:
    assert SESSION_ID in GET.decode()


async def test_of_a_crowd_that_comes_at_once_a_few_are_served_first_and_the_rest_with_everybody(
    mock_clock: trio.testing.MockClock,
) -> None:
    ready = Readiness()
    for _ in range(2):
        assert [ready.has_time_for_newcomer() for _ in range(20)] == [True] * 8 + [False] * 12
        mock_clock.jump(0.004)


async def test_livez_is_not_kept_waiting_with_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    in_line = []
    readable = FastConnection.readable

    def noted(one: FastConnection) -> None:
        in_line.append(one)
        readable(one)

    monkeypatch.setattr(Readiness, "has_time_for_newcomer", lambda _: False)
    monkeypatch.setattr(FastConnection, "readable", noted)
    async with serving() as (_, server):
        async with connect(server) as client:
            assert (await client.ask(LIVEZ)).status == 200
        assert not in_line
        async with connect(server) as client:
            assert (await client.ask(GET)).status == 200
        assert in_line
