"""Spec section 8 on real sockets: the events WebSocket as its clients see it."""

import json
import signal
import time
from collections.abc import AsyncIterator, Iterable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from tests.fakes import entry
from tests.harness import AGENTS, BASE, OWNER, START_MS, only
from tests.process import KEY, ServerProcess, running_server
from tests.server.raw import PING, UPGRADE, connect, masked
from tests.server.sockets import Served, event, events, listening, rest, serving, until
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.expiry import MINUTE_MS
from vigil.actors.core.quotas import Limit
from vigil.actors.hub.hub import KEPT_MAX
from vigil.actors.runtime.clock import ScaledClock
from vigil.server.http.protocols import Limits
from vigil.server.ops.keys import KeyRing, new_key, revoke_key

PONG, TEXT, CLOSE = 0x8A, 0x81, 0x88
NOWHERE = "00000000-0000-4000-8000-000000000000"


class Refusal(NamedTuple):
    """The answer to a handshake that is not let in, in the shape that all errors have."""

    status: int
    code: str
    body: Any
    headers: dict[bytes, bytes]


class MoodyAgent:
    """Says and answers `re: ...`, or fails when it is told to."""

    async def reply(self, turn: Turn) -> Reply:
        content = turn.message.content
        if content == "fail":
            raise AgentFailed("As you wish")
        turn.say(f"re: {content}")
        return Reply(f"re: {content}")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(agents={**AGENTS, "patient": entry(MoodyAgent())}) as running:
        yield running


async def new_session(served: Served, **fields: Any) -> str:
    return str((await served.api.create(**fields))["sessionId"])


async def heartbeats(served: Served, session_id: str, count: int) -> None:
    """So many events."""
    for _ in range(count):
        assert (await served.api.request("POST", f"/{session_id}/heartbeat")).status == 200


# --- what comes


async def test_every_change_is_an_event_and_ids_count_by_one(served: Served) -> None:
    api = served.api
    created = await api.create(agentId="patient", metadata={"source": "web"})
    path = f"/{created['sessionId']}"
    async with listening(served.port, created["sessionId"], "?lastEventId=0") as socket:
        sent = (await api.request("POST", f"{path}/messages", {"content": "hi"})).json
        found = await events(socket, 5)
        renewed = (await api.request("POST", f"{path}/renew")).json
        retimed = (await api.request("PATCH", f"{path}/timeout", {"timeoutMinutes": 60})).json
        found += await events(socket, 2)
        asked = (await api.request("POST", f"{path}/messages", {"content": "fail"})).json
        found += await events(socket, 3)
        assert (await api.request("DELETE", path)).status == 200
        last, code = await rest(socket)
    found += last
    assert code == 1000
    assert [one["type"] for one in found] == [
        "sessionCreated",
        "messageBroadcast",
        "sessionRenewed",
        "messageChunk",
        "messageBroadcast",
        "sessionRenewed",
        "sessionTimeoutUpdated",
        "messageBroadcast",
        "sessionRenewed",
        "agentError",
        "sessionEnded",
    ]
    assert [one.get("id") for one in found] == [1, 2, 3, None, *range(4, 11)]
    assert {one["sessionId"] for one in found} == {created["sessionId"]}
    assert [set(one) - {"id"} for one in found] == [{"type", "sessionId", "at", "data"}] * 11
    data = [one["data"] for one in found]
    assert data[0]["metadata"] == {"source": "web"}
    assert {name: data[0][name] for name in data[0].keys() & created.keys()} == {
        name: created[name] for name in data[0].keys() & created.keys()
    }
    assert data[1] == {name: sent[name] for name in data[1] if name != "isAgent"} | {"isAgent": False}
    assert data[2]["expiresAt"] == sent["sessionStatus"]["expiresAt"]
    assert data[3] == {"messageId": sent["id"], "text": "re: hi"}
    assert (data[4]["content"], data[4]["isAgent"], data[4]["finishReason"]) == ("re: hi", True, "stop")
    assert data[5] == {"expiresAt": renewed["expiresAt"], "renewalCount": renewed["renewalCount"]}
    assert data[6] == {name: retimed[name] for name in ("timeoutConfig", "expiresAt", "renewalCount")}
    assert data[9] == {"messageId": asked["id"], "code": "AGENT_FAILED", "message": "As you wish"}


