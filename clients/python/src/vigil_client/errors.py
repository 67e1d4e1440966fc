"""Everything that can go wrong, as one tree. Each error has `code`, `message`, `details` and `request_id`.

    VigilError
      NoAnswer                  nothing came back: whether the server did it is not known
        TimedOut                ... within the client's own time
      BadAnswer                 something came back that is no answer of this API
      ApiError                  the server said no; `status`, and `retry_after_s` where it told one
        GatewayFailed           no answer of Vigil's: a proxy's 502, say
        BadRequest              400, `problems` says what is wrong with which field
        Unauthenticated         401
        Forbidden               403
        NotFound                404
          AgentNotFound
          SessionNotFound       (also SessionGone)
        SessionGone             the session is no more: begin a new one
          SessionNotFound       404: ended, long expired, or never there
          SessionExpired        410, `details["reason"]` says why
        Conflict                409
          IdempotencyConflict, TurnInProgress, AgentCancelled
        SessionRenewalFailed    422: it is at its longest duration
        IdempotencyKeyReused    422: the key was used with another body
        RateLimited             429
        ServerError             5xx
          AgentFailed, AgentTimeout, Overloaded, StoreUnavailable

Nothing here knows how requests are sent.
"""

from collections.abc import Mapping
from typing import Any


class VigilError(Exception):
    """The root. `is_repeat` is true when an earlier try of the same call went without an answer."""

    is_repeat = False

    def __init__(
        self,
        message: str,
        *,
        code: str,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details: Mapping[str, Any] = details or {}
        self.request_id = request_id

    def __str__(self) -> str:
        told = f"{self.message} ({self.code}"
        return f"{told}, request {self.request_id})" if self.request_id else f"{told})"


class NoAnswer(VigilError):
    """The connection failed or was cut. What was asked may have been done all the same."""

    def __init__(self, message: str, *, code: str = "NO_ANSWER") -> None:
        super().__init__(message, code=code)


class TimedOut(NoAnswer):
    """The server did not answer in time."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="TIMED_OUT")


class BadAnswer(VigilError):
    """Whatever answered is no Vigil server, or a newer one than this client can read."""

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message, code="BAD_ANSWER", request_id=request_id)


class ApiError(VigilError):
    """The server refused, and said why."""

    status = 0

    def __init__(
        self,
        message: str,
        *,
        code: str,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, details=details, request_id=request_id)
        self.status = status or type(self).status
        self.retry_after_s = retry_after_s


class GatewayFailed(ApiError):
    """An answer that is not Vigil's: of a proxy on the way."""


class BadRequest(ApiError):
    status = 400

    @property
    def problems(self) -> list[dict[str, str]]:
        """Each `{path, message}`: which field, and what is wrong with it."""
        return list(self.details.get("errors", ()))


class Unauthenticated(ApiError):
    status = 401


class Forbidden(ApiError):
    status = 403


class NotFound(ApiError):
    status = 404


class AgentNotFound(NotFound):
    pass


class SessionGone(ApiError):
    """The session is no more."""


class SessionNotFound(NotFound, SessionGone):
    status = 404


class SessionExpired(SessionGone):
    status = 410


class Conflict(ApiError):
    status = 409


class IdempotencyConflict(Conflict):
    """The first request with this key is still under way."""


class TurnInProgress(Conflict):
    """An earlier turn waits or runs, and `when_busy` was "reject"."""


class AgentCancelled(Conflict):
    """The turn was cancelled before the agent had said anything."""


class SessionRenewalFailed(ApiError):
    status = 422


class IdempotencyKeyReused(ApiError):
    status = 422


class RateLimited(ApiError):
    status = 429


class ServerError(ApiError):
    status = 500


class AgentFailed(ServerError):
    """The message is stored; the agent did not answer it."""

    status = 502


class AgentTimeout(AgentFailed):
    status = 504


class Overloaded(ServerError):
    status = 503


class StoreUnavailable(ServerError):
    status = 503


_BY_CODE: Mapping[str, type[ApiError]] = {
    "VALIDATION_ERROR": BadRequest,
    "UNAUTHENTICATED": Unauthenticated,
    "FORBIDDEN": Forbidden,
    "NOT_FOUND": NotFound,
    "AGENT_NOT_FOUND": AgentNotFound,
    "SESSION_NOT_FOUND": SessionNotFound,
    "IDEMPOTENCY_CONFLICT": IdempotencyConflict,
    "TURN_IN_PROGRESS": TurnInProgress,
    "AGENT_CANCELLED": AgentCancelled,
    "SESSION_EXPIRED": SessionExpired,
    "SESSION_RENEWAL_FAILED": SessionRenewalFailed,
    "IDEMPOTENCY_KEY_REUSED": IdempotencyKeyReused,
    "RATE_LIMITED": RateLimited,
    "INTERNAL_ERROR": ServerError,
    "AGENT_FAILED": AgentFailed,
    "OVERLOADED": Overloaded,
    "STORE_UNAVAILABLE": StoreUnavailable,
    "AGENT_TIMEOUT": AgentTimeout,
}


def error_of(
    body: Any,
    *,
    status: int | None = None,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> ApiError:
    """The error that an answer's JSON tells; without one of Vigil's it is somebody else's answer."""
    if not (isinstance(body, dict) and isinstance(body.get("code"), str)):
        message = f"Something between here and the server answered {status}"
        return GatewayFailed(
            message, code=f"HTTP_{status}", status=status, request_id=request_id, retry_after_s=retry_after_s
        )
    details = body.get("details")
    return _BY_CODE.get(body["code"], ApiError)(
        str(body.get("message", "")),
        code=body["code"],
        details=details if isinstance(details, dict) else {},
        request_id=request_id,
        status=status,
        retry_after_s=retry_after_s,
    )
