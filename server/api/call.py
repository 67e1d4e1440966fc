"""One request under way, and the site that it is made to. What adapters, gateway and operations hand each other."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, Protocol

from vigil.actors.core.commands import Transition, applied_at
from vigil.actors.core.quotas import Quota
from vigil.actors.core.records import Session
from vigil.actors.hub.hub import Subscription
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.directory import Directory
from vigil.server.api.auth import Authenticator, Principal
from vigil.server.api.results import Body
from vigil.server.docs.pages import Page
from vigil.server.http.budget import Traffic
from vigil.server.ops.health import Health
from vigil.server.ops.metrics import Metrics


class Request(Protocol):
    """What an adapter hands over once the headers are complete."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str:
        """As it stands on the wire, without the query."""

    @property
    def query_string(self) -> bytes: ...

    @property
    def session_id(self) -> str:
        """From the path, a UUID in lower case; "" when it names none."""

    def header(self, name: str) -> Sequence[str]:
        """All values of a header; `name` in lower case."""

    async def body(self, bytes_max: int) -> bytes:
        """The whole body. Raises PayloadTooLarge, before it is read where its length is announced."""


class WholeRequest(Request, Protocol):
    """A request whose body is at hand: `content`."""

    @property
    def content(self) -> bytes: ...


def canonical(session_id: str) -> str:
    """A UUID in lower case, as the server writes it, whatever case it came in (RFC 9562). Anything else as it is."""
    lower = session_id.lower()
    return lower if lower == session_id or _UUID.fullmatch(lower) else session_id


_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


Record = Callable[["Call", str, "Reply | None"], None]
"""Told of each request once its answer is whole, or has begun: the call, the operation's name and the answer; None
when the client has gone before."""


class Applied(NamedTuple):
    """A command was taken up: by whose actor, when, and which of the session's events was the newest after it."""

    session_id: str
    at: int
    event_id: int

    @classmethod
    def of(cls, transition: Transition) -> "Applied":
        session = transition.session
        return cls(session.id, applied_at(transition), session.event_id)


class Reply(NamedTuple):
    """A whole answer, or the beginning of one whose body is still being made. `head` is its header lines, each with
    its CRLF: most of them are only ever sent."""

    status: int
    head: str
    body: Body

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names and values, in their order."""
        named = (line.partition(": ") for line in self.head.split("\r\n")[:-1])
        return [(name, value) for name, _, value in named]


@dataclass(slots=True)
class Site:
    """Everything that requests need. One for each running server."""

    directory: Directory
    health: Health
    metrics: Metrics
    auth: Authenticator
    new_id: Callable[[], str]
    openapi: bytes  # the API's description, and the same for people
    docs: Page
    traffic: Traffic = field(default_factory=Traffic)
    content_policy: bool = True
    allowed_origins: frozenset[str] = frozenset()
    root_path: str = ""  # what every path begins with
    ready: bool = True
    logs_requests: bool = True  # a line for each, if the log's level takes it
    listeners: dict[Subscription, Principal] = field(default_factory=dict)  # on the events WebSockets
    record: Record | None = None
    order: Iterator[int] = field(default_factory=count)
    every_head: str = field(init=False)  # header lines of every answer

    def __post_init__(self) -> None:
        scale = self.directory.clock.scale
        self.every_head = "Cache-Control: no-store\r\n"
        if scale != 1:
            self.every_head += f"Vigil-Time-Scale: {scale:g}\r\n"

    def stop_taking_requests(self) -> None:
        """The server is about to stop: say so to readiness probes and to those who listen."""
        self.ready = False
        for subscription in self.listeners:
            subscription.end("stopping")


class Call:
    """What is known of a request; each check of the gateway adds to it.

    What most requests leave as it is stands here, for all of them.
    """

    principal: Principal | None = None
    actor: SessionActor | None = None  # of the live session that the path names
    quotas: tuple[Quota, ...] = ()
    raw_body: bytes = b""
    body: Any = None  # the route's request model
    query: Any = None  # the route's query model
    idempotency_key: str | None = None
    status: int | None = None  # when it is not the route's own
    media_type: str | None = None  # likewise
    headers: Sequence[tuple[str, str]] = ()
    taken: Applied | None = None
    order: int = 0  # among all requests, by that instant
    _now: int | None = None
    _session: Session | None = None

    def __init__(self, site: Site, request: Request, request_id: str, began_s: float) -> None:
        self.site = site
        self.request = request
        self.request_id = request_id
        self.began_s = began_s

    @property
    def directory(self) -> Directory:
        return self.site.directory

    @property
    def session_id(self) -> str:
        return self.request.session_id

    @property
    def message_id(self) -> str:
        """From a path that ends with a message and what is to be done with it."""
        return canonical(self.request.path.split("/")[-2])

    @property
    def caller(self) -> Principal:
        """Who was let in, where the gateway has let somebody in."""
        assert self.principal is not None  # only routes with a scope ask
        return self.principal

    @property
    def live(self) -> SessionActor:
        """The actor, where the gateway has found one."""
        assert self.actor is not None  # only routes of live sessions ask
        return self.actor

    @property
    def session(self) -> Session:
        """The live session as it was when this request was charged for it."""
        assert self._session is not None  # only routes of live sessions ask
        return self._session

    @session.setter
    def session(self, session: Session) -> None:
        self._session = session

    def charge_now(self) -> None:
        """Its body is at hand: there is no later instant than that of its headers."""
        self._now, self.order = self.site.directory.clock.at(self.began_s), next(self.site.order)

    @property
    def now(self) -> int:
        """The one instant at which this request was charged and reads what there is."""
        if self._now is None:
            self._now, self.order = self.site.directory.clock.now(), next(self.site.order)
        return self._now
