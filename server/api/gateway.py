"""One request from its headers to its answer, in the order of checks of spec section 6. No web framework in it.

An adapter (Quart, or a parser on a bare stream) finds the route and hands over a `Request`; what comes back is a
whole `Reply`. So every way in behaves the same.

    on create        401 403 413/415 400 404 429 409/422 503
    on a session     401 403 404/410 429 413/415 400 409/422 503
"""

import logging
import re
from collections.abc import Callable, Coroutine, Iterable
from functools import cache, lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import structlog
import trio
from pydantic import BaseModel

from vigil.actors.callbacks import await_callback
from vigil.actors.core.commands import Transition
from vigil.actors.core.errors import RateLimited, RecordDamaged, SessionBroken, SessionExpired
from vigil.actors.core.records import maker
from vigil.actors.hub.hub import Subscription
from vigil.actors.runtime.actor import SessionActor
from vigil.server.api import answers, cors, operations, quota_headers
from vigil.server.api.auth import authorize
from vigil.server.api.call import Call, Reply, Request, Site, WholeRequest
from vigil.server.api.errors import (
    INTERNAL,
    MethodNotAllowed,
    OriginRefused,
    RouteNotFound,
    UnsupportedMediaType,
    error_body,
    failure_of,
)
from vigil.server.api.results import Body, Deferred, Immediate, Streaming
from vigil.server.api.routes import Route, Subject
from vigil.server.docs import welcome
from vigil.server.input import strict_json
from vigil.server.input.schemas import Invalid, NoBody, validate_body, validate_query

log = structlog.get_logger()

BODY_BYTES_MAX = 256 * 1024

_REQUEST_ID = re.compile("[!-~]{1,128}")
_IDEMPOTENCY_KEY = re.compile("[!-~]{1,255}")
_JSON = "Content-Type: application/json\r\n"
_NO_BODY = NoBody()
_PERSONS_PAGE = "welcome"  # no operation, so no recording has it: its Accept header would be missing there
_reply = maker(Reply)


async def answer(site: Site, route: Route, request: Request) -> Reply:
    """Carry out one request. Raises nothing but cancellation."""
    call = _call(site, request)
    checks = _CHECKS[route.subject]
    try:
        checks.of_head(call, route)
        if route.body is not None:
            call.raw_body = await request.body(BODY_BYTES_MAX)
        checks.of_rest(call, route)
        result = route.operation(call)
    except Exception as error:
        return _finish(call, route.name, _refusal(call, error))
    except trio.Cancelled:
        _client_has_gone(call, route)
        raise
    if isinstance(result, Immediate | Deferred):
        return await await_callback(partial(_carry_out, call, route, result))
    return await _in_task(call, route, result)


def begin(
    site: Site, route: Route, request: WholeRequest, then: Callable[[Reply], None]
) -> Coroutine[Any, Any, Reply] | None:
    """`answer` without a task: `then` gets the reply, at once or when what was asked is committed, and must not raise.

    What takes time of its own is given back, for a task to wait for.
    """
    call = _call(site, request)
    call.charge_now()
    checks = _CHECKS[route.subject]
    try:
        checks.of_head(call, route)
        call.raw_body = request.content
        checks.of_rest(call, route)
        result = route.operation(call)
    except Exception as error:
        then(_finish(call, route.name, _refusal(call, error)))
        return None
    if not isinstance(result, Immediate | Deferred):
        return _in_task(call, route, result)
    _carry_out(call, route, result, then)
    return None


def _carry_out(call: Call, route: Route, result: Immediate | Deferred, then: Callable[[Reply], None]) -> None:
    """Give `then` the reply: at once, or when what was asked of the actors is committed."""
    if isinstance(result, Deferred):
        result.tell(partial(_on_result, call, route, result.encode, then))
    else:
        then(_finish(call, route.name, _success(call, route, result)))


def _on_result(
    call: Call,
    route: Route,
    encode: Callable[[Transition], bytes],
    then: Callable[[Reply], None],
    outcome: Transition | Exception,
) -> None:
    """The actors' callback: what was asked is committed, or refused."""
    try:
        reply = (
            _refusal(call, outcome)
            if isinstance(outcome, Exception)
            else _success(call, route, encode(outcome))
        )
    except Exception as error:
        reply = _refusal(call, error)
    then(_finish(call, route.name, reply))


