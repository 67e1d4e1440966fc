"""What every simulated person can do: hold sessions, ask the server, and have it written down.

Owns the way from an operation to the bytes of a request, and what counts as a failure. Which people there are is in
`users.py` and `greedy.py`.
"""

import random
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import gevent
import orjson
from locust import User
from locust.exception import StopUser

from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.people.client import Answer, Connection
from vigil.loadtests.people.collection import Recorder
from vigil.loadtests.people.observation import OPERATIONS, Observation
from vigil.loadtests.people.pacing import Clock, OpenModel, lag_s
from vigil.loadtests.runner.options import Target

BASE = "/api/messaging/sessions"
LIMITED = 429

ANSWER_S_MAX = 10.0  # a request still without its answer when the run ends has failed if it is so old

_ON_ITS_WAY_S = 1.0  # a request, between when it was sent and when it renewed
_SLACK = 0.001  # of a duration: two machines' clocks do not run alike


class RequestFailed(Exception):
    """What Locust shows for a request that was not answered as it should have been."""


class Route(NamedTuple):
    """One operation on the wire; `success` is the status that people without faults expect."""

    method: str
    path: bytes
    success: int


ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        "create": Route("POST", b"", 201),
        "get": Route("GET", b"", 200),
        "end": Route("DELETE", b"", 200),
        "send": Route("POST", b"/messages", 201),
        "messages": Route("GET", b"/messages", 200),
        "renew": Route("POST", b"/renew", 200),
        "timeout": Route("PATCH", b"/timeout", 200),
        "heartbeat": Route("POST", b"/heartbeat", 200),
    }
)


@dataclass(frozen=True)
class World:
    """What all people of one process share. Limits are what the server is expected to keep."""

    target: Target
    api_key: str
    clock: Clock
    rng: random.Random
    recorder: Recorder
    limits: Limits
    agents: tuple[str, ...]
    scale: float = 1.0
    reads_back: bool = False

    def new_id(self, kind: str) -> str:
        """A user id that no run had before."""
        return f"load-{kind}-{self.rng.getrandbits(64):016x}".lower()

    def real_s(self, session_s: float) -> float:
        return session_s / self.scale


@dataclass(slots=True)
class Session:
    """A session as its owner knows it. Instants are the person's own clock's, durations real seconds."""

    id: str
    user: str
    agent: str
    token: str
    common: bytes  # the headers of every request with its token
    created: Answer
    timeout_s: float
    max_s: float
    renews: bool = True
    renewed_s: float = 0.0  # when the newest request that renews it was sent
    asked: int = 0
    asked_s: float = 0.0
    acknowledged: list[str] = field(default_factory=list)  # ids of messages, where they will be looked for

    def may_be_over(self, at_s: float) -> bool:
        """Whether it can have expired by then, if the server keeps its deadline."""
        deadline_s = min(self.renewed_s + self.timeout_s, self.created.sent_s + self.max_s)
        return at_s >= deadline_s - _SLACK * self.timeout_s

    def may_be_at_the_cap(self) -> bool:
        """Whether nothing may be left to renew: it may end at its maximum already."""
        cap_s = self.created.sent_s + self.max_s
        return self.renewed_s + self.timeout_s >= cap_s - _ON_ITS_WAY_S


