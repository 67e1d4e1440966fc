"""Every way a request can fail, with its status, code and details: spec section 9 as one table.

Errors about sessions come from `actors.core.errors`, about credentials from `server.api.auth`, about bodies and queries
from `server.input.schemas`. The rest are here:

    RequestError
      RouteNotFound          404
      MethodNotAllowed       405, carries what is allowed
      PayloadTooLarge        413
      OriginRefused          403
      UnsupportedMediaType   415
      NotReady               503
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from vigil.server.api import answers
from vigil.server.api.auth import Forbidden, Unauthenticated
from vigil.server.api.wire_time import iso
from vigil.server.input.schemas import ErrorBody, Invalid
from vigil.server.input.strict_json import BadJson

Headers = list[tuple[str, str]]


class RequestError(Exception):
    """The root of what can be wrong with a request before anybody looks at what it asks for."""


class RouteNotFound(RequestError):
    def __init__(self, path: str) -> None:
        super().__init__(f"There is nothing at {path[:200]}")


class MethodNotAllowed(RequestError):
    def __init__(self, method: str, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not allowed here, only {self.allowed}")


class PayloadTooLarge(RequestError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit} bytes")


class UnsupportedMediaType(RequestError):
    def __init__(self, wrong: str) -> None:
        super().__init__(f"The body must be application/json in UTF-8, not compressed: {wrong}")


class OriginRefused(RequestError):
    def __init__(self, origin: str) -> None:
        super().__init__(f"Pages of {origin[:200]} may not listen here: see --allow-origin")


class NotReady(RequestError):
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("The server is starting or stopping")


class Failure(NamedTuple):
    """How one kind of error is told: status, code, and functions for its details and headers."""

    status: int
    code: str
    details: Callable[[Any], dict[str, Any]] = lambda _: {}
    headers: Callable[[Any], Headers] = lambda _: []


def _expired(error: SessionExpired) -> dict[str, Any]:
    tombstone = error.tombstone
    return {
        "sessionId": tombstone.id,
        "expiresAt": iso(tombstone.expires_at),
        "reason": tombstone.reason,
        "lastActivity": iso(tombstone.last_activity),
        "renewalCount": tombstone.renewal_count,
    }


def _refused(error: RateLimited) -> dict[str, Any]:
    refused = error.refused
    return {
        "scope": refused.scope,
        "limit": refused.limit,
        "windowSeconds": refused.window_s,
        "retryAfterMs": refused.wait_ms,
    }


def _unanswered(error: AgentFailed) -> dict[str, Any]:
    return {"userMessage": answers.message(error.question)} if error.question else {}


def _challenge(error: Unauthenticated | Forbidden) -> Headers:
    return [("WWW-Authenticate", error.challenge)]


def _retry_after(error: Overloaded | StoreUnavailable | NotReady) -> Headers:
    return [("Retry-After", str(error.retry_after_s))]


def _retry_when_admitted(error: RateLimited) -> Headers:
    return [("Retry-After", str(-(-error.refused.wait_ms // 1000)))]


INTERNAL = Failure(500, "INTERNAL_ERROR")

FAILURES: dict[type[Exception], Failure] = {
    Invalid: Failure(400, "VALIDATION_ERROR", lambda error: {"errors": error.errors}),
    ChangeRefused: Failure(
        400,
        "VALIDATION_ERROR",
        lambda error: {"errors": [{"path": "", "message": str(error)}]},
    ),
    Unauthenticated: Failure(401, "UNAUTHENTICATED", headers=_challenge),
    Forbidden: Failure(403, "FORBIDDEN", headers=_challenge),
    OriginRefused: Failure(403, "FORBIDDEN"),
    AgentNotFound: Failure(404, "AGENT_NOT_FOUND", lambda error: {"agentId": error.agent_id}),
    SessionNotFound: Failure(404, "SESSION_NOT_FOUND", lambda error: {"sessionId": error.session_id}),
    MessageNotFound: Failure(404, "NOT_FOUND", lambda error: {"messageId": error.message_id}),
    RouteNotFound: Failure(404, "NOT_FOUND"),
    BadJson: Failure(
        400, "VALIDATION_ERROR", lambda error: {"errors": [{"path": "", "message": str(error)}]}
    ),
    MethodNotAllowed: Failure(405, "METHOD_NOT_ALLOWED", headers=lambda error: [("Allow", error.allowed)]),
    KeyInFlight: Failure(409, "IDEMPOTENCY_CONFLICT"),
    TurnInProgress: Failure(409, "TURN_IN_PROGRESS", lambda error: {"messageId": error.message_id}),
    AgentCancelled: Failure(409, "AGENT_CANCELLED", _unanswered),
    SessionExpired: Failure(410, "SESSION_EXPIRED", _expired),
    PayloadTooLarge: Failure(413, "PAYLOAD_TOO_LARGE"),
    UnsupportedMediaType: Failure(415, "UNSUPPORTED_MEDIA_TYPE"),
    RenewalRefused: Failure(
        422,
        "SESSION_RENEWAL_FAILED",
        lambda error: {"sessionId": error.session_id, "reason": error.reason},
    ),
    KeyReused: Failure(422, "IDEMPOTENCY_KEY_REUSED"),
    RateLimited: Failure(429, "RATE_LIMITED", _refused, _retry_when_admitted),
    AgentFailed: Failure(502, "AGENT_FAILED", _unanswered),
    Overloaded: Failure(503, "OVERLOADED", headers=_retry_after),
    NotReady: Failure(503, "OVERLOADED", headers=_retry_after),
    StoreUnavailable: Failure(503, "STORE_UNAVAILABLE", headers=_retry_after),
    AgentTimedOut: Failure(504, "AGENT_TIMEOUT", _unanswered),
}


def error_name(code: str) -> str:
    """`SESSION_RENEWAL_FAILED` -> `SessionRenewalError`."""
    stem = code.removesuffix("_ERROR").removesuffix("_FAILED")
    return "".join(word.capitalize() for word in stem.split("_")) + "Error"


def failure_of(error: Exception) -> Failure:
    """How to tell this error; anything unknown is a bug of ours and tells nothing."""
    return FAILURES.get(type(error), INTERNAL)


def error_body(error: Exception, request_id: str) -> ErrorBody:
    """The body of spec section 9. A 500 says only which log line to look for."""
    failure = failure_of(error)
    known = failure is not INTERNAL
    return {
        "error": error_name(failure.code),
        "code": failure.code,
        "message": str(error) if known else "Something went wrong on our side",
        "details": failure.details(error) if known else {"requestId": request_id},
    }
