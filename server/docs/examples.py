"""What the documentation shows: an example of every answer and error, made by the code that makes real ones."""

import json
from collections.abc import Mapping
from typing import Any

from vigil.actors.core.commands import Transition
from vigil.actors.core.errors import (
    AgentCancelled,
    AgentFailed,
    AgentNotFound,
    AgentTimedOut,
    ChangeRefused,
    KeyInFlight,
    KeyReused,
    MessageNotFound,
    Overloaded,
    RateLimited,
    RenewalRefused,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    TurnInProgress,
)
from vigil.actors.core.quotas import Refused
from vigil.actors.core.records import Message, Session, TimeoutConfig, Tombstone
from vigil.actors.runtime.registry import Counts, Listing
from vigil.actors.stores.base import Page
from vigil.server.api import answers
from vigil.server.api.auth import Forbidden, Unauthenticated
from vigil.server.api.errors import (
    MethodNotAllowed,
    NotReady,
    OriginRefused,
    PayloadTooLarge,
    RouteNotFound,
    UnsupportedMediaType,
    error_body,
)
from vigil.server.input import schemas
from vigil.server.input.strict_json import BadJson

REQUEST_ID = "5b0c9c52-7c0c-4f6e-9a38-1f3f0f6f7a10"
MESSAGE_ID = "f2a7c1d8-3b64-4e5f-9c21-6d8e0a4b7c13"
SESSION_ID = "7d9f4c3e-52a1-4b0e-8f0c-2f6a1c9b7e44"


class InternalError(Exception):
    """Stands for every bug of ours, and for a session that is out of service."""


_START_MS = 1_795_338_000_000  # 2026-11-22T09:00:00.000Z
_NOW = _START_MS + 60_000
_SESSION = Session(
    key=1,
    id=SESSION_ID,
    agent_id="agent-123",
    user_id="user-456",
    channel_id="0c6c2a0e-9d0b-4b6e-8a35-5f2d3e4c1b90",
    metadata='{"source":"web"}',
    created_at=_START_MS,
    last_activity=_NOW,
    renewed_at=_NOW,
    config=TimeoutConfig(30, True, 180, 5),
    renewal_count=1,
    last_message_at=_NOW,
)
_NEW_SESSION = _SESSION._replace(last_activity=_START_MS, renewed_at=_START_MS, renewal_count=0)
_QUESTION = Message(
    MESSAGE_ID,
    _NOW,
    "user-456",
    False,
    "Hello, how can I help you today?",
    "{}",
    "",
)
_REPLY = Message(
    "91c4d7e6-0a2b-4f8d-b3e5-7c6a5d4e3f21",
    _NOW + 850,
    "agent-123",
    True,
    "Hello! I am here.",
    "{}",
    "",
    _NOW,
    "stop",
)
_TOMBSTONE = Tombstone(
    SESSION_ID, "agent-123", "user-456", _START_MS, _NOW + 1_800_000, "inactivity", _NOW, 1
)
_CHALLENGE = 'Bearer realm="vigil"'


def _as_sent(body: Any) -> Any:
    return json.loads(answers.encode(body))


_HEALTHY: schemas.HealthBody = {
    "status": "healthy",
    "activeSessions": 1204,
    "timestamp": "2026-11-22T09:01:00.000Z",
    "expiringSoon": 17,
    "invalidSessions": 0,
    "uptime": 86_400,
}

ANSWERS: Mapping[Any, Any] = {
    schemas.CreatedSessionBody: {
        **_as_sent(answers.created_session(_NEW_SESSION)),
        "sessionToken": f"{SESSION_ID}.yJ2nXvT0b3m1wqSgk6cE4rUaHf8pLZdVoI5tKxQ7BsM",
    },
    schemas.SessionListBody: _as_sent(
        answers.session_list(Listing([_SESSION], 1, Counts(1, 0, 0, 0)), _NOW, limit=50, offset=0)
    ),
    schemas.SessionBody: _as_sent(answers.session(_SESSION, _NOW)),
    schemas.EndedBody: {"success": True, "message": f"Session {SESSION_ID} deleted successfully"},
    schemas.SentMessageBody: _as_sent(
        answers.sent_message(Transition(_SESSION, message=_QUESTION, was_renewed=True), _NOW)
    ),
    schemas.CancelledBody: {"messageId": MESSAGE_ID, "status": "cancelled"},
    schemas.HistoryBody: _as_sent(answers.history(Page([_REPLY, _QUESTION], False), None, None)),
    schemas.HealthBody: _HEALTHY,
    schemas.OkBody: {"status": "ok"},
}
OTHER_ANSWERS: Mapping[Any, Any] = {schemas.HealthBody: {**_HEALTHY, "status": "unhealthy"}}

ERRORS: tuple[Exception, ...] = (
    schemas.Invalid([{"path": "limit", "message": "must be at most 100"}]),
    ChangeRefused(),
    BadJson("The body is empty: send a JSON object"),
    Unauthenticated("Credentials are needed: send 'Authorization: Bearer KEY'", _CHALLENGE),
    Forbidden("This needs the scope sessions:read", "sessions:read"),
    OriginRefused("https://elsewhere.example"),
    AgentNotFound("agent-124"),
    SessionNotFound(SESSION_ID),
    MessageNotFound(MESSAGE_ID),
    RouteNotFound("/api/messaging/sessions/"),
    MethodNotAllowed("PUT", ["GET", "HEAD", "DELETE"]),
    KeyInFlight(),
    TurnInProgress(MESSAGE_ID),
    AgentCancelled("The agent was stopped before it said anything"),
    SessionExpired(_TOMBSTONE),
    PayloadTooLarge(262_144),
    UnsupportedMediaType("its Content-Type is 'text/plain'"),
    RenewalRefused(SESSION_ID, "max_duration"),
    KeyReused(),
    RateLimited(Refused("session", 60, 60, 12_340, ())),
    InternalError(),
    AgentFailed("The agent failed to answer"),
    Overloaded("Too many requests wait for this session"),
    NotReady(),
    StoreUnavailable("disk I/O error"),
    AgentTimedOut("The agent did not answer in time"),
)


def told(error: Exception) -> schemas.ErrorBody:
    """The body that a client gets for it."""
    return error_body(error, REQUEST_ID)