async def _in_task(call: Call, route: Route, result: Streaming) -> Reply:
    """The reply of work that waits more than once."""
    try:
        reply = _success(call, route, await result)
    except Exception as error:
        reply = _refusal(call, error)
    except trio.Cancelled:
        _client_has_gone(call, route)
        raise
    return _finish(call, route.name, reply)


def _client_has_gone(call: Call, route: Route) -> None:
    if call.site.record is not None:
        call.site.record(call, route.name, None)


async def listen(site: Site, route: Route, request: Request) -> tuple[Reply, Subscription | None]:
    """Let a WebSocket in or not: with the subscription the reply is a 101, else an error."""
    call = _call(site, request)
    try:
        checks = _CHECKS[route.subject]
        checks.of_head(call, route)
        checks.of_rest(call, route)
        subscription = operations.listen(call)
        site.listeners[subscription] = call.caller
        if not site.ready:
            subscription.end("stopping")
        reply = Reply(101, "", b"")
    except Exception as error:
        subscription, reply = None, _refusal(call, error)
    return _finish(call, route.name, reply), subscription


def stop_listening(site: Site, session_id: str, subscription: Subscription) -> None:
    site.listeners.pop(subscription, None)
    site.directory.hub.unsubscribe(session_id, subscription)


def refuse(site: Site, request: Request, error: Exception) -> Reply:
    """The answer to a request that no route takes."""
    call = _call(site, request)
    if isinstance(error, MethodNotAllowed) and cors.is_preflight(call):
        return _finish(call, "preflight", Reply(204, _lines(cors.preflight_headers(error)), b""))
    if isinstance(error, RouteNotFound) and welcome.is_wanted(request):
        return _welcome(call)
    return _finish(call, "none", _refusal(call, error))


def _welcome(call: Call) -> Reply:
    html, policy = welcome.page()
    call.headers = [("Content-Security-Policy", policy)]
    return _finish(call, _PERSONS_PAGE, Reply(200, _content_type("text/html; charset=utf-8"), html))


def charge(call: Call, actor: SessionActor) -> None:
    """Count one request for a live session, its user and its agent. Raises RateLimited."""
    call.session = session = actor.session
    call.quotas = call.directory.limits.admit(call.now, session.user_id, session.agent_id, session.id)


# --- what is checked, in which order: first what the head tells, then the body and the query


def _nothing(call: Call, route: Route) -> None:
    """Liveness, readiness, documentation: nothing to check."""


def _let_in(call: Call, route: Route) -> None:
    header = call.request.header
    offered = subprotocols(call.request) if route.is_websocket else ()
    call.principal = call.site.auth.authenticate(header("authorization"), header("x-api-key"), offered)
    if route.scope is not None:
        authorize(call.principal, route.scope, call.session_id or None)
    if route.is_websocket:
        _check_origin(call)


def _let_in_and_charge(call: Call, route: Route) -> None:
    _let_in(call, route)
    call.actor = _live_actor(call, route)
    if call.actor is not None:
        charge(call, call.actor)


def _read_query(call: Call, route: Route) -> None:
    call.query = _query(call, route)


def _read(call: Call, route: Route) -> None:
    """Body, query and idempotency key, as far as the route has a use for them."""
    if route.body is not None:
        call.body = _body(call, route.body)
    call.query = _query(call, route)
    if route.idempotent:
        call.idempotency_key = _idempotency_key(call.request)


def _read_and_charge(call: Call, route: Route) -> None:
    _read(call, route)
    agent_id, user_id = call.body.agent_id, call.body.user_id
    call.directory.agent(agent_id)
    call.quotas = call.directory.limits.admit(call.now, user_id, agent_id)


class _Checks(NamedTuple):
    of_head: Callable[[Call, Route], None]
    of_rest: Callable[[Call, Route], None]


_CHECKS: dict[Subject, _Checks] = {
    "anybody": _Checks(_nothing, _nothing),
    "service": _Checks(_let_in, _read_query),
    "new session": _Checks(_let_in, _read_and_charge),
    "session": _Checks(_let_in_and_charge, _read),
}


# --- their steps


def subprotocols(request: Request) -> list[str]:
    """What a WebSocket client offers, in its order."""
    offered = ",".join(request.header("sec-websocket-protocol"))
    return [name.strip() for name in offered.split(",") if name.strip()]


def _check_origin(call: Call) -> None:
    """A browser names the page's origin, and lets any page connect: ours and the listed ones may."""
    origin = cors.origin(call)
    if origin and not cors.is_own(call) and not cors.is_allowed(call):
        raise OriginRefused(origin)


