"""What lies between simulated people and the server: requests go through, answers come back or get lost.

Everything that passes is recorded and shown to a judge, at the instant at which it passes. It knows no person's
habits and no rule of the contract.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import orjson
import trio

from vigil.scenarios.model.observed import Answered, Credential, Sent, Violation
from vigil.scenarios.simulation.faults.plan import StoreFault, Weather
from vigil.scenarios.simulation.outcome import Exchange, Failure
from vigil.scenarios.simulation.recorder import Recorder
from vigil.scenarios.virtual.in_process import Disconnected, InProcessServer
from vigil.server.front.direct import Answer, Headers, Listener

LOST = 0  # the status of what was never answered
OPEN = 101
RATE_LIMITED = 429
NEVER_SENT = -1


class Judge(Protocol):
    """Who is told everything and raises Violation at what the contract forbids. `scenarios.model` is one."""

    def sent(self, sent: Sent) -> None: ...
    def answered(self, number: int, answered: Answered) -> None: ...
    def lost(self, number: int, at_ms: int) -> None: ...
    def stopped(self, at_ms: int) -> None: ...
    def crashed(self, at_ms: int) -> None: ...
    def restarted(self, at_ms: int, clean: bool) -> None: ...
    def fault(self, kind: StoreFault, from_ms: int) -> None: ...
    def healed(self, kind: StoreFault, at_ms: int) -> None: ...
    def listener_opened(
        self, listener: str, session: str, last_event_id: int | None, at_ms: int, status: int
    ) -> None: ...
    def frame(self, listener: str, at_ms: int, event: dict[str, Any]) -> None: ...
    def listener_closed(self, listener: str, at_ms: int, code: int | None) -> None: ...
    def time(self, at_ms: int) -> None: ...
    def finish(self, at_ms: int) -> None: ...


class Ask(NamedTuple):
    """One request as a person means it. `flaw` is the status that its bad input must get, if it has any."""

    operation: str
    method: str
    target: str
    headers: Headers
    body: bytes = b""
    session: str | None = None
    credential: Credential = "key"
    query: Mapping[str, str] = {}
    key: str | None = None
    flaw: int | None = None
    message: str | None = None  # the id in the path


class Ear:
    """How far a listener has come, also when it is cut off: the last id that it heard, the answer's status, and the
    code that the server closed with."""

    __slots__ = ("code", "last_id", "status")

    def __init__(self, last_id: int | None = None) -> None:
        self.last_id = last_id
        self.status = LOST
        self.code: int | None = None


class Connection:
    """The only one: all people share it. `over` is cancelled at the first violation, which is kept."""

    def __init__(
        self,
        server: InProcessServer,
        judge: Judge,
        recorder: Recorder,
        weather: Weather,
        over: trio.CancelScope,
    ) -> None:
        self.server = server
        self.is_open = True
        self.violation: Failure | None = None
        self._listening: dict[str, trio.CancelScope] = {}
        self._judge = judge
        self._recorder = recorder
        self._weather = weather
        self._over = over
        self._start_ms = server.now
        self._lives = 0

    # --- people

    async def request(self, person: int, ask: Ask) -> Answer | None:
        """Send it and wait for the answer; None when there is none, whatever became of the request."""
        if not self.is_open:
            return None
        flight = _Flight(self, person, ask)
        life, answer = self._lives, None
        try:
            answer = await self._exchange(flight)
        finally:
            if life != self._lives or self._weather.loses_answer():
                answer = None
            self._receive(flight, answer)
        return answer

    async def listen(self, person: int, ask: Ask, ear: "Ear") -> None:
        """Callback a session's events until the server closes, crashes, or the listener is cancelled."""
        ear.status, ear.code = LOST, None
        if not self.is_open:
            return
        flight = _Flight(self, person, ask)
        async with self.server.listen(ask.target, flight) as listener:
            ear.status = listener.answer.status
            name, session = f"listener-{flight.number}", ask.session or ""
            self._tell("listener_opened", name, session, ear.last_id, flight.at_ms, ear.status)
            self._receive(flight, listener.answer)
            if ear.status == OPEN:
                await self._hear_out(name, listener, ear)

    # --- whoever runs the day

    def close(self) -> None:
        """Nobody gets in any more; what is under way may finish."""
        self.is_open = False

    def cut(self) -> None:
        """The server is dead: nobody hears of it any more."""
        self.is_open = False
        self._lives += 1
        listening, self._listening = self._listening, {}
        for name, scope in listening.items():
            scope.cancel()
            self.tell("listener_closed", name, self.server.now, None)

    def open(self) -> None:
        self.is_open = True

    def tell(self, what: str, *args: object) -> None:
        """Tell the judge of something that is no request, and record it."""
        self._recorder.note(what, self.server.now, repr(args).encode())
        self._tell(what, *args)

    def fail(self, found: Violation) -> None:
        """The first violation ends the run."""
        if self.violation is not None:
            return
        evidence = self._recorder.evidence(found.requests)
        at_ms = self.server.now - self._start_ms
        self.violation = Failure(found.rule, str(found), at_ms, evidence, found.expected)
        self._over.cancel()

    def send(self, flight: "_Flight") -> None:
        """The server reads it now: between this and the check of the limits nothing else happens."""
        operation, _, _, _, body, session, credential, query, key, flaw, message = flight.ask
        at_ms = flight.at_ms = self.server.now
        number = flight.number = self._recorder.sent(operation, at_ms)
        who = f"person-{flight.person}"
        sent = Sent(number, who, operation, session, credential, at_ms, body, query, key, flaw, message)
        self._tell("sent", sent)

    # --- private

    async def _exchange(self, flight: "_Flight") -> Answer | None:
        _, method, target, _, body, *_ = flight.ask
        patience_s = self._weather.patience_s()
        try:
            if patience_s == float("inf"):
                return await self.server.request(method, target, flight, body)
            with trio.move_on_after(patience_s):
                return await self.server.request(method, target, flight, body)
        except Disconnected:
            pass
        return None

    def _receive(self, flight: "_Flight", answer: Answer | None) -> None:
        if flight.number == NEVER_SENT:
            return
        now, number, at_ms, ask = self.server.now, flight.number, flight.at_ms, flight.ask
        status = LOST if answer is None else answer.status
        since_start_ms, took_ms = at_ms - self._start_ms, now - at_ms
        exchange = Exchange(
            number, flight.person, ask.operation, ask.session, since_start_ms, took_ms, status
        )
        body = b"" if answer is None else answer.body
        self._recorder.over(exchange, f"{ask.method} {ask.target}", ask.body, body)
        if answer is None:
            self._tell("lost", number, now)
            return
        if status == RATE_LIMITED:
            self._recorder.limits_hit[answer.json()["details"]["scope"]] += 1
        headers = {_LOWER.get(name) or name.lower(): value for name, value in answer.headers}
        self._tell("answered", number, Answered(now, status, headers, body))

    async def _hear_out(self, name: str, listener: Listener, ear: "Ear") -> None:
        with trio.CancelScope() as self._listening[name]:
            try:
                async for text in listener:
                    self._hear(name, text.encode(), ear)
                ear.code = listener.close_code
            finally:
                if self._listening.pop(name, None) is not None:
                    self.tell("listener_closed", name, self.server.now, ear.code)

    def _hear(self, name: str, frame: bytes, ear: "Ear") -> None:
        event: dict[str, Any] = orjson.loads(frame)
        self._recorder.frame(event["type"], name, self.server.now, frame)
        ear.last_id = event.get("id", ear.last_id)
        self._tell("frame", name, self.server.now, event)

    def _tell(self, what: str, *args: Any) -> None:
        if self.violation is not None:
            return
        try:
            getattr(self._judge, what)(*args)
        except Violation as found:
            self.fail(found)


class _Flight:
    """A request on its way. The server iterates its headers when it reads it: then it counts as sent."""

    __slots__ = ("_connection", "ask", "at_ms", "number", "person")

    def __init__(self, connection: Connection, person: int, ask: Ask) -> None:
        self.person = person
        self.ask = ask
        self.number = NEVER_SENT
        self.at_ms = 0
        self._connection = connection

    def __iter__(self) -> Iterator[tuple[str, str]]:
        self._connection.send(self)
        return iter(self.ask.headers)


_LOWER = {
    name: name.lower()
    for name in (
        "Content-Type",
        "Cache-Control",
        "X-Request-Id",
        "RateLimit-Policy",
        "RateLimit",
        "Retry-After",
        "WWW-Authenticate",
        "Allow",
    )
}