class Person(User):
    """A Locust user with a connection of its own. Subclasses say when and what they ask."""

    abstract = True
    world: ClassVar[World]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        world = self.world
        self.rng = random.Random(world.rng.getrandbits(64))  # noqa: S311  nothing secret
        self.user_id = world.new_id(type(self).__name__)
        self.agent = self.rng.choice(world.agents)
        self.connection = Connection(world.target, world.clock)
        self.free_s = world.clock()  # when the answer before was there
        self._due_s: float | None = None
        self.last = Answer(self.free_s, None, 0, error="nothing was asked yet")
        self._of_key = self.headers(world.api_key)

    def start(self, group: Any) -> Any:
        """As Locust starts people; a master that was still spawning when the run ended sends some too late."""
        if not self.world.recorder.closing:
            self.world.recorder.came += 1
            return super().start(group)
        self._greenlet = group.spawn(lambda _: None, self)
        self._group = group
        return self._greenlet

    def headers(self, credential: str | None, content_type: str = "application/json") -> bytes:
        """What each request begins with, after its first line."""
        auth = f"Authorization: Bearer {credential}\r\n" if credential else ""
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        return f"Host: {self.world.target.authority}\r\n{auth}{kind}".encode()

    def create(self, user: str | None = None, config: Mapping[str, Any] | None = None) -> Session | None:
        """A new session with the API key; None when the server gave none."""
        user, agent = user or self.user_id, self.agent
        body = {"agentId": agent, "userId": user, "timeoutConfig": config or {}}
        answer = self.ask("create", body=orjson.dumps(body), user=user, agent=agent)
        if answer.status != ROUTES["create"].success:
            return None
        return self._session(answer, user, agent)

    def ask(  # noqa: PLR0913  what a request is made of
        self,
        operation: str,
        session: Session | None = None,
        body: bytes = b"",
        *,
        query: bytes = b"",
        expect: frozenset[int] = frozenset(),
        common: bytes | None = None,
        connection: Connection | None = None,
        user: str | None = None,
        agent: str | None = None,
        name: str = "",
    ) -> Answer:
        """Send one request and write it down. `expect` are the statuses that are right instead of the usual one."""
        route = ROUTES[operation]
        connection = connection or self.connection
        if session is not None:
            user, agent, common = session.user, session.agent, common or session.common
        path = f"{self.world.target.prefix}{BASE}{'/' + session.id if session else ''}".encode()
        head = b"%b %b%b%b HTTP/1.1\r\n%b" % (
            route.method.encode(),
            path,
            route.path,
            query,
            common or self._of_key,
        )
        due_s, late_s = self._begin()
        about = operation, session.id if session else None, user, agent
        try:
            answer = connection.request(route.method, head, body)
        except BaseException:  # the run ends while the answer is awaited
            sent_s = connection.sent_s or self.world.clock()
            self.gave_up(route.method, name or operation, Observation(sent_s, None, *about, 0), due_s)
            raise
        self.last = answer
        self.free_s = self.world.clock()
        error = _fault(answer, expect or frozenset((route.success,)), session)
        length = len(answer.body)
        name = name or operation
        self.note(route.method, name, _seen(answer, *about), due_s, late_s=late_s, length=length, error=error)
        if session is not None:
            _follow(session, operation, answer, route.success)
        return answer

    def send(self, session: Session, text: str, *, connection: Connection | None = None) -> Answer:
        """A message, remembered when it is to be looked for later."""
        answer = self.ask("send", session, b'{"content":"%b"}' % text.encode(), connection=connection)
        if self.world.reads_back and answer.status == ROUTES["send"].success:
            session.acknowledged.append(orjson.loads(answer.body)["id"])
        return answer

    def report(self, name: str, took_s: float | None = None, error: str = "") -> None:
        """Something that is no HTTP request, for Locust; measured when it took a known time, or failed."""
        now_s = self.world.clock()
        seen = Observation(now_s - (took_s or 0.0), now_s, name, None, None, None, 0)
        if took_s is not None or error:
            self.world.recorder.measure(name, seen, seen.sent_s, 0.0, error)
        self._tell_locust("WS", name, took_s or 0.0, 0, error)

    def note(
        self,
        method: str,
        name: str,
        seen: Observation,
        due_s: float,
        *,
        late_s: float = 0.0,
        length: int = 0,
        error: str = "",
    ) -> None:
        """Write one request down: for the oracle, for percentiles, for Locust's own statistics."""
        recorder = self.world.recorder
        if seen.operation in OPERATIONS:
            recorder.observe(seen)
        recorder.measure(name, seen, due_s, late_s, error)
        took_s = (seen.received_s or self.world.clock()) - due_s
        self._tell_locust(method, name, took_s, length, error)

    def gave_up(self, method: str, name: str, seen: Observation, due_s: float) -> None:
        """No answer had come when the run ended. Who had waited for long has met a server that does not answer."""
        if self.world.clock() - seen.sent_s < ANSWER_S_MAX:
            self.world.recorder.observe(seen)
        else:
            self.note(method, name, seen, due_s, error="no answer until the run ended")

    def _tell_locust(self, method: str, name: str, took_s: float, length: int, error: str) -> None:
        self.environment.events.request.fire(
            request_type=method,
            name=name,
            response_time=took_s * 1000,
            response_length=length,
            exception=RequestFailed(error) if error else None,
            context={},
        )

    def on_stop(self) -> None:
        self.connection.close()

    def wait_for(self, due_s: float) -> float:
        """Make the next request one that is due then. Gives the seconds until it is."""
        self._due_s = due_s
        return max(0.0, due_s - self.world.clock())

    def _begin(self) -> tuple[float, float]:
        """When the request that is now sent was due, and how late the generator made it."""
        now_s = self.world.clock()
        due_s, self._due_s = self._due_s, None
        if due_s is None:
            return now_s, 0.0
        return due_s, max(0.0, lag_s(now_s, due_s, self.free_s))

    def _session(self, answer: Answer, user: str, agent: str) -> Session:
        made = orjson.loads(answer.body)
        config = made["timeoutConfig"]
        return Session(
            made["sessionId"],
            user,
            agent,
            made["sessionToken"],
            self.headers(made["sessionToken"]),
            answer,
            self.world.real_s(config["timeoutMinutes"] * 60),
            self.world.real_s(config["maxDurationMinutes"] * 60),
            config["autoRenew"],
            answer.sent_s,
        )


