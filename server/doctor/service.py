"""A running server, asked as a client asks: reachable, well, its clock right, and one session from beginning to end.

The session gets one message, which its agent answers: a real turn. It is ended again. Knows nothing of the machine.
"""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import trio
from trio_websocket import ConnectionRejected, HandshakeError, open_websocket_url

from vigil.server.doctor.findings import Finding, broken, good, warning

BASE = "/api/messaging/sessions"

_OK, _CREATED, _FORBIDDEN, _NOT_FOUND, _UNAUTHENTICATED = 200, 201, 403, 404, 401
_SKEW_S = 5.0
_ANSWER_S = 90.0
_EVENT_S = 10.0
_USER = "vigil-doctor"


async def findings(url: str, key: str, agent_id: str) -> AsyncIterator[Finding]:
    """One by one; after one that makes the rest pointless there are no more."""
    async with httpx.AsyncClient(base_url=url.rstrip("/"), timeout=_ANSWER_S) as http:
        try:
            live = await http.get("/livez")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield broken(
                "server", f"{url} does not answer: {error or type(error).__name__}", "is it running there?"
            )
            return
        if live.status_code != _OK:
            advice = "the URL, or the proxy before it, leads elsewhere; with --root-path the path belongs to the URL"
            yield broken("server", f"{url}/livez gives {live.status_code}", advice)
            return
        yield good("server", f"{url} answers")
        yield _skew(live)
        ready = await http.get("/readyz")
        if ready.status_code != _OK:
            yield broken(
                "readiness",
                f"/readyz gives {ready.status_code}",
                "the store cannot commit, or it is stopping",
            )
        http.headers["Authorization"] = f"Bearer {key}"
        health = await _health(http)
        yield health
        if health.level == "broken":
            return
        async for finding in _session(http, url.rstrip("/"), agent_id):
            yield finding


def _skew(answer: httpx.Response) -> Finding:
    try:
        there = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return warning("server's clock", "its answers carry no Date", "a proxy takes it away: let it pass")
    off = (there - datetime.now(UTC)).total_seconds()
    if abs(off) > _SKEW_S:
        return warning("server's clock", f"{off:+.0f} s from here", "synchronise both clocks (NTP)")
    return good("server's clock", "as here")


async def _health(http: httpx.AsyncClient) -> Finding:
    if http.headers["Authorization"] == "Bearer ":
        return broken("API key", "none given", "set VIGIL_API_KEY to a key with all scopes")
    answer = await http.get(f"{BASE}/health")
    if answer.status_code in (_UNAUTHENTICATED, _FORBIDDEN):
        missing = (
            "it is wrong, has expired or was revoked"
            if answer.status_code == _UNAUTHENTICATED
            else ("it lacks scopes")
        )
        return broken(
            "API key", f"refused ({answer.status_code}): {missing}", "vigil keys list; vigil keys new"
        )
    try:
        body = answer.json()
        state = body["status"]
    except (ValueError, KeyError, TypeError):
        return broken(
            "health", f"{answer.status_code} and no health body", "another program answers at this URL"
        )
    seen = f"{state}, {body['activeSessions']} sessions, up for {body['uptime']} s"
    if state == "healthy":
        return good("health", seen)
    if state == "degraded":
        return warning(
            "health", seen, "invalid sessions or a strained event loop: look at its log and /metrics"
        )
    return broken("health", seen, "the store cannot commit: look at its log and the disk")


async def _session(http: httpx.AsyncClient, url: str, agent_id: str) -> AsyncIterator[Finding]:
    created = await http.post(BASE, json={"agentId": agent_id, "userId": _USER})
    if created.status_code != _CREATED:
        advice = "name one of its agents: --agent ID" if created.status_code == _NOT_FOUND else "see its log"
        yield broken("create", _said(created), advice)
        return
    session = created.json()
    path = f"{BASE}/{session['sessionId']}"
    try:
        yield good("create", f"session {session['sessionId']}")
        yield await _stream(http, path)
        yield await _history(http, path)
        yield await _events(http, url, path, session["sessionToken"])
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(_EVENT_S):
            await http.delete(path)


async def _stream(http: httpx.AsyncClient, path: str) -> Finding:
    """A message over `sse`: what a proxy buffers, and what an agent cannot do, shows here."""
    body = {"content": "A test message of vigil doctor", "transport": "sse"}
    names: list[str] = []
    said = ""
    async with http.stream("POST", f"{path}/messages", json=body) as answer:
        if answer.status_code != _CREATED:
            await answer.aread()
            return broken("message", _said(answer), "see the server's log")
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            return broken("message", "the stream's content type is another", "let the proxy pass it as it is")
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            names += [value] if field == "event" else []
            said = value if field == "data" else said
    if names[:1] != ["userMessage"]:
        return broken(
            "message", "the stream broke off", "let the proxy not buffer: nginx proxy_buffering off"
        )
    if names[-1] == "error":
        return broken(
            "agent", f"{json.loads(said)['message']}", "see vigil agents check, and the agent's own log"
        )
    return good("message", f"stored and answered, in {len(names)} events")


async def _history(http: httpx.AsyncClient, path: str) -> Finding:
    answer = await http.get(f"{path}/messages?limit=1")
    if answer.status_code != _OK:
        return broken("history", _said(answer), "see the server's log; a query string must reach it as it is")
    return good("history", f"{len(answer.json()['messages'])} message read back")


async def _events(http: httpx.AsyncClient, url: str, path: str, token: str) -> Finding:
    """As a browser does: with the page's origin and the token as a subprotocol. A heartbeat is what it hears."""
    socket_url = f"{'ws' + url.removeprefix('http')}{path}/events"
    origin = "/".join(url.split("/")[:3])
    advice = (
        "let the proxy pass Upgrade and Connection (nginx: proxy_http_version 1.1, proxy_set_header Upgrade)"
    )
    rejected: list[ConnectionRejected] = []
    try:
        with trio.fail_after(_EVENT_S):
            async with open_websocket_url(
                socket_url,
                subprotocols=["vigil.v1", f"bearer.{token}"],
                extra_headers=[(b"Origin", origin.encode())],
            ) as socket:
                await http.post(f"{path}/heartbeat")
                event: dict[str, Any] = json.loads(await socket.get_message())
        return good("events", f"{event['type']} came over a WebSocket")
    except* ConnectionRejected as group:
        rejected += [one for one in _leaves(group) if isinstance(one, ConnectionRejected)]
    except* (HandshakeError, OSError, trio.TooSlowError, ValueError):
        pass
    if rejected and rejected[0].status_code == _FORBIDDEN:
        advice = f"the proxy rewrites Host: let it keep it, or start the server with --allow-origin {origin}"
    seen = f"the handshake gives {rejected[0].status_code}" if rejected else "no event came over a WebSocket"
    return broken("events", seen, advice)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for one in group.exceptions
        for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]


def _said(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['code']}: {answer.json()['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code}"
