"""The API's description in OpenAPI 3.1, made from the route table and the table of failures.

A row says what its operation takes and answers. What can go wrong follows from the same row: `_GIVEN_BY` says for
each kind of error which rows give it. Nothing here knows a route by name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from vigil.actors.core.errors import (
    AgentNotFound,
    KeyInFlight,
    KeyReused,
    Overloaded,
    RateLimited,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
)
from vigil.server.api.auth import Forbidden, Unauthenticated
from vigil.server.api.errors import OriginRefused, PayloadTooLarge, UnsupportedMediaType, failure_of
from vigil.server.api.routes import Route, Subject
from vigil.server.docs import event_schemas, examples
from vigil.server.docs.openapi_schemas import Described, Json, schemas_of
from vigil.server.input.schemas import ErrorBody, Invalid, NoBody
from vigil.server.input.strict_json import BadJson

_JSON = "application/json"

_DESCRIPTION = """\
Sessions between users and agents: created with timeouts, kept alive by activity, ended on time.

Times are ISO-8601 UTC with milliseconds, durations in the unit that their name says, `timeRemaining` and cursors in
milliseconds. Request bodies are strict: unknown fields, duplicate keys and values out of range are refused, never
clamped. HEAD follows GET.

Every error has the same shape; `code` says what happened. Besides those listed with each operation, an unknown path
is 404 `NOT_FOUND` (a path is taken as it stands: a trailing slash, an empty segment or an encoded letter makes another
one) and a method that a path does not take 405
`METHOD_NOT_ALLOWED`, with `Allow`.

