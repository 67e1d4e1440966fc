"""THE TABLE: the API, each row written once. Quart, OpenAPI, Postman and the tests read it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from vigil.actors.core.errors import (
    AgentCancelled,
    AgentFailed,
    AgentTimedOut,
    ChangeRefused,
    MessageNotFound,
    RenewalRefused,
    StoreUnavailable,
    TurnInProgress,
)
from vigil.server.api import operations, site_operations
from vigil.server.api.auth import Scope
from vigil.server.api.call import Call
from vigil.server.api.errors import NotReady
from vigil.server.api.results import Result
from vigil.server.input.schemas import (
    CancelledBody,
    CreatedSessionBody,
    CreateSession,
    EndedBody,
    EventsQuery,
    HealthBody,
    HistoryBody,
    ListSessionsQuery,
    MessagesQuery,
    NoBody,
    NoQuery,
    OkBody,
    SendMessage,
    SentMessageBody,
    SessionBody,
    SessionListBody,
    TimeoutUpdate,
)

BASE = "/api/messaging/sessions"

Subject = Literal["anybody", "service", "new session", "session"]
Tag = Literal["Sessions", "Messages", "Keeping alive", "Service"]


class Route(NamedTuple):
    """One operation. `subject` says what a request names, and so what is checked and charged, in which order."""

    name: str
    method: str
    path: str
    operation: Callable[[Call], Result]
    subject: Subject
    tag: Tag
    summary: str
    description: str
    scope: Scope | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    answer: Any = None  # a TypedDict; None for what is not JSON
    media_type: str = "application/json"
    idempotent: bool = False  # takes an Idempotency-Key
    ends_what_is_left: bool = False  # takes the id of a session that has expired or is broken, too
    is_websocket: bool = False
    streams: bool = False  # answers as text/event-stream too, when asked
    other_status: int | None = None  # of the same answer, when all is not well
    raises: tuple[type[Exception], ...] = ()  # errors of its own, beyond what the rest of the row implies


ROUTES: tuple[Route, ...] = (
    Route(
        "createSession",
        "POST",
        BASE,
        operations.create_session,
        "new session",
        "Sessions",
        "Begin a session between a user and an agent",
        "Commits a session with an agent of the catalogue, and answers with its token. Its timeouts are the global "
        "defaults, then the agent's, then the request's, field by field. Counts for the user and the agent limit.",
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
        "Sessions",
        "List sessions, newest first",
        "API keys only. `total` counts what the filter matches, `stats` the whole service.",
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
        "Service",
        "Ask how well the service is",
        "API keys only. `degraded` when a session is broken or the server lags, `unhealthy` (503) when nothing "
        "can be committed.",
        scope="sessions:health",
        answer=HealthBody,
        other_status=503,
    ),
    Route(
        "getSession",
        "GET",
        f"{BASE}/{{sessionId}}",
        operations.get_session,
        "session",
        "Sessions",
        "Get a session",
        "Reading a session is no activity: it leaves its deadline alone.",
        scope="sessions:read",
        answer=SessionBody,
    ),
    Route(
        "endSession",
        "DELETE",
        f"{BASE}/{{sessionId}}",
        operations.end_session,
        "session",
        "Sessions",
        "End a session, or forget an expired one",
        "The session and its messages are gone at once, and its id is 404 from now on.",
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
        "Messages",
        "Send a message to the agent",
        "Answers once the message is on disk. It is activity: with `autoRenew` it renews the session. The agent's "
        "reply comes as an event and in the history, or with the transport `http` in this answer, or with `sse` "
        "as a stream of `userMessage`, `chunk` and `agentResponse` or `error` events.",
        scope="sessions:write",
        status=201,
        body=SendMessage,
        answer=SentMessageBody,
        idempotent=True,
        streams=True,
        raises=(TurnInProgress, AgentCancelled, AgentFailed, AgentTimedOut),
    ),
    Route(
        "cancelTurn",
        "POST",
        f"{BASE}/{{sessionId}}/messages/{{messageId}}/cancel",
        operations.cancel_turn,
        "session",
        "Messages",
        "Stop the agent's answer to a message",
        "Whether it waits or runs, the turn on that message ends now: `cancelled`. What the agent had said so far "
        "stays as its message with the `finishReason` `cancelled`; when that is nothing, it is an `agentError`. "
        "A turn that is over already stays as it is, and asking again gives the same answer. It is no activity.",
        scope="sessions:write",
        body=NoBody,
        answer=CancelledBody,
        raises=(MessageNotFound,),
    ),
    Route(
        "getMessages",
        "GET",
        f"{BASE}/{{sessionId}}/messages",
        operations.get_messages,
        "session",
        "Messages",
        "Page through a session's messages, newest first",
        "`before` gives the newest messages older than that, `after` the oldest newer than that, both the newest "
        "between. Go on with the `cursors` of the answer while `hasMore` is true.",
        scope="sessions:read",
        query=MessagesQuery,
        answer=HistoryBody,
        raises=(StoreUnavailable,),
    ),
    Route(
        "renewSession",
        "POST",
        f"{BASE}/{{sessionId}}/renew",
        operations.renew_session,
        "session",
        "Keeping alive",
        "Renew a session by hand",
        "Starts the timeout anew, whatever `autoRenew` says, but never beyond `maxExpiresAt`.",
        scope="sessions:write",
        body=NoBody,
        answer=SessionBody,
        raises=(RenewalRefused,),
    ),
    Route(
        "updateTimeout",
        "PATCH",
        f"{BASE}/{{sessionId}}/timeout",
        operations.update_timeout,
        "session",
        "Keeping alive",
        "Change how long a session lives",
        "Changes the fields that are sent and keeps the others. A change under which the session would already be "
        "expired is refused.",
        scope="sessions:manage",
        body=TimeoutUpdate,
        answer=SessionBody,
        raises=(ChangeRefused,),
    ),
    Route(
        "heartbeat",
        "POST",
        f"{BASE}/{{sessionId}}/heartbeat",
        operations.heartbeat,
        "session",
        "Keeping alive",
        "Keep a session alive",
        "Activity without a message: with `autoRenew` it renews the session, without it it only sets `lastActivity`.",
        scope="sessions:write",
        body=NoBody,
        answer=SessionBody,
    ),
    Route(
        "listenToEvents",
        "GET",
        f"{BASE}/{{sessionId}}/events",
        operations.not_a_websocket,
        "session",
        "Messages",
        "Listen to a session's events over a WebSocket",
        "One text frame is one JSON object `{id, type, sessionId, at, data}`. With `lastEventId` it goes on after that "
        "event, or says `resync` when some are no longer kept. Browsers send their token as a subprotocol: "
        "`vigil.v1, bearer.TOKEN`. A request that is no WebSocket handshake is 400.",
        scope="sessions:read",
        status=101,
        query=EventsQuery,
        is_websocket=True,
    ),
    Route(
        "livez",
        "GET",
        "/livez",
        site_operations.livez,
        "anybody",
        "Service",
        "Ask whether the process lives",
        "For a supervisor that restarts what does not answer. Needs no key.",
        answer=OkBody,
    ),
    Route(
        "readyz",
        "GET",
        "/readyz",
        site_operations.readyz,
        "anybody",
        "Service",
        "Ask whether it takes requests",
        "For a load balancer: 503 while the server starts or stops. Needs no key.",
        answer=OkBody,
        raises=(NotReady,),
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        site_operations.metrics,
        "service",
        "Service",
        "Read the metrics",
        "In the Prometheus text format. API keys only.",
        scope="sessions:health",
        media_type="text/plain; version=0.0.4; charset=utf-8",
    ),
    Route(
        "openapi",
        "GET",
        "/openapi.json",
        site_operations.openapi,
        "anybody",
        "Service",
        "Read this description",
        "The API as an OpenAPI 3.1 document. Needs no key.",
        answer=dict[str, Any],
    ),
    Route(
        "docs",
        "GET",
        "/docs",
        site_operations.docs,
        "anybody",
        "Service",
        "Read this description as a page",
        "The same for people. Needs no key and no internet.",
        media_type="text/html; charset=utf-8",
    ),
)
