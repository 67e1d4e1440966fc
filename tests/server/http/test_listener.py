"""Starting, crowds and shutdown, with real sockets on the loopback and a small app behind."""

import resource
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h2.events
import h2.settings
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from tests.server.apps import BIG, Gate, unread
from tests.server.http2 import connect_http2
from tests.server.raw import (
    GET,
    MIB,
    SHORT_S,
    TIMEOUT_S,
    UPGRADE,
    Client,
    assert_cut,
    assert_serving,
    connect,
    open_descriptors,
    settle,
    start,
)
from vigil.server.http.addresses import ListenError
from vigil.server.http.listener import Endpoint, listen, tls_context
from vigil.server.http.protocols import Limits

FOR_EVER_S = 10_000.0  # a grace period that no test outlasts


async def test_port_0_takes_a_free_port_and_ipv6_addresses_stand_in_brackets(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    try:
        server = await start(nursery, small_app, endpoint=Endpoint(("::1",), port=0))
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


async def test_a_taken_port_is_one_clear_line(nursery: trio.Nursery, small_app: QuartTrio) -> None:
    server = await start(nursery, small_app)
    why = await refused(Endpoint(port=server.port))
    assert why == f"port {server.port} on 127.0.0.1 is taken: stop what listens there, or choose another port"


async def test_a_port_is_free_again_as_soon_as_the_server_has_stopped(small_app: QuartTrio) -> None:
    async with trio.open_nursery() as own:
        server = await start(own, small_app)
        async with connect(server) as client:
            await client.ask(GET)
            server.shutdown.set()
            await client.rest()
    async with trio.open_nursery() as own:
        again = await start(own, small_app, endpoint=Endpoint(port=server.port))
        again.shutdown.set()


class Nowhere(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *_: Any) -> Any:
        raise trio.socket.gaierror(-2, "Name or service not known")

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


async def test_an_address_that_cannot_be_had_is_one_clear_line() -> None:
    trio.socket.set_custom_hostname_resolver(Nowhere())
    assert await refused(Endpoint(("nowhere",))) == "no address is known for the host 'nowhere'"
    assert await refused(Endpoint(("192.0.2.1",))) == "192.0.2.1 is not an address of this machine"
    assert await refused(Endpoint(port=65536)) == "port 65536 is not between 0 and 65535"
    assert (await refused(Endpoint(("a" * 64,)))).startswith(f"cannot listen on {'a' * 64} port 3000: ")


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


async def test_thousands_of_idle_connections_stop_nobody_and_leave_nothing(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
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
    nursery: trio.Nursery, small_app: QuartTrio, logs: list[Any]
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as idle:
        await idle.ask(GET)
        await trio.testing.wait_all_tasks_blocked()  # it is idle for the server too
        with trio.socket.socket() as sock:
            async with no_free_descriptors():
                await sock.connect(("127.0.0.1", server.port))
                await trio.sleep(SHORT_S)  # accepted by now, and not to make room for nobody
                assert (await Client(trio.SocketStream(sock)).ask(GET)).status == 200
            assert await assert_cut(idle) == b""
    assert [(line["event"], line["why"], line["count"]) for line in logs] == [("connections cut", "idle", 1)]


async def test_accepting_goes_on_when_descriptors_are_back(
    nursery: trio.Nursery, small_app: QuartTrio, gate: Gate, logs: list[Any]
) -> None:
    server = await start(nursery, small_app)
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


async def test_shutdown_closes_what_is_idle_finishes_what_runs_and_refuses_what_is_new(
    small_app: QuartTrio, gate: Gate
) -> None:
    farewells: list[str] = []
    small_app.after_serving(lambda: farewells.append("app"))
    async with trio.open_nursery() as own:
        server = await start(own, small_app, Limits(grace_s=FOR_EVER_S))
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
            with trio.fail_after(TIMEOUT_S):
                await settle(lambda: not own.child_tasks)
    assert farewells == ["app"]


async def test_a_tls_handshake_that_never_comes_does_not_hold_up_a_shutdown(
    small_app: QuartTrio, secure: Endpoint
) -> None:
    async with trio.open_nursery() as own:
        server = await start(own, small_app, Limits(grace_s=FOR_EVER_S), secure)
        async with connect(server):
            await trio.testing.wait_all_tasks_blocked(0.02)
            server.shutdown.set()
            await settle(lambda: not own.child_tasks)


@pytest.mark.parametrize(
    "asked",
    [GET.replace(b"/ ", b"/" + path + b" ") for path in (b"gate", b"stream", b"big")] + [UPGRADE % b""],
)
async def test_what_has_not_finished_when_the_grace_period_ends_is_cut(
    small_app: QuartTrio, asked: bytes
) -> None:
    """A handler that waits, a stream, a client that does not read, a WebSocket that ignores it all."""
    async with trio.open_nursery() as own:
        server = await start(own, small_app, Limits(grace_s=SHORT_S))
        async with connect(server) as client:
            await client.send(asked)
            await trio.testing.wait_all_tasks_blocked(0.05)
            server.shutdown.set()
            began = trio.current_time()
            with trio.fail_after(TIMEOUT_S):
                await settle(lambda: not own.child_tasks)
            assert trio.current_time() - began >= SHORT_S
            assert len(await client.rest()) < len(BIG)


async def test_a_server_that_is_cancelled_does_not_wait_for_a_client_that_does_not_read(
    small_app: QuartTrio,
) -> None:
    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as own:
            server = await start(own, small_app)
            async with connect(server) as client:
                await client.send(GET.replace(b"/ ", b"/big "))
                await trio.testing.wait_all_tasks_blocked(0.05)
                own.cancel_scope.cancel()


async def test_a_long_http2_answer_at_shutdown_arrives_whole(
    small_app: QuartTrio, gate: Gate, secure: Endpoint
) -> None:
    """What a client says meanwhile would reset a closed connection, with all that the kernel had not sent."""
    gate.answer = "x" * MIB
    windows = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2 * MIB}
    async with trio.open_nursery() as own:
        server = await start(own, small_app, endpoint=secure)
        async with connect_http2(server, secure, windows) as http2:
            http2.client.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 64 * 1024)
            http2.h2.increment_flow_control_window(2 * MIB)
            number = await http2.ask("/gate")
            await gate.reached()
            server.shutdown.set()
            gate.opened.set()
            await trio.testing.wait_all_tasks_blocked(0.1)
            received = 0
            while received < MIB:
                received += len((await http2.until(h2.events.DataReceived, number)).data)
                http2.h2.ping(bytes(8))
            await http2.until(h2.events.StreamEnded, number)


async def test_http2_at_shutdown_finishes_its_streams_and_says_goaway(
    small_app: QuartTrio, gate: Gate, secure: Endpoint
) -> None:
    async with trio.open_nursery() as own:
        server = await start(own, small_app, endpoint=secure)
        async with connect_http2(server, secure) as http2:
            number = await http2.ask("/gate")
            await gate.reached()
            server.shutdown.set()
            gate.opened.set()
            await http2.until(h2.events.StreamEnded, number)
            await http2.until(h2.events.ConnectionTerminated, 0)