Limits are exact sliding windows: by default 60 requests a minute per session, 1000 an hour per user, 5000 an hour
per agent. A 429 is charged nowhere, and its `Retry-After` is when the same request is admitted."""

_TAGS = {
    "Sessions": "Begin, find and end sessions.",
    "Messages": "Talk to the agent and read what was said.",
    "Keeping alive": "Decide how long a session lives.",
    "Service": "How the server is, and what it can do.",
}

_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or the `sessionToken` of a session for that session alone. "
        "When both headers come, this one decides.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-KEY",
        "description": "The same credentials in another header.",
    },
}

_PARAMETERS: Mapping[str, Json] = {
    "sessionId": {
        "name": "sessionId",
        "in": "path",
        "required": True,
        "description": "The id that create answered with, in any case. An unknown one, and one that is no UUID, "
        "is 404.",
        "schema": {"type": "string", "format": "uuid", "examples": [examples.SESSION_ID]},
    },
    "messageId": {
        "name": "messageId",
        "in": "path",
        "required": True,
        "description": "The id of one of the session's messages, in any case.",
        "schema": {"type": "string", "format": "uuid", "examples": [examples.MESSAGE_ID]},
    },
    "idempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes a retry safe: for 24 hours the same key with the same body gives the same answer "
        "again, and nothing is done twice.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["order-66-first-try"]},
    },
    "requestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "Comes back with the answer and is in the server's log, when it is 1 to 128 visible ASCII "
        "characters; else the server makes one.",
        "schema": {"type": "string", "examples": [examples.REQUEST_ID]},
    },
}


def _header(description: str, example: str | int, *, required: bool = True) -> Json:
    kind = "integer" if isinstance(example, int) else "string"
    return {"description": description, "required": required, "schema": {"type": kind}, "example": example}


_HEADERS: Mapping[str, Json] = {
    "X-Request-Id": _header("The request's own id, or one that the server made.", examples.REQUEST_ID),
    "Cache-Control": _header("Nothing is to be kept.", "no-store"),
    "Vigil-Time-Scale": _header("How fast session time runs, when it is not 1.", 60, required=False),
    "RateLimit-Policy": _header(
        "The limits that this request counted for: `q` requests in any `w` seconds.",
        '"session";q=60;w=60, "user";q=1000;w=3600, "agent";q=5000;w=3600',
        required=False,
    ),
    "RateLimit": _header(
        "Where they stand: `r` requests are left, and in `t` seconds there is one more.",
        '"session";r=59;t=60, "user";r=999;t=3600, "agent";r=4999;t=3600',
        required=False,
    ),
    "Retry-After": _header("After so many seconds it is worth trying again.", 13),
    "WWW-Authenticate": _header(
        "The challenge of RFC 6750.", 'Bearer realm="vigil", error="invalid_token"', required=False
    ),
    "Allow": _header("The methods that this path takes.", "DELETE, GET, HEAD"),
}
_ALWAYS = ("X-Request-Id", "Cache-Control", "Vigil-Time-Scale")
_RATES = ("RateLimit-Policy", "RateLimit")

# Operations that are named for their path, as verbs: generators make functions of them.
_VERBS = {
    "heartbeat": "sendHeartbeat",
    "livez": "getLiveness",
    "readyz": "getReadiness",
    "metrics": "getMetrics",
    "openapi": "getOpenapi",
    "docs": "getDocs",
}

# The statuses that come before a request is charged, in the order of checks of spec section 6.
_UNCHARGED: Mapping[Subject, frozenset[int]] = {
    "session": frozenset({401, 403, 404, 410}),
    "new session": frozenset({400, 401, 403, 404, 413, 415}),
}


def _is_checked(route: Route) -> bool:
    return route.subject != "anybody"


def _is_charged(route: Route) -> bool:
    return route.subject in _UNCHARGED


def _takes_body(route: Route) -> bool:
    return route.body is not None


def _takes_key(route: Route) -> bool:
    return route.idempotent


def _changes_something(route: Route) -> bool:
    return route.method != "GET"


_GIVEN_BY: Mapping[type[Exception], Callable[[Route], bool]] = {
    Invalid: _is_checked,
    BadJson: _takes_body,
    Unauthenticated: _is_checked,
    Forbidden: lambda route: route.scope is not None,
    OriginRefused: lambda route: route.is_websocket,
    AgentNotFound: lambda route: route.subject == "new session",
    SessionNotFound: lambda route: route.subject == "session",
    SessionExpired: lambda route: route.subject == "session" and not route.ends_what_is_left,
    KeyInFlight: _takes_key,
    PayloadTooLarge: _takes_body,
    UnsupportedMediaType: lambda route: route.body not in (None, NoBody),
    KeyReused: _takes_key,
    RateLimited: _is_charged,
    Overloaded: _changes_something,
    StoreUnavailable: _changes_something,
    examples.InternalError: lambda _: True,
}


def document(routes: Sequence[Route], root_path: str = "") -> Json:
    """The whole OpenAPI document. What many operations share stands once, under `components`."""
    bodies = (model for route in routes for model in (route.body, route.answer) if model is not None)
    schemas, definitions = schemas_of((*bodies, ErrorBody))
    responses = {
        type(error).__name__: _refusal([error], schemas[ErrorBody])
        for error in examples.ERRORS
        if not any(_gives(route, type(error)) for route in routes)  # routing itself gives these
    }
    paths: dict[str, Json] = {}
    for route in routes:
        operation = _operation(route, routes, schemas, responses)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Vigil Sessions API",
            "version": version("vigil-sessions"),
            "summary": "Sessions between users and agents, durable and on time.",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": root_path or "/", "description": "This server"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": definitions,
            "parameters": dict(_PARAMETERS),
            "headers": dict(_HEADERS),
            "responses": responses,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def operation_id(route: Route) -> str:
    """A verb, for generators."""
    return _VERBS.get(route.name, route.name)


def errors_of(route: Route) -> list[Exception]:
    """An example of each error that an operation can give, in the order of their statuses."""
    given = [error for error in examples.ERRORS if _gives(route, type(error))]
    return sorted(given, key=_status)


def _gives(route: Route, error: type[Exception]) -> bool:
    return error in route.raises or (error in _GIVEN_BY and _GIVEN_BY[error](route))


def _status(error: Exception) -> int:
    return failure_of(error).status


# --- one operation


def _operation(
    route: Route, routes: Sequence[Route], schemas: Mapping[Any, Json], responses: dict[str, Json]
) -> Json:
    operation: Json = {
        "operationId": operation_id(route),
        "tags": [route.tag],
        "summary": route.summary,
        "description": route.description,
        "security": _security(route),
        "parameters": list(_parameters(route)),
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body, schemas[route.body])
    operation["responses"] = _answers(route, routes, schemas) | _refusals(
        route, schemas[ErrorBody], responses
    )
    return operation


def _security(route: Route) -> list[Json]:
    if not _is_checked(route):
        return []
    scopes = [route.scope] if route.scope else []
    return [{scheme: scopes} for scheme in _SECURITY_SCHEMES]


def _parameters(route: Route) -> Iterable[Json]:
    if "{sessionId}" in route.path:
        yield _ref("parameters", "sessionId")
    if "{messageId}" in route.path:
        yield _ref("parameters", "messageId")
    yield from _query_parameters(route.query)
    if route.idempotent:
        yield _ref("parameters", "idempotencyKey")
    yield _ref("parameters", "requestId")


def _query_parameters(model: type[BaseModel]) -> Iterable[Json]:
    schema = model.model_json_schema(schema_generator=Described)
    for name, value in schema.get("properties", {}).items():
        rest = {key: entry for key, entry in value.items() if key != "description"}
        required = name in schema.get("required", ())
        yield {
            "name": name,
            "in": "query",
            "required": required,
            "description": value["description"],
            "schema": rest,
        }


def _request_body(model: type[BaseModel], schema: Json) -> Json:
    example = model.model_json_schema(schema_generator=Described).get("examples", [{}])[0]
    content = {_JSON: {"schema": schema, "example": example}}
    return {"required": model is not NoBody, "content": content}


# --- answers


def _answers(route: Route, routes: Sequence[Route], schemas: Mapping[Any, Json]) -> Json:
    answer = _answer(route, route.status, schemas, examples.ANSWERS)
    if route.subject == "new session":
        answer["links"] = {linked.name: _link(linked) for linked in routes if linked.path.count("{") == 1}
    answers = {str(route.status): answer}
    if route.other_status is not None:
        answers[str(route.other_status)] = _answer(route, route.other_status, schemas, examples.OTHER_ANSWERS)
    return answers


def _answer(route: Route, status: int, schemas: Mapping[Any, Json], shown: Mapping[Any, Any]) -> Json:
    answer: Json = {
        "description": HTTPStatus(status).phrase,
        "headers": _header_refs(counted=_counts(route, status)),
    }
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        answer["description"] += ": from now on each text frame is an event"
        answer["content"] = {
            _JSON: {"schema": schemas[event_schemas.Event], "example": event_schemas.EXAMPLE}
        }
    else:
        answer["content"] = _content(route, schemas, shown)
    return answer


def _content(route: Route, schemas: Mapping[Any, Json], shown: Mapping[Any, Any]) -> Json:
    if route.answer is None:
        return {route.media_type: {"schema": {"type": "string"}}}
    entry = {"schema": schemas[route.answer]}
    if route.answer in shown:
        entry["example"] = shown[route.answer]
    stream = {"text/event-stream": {"schema": schemas[event_schemas.StreamedEvent]}} if route.streams else {}
    return {route.media_type: entry, **stream}


def _link(route: Route) -> Json:
    return {"operationId": operation_id(route), "parameters": {"sessionId": "$response.body#/sessionId"}}


# --- errors


def _refusals(route: Route, schema: Json, responses: dict[str, Json]) -> Json:
    """A reference for each status, to a response that operations with the same errors share."""
    refusals = {}
    for status, group in groupby(errors_of(route), key=_status):
        errors, counted = list(group), _counts(route, status)
        name = ("Counted" if counted else "") + "Or".join(type(error).__name__ for error in errors)
        responses.setdefault(name, _refusal(errors, schema, counted=counted))
        refusals[str(status)] = _ref("responses", name)
    return refusals


def _refusal(errors: Sequence[Exception], schema: Json, *, counted: bool = False) -> Json:
    """Of errors with the same status."""
    own = sorted({name for error in errors for name, _ in failure_of(error).headers(error)})
    return {
        "description": f"{HTTPStatus(_status(errors[0])).phrase}: {_codes(errors)}",
        "headers": _header_refs(own, counted=counted),
        "content": {_JSON: {"schema": schema, "examples": _error_examples(errors)}},
    }


def _codes(errors: Sequence[Exception]) -> str:
    """In words and not in a schema: one shape of error for all is what a generator makes something good of."""
    return " or ".join(f"`{code}`" for code in dict.fromkeys(failure_of(error).code for error in errors))


def _error_examples(errors: Sequence[Exception]) -> Json:
    bodies = {type(error).__name__: examples.told(error) for error in errors}
    return {name: {"summary": body["message"], "value": body} for name, body in bodies.items()}


def _counts(route: Route, status: int) -> bool:
    return route.subject in _UNCHARGED and status not in _UNCHARGED[route.subject]


def _header_refs(own: Sequence[str] = (), *, counted: bool) -> Json:
    return {name: _ref("headers", name) for name in (*own, *(_RATES if counted else ()), *_ALWAYS)}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}
