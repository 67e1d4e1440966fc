"""A way in without bytes: requests as values, straight to the gateway. For servers inside one's own process.

Nothing of HTTP's framing is here, so nothing of it is tested by it; everything behind it is the real thing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import orjson
import trio

from vigil.actors.hub.hub import Subscription
from vigil.server.api import gateway
from vigil.server.api.call import Reply, Request, Site
from vigil.server.api.errors import PayloadTooLarge, RequestError
from vigil.server.api.wire_events import frame
from vigil.server.front.events_socket import CLOSE_CODES
from vigil.server.front.routing import match

Headers = Sequence[tuple[str, str]]
Content = bytes | Callable[[], Awaitable[bytes]]


class Answer(NamedTuple):
    """A whole answer. A stream's body has been read to its end."""

    status: int
    headers: Headers
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first value of a header; `name` in any case."""
        wanted = name.lower()
        return next((value for known, value in self.headers if known.lower() == wanted), None)


class Listener:
    """An events WebSocket, open when `answer.status` is 101. Iterate for its frames, each one JSON object."""

    def __init__(self, answer: Answer, subscription: Subscription | None) -> None:
        self.answer = answer
        self.close_code: int | None = None  # once the server has closed it
        self._subscription = subscription

    def __aiter__(self) -> "Listener":
        return self

    async def __anext__(self) -> str:
        if self._subscription is None:
            raise StopAsyncIteration
        try:
            return frame(await self._subscription.__anext__())
        except StopAsyncIteration:
            assert self._subscription.ended is not None  # nothing else ends the iteration
            self.close_code = CLOSE_CODES[self._subscription.ended]
            raise


class Direct:
    """The ways in of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), content: Content = b""
    ) -> Answer:
        """One request. `target` is a path with its query; `content` goes as it is. Errors are answers.

        `content` may be a function: it is called once the headers were taken, and may let time pass.
        """
        await trio.lowlevel.checkpoint()  # what is due at this instant may come first, as on any way in
        request = _Request(method, target, headers, content)
        try:
            route, request.session_id = match(method, request.path, self._site.root_path)
        except RequestError as error:
            reply = gateway.refuse(self._site, request, error)
        else:
            reply = await gateway.answer(self._site, route, request)
        return await _read(reply, with_body=method != "HEAD")

    @asynccontextmanager
    async def listen(self, target: str, headers: Iterable[tuple[str, str]] = ()) -> AsyncIterator[Listener]:
        """A WebSocket handshake, and the events until the block is left."""
        request = _Request("GET", target, headers, b"")
        route, request.session_id = match("GET", request.path, self._site.root_path)
        reply, subscription = await gateway.listen(self._site, route, request)
        try:
            yield Listener(await _read(reply), subscription)
        finally:
            if subscription is not None:
                gateway.stop_listening(self._site, request.session_id, subscription)


class _Request(Request):
    def __init__(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], content: Content
    ) -> None:
        path, _, query = target.partition("?")
        self._method = method
        self._path = path
        self._query = query.encode()
        self._content = content
        self._headers: dict[str, list[str]] = {}
        for name, value in headers:
            self._headers.setdefault(name.lower(), []).append(value)
        self._session_id = ""

    @property
    def method(self) -> str:
        return self._method

    @property
    def path(self) -> str:
        return self._path

    @property
    def query_string(self) -> bytes:
        return self._query

    @property
    def session_id(self) -> str:
        return self._session_id

    @session_id.setter
    def session_id(self, session_id: str) -> None:
        self._session_id = session_id

    def header(self, name: str) -> Sequence[str]:
        return self._headers.get(name, ())

    async def body(self, bytes_max: int) -> bytes:
        content = self._content if isinstance(self._content, bytes) else await self._content()
        if len(content) > bytes_max:
            raise PayloadTooLarge(bytes_max)
        return content


async def _read(reply: Reply, *, with_body: bool = True) -> Answer:
    body = reply.body
    if not isinstance(body, bytes):
        try:
            body = b"".join([piece async for piece in body])
        finally:
            await reply.body.aclose()  # type: ignore[union-attr]
    return Answer(reply.status, reply.headers, body if with_body else b"")