async def test_a_warning_comes_before_the_end_and_1000_after_it() -> None:
    async with serving(clock=ScaledClock(START_MS, scale=600)) as served:  # 5 minutes are half a second
        config = {"timeoutMinutes": 5, "warningThresholdMinutes": 4}
        created = await served.api.create(timeoutConfig=config)
        async with listening(served.port, created["sessionId"]) as socket:
            (warning, expired), code = await rest(socket)
    ends = created["expiresAt"]
    assert code == 1000
    assert (warning["type"], warning["id"]) == ("sessionExpirationWarning", 2)
    assert warning["data"]["expiresAt"] == ends
    assert 0 < warning["data"]["timeRemaining"] <= 4 * MINUTE_MS
    assert (expired["type"], expired["id"]) == ("sessionExpired", 3)
    assert expired["data"] == {"expiredAt": ends, "reason": "inactivity"}


async def test_everybody_who_listens_gets_everything_and_their_own_session_only(served: Served) -> None:
    one, other = await new_session(served), await new_session(served)
    async with (
        listening(served.port, one) as first,
        listening(served.port, one) as second,
        listening(served.port, other) as apart,
    ):
        await heartbeats(served, one, 20)
        await heartbeats(served, other, 1)
        for socket in (first, second):
            assert [told["id"] for told in await events(socket, 20)] == list(range(2, 22))
        assert (await event(apart))["sessionId"] == other


async def test_a_listener_that_goes_away_is_forgotten(served: Served) -> None:
    session_id = await new_session(served)
    async with listening(served.port, session_id) as socket:
        await heartbeats(served, session_id, 1)
        await event(socket)
        assert (len(served.api.site.directory.hub), len(served.api.site.listeners)) == (1, 1)
    await until(lambda: not len(served.api.site.directory.hub) and not served.api.site.listeners)


# --- from which event on


@pytest.mark.parametrize(
    ("last", "missed"),
    [
        (None, []),
        (0, [1, 2, 3, 4, 5]),
        (1, [2, 3, 4, 5]),
        (4, [5]),
        (5, []),
        (6, "resync"),
        (9_007_199_254_740_991, "resync"),
    ],
)
async def test_a_listener_gets_what_it_has_missed_and_then_what_comes(
    served: Served, last: int | None, missed: Any
) -> None:
    session_id = await new_session(served)
    await heartbeats(served, session_id, 4)
    async with listening(served.port, session_id, "" if last is None else f"?lastEventId={last}") as socket:
        await heartbeats(served, session_id, 1)
        found = await events(socket, 2 if missed == "resync" else len(missed) + 1)
    if missed == "resync":
        assert (found[0]["type"], found[0]["id"], found[0]["data"]) == ("resync", 5, {})
        missed = [5]
    assert [one["id"] for one in found] == [*missed, 6]


async def test_what_is_no_longer_kept_is_one_resync(served: Served) -> None:
    session_id = await new_session(served)
    await heartbeats(served, session_id, KEPT_MAX)
    newest = KEPT_MAX + 1
    async with listening(served.port, session_id, "?lastEventId=0") as socket:
        told = await event(socket)
        assert (told["type"], told["id"]) == ("resync", newest)
    async with listening(served.port, session_id, "?lastEventId=1") as socket:
        assert [told["id"] for told in await events(socket, KEPT_MAX)] == list(range(2, newest + 1))


@pytest.mark.parametrize("query", ["-1", "x", "1.0", "", "9" * 20, "1&lastEventId=2", "1&other=2", "+1"])
async def test_a_bad_last_event_id_is_400_before_the_upgrade(served: Served, query: str) -> None:
    session_id = await new_session(served)
    refusal = await refused(served, session_id, f"?lastEventId={query}")
    assert (refusal.status, refusal.code) == (400, "VALIDATION_ERROR")


# --- who may listen


