"""Quart-Trio as a way in: a view for each row of the route table, and the one error shape for the rest.

It turns Quart's requests into `Request` and `Reply` into Quart's responses. It decides nothing.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio
from hypercorn.typing import ASGISendCallable
from quart import Response, has_request_context, request, websocket
from quart.typing import ResponseTypes
from quart.wrappers import Request as QuartRequest
from quart.wrappers import Websocket
from quart.wrappers.base import BaseRequestWebsocket
from quart.wrappers.response import IterableBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.exceptions import MethodNotAllowed as WrongMethod
from werkzeug.routing import Rule

from vigil.actors.core.errors import Overloaded
from vigil.server.api import gateway
from vigil.server.api.auth import SUBPROTOCOL
from vigil.server.api.call import Reply, Site
from vigil.server.api.errors import MethodNotAllowed, PayloadTooLarge, RequestError, RouteNotFound
from vigil.server.api.routes import ROUTES, Route
from vigil.server.front import events_socket as stream
from vigil.server.front.routing import match
from vigil.server.input.schemas import Invalid

BODY_TIMEOUT_S = 30.0


def make_app(site: Site, *, body_timeout_s: float = BODY_TIMEOUT_S) -> QuartTrio:
    """The ASGI application of one site."""
    app = _App(site.root_path)
    app.asgi_http_class = _Connection
    app.config["MAX_CONTENT_LENGTH"] = gateway.BODY_BYTES_MAX  # so much does Quart collect before it is asked
    app.config["BODY_TIMEOUT"] = None
    for route in ROUTES:
        path = route.path.replace("{", "<").replace("}", ">")
        app.add_url_rule(
            path,
            route.name,
            _view(site, route, body_timeout_s),
            methods=[route.method],
            provide_automatic_options=False,
        )
        if route.is_websocket:
            app.add_websocket(path, route.name + _SOCKET, _socket_view(site, route))
    app.register_error_handler(HTTPException, _refuser(site, body_timeout_s))
    return app


_SOCKET = "Socket"  # what the endpoint of a row's WebSocket has after the row's name


class _App(QuartTrio):
    """Quart with the table's own matching, for all ways in to match alike: Quart's merges slashes and decodes."""

    def __init__(self, root_path: str) -> None:
        super().__init__("vigil", static_folder=None)
        self._root_path = root_path
        self._rules: dict[str, Rule] = {}

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> Any:
        if request is None:
            return None
        if not self._rules:
            self._rules = {rule.endpoint: rule for rule in self.url_map.iter_rules()}
        return _Matcher(self._rules, request, self._root_path)


class _Matcher:
    """What Quart asks which rule a request or WebSocket is for. Raises werkzeug's NotFound or MethodNotAllowed."""

    def __init__(self, rules: Mapping[str, Rule], head: BaseRequestWebsocket, root_path: str) -> None:
        self._rules = rules
        self._head = head
        self._root_path = root_path

    def match(self, *, return_rule: bool) -> tuple[Rule, Mapping[str, str]]:  # noqa: ARG002  Quart's call
        try:
            route, session_id = match(_method(self._head), _path(self._head), self._root_path)
        except MethodNotAllowed as error:
            raise WrongMethod(error.allowed.split(", ")) from None
        except RequestError:
            raise NotFound from None
        rule = self._rules.get(route.name + _SOCKET if isinstance(self._head, Websocket) else route.name)
        if rule is None:
            raise NotFound
        return rule, {"session_id": session_id} if "{sessionId}" in route.path else {}


def _path(head: BaseRequestWebsocket) -> str:
    """As it stands on the wire, where the ASGI server tells that; Quart's own is decoded."""
    raw = head.scope.get("raw_path")
    return raw.decode("latin-1") if raw else head.path


def _method(head: BaseRequestWebsocket) -> str:
    """As it stands on the wire; Quart's own is in upper case."""
    return str(head.scope.get("method", "GET"))


class _Connection(TrioASGIHTTPConnection):
    """Keeps the method as it stands, and closes a stream also when its client had gone before the first byte of it."""

    def _create_request_from_scope(self, send: ASGISendCallable) -> QuartRequest:
        # Hypercorn's own dict, in which it has the method in upper case: `head` would get no body.
        self.scope["method"] = self.scope.get("state", {}).get("method", self.scope["method"])
        return super()._create_request_from_scope(send)

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        try:
            await super()._send_response(send, response)
        finally:
            body = getattr(response, "response", None)
            if isinstance(body, IterableBody):
                async with body:
                    pass


