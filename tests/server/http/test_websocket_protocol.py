"""WebSockets on the wire: what may be sent after an upgrade, and what ends one."""

from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from tests.server.raw import (
    UPGRADE,
    assert_cut,
    assert_serving,
    connect,
    masked,
    start,
)


@pytest.mark.parametrize("more", [b"x", b"x" * 100, masked(0x81, b"hello")[:5]])
async def test_bytes_after_a_websocket_upgrade_cost_only_that_connection(
    nursery: trio.Nursery, small_app: QuartTrio, more: bytes, logs: list[Any]
) -> None:
    """Hypercorn #225: this one ended the process."""
    server = await start(nursery, small_app)
    async with connect(server) as client:
        assert (await client.ask(UPGRADE % b"" + more)).status == 101
    await assert_serving(server)
    assert logs == []


async def test_a_frame_in_the_packet_of_the_upgrade_is_taken_up_after_it(
    nursery: trio.Nursery, small_app: QuartTrio
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        assert (await client.ask(UPGRADE % b"" + masked(0x81, b"hello"))).status == 101
        assert await client.frame() == (0x81, b"5")


async def test_a_frame_in_the_packet_of_an_upgrade_that_is_refused_leaves_one_answer(
    nursery: trio.Nursery, small_app: QuartTrio, logs: list[Any]
) -> None:
    server = await start(nursery, small_app)
    for bad in (UPGRADE.replace(b"/ws", b"/none"), UPGRADE.replace(b"Version: 13", b"Version: 12")):
        async with connect(server) as client:
            assert (await client.ask(bad % b"" + masked(0x81, b"hello"))).status in {400, 404}
            assert await assert_cut(client) == b""
    assert logs == []


VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "no mask": (b"\x81\x05hello", 1002),
    "bad UTF-8": (masked(0x81, b"\xff\xfe"), 1007),
    "a reserved bit": (masked(0xA1, b"x"), 1002),
    "a reserved opcode": (masked(0x83, b"x"), 1002),
    "a long ping": (masked(0x89, b"x" * 126), 1002),
    "a ping in pieces": (masked(0x09, b"x"), 1002),
    "a continuation of nothing": (masked(0x80, b"x"), 1002),
    "a close of one byte": (masked(0x88, b"x"), 1002),
    "a close with 999": (masked(0x88, b"\x03\xe7"), 1002),
    "a close with 1005": (masked(0x88, b"\x03\xed"), 1002),
    "a close with bad UTF-8": (masked(0x88, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_violation_of_the_websocket_protocol_ends_with_a_code_that_says_so(
    nursery: trio.Nursery, small_app: QuartTrio, name: str, logs: list[Any]
) -> None:
    data, code = VIOLATIONS[name]
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        await client.send(data)
        assert await client.frame() == (0x88, code.to_bytes(2, "big"))
        await client.end()
        assert await assert_cut(client) == b""
    assert logs == []


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0b\xb8bye"])
async def test_a_close_is_answered_with_its_code(
    nursery: trio.Nursery, small_app: QuartTrio, payload: bytes
) -> None:
    server = await start(nursery, small_app)
    async with connect(server) as client:
        await client.ask(UPGRADE % b"")
        await client.send(masked(0x88, payload))
        assert await client.frame() == (0x88, payload[:2])
