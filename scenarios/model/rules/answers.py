"""The shape of answers, whatever they are about: errors, challenges, headers, streams (spec sections 1, 4, 6, 9)."""

from typing import Any

import orjson

from vigil.scenarios.model.observed import Answered, Violation, Why
from vigil.scenarios.model.world import Json

CODES = {
    400: ("VALIDATION_ERROR",),
    401: ("UNAUTHENTICATED",),
    403: ("FORBIDDEN",),
    404: ("AGENT_NOT_FOUND", "SESSION_NOT_FOUND", "NOT_FOUND"),
    405: ("METHOD_NOT_ALLOWED",),
    409: ("IDEMPOTENCY_CONFLICT", "TURN_IN_PROGRESS", "AGENT_CANCELLED"),
    410: ("SESSION_EXPIRED",),
    413: ("PAYLOAD_TOO_LARGE",),
    415: ("UNSUPPORTED_MEDIA_TYPE",),
    422: ("SESSION_RENEWAL_FAILED", "IDEMPOTENCY_KEY_REUSED"),
    429: ("RATE_LIMITED",),
    502: ("AGENT_FAILED",),
    503: ("OVERLOADED", "STORE_UNAVAILABLE"),
    504: ("AGENT_TIMEOUT",),
}
_DETAILS = {
    "VALIDATION_ERROR": {"errors"},
    "AGENT_NOT_FOUND": {"agentId"},
    "SESSION_NOT_FOUND": {"sessionId"},
    "TURN_IN_PROGRESS": {"messageId"},
    "AGENT_CANCELLED": {"userMessage"},
}
_NEEDED_HEADERS = {401: "www-authenticate", 405: "allow", 429: "retry-after", 503: "retry-after"}


def read(answer: Answered, number: int) -> Any:
    """The body, whose shape is right if it is an error. A stream is its message with the outcome of its turn."""
    headers = answer.headers
    if headers.get("cache-control") != "no-store" or not headers.get("x-request-id"):
        raise Violation("1 headers", "an answer has no Cache-Control: no-store or no X-Request-Id", number)
    if headers.get("content-type", "").startswith("text/event-stream"):
        return _stream(answer.body, number)
    if not headers.get("content-type", "").startswith("application/json"):
        return None
    body = orjson.loads(answer.body)
    if answer.status in CODES and body.keys() != _NO_ERROR:
        check_error(body, answer.status, number)
        if _NEEDED_HEADERS.get(answer.status, "x-request-id") not in headers:
            raise Violation("9 headers", f"a {answer.status} has no {_NEEDED_HEADERS[answer.status]}", number)
    elif answer.status not in (200, 201, 503):
        raise Violation("9 status", f"answered {answer.status}: {body}", number)
    return body


def check_error(body: Json, status: int, number: int) -> None:
    code = body.get("code", "")
    stem = code.removesuffix("_ERROR").removesuffix("_FAILED")
    name = "".join(map(str.capitalize, stem.split("_"))) + "Error"
    is_whole = (
        list(body) == ["error", "code", "message", "details"] and body["error"] == name and body["message"]
    )
    if not is_whole or code not in CODES[status] or not _DETAILS.get(code, set()) <= body["details"].keys():
        raise Violation("9 errors", f"a {status} says {body}", number)
    if code == "VALIDATION_ERROR" and not body["details"]["errors"]:
        raise Violation("9 errors", "a 400 names no problem", number)


def check_challenge(answer: Answered, credential: str, number: int) -> None:
    """RFC 6750: what was not presented has no error, what was is named."""
    challenge = answer.headers.get("www-authenticate", "")
    wanted = {401: "invalid_token", 403: "insufficient_scope"}[answer.status]
    is_named = f'error="{wanted}"' in challenge
    if (
        not challenge.startswith("Bearer")
        or is_named != (credential != "none")
        or (not is_named and "error" in challenge)
    ):
        raise Violation("6 challenge", f"a {answer.status} for {credential} says {challenge!r}", number)


def difference(body: Json, expected: Json, path: str = "body") -> Why:
    """Between what came, at this path of the answer, and what should have come."""
    names = [name for name in {**expected, **body} if body.get(name) != expected.get(name)]
    told = "; ".join(f"{name} is {body.get(name)!r}, not {expected.get(name)!r}" for name in names)
    return Why(
        told or "a field twice", {f"{path}.{name}": expected[name] for name in names if name in expected}
    )


_NO_ERROR = {"status", "activeSessions", "timestamp", "expiringSoon", "invalidSessions", "uptime"}


def _stream(text: bytes, number: int) -> Json:
    """`userMessage`, pieces of the reply, then `agentResponse` or `error`."""
    blocks = [block for block in text.split(b"\n\n") if block and not block.startswith(b":")]
    frames = [block.partition(b"\ndata: ")[::2] for block in blocks]
    kinds = [kind.removeprefix(b"event: ").decode() for kind, _ in frames]
    if kinds[:1] != ["userMessage"] or set(kinds[1:-1]) - {"chunk"}:
        raise Violation("4 sse", f"a stream of {kinds}", number)
    body: Json = orjson.loads(frames[0][1])
    if kinds[-1] in ("agentResponse", "error"):
        body[kinds[-1]] = orjson.loads(frames[-1][1])
    pieces = "".join(
        orjson.loads(data[1])["text"] for kind, data in zip(kinds, frames, strict=True) if kind == "chunk"
    )
    if "agentResponse" in body and pieces not in body["agentResponse"]["content"]:
        raise Violation("4 sse", f"chunks {pieces!r} are no part of the answer", number)
    return body