async def refused(
    served: Served,
    session_id: str,
    query: str = "",
    credential: str | None = OWNER,
    headers: Iterable[tuple[str, str]] = (),
) -> Refusal:
    sent = list(headers) + ([("Authorization", f"Bearer {credential}")] if credential else [])
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent)
    async with connect(served.running) as client:
        answer = await client.ask(handshake(session_id, lines.encode(), query.encode()))
    assert answer.headers[b"content-type"] == b"application/json"
    assert answer.headers[b"cache-control"] == b"no-store"
    body = json.loads(answer.body)
    assert set(body) == {"error", "code", "message", "details"}
    return Refusal(answer.status, body["code"], body, answer.headers)


async def test_a_key_or_the_sessions_token_in_either_header_or_as_a_subprotocol_lets_in(
    served: Served,
) -> None:
    created = await served.api.create()
    session_id, token = created["sessionId"], created["sessionToken"]
    for credential in (OWNER, token, only("sessions:read")):
        for given in (
            {"credential": credential},
            {"credential": None, "headers": [("X-API-KEY", credential)]},
            {"credential": None, "subprotocols": ["vigil.v1", f"bearer.{credential}"]},
        ):
            async with listening(served.port, session_id, **given) as socket:
                await heartbeats(served, session_id, 1)
                assert (await event(socket))["type"] == "sessionRenewed"


async def test_the_server_selects_its_subprotocol_and_never_echoes_the_token(served: Served) -> None:
    session_id = await new_session(served)
    offers = {
        b"vigil.v1": "vigil.v1",
        b"vigil.v1, bearer.%b" % OWNER.encode(): "vigil.v1",
        b"bearer.%b,vigil.v1" % OWNER.encode(): "vigil.v1",
        b"chat": None,
    }
    for offered, selected in offers.items():
        async with connect(served.running) as client:
            extra = b"Authorization: Bearer %b\r\nSec-WebSocket-Protocol: %b\r\n" % (OWNER.encode(), offered)
            answer = await client.ask(handshake(session_id, extra))
            assert answer.status == 101
            told = answer.headers.get(b"sec-websocket-protocol")
            assert told == (selected and selected.encode())
            assert OWNER.encode() not in b"".join(answer.headers.values())


def handshake(session_id: str, extra: bytes = b"", query: bytes = b"") -> bytes:
    path = f"{BASE}/{session_id}/events".encode() + query
    return (UPGRADE % extra).replace(b"/ws", path, 1)


@pytest.mark.parametrize("order", [1, -1])
async def test_subprotocols_in_two_headers_let_in_too(served: Served, order: int) -> None:
    session_id = await new_session(served)
    lines = [
        b"Sec-WebSocket-Protocol: vigil.v1\r\n",
        b"Sec-WebSocket-Protocol: bearer.%b\r\n" % OWNER.encode(),
    ]
    async with connect(served.running) as client:
        assert (await client.ask(handshake(session_id, b"".join(lines[::order])))).status == 101


def offering(*names: str) -> tuple[str, str]:
    return "Sec-WebSocket-Protocol", ", ".join(names)


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({}, ""),
        ({}, f"?token={OWNER}"),
        ({}, f"?access_token={OWNER}"),
        ({"headers": [("X-API-KEY", "no-such-key")]}, ""),
        ({"credential": "no-such-key"}, ""),
        ({"headers": [offering(f"bearer.{OWNER}")]}, ""),
        ({"headers": [offering("vigil.v1")]}, ""),
        ({"headers": [offering("vigil.v1", "bearer.no-such-key")]}, ""),
        ({"headers": [offering("vigil.v1", f"bearer.{OWNER}", "bearer.other-key-0123456789")]}, ""),
        ({"credential": "no-such-key", "headers": [offering("vigil.v1", f"bearer.{OWNER}")]}, ""),
    ],
)
async def test_without_good_credentials_it_is_401(served: Served, given: Any, query: str) -> None:
    session_id = await new_session(served)
    refusal = await refused(served, session_id, query, **{"credential": None, **given})
    assert (refusal.status, refusal.code) == (401, "UNAUTHENTICATED")
    assert b"www-authenticate" in refusal.headers