class SteadyPerson(Person):
    """Sends at a steady rate on average, in an open model: tasks by weight, at the instants of a Poisson process."""

    abstract = True
    per_hour: ClassVar[int]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        per_s = self.per_hour * self.world.scale / 3600
        self.pace = OpenModel(per_s, self.world.clock(), self.rng)

    def wait_time(self) -> float:
        """Until the next request is due; Locust asks for it after each task."""
        return self.wait_for(self.pace.advance())

    def on_stop(self) -> None:
        self.world.recorder.measurements.never_sent(self.pace.missed(self.world.clock()))
        self._due_s = None
        self.leave()
        super().on_stop()

    def leave(self) -> None:
        """What is still to be asked when the run is over."""

    def _begin(self) -> tuple[float, float]:
        self.pace.begin()
        return super()._begin()


class ScriptedPerson(Person):
    """Lives by a script: a generator that sends requests and yields the instant at which it wants to go on."""

    abstract = True

    def on_start(self) -> None:
        self._script = self.live()
        self._wake_s = self.world.clock()

    def live(self) -> Generator[float]:
        raise NotImplementedError

    def advance(self) -> None:
        """The next part of the script; the one task of a subclass calls it."""
        while (early_s := self._wake_s - self.world.clock()) > 0:  # timers may run a little ahead
            gevent.sleep(early_s)
        try:
            self._wake_s = next(self._script)
        except StopIteration:
            raise StopUser from None

    def later(self, session_s: float) -> float:
        """The instant about so many seconds of session time from now."""
        return self.world.clock() + self.world.real_s(session_s * self.rng.uniform(0.5, 1.5))

    def wait_time(self) -> float:
        return self.wait_for(self._wake_s)

    def on_stop(self) -> None:
        self._script.close()
        super().on_stop()


_NOT_RENEWED = 422
_OVER = frozenset((404, 410))
_RENEWING = frozenset(("send", "heartbeat"))


def _fault(answer: Answer, expect: frozenset[int], session: Session | None) -> str:
    """Why this is a failure; "" when it is none. Whether a refusal by a limit was right is the oracle's question."""
    status = answer.status
    if status in expect or status == LIMITED:
        return ""
    if status == 0:
        return answer.error
    if status in _OVER and session is not None and session.may_be_over(answer.received_s or answer.sent_s):
        return ""
    if status == _NOT_RENEWED and session is not None and session.may_be_at_the_cap():
        return ""
    return f"answered {status} instead of {' or '.join(map(str, sorted(expect)))}"


def _follow(session: Session, operation: str, answer: Answer, success: int) -> None:
    """Count the request, and what its success does to the deadline (spec section 3)."""
    session.asked += 1
    session.asked_s = answer.sent_s
    if answer.status != success:
        return
    if operation == "renew" or (operation in _RENEWING and session.renews):
        session.renewed_s = answer.sent_s


def _seen(
    answer: Answer, operation: str, session: str | None, user: str | None, agent: str | None
) -> Observation:
    wait_ms, scope = refusal(answer.body) if answer.status == LIMITED else (None, "")
    return Observation(
        answer.sent_s,
        answer.received_s,
        operation,
        session,
        user,
        agent,
        answer.status,
        answer.rate_limit,
        answer.policy,
        answer.retry_after,
        wait_ms,
        scope,
    )


def refusal(body: bytes) -> tuple[int | None, str]:
    """`retryAfterMs` and `scope` of a 429's body."""
    try:
        details = orjson.loads(body)["details"]
        return int(details["retryAfterMs"]), str(details["scope"])
    except (ValueError, KeyError, TypeError):
        return None, ""
