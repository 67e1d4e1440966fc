"""THE TABLE: the API, each row written once. Quart, OpenAPI, Postman and the tests read it."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from server import operations, site_operations
from server.auth import Scope
from server.call import Call
from server.schemas import (
    CreatedSessionBody,
    CreateSession,
    EndedBody,
    HealthBody,
    HistoryBody,
    ListSessionsQuery,
    MessagesQuery,
    NoBody,
    NoQuery,
    SendMessage,
    SentMessageBody,
    SessionBody,
    SessionListBody,
    TimeoutUpdate,
)

BASE = "/api/messaging/sessions"

Subject = Literal["anybody", "service", "new session", "session"]


class Route(NamedTuple):
    """One operation. `subject` says what a request names, and so what is checked and charged, in which order."""

    name: str
    method: str
    path: str
    operation: Callable[[Call], Awaitable[bytes]]
    subject: Subject
    summary: str
    scope: Scope | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    answer: Any = None  # a TypedDict; None for what is not JSON
    media_type: str = "application/json"
    idempotent: bool = False  # takes an Idempotency-Key
    ends_what_is_left: bool = False  # takes the id of a session that has expired or is broken, too


ROUTES: tuple[Route, ...] = (
    Route(
        "createSession",
        "POST",
        BASE,
        operations.create_session,
        "new session",
        "Begin a session between a user and an agent",
        scope="sessions:create",
        status=201,
        body=CreateSession,
        answer=CreatedSessionBody,
        idempotent=True,
    ),
    Route(
        "listSessions",
        "GET",
        BASE,
        operations.list_sessions,
        "service",
        "List sessions, newest first",
        scope="sessions:read",
        query=ListSessionsQuery,
        answer=SessionListBody,
    ),
    Route(
        "getHealth",
        "GET",
        f"{BASE}/health",
        operations.health,
        "service",
        "Ask how well the service is",
        scope="sessions:health",
        answer=HealthBody,
    ),
    Route(
        "getSession",
        "GET",
        f"{BASE}/{{sessionId}}",
        operations.get_session,
        "session",
        "Get a session",
        scope="sessions:read",
        answer=SessionBody,
    ),
    Route(
        "endSession",
        "DELETE",
        f"{BASE}/{{sessionId}}",
        operations.end_session,
        "session",
        "End a session, or forget an expired one",
        scope="sessions:manage",
        answer=EndedBody,
        ends_what_is_left=True,
    ),
    Route(
        "sendMessage",
        "POST",
        f"{BASE}/{{sessionId}}/messages",
        operations.send_message,
        "session",
        "Send a message to the agent",
        scope="sessions:write",
        status=201,
        body=SendMessage,
        answer=SentMessageBody,
        idempotent=True,
    ),
    Route(
        "getMessages",
        "GET",
        f"{BASE}/{{sessionId}}/messages",
        operations.get_messages,
        "session",
        "Page through a session's messages, newest first",
        scope="sessions:read",
        query=MessagesQuery,
        answer=HistoryBody,
    ),
    Route(
        "renewSession",
        "POST",
        f"{BASE}/{{sessionId}}/renew",
        operations.renew_session,
        "session",
        "Renew a session by hand",
        scope="sessions:write",
        body=NoBody,
        answer=SessionBody,
    ),
    Route(
        "updateTimeout",
        "PATCH",
        f"{BASE}/{{sessionId}}/timeout",
        operations.update_timeout,
        "session",
        "Change how long a session lives",
        scope="sessions:manage",
        body=TimeoutUpdate,
        answer=SessionBody,
    ),
    Route(
        "heartbeat",
        "POST",
        f"{BASE}/{{sessionId}}/heartbeat",
        operations.heartbeat,
        "session",
        "Keep a session alive",
        scope="sessions:write",
        body=NoBody,
        answer=SessionBody,
    ),
    Route("livez", "GET", "/livez", site_operations.livez, "anybody", "Whether the process lives"),
    Route("readyz", "GET", "/readyz", site_operations.readyz, "anybody", "Whether it takes requests"),
    Route(
        "metrics",
        "GET",
        "/metrics",
        site_operations.metrics,
        "service",
        "Metrics in the Prometheus text format",
        scope="sessions:health",
        media_type="text/plain; version=0.0.4; charset=utf-8",
    ),
)