async def test_a_key_without_the_scope_and_another_sessions_token_are_403(served: Served) -> None:
    session_id, other = await new_session(served), await served.api.create()
    for credential in (only("sessions:write"), other["sessionToken"]):
        refusal = await refused(served, session_id, credential=credential)
        assert (refusal.status, refusal.code) == (403, "FORBIDDEN")


async def test_a_session_that_is_not_there_is_404_and_one_that_is_over_410(served: Served) -> None:
    for session_id in (NOWHERE, "no-uuid"):
        refusal = await refused(served, session_id)
        assert (refusal.status, refusal.code) == (404, "SESSION_NOT_FOUND")
    async with serving(clock=ScaledClock(START_MS, scale=3000)) as quick:
        session_id = await new_session(quick, timeoutConfig={"timeoutMinutes": 5})
        async with listening(quick.port, session_id) as socket:
            await rest(socket)
        refusal = await refused(quick, session_id)
        assert (refusal.status, refusal.code) == (410, "SESSION_EXPIRED")


async def test_there_is_no_websocket_anywhere_else(served: Served) -> None:
    session_id = await new_session(served)
    credential = b"Authorization: Bearer %b\r\n" % OWNER.encode()
    for path in (f"{BASE}/{session_id}", f"{BASE}/{session_id}/events/", BASE, "/livez", "/nowhere"):
        async with connect(served.running) as client:
            answer = await client.ask((UPGRADE % credential).replace(b"/ws", path.encode(), 1))
            assert (answer.status, json.loads(answer.body)["code"]) == (404, "NOT_FOUND"), path


async def test_a_plain_get_is_400(served: Served) -> None:
    session_id = await new_session(served)
    async with connect(served.running) as client:
        head = (
            f"GET {BASE}/{session_id}/events HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {OWNER}\r\n\r\n"
        )
        answer = await client.ask(head.encode())
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "VALIDATION_ERROR")


ORIGINS: list[tuple[list[tuple[str, str]], bool]] = [
    ([], True),
    ([("Origin", "http://127.0.0.1:{port}")], True),
    ([("Origin", "https://127.0.0.1:{port}")], True),
    ([("Origin", "https://chat.example")], True),
    ([("Origin", "http://chat.example")], False),
    ([("Origin", "https://chat.example.evil")], False),
    ([("Origin", "https://evil.example")], False),
    ([("Origin", "http://127.0.0.1")], False),
    ([("Origin", "null")], False),
    ([("Origin", "https://chat.example"), ("Origin", "https://evil.example")], False),
]


@pytest.mark.parametrize(("headers", "is_let_in"), ORIGINS)
async def test_a_page_from_elsewhere_must_be_listed(headers: list[tuple[str, str]], is_let_in: bool) -> None:
    async with serving(allowed_origins=frozenset({"https://chat.example"})) as served:
        session_id = await new_session(served)
        sent = [(name, value.format(port=served.port)) for name, value in headers]
        if is_let_in:
            async with listening(served.port, session_id, headers=sent):
                return
        refusal = await refused(served, session_id, headers=sent)
        assert (refusal.status, refusal.code) == (403, "FORBIDDEN")
        assert "--allow-origin" in refusal.body["message"]


# --- limits


async def test_a_socket_counts_once_and_its_101_says_what_is_left() -> None:
    async with serving(session_limit=Limit(2, 60)) as served:
        session_id = await new_session(served)
        async with listening(served.port, session_id) as socket:
            headers = {name.lower(): value for name, value in socket.handshake_headers}
            assert headers[b"ratelimit"].startswith(b'"session";r=1;t=')
            assert headers[b"ratelimit-policy"].startswith(b'"session";q=2;w=60')
            await socket.send_message("ignored")
            await socket.ping()
            answer = await served.api.request("POST", f"/{session_id}/heartbeat")
            assert answer.headers["RateLimit"].startswith('"session";r=0;')
            await event(socket)
            refusal = await refused(served, session_id)
            assert (refusal.status, refusal.body["details"]["scope"]) == (429, "session")
            assert b"retry-after" in refusal.headers


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
