"""Who may listen to a session's events, and how often it is counted."""

import json
from typing import Any

import pytest

from tests.harness import BASE, OWNER, START_MS, only
from tests.server.front.listening import (
    handshake,
    heartbeats,
    new_session,
    refused,
)
from tests.server.raw import UPGRADE, connect
from tests.server.sockets import Served, event, listening, rest, serving
from vigil.actors.core.quotas import Limit
from vigil.actors.runtime.clock import ScaledClock

NOWHERE = "00000000-0000-4000-8000-000000000000"


# --- who may listen


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
