"""The model as whoever feeds it sees it: each observation goes through the checks in the contract's order
(spec section 6) to the part that it concerns."""

# ruff: noqa: PLR2004  status codes are the vocabulary here

import orjson

from vigil.scenarios.model.observed import Answered, Sent, Violation, Why
from vigil.scenarios.model.rules.answers import check_challenge, read
from vigil.scenarios.model.rules.creation import Creation
from vigil.scenarios.model.rules.events import Streams
from vigil.scenarios.model.rules.history import NEVER
from vigil.scenarios.model.rules.limits import Limits
from vigil.scenarios.model.rules.lists import Lists
from vigil.scenarios.model.session import COMMANDS, Exchange, Session
from vigil.scenarios.model.sessions import Sessions
from vigil.scenarios.model.settings import ModelSettings
from vigil.scenarios.model.settling import answered_while_waiting, settle, withdraw
from vigil.scenarios.model.troubles import StoreFault, Troubles
from vigil.scenarios.model.world import Json, epoch_ms


class Model:
    def __init__(self, settings: ModelSettings) -> None:
        self.limits = Limits()
        self._lists = Lists(settings.tombstone_max)
        self._troubles = Troubles(settings.calm_after_ms)
        self._sessions = Sessions(settings, self.limits, self._lists, self._troubles)
        self._creation = Creation(settings, self._sessions, self.limits, self._lists, self._troubles)
        self._streams = Streams()
        self._open: dict[int, Exchange] = {}
        self._observations = 0
        self._up_since = settings.start_ms

    # --- requests

    def sent(self, sent: Sent) -> None:
        """A request is handed to the server."""
        self._observations += 1
        self.time(sent.at_ms)
        exchange = Exchange(sent, self._observations, is_calm=self._troubles.is_calm(sent.at_ms))
        self._open[sent.number] = exchange
        exchange.early = _early(sent)
        if exchange.early is not None or not self._troubles.is_up:
            return
        if sent.operation == "createSession":
            self._creation.sent(exchange)
        elif sent.session is not None:
            self._session_sent(exchange, sent.session)
        elif sent.flaw is not None:
            exchange.early = sent.flaw

    def answered(self, number: int, answer: Answered) -> None:
        """The whole answer has come. Raises Violation."""
        self._observations += 1
        exchange = self._open.pop(number)
        exchange.answer, exchange.ended = answer, self._observations
        exchange.body = read(answer, number)
        if exchange.early is not None:
            self._check_early(exchange, answer, exchange.early)
        elif exchange.sent.operation == "createSession":
            self._creation.answered(exchange)
        elif exchange.session is not None:
            self._session_answered(exchange, exchange.session, answer.at_ms)
        elif exchange.sent.operation == "listSessions":
            self._check_list(exchange)
        elif exchange.sent.operation == "getHealth":
            is_calm = exchange.is_calm and self._troubles.is_calm(answer.at_ms)
            self._lists.check_health(exchange, self._up_since, is_calm=is_calm)
        elif answer.status != 200:
            raise Violation("9 status", f"{exchange.sent.operation} answered {answer.status}", number)

    def lost(self, number: int, at_ms: int) -> None:
        """No answer came, and the server is done with the request. Raises Violation."""
        self._observations += 1
        exchange = self._open.pop(number)
        exchange.ended = self._observations
        exchange.is_calm = exchange.is_calm and self._troubles.is_calm(at_ms)
        if exchange.until > at_ms and not exchange.is_calm:
            exchange.until = at_ms
        if exchange.sent.operation == "createSession":
            self._creation.lost(exchange)
        elif exchange.session is not None:
            self._session_lost(exchange, exchange.session, at_ms)

    # --- the server and its faults

    def stopped(self, at_ms: int) -> None:
        """A clean stop begins: nothing is taken from now on."""
        self.time(at_ms)
        self._troubles.down()
        self._streams.stopping()

    def crashed(self, at_ms: int) -> None:
        """The server is gone; what was under way may or may not be in its store."""
        self._troubles.down()
        for exchange in self._open.values():
            exchange.is_calm = False
            exchange.until = at_ms
        self.limits.clear()
        self._streams.crashed()
        self._sessions.crashed()

    def restarted(self, at_ms: int, clean: bool) -> None:
        """It is up again, after `stopped` or `crashed`."""
        self._up_since = at_ms
        self._troubles.up(at_ms)
        if not clean:
            self.limits.clear()
        self._streams.restarted()

    def fault(self, kind: StoreFault, _from_ms: int) -> None:
        """The store is slow, or refuses commits, from now on."""
        self._troubles.begin(kind)

    def healed(self, kind: StoreFault, at_ms: int) -> None:
        self._troubles.end(kind, at_ms)

    # --- listeners

    def listener_opened(
        self, listener: str, session: str, last_event_id: int | None, at_ms: int, status: int
    ) -> None:
        """A WebSocket was let in (101) or not. The handshake itself is a request like any other: `sent` first."""
        self._observations += 1
        self.time(at_ms)
        if status == 101:
            self._streams.open(listener, self._sessions.by_id[session], last_event_id, self._observations)

    def frame(self, listener: str, at_ms: int, event: Json) -> None:
        """One frame, read. Raises Violation."""
        self._observations += 1
        self.time(at_ms)
        is_calm = self._troubles.is_calm(at_ms)
        self._streams.frame(listener, at_ms, event, self._observations, is_calm=is_calm)

    def listener_closed(self, listener: str, at_ms: int, code: int | None) -> None:
        """The server closed it with `code`; None when the client did, or the server crashed. Raises Violation."""
        self.time(at_ms)
        self._streams.closed(listener, at_ms, code, is_calm=self._troubles.is_calm(at_ms))

    # --- time

    def time(self, at_ms: int) -> None:
        """It is this late."""
        self._sessions.pass_time(at_ms)

    def finish(self, at_ms: int) -> None:
        """Nothing more will come. Raises Violation for what should have."""
        self.time(at_ms)
        self._streams.finish(at_ms, is_calm=self._troubles.is_calm(at_ms))

    # --- private

    def _session_sent(self, exchange: Exchange, session_id: str) -> None:
        sent = exchange.sent
        session = exchange.session = self._sessions.by_id.get(session_id)
        if session is None:
            exchange.early = 404
            return
        if session.open:
            settle(session, sent.at_ms)
        exchange.life = session.life(sent.at_ms)
        if exchange.life in ("live", "unsure"):
            exchange.charge = self.limits.charge(sent.at_ms, session.names, is_sure=exchange.life == "live")
        is_refused = exchange.charge is not None and exchange.charge.admitted is False
        is_command = sent.operation in COMMANDS and sent.flaw is None and not is_refused
        if is_command and (exchange.charge is not None or sent.operation == "endSession"):
            self._command_sent(exchange, session)
        else:
            if sent.message is not None:
                session.history.stop(sent.message)
            exchange.versions.append(session.worlds)
            session.readers.append(exchange)

    def _command_sent(self, exchange: Exchange, session: Session) -> None:
        sent = exchange.sent
        if sent.operation in ("sendMessage", "updateTimeout"):
            exchange.request = orjson.loads(sent.body)
        if sent.operation == "sendMessage":
            exchange.asked = session.history.ask(sent.at_ms, _fields(exchange.request), sent.number)
            key = sent.idempotency_key
            exchange.has_rival = key is not None and any(
                one.sent.idempotency_key == key for one in session.open
            )
            if exchange.request.get("whenBusy") == "interrupt":
                session.history.stops.interrupt(sent.number, NEVER)
        session.open.append(exchange)
        self._lists.busy[session.id] = session

    def _session_answered(self, exchange: Exchange, session: Session, now: int) -> None:
        status, number = exchange.status, exchange.number
        self._check_charge(exchange, session)
        if exchange.request is not None and exchange.request.get("whenBusy") == "interrupt":
            session.history.stops.interrupt(number, now)
        if exchange.fate == "waits":
            answered_while_waiting(session, exchange)
        elif status == 429 or (exchange.sent.flaw is not None and status not in (404, 410)):
            if status not in (429, exchange.sent.flaw):
                told = f"{status} for a flaw that gets {exchange.sent.flaw}"
                raise Violation("6 order", Why(told, {"status": exchange.sent.flaw}), number)
            withdraw(session, exchange)
        elif status == 503:
            self._troubles.check_refusal(exchange, is_full=False)
            withdraw(session, exchange)
        elif status not in _STATUSES[exchange.sent.operation]:
            told = f"{exchange.sent.operation} answered {status}: {exchange.body}"
            raise Violation("9 status", told, number)
        else:
            exchange.fate = "answered"
            self._streams.told(session, exchange)
            if exchange.sent.message is not None and status == 200:
                session.history.stopped(exchange.sent.message, exchange.body["status"], number)
        settle(session, now)
        self._sessions.file(session, now)

    def _session_lost(self, exchange: Exchange, session: Session, now: int) -> None:
        if exchange.fate != "waits":
            exchange.fate = "lost"
        if exchange in session.readers:
            session.readers.remove(exchange)
        settle(session, now)
        self._sessions.file(session, now)

    def _check_charge(self, exchange: Exchange, session: Session) -> None:
        """Whatever finds the session live is counted and says so; nothing else is (section 7)."""
        assert exchange.answer is not None
        headers, charge, number = exchange.answer.headers, exchange.charge, exchange.number
        if "ratelimit" not in headers and exchange.life != "live":
            if exchange.status not in (404, 410) and exchange.sent.operation != "endSession":
                raise Violation("6 order", f"{exchange.status} without RateLimit", number)
            if charge is not None:
                self.limits.uncharged(charge)
            return
        told = headers.get("ratelimit-policy")
        if charge is None or told != session.policy:
            raise Violation(
                "7 counted", f"a session that is {exchange.life}: RateLimit-Policy {told}", number
            )
        self.limits.check(charge, exchange.answer, number)

    def _check_list(self, exchange: Exchange) -> None:
        for entry in exchange.body["sessions"]:
            if entry["sessionId"] not in self._sessions.by_id:
                at = epoch_ms(entry["createdAt"])
                unnamed = self._lists.unnamed(entry["agentId"], entry["userId"], at)
                if unnamed is not None:
                    self._sessions.name(unnamed, entry["sessionId"], exchange.sent.at_ms)
        self._lists.check_page(exchange, self._sessions.by_id, is_calm=exchange.is_calm)

    def _check_early(self, exchange: Exchange, answer: Answered, expected: int) -> None:
        if exchange.status != expected:
            told = f"{exchange.status} where {expected} comes first: {exchange.body}"
            raise Violation("6 order", Why(told, {"status": expected}), exchange.number)
        if "ratelimit" in answer.headers:
            raise Violation("7 counted", f"a {expected} before the limits has RateLimit", exchange.number)
        if expected in (401, 403):
            check_challenge(answer, exchange.sent.credential, exchange.number)


_SERVICE = frozenset({"createSession", "listSessions", "getHealth", "metrics"})
_FREE = frozenset({"livez", "readyz", "openapi", "docs"})
_SESSION = (200, 404, 410)
_STATUSES: dict[str, tuple[int, ...]] = {
    "getSession": _SESSION,
    "getMessages": _SESSION,
    "heartbeat": _SESSION,
    "cancelTurn": _SESSION,
    "endSession": _SESSION,
    "renewSession": (*_SESSION, 422),
    "updateTimeout": (*_SESSION, 400),
    "sendMessage": (201, 404, 409, 410, 422, 502, 504),
    "listenToEvents": (101, 400, 404, 410),
}


def _early(sent: Sent) -> int | None:
    """What credentials alone decide (section 6)."""
    if sent.operation in _FREE:
        return None
    if sent.credential in ("none", "bad"):
        return 401
    is_foreign = sent.credential == "other token" or (
        sent.credential == "token" and sent.operation in _SERVICE
    )
    return 403 if is_foreign else None


def _fields(request: Json) -> Json:
    fields = {"content": request["content"], "metadata": request.get("metadata", {})}
    return fields | ({"attachments": request["attachments"]} if request.get("attachments") else {})
