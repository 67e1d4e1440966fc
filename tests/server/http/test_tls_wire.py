"""What TLS takes up in silence is bounded."""

import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from quart_trio import QuartTrio

from tests.server.raw import start
from vigil.loadtests.bench.attacks import change_keys
from vigil.server.http.budget import Traffic
from vigil.server.http.listener import Endpoint
from vigil.server.http.tls_wire import RECV_BYTES, SILENT_BYTES_MAX, Wire

HAS_OPENSSL = shutil.which("openssl") is not None and sys.platform == "linux"


@asynccontextmanager
async def wire(traffic: Traffic) -> AsyncIterator[tuple[Wire, trio.SocketStream]]:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    async with ours, theirs:
        yield Wire(theirs, traffic), ours


async def test_who_sends_much_that_is_nothing_for_us_is_cut_as_a_flood() -> None:
    traffic = Traffic()
    async with wire(traffic) as (reader, client):
        await client.send_all(bytes(SILENT_BYTES_MAX + 1))
        for _ in range(SILENT_BYTES_MAX // RECV_BYTES):
            assert len(await reader.receive_some(64 * 1024)) == RECV_BYTES
        with pytest.raises(trio.BrokenResourceError):
            await reader.receive_some(64 * 1024)
    assert traffic.cuts["flood"] == 1


async def test_who_says_something_in_between_may_send_for_ever_but_little_at_a_time() -> None:
    traffic = Traffic()
    async with wire(traffic) as (reader, client):
        for _ in range(4):
            await client.send_all(bytes(SILENT_BYTES_MAX))
            read = 0
            while read < SILENT_BYTES_MAX:
                piece = await reader.receive_some(64 * 1024)
                assert len(piece) <= RECV_BYTES
                read += len(piece)
            reader.note_useful()
    assert not traffic.cuts


@pytest.mark.skipif(
    not HAS_OPENSSL, reason="openssl asks for new keys here, through a socket that only Linux has"
)
async def test_who_asks_for_new_keys_without_pause_is_cut(
    nursery: trio.Nursery, small_app: QuartTrio, secure: Endpoint
) -> None:
    server = await start(nursery, small_app, endpoint=secure, traffic=(traffic := Traffic()))
    address = ("127.0.0.1", server.port)
    with trio.fail_after(60):
        while not traffic.cuts["flood"]:
            await trio.to_thread.run_sync(change_keys, address, time.monotonic() + 1)
