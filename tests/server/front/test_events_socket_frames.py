"""Frames from listeners, and how a WebSocket of events ends."""

import signal
import time
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.harness import BASE, OWNER, START_MS
from tests.process import KEY, ServerProcess, running_server
from tests.server.front.listening import handshake, heartbeats, new_session, refused
from tests.server.raw import PING, connect, masked
from tests.server.sockets import Served, event, events, listening, rest, serving
from vigil.actors.runtime.clock import ScaledClock
from vigil.server.http.protocols import Limits
from vigil.server.ops.keys import KeyRing, new_key, revoke_key

PONG, TEXT, CLOSE = 0x8A, 0x81, 0x88


# --- frames from the client


async def test_pings_are_answered_and_other_frames_ignored(served: Served) -> None:
    session_id = await new_session(served)
    async with connect(served.running) as client:
        credential = b"Authorization: Bearer %b\r\n" % OWNER.encode()
        assert (await client.ask(handshake(session_id, credential))).status == 101
        for n in range(100):
            await client.send(masked(TEXT, b"x" * 4096) + masked(0x82, b"") + masked(0x8A, b"odd pong"))
            await client.send(masked(PING, b"%d" % n))
            assert await client.frame() == (PONG, b"%d" % n)
        await client.send(masked(CLOSE, b"\x03\xe8"))
        assert await client.frame() == (CLOSE, b"\x03\xe8")


async def test_a_message_over_4_kib_is_closed_with_1009(served: Served) -> None:
    session_id = await new_session(served)
    async with listening(served.port, session_id) as socket:
        await socket.send_message("x" * 4097)
        assert await rest(socket) == ([], 1009)


async def test_the_server_pings() -> None:
    async with serving(Limits(ping_s=0.02)) as served:
        session_id = await new_session(served)
        async with connect(served.running) as client:
            credential = b"Authorization: Bearer %b\r\n" % OWNER.encode()
            await client.ask(handshake(session_id, credential))
            assert [await client.exactly(2) for _ in range(3)] == [bytes([PING, 0])] * 3


# --- how it ends


async def test_at_shutdown_it_is_1001_after_what_was_to_be_said(served: Served) -> None:
    session_id = await new_session(served)
    async with listening(served.port, session_id) as socket:
        await heartbeats(served, session_id, 3)
        served.api.site.stop_taking_requests()
        served.running.shutdown.set()
        found, code = await rest(socket)
    assert ([one["id"] for one in found], code) == ([2, 3, 4], 1001)


async def test_a_revoked_key_is_1008_within_a_second_and_others_stay(tmp_path: Path) -> None:
    make = partial(new_key, tmp_path, created=date(2026, 11, 22), random_bytes=lambda size: size * b"x")
    doomed = make("doomed", ["sessions:read"])
    kept = new_key(
        tmp_path, "kept", ["sessions:read"], created=date(2026, 11, 22), random_bytes=lambda n: n * b"y"
    )
    ring = KeyRing(tmp_path, monotonic=time.monotonic, warn=print, environment_key=OWNER)
    wall = partial(lambda: time.time_ns() // 1_000_000)
    clock = ScaledClock(START_MS, wall=wall)
    async with serving(clock=clock, find_key=ring.find, in_force=ring.in_force) as served:
        created = await served.api.create()
        session_id = created["sessionId"]
        async with (
            listening(served.port, session_id, credential=doomed) as socket,
            listening(served.port, session_id, credential=kept) as other,
            listening(served.port, session_id, credential=created["sessionToken"]) as third,
        ):
            began = trio.current_time()
            revoke_key(tmp_path, "doomed")
            assert await rest(socket) == ([], 1008)
            assert trio.current_time() - began < 1.2
            refusal = await refused(served, session_id, credential=doomed)
            assert refusal.status == 401
            await heartbeats(served, session_id, 1)
            assert [(await event(one))["id"] for one in (other, third)] == [2, 2]


# --- a real process


async def test_ids_go_on_after_a_restart_and_nothing_is_kept_over_it(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", "--log-level=error") as server:
        created = await create(server)
        async with listening(port_of(server), created["sessionId"], credential=KEY) as socket:
            await heartbeat(server, created)
            assert (await event(socket))["id"] == 2
            server.process.send_signal(signal.SIGTERM)
            assert await rest(socket) == ([], 1001)
        assert await trio.to_thread.run_sync(server.stop) == 0
    with running_server(tmp_path / "data", "--log-level=error") as server:
        for last, kinds, ids in (
            (2, ["sessionRenewed"], [3]),
            (1, ["resync", "sessionRenewed"], [3, 4]),
            (5, ["resync", "sessionRenewed"], [4, 5]),
        ):
            query = f"?lastEventId={last}"
            async with listening(port_of(server), created["sessionId"], query, credential=KEY) as socket:
                await heartbeat(server, created)
                found = await events(socket, len(ids))
                assert [one["type"] for one in found] == kinds
                assert [one["id"] for one in found] == ids


def port_of(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


async def create(server: ServerProcess) -> Any:
    body = {"agentId": "agent-123", "userId": "user-456"}
    with server.client() as http:
        return (await trio.to_thread.run_sync(partial(http.post, BASE, json=body))).json()


async def heartbeat(server: ServerProcess, created: Any) -> None:
    with server.client() as http:
        path = f"{BASE}/{created['sessionId']}/heartbeat"
        assert (await trio.to_thread.run_sync(http.post, path)).status_code == 200