class _Head:
    """The head of Quart's request, or of its WebSocket, as the gateway wants it."""

    def __init__(self, head: QuartRequest | Websocket, session_id: str) -> None:
        self._head = head
        self.session_id = session_id

    @property
    def method(self) -> str:
        return _method(self._head)

    @property
    def path(self) -> str:
        return _path(self._head)

    @property
    def query_string(self) -> bytes:
        return self._head.query_string

    def header(self, name: str) -> Sequence[str]:
        return self._head.headers.getlist(name)

    async def body(self, _bytes_max: int) -> bytes:
        """None: a WebSocket's handshake has no body."""
        return b""


class _QuartRequest(_Head):
    def __init__(self, quart_request: QuartRequest, session_id: str, body_timeout_s: float) -> None:
        super().__init__(quart_request, session_id)
        self._request = quart_request
        self._body_timeout_s = body_timeout_s

    async def body(self, bytes_max: int) -> bytes:
        if (self._request.content_length or 0) > bytes_max:
            raise PayloadTooLarge(bytes_max)
        await _ask_for_body(self._request)
        body = bytearray()
        with trio.move_on_after(self._body_timeout_s) as patience:
            try:
                async for chunk in self._request.body:
                    body += chunk
                    if len(body) > bytes_max:  # Quart bounds what it holds, not what it has handed out
                        raise PayloadTooLarge(bytes_max)
            except RequestEntityTooLarge:
                raise PayloadTooLarge(bytes_max) from None
        if patience.cancelled_caught:
            message = f"did not arrive within {self._body_timeout_s:g} seconds"
            raise Invalid([{"path": "", "message": message}])
        return bytes(body)


async def _ask_for_body(head: QuartRequest) -> None:
    """Tell a client that waits for `100 Continue` to go on: nothing that its headers tell refuses it."""
    go_on = head.scope.get("state", {}).get("go_on")
    if go_on is not None:
        await go_on()


def _current(session_id: str, body_timeout_s: float) -> _QuartRequest:
    # the request itself and not Quart's proxy, which looks it up for every attribute
    return _QuartRequest(request._get_current_object(), session_id, body_timeout_s)  # type: ignore[attr-defined]


def _socket() -> Websocket:
    socket: Websocket = websocket._get_current_object()  # type: ignore[attr-defined]
    return socket


def _view(site: Site, route: Route, body_timeout_s: float) -> Callable[..., Awaitable[Response]]:
    async def view(session_id: str = "") -> Response:
        return _response(await gateway.answer(site, route, _current(session_id, body_timeout_s)))

    return view


def _socket_view(site: Site, route: Route) -> Callable[..., Awaitable[Response | None]]:
    async def view(session_id: str) -> Response | None:
        socket = _socket()
        wrapped = _Head(socket, session_id)
        if not site.traffic.has_room_for_websocket:
            site.traffic.is_full("cannot open a WebSocket: the rest of the connections is for requests")
            return _response(gateway.refuse(site, wrapped, Overloaded("Too many WebSockets are open")))
        reply, subscription = await gateway.listen(site, route, wrapped)
        if subscription is None:
            return _response(reply)
        try:
            # of several headers Hypercorn sees the last, and takes no answer to the others
            chosen = SUBPROTOCOL if SUBPROTOCOL in socket.requested_subprotocols else None
            await socket.accept(Headers(reply.headers), chosen)
            with site.traffic.websocket():
                code = await stream.send_events(socket, subscription)
        finally:
            gateway.stop_listening(site, session_id, subscription)
        await socket.close(code)
        return None

    return view


def _refuser(site: Site, body_timeout_s: float) -> Callable[[HTTPException], Awaitable[Response]]:
    async def refuse(error: HTTPException) -> Response:
        if not has_request_context():
            handshake = _Head(_socket(), "")  # for a WebSocket where there is none, whatever else is there
            return _response(gateway.refuse(site, handshake, RouteNotFound(handshake.path)))
        wrapped = _current("", body_timeout_s)
        return _response(gateway.refuse(site, wrapped, _translated(error, wrapped)))

    return refuse


def _translated(error: HTTPException, wrapped: _QuartRequest) -> Exception:
    if isinstance(error, NotFound):
        return RouteNotFound(wrapped.path)
    if isinstance(error, WrongMethod):
        return MethodNotAllowed(wrapped.method, tuple(error.valid_methods or ()))
    return error


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status, Headers(reply.headers))
    if not reply.body:
        del response.headers["Content-Type"]
    if not isinstance(reply.body, bytes):
        response.timeout = None  # a stream goes on for as long as the agent does
    return response