def _live_actor(call: Call, route: Route) -> SessionActor | None:
    """The session's actor; None when the session is over and the route ends what is left of it."""
    try:
        return call.directory.find(call.session_id, call.now)
    except (SessionExpired, SessionBroken):
        if route.ends_what_is_left:
            return None
        raise


def _body(call: Call, model: type[BaseModel]) -> BaseModel:
    needs_none = model is NoBody
    if needs_none and not call.raw_body:
        return _NO_BODY
    if call.raw_body:
        _check_media_type(call.request, of_any_type=needs_none)
    return validate_body(model, strict_json.parse(call.raw_body))


def _check_media_type(request: Request, *, of_any_type: bool) -> None:
    """Raises UnsupportedMediaType, which says what it is that cannot be read."""
    types = () if of_any_type else tuple(request.header("content-type")) or ("",)
    wrong = _unreadable(types, tuple(request.header("content-encoding")))
    if wrong is not None:
        raise UnsupportedMediaType(wrong)


@lru_cache(maxsize=256)
def _unreadable(content_types: tuple[str, ...], encodings: tuple[str, ...]) -> str | None:
    """What is wrong with a body of such headers, in words; None for nothing. Most requests have the same ones."""
    found = map(strict_json.wrong_type, content_types), map(strict_json.wrong_encoding, encodings)
    return next((wrong for wrong in chain(*found) if wrong is not None), None)


def _query(call: Call, route: Route) -> BaseModel:
    if not call.request.query_string:
        return _no_query(route.query)
    text = call.request.query_string.decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Invalid([{"path": "", "message": "the query is not UTF-8"}]) from None
    return validate_query(route.query, pairs)


@cache
def _no_query(model: type[BaseModel]) -> BaseModel:
    """No query has a field that must be there. Models are frozen, so one will do for all."""
    return validate_query(model, [])


def _idempotency_key(request: Request) -> str | None:
    values = request.header("idempotency-key")
    if not values:
        return None
    if len(values) == 1 and _IDEMPOTENCY_KEY.fullmatch(values[0]):
        return values[0]
    raise Invalid([{"path": "Idempotency-Key", "message": "must be 1 to 255 visible ASCII characters"}])


# --- what goes out with every answer


def _call(site: Site, request: Request) -> Call:
    given = request.header("x-request-id")
    is_good = len(given) == 1 and _REQUEST_ID.fullmatch(given[0])
    return Call(site, request, given[0] if is_good else site.new_id(), site.directory.clock.current_s())


def _refusal(call: Call, error: Exception) -> Reply:
    failure = failure_of(error)
    if isinstance(error, RateLimited):
        call.quotas = error.refused.quotas
    if isinstance(error, RecordDamaged):
        if call.actor is not None:
            call.actor.take_out_of_service(error)
    elif failure is INTERNAL and not isinstance(error, SessionBroken):
        log.error("a request crashed", request_id=call.request_id, exc_info=error)
    body = answers.encode(error_body(error, call.request_id))
    return Reply(failure.status, _JSON + _lines(failure.headers(error)), body)


def _success(call: Call, route: Route, body: Body) -> Reply:
    return _reply((call.status or route.status, _content_type(call.media_type or route.media_type), body))


@cache
def _content_type(media_type: str) -> str:
    return _lines([("Content-Type", media_type)])


def _lines(headers: Iterable[tuple[str, str]]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in headers])


def _finish(call: Call, route_name: str, reply: Reply) -> Reply:
    site, quotas, (status, head, body) = call.site, call.quotas, reply
    head = f"{head}{site.every_head}X-Request-Id: {call.request_id}\r\n"
    if quotas:
        head += quota_headers.lines(quotas)
    if call.headers:
        head += _lines(call.headers)
    if site.allowed_origins:
        head += _lines(cors.headers(call))
    reply = _reply((status, head, body))
    _note(call, route_name, status)
    if site.record is not None and route_name != _PERSONS_PAGE:
        site.record(call, route_name, reply)
    return reply


def _note(call: Call, route_name: str, status: int) -> None:
    site = call.site
    seconds = site.directory.clock.current_s() - call.began_s
    site.metrics.request(route_name, status, seconds)
    if not site.logs_requests or not log.is_enabled_for(logging.INFO):
        return
    log.info(
        "request",
        method=call.request.method,
        path=call.request.path,
        status=status,
        ms=round(seconds * 1000, 2),
        request_id=call.request_id,
        caller=call.principal.name if call.principal else None,
    )
