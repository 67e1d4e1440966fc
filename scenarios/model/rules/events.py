"""What listeners must receive (spec section 8): every committed change once, in order, under consecutive ids.

The events of a session are learned from whoever receives them first; everybody else must receive the same. They are
folded in their order, so that each warning has its arming, and compared with the answers.
"""

# ruff: noqa: PLR2004  status codes are the vocabulary here

from collections.abc import Callable
from typing import Any

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.answers import difference
from vigil.scenarios.model.rules.history import NEVER
from vigil.scenarios.model.session import Exchange, Session
from vigil.scenarios.model.world import CONFIG, MINUTE_MS, Config, Json, epoch_ms, iso

REPLAYED_AT_LEAST = 8  # so few events of a young service are kept, whatever their size
YOUNG = 20_000  # observations
_LAST = ("sessionExpired", "sessionEnded")


class Stream:
    """The events of one session that anybody has received."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events: dict[int, Json] = {}
        self.newest = 0
        self.seen: set[tuple[object, ...]] = set()
        self.told: list[tuple[int, int, tuple[object, ...]]] = []  # observation, instant, what
        self.listeners = 0
        self.began = NEVER  # the observation of its first listener
        self.forget()

    @property
    def threshold(self) -> int:
        """Minutes; 0 when it is not known."""
        return self.config[3] if self.config else 0

    def forget(self) -> None:
        """Events were missed: what the next ones follow is not known."""
        self.folded = 0
        self.is_armed: bool | None = None
        self.armed_at = 0
        self.ends = 0
        self.config: Config | None = None
        self.renewals = -1


class Listener:
    def __init__(self, stream: Stream, after: int | None, opened: int) -> None:
        self.stream = stream
        self.after = after
        self.opened = opened  # an observation
        self.next: int | None = None if after is None else after + 1
        self.above = stream.newest  # what comes from now on is newer
        self.is_over = False
        self.has_heard = False


class Streams:
    """All listeners, by the names that their owner gave them."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self._listeners: dict[str, Listener] = {}
        self._cut: set[str] = set()  # by a crash: what they read yet proves nothing
        self._is_stopping = False
        self.restarts = 0

    def open(self, name: str, session: Session, after: int | None, observation: int) -> None:
        stream = self._streams.get(session.id)
        if stream is None:
            stream = self._streams[session.id] = Stream(session)
            stream.began = observation
        stream.listeners += 1
        self._listeners[name] = Listener(stream, after, observation)

    def told(self, session: Session, exchange: Exchange) -> None:
        """An answer reports a change: listeners must receive its event."""
        stream = self._streams.get(session.id)
        assert exchange.answer is not None
        if stream is not None and stream.listeners:
            for what in _changes(exchange):
                stream.told.append((exchange.began, exchange.answer.at_ms, what))

    def frame(self, name: str, now: int, event: Json, observation: int, *, is_calm: bool) -> None:
        """Raises Violation."""
        if name in self._cut:
            return
        listener = self._listeners[name]
        stream, kind = listener.stream, event["type"]
        at = epoch_ms(event["at"])
        is_shaped = set(event) - {"id"} == {"type", "sessionId", "at", "data"}
        if not is_shaped or event["sessionId"] != stream.session.id or at > now or listener.is_over:
            raise Violation("8 frame", f"at {iso(now)} {name} of {stream.session.id} heard {event}")
        if kind == "messageChunk":
            if "id" in event or set(event["data"]) != {"messageId", "text"}:
                raise Violation("8 chunk", f"{event}")
            return
        if kind == "resync":
            self._resync(listener, event, observation)
        else:
            self._next(listener, event)
            self._learn(stream, event, observation, is_calm=is_calm)
        listener.has_heard = True

    def closed(self, name: str, now: int, code: int | None, *, is_calm: bool) -> None:
        if name in self._cut:
            self._cut.discard(name)
            return
        listener = self._listeners.pop(name)
        listener.stream.listeners -= 1
        wanted: tuple[int | None, ...] = (
            (1000,) if listener.is_over else (1001, None) if self._is_stopping else (None,)
        )
        if code not in wanted and not (code is None and listener.is_over):
            raise Violation(
                "8 close", f"{name} of {listener.stream.session.id} was closed with {code}, not {wanted}"
            )
        self._check_complete(listener, now, is_calm=is_calm)
        if not listener.stream.listeners:
            listener.stream.told.clear()
            if listener.is_over:
                self._streams.pop(listener.stream.session.id, None)

    def stopping(self) -> None:
        self._is_stopping = True

    def crashed(self) -> None:
        """All listeners are gone, and what was on its way to them is lost."""
        for listener in self._listeners.values():
            listener.stream.listeners -= 1
            listener.stream.told.clear()
            listener.stream.forget()
        self._cut |= self._listeners.keys()
        self._listeners.clear()

    def restarted(self) -> None:
        self._is_stopping = False
        self.restarts += 1

    def finish(self, now: int, *, is_calm: bool) -> None:
        for name, listener in self._listeners.items():
            self._check_complete(listener, now, is_calm=is_calm)
            is_told = listener.is_over or listener.stream.session.life(now) in ("live", "unsure")
            if is_calm and not is_told:
                raise Violation("8 end", f"{name} was not told of the end of {listener.stream.session.id}")

    # --- private

    def _resync(self, listener: Listener, event: Json, observation: int) -> None:
        after, newest = listener.after, event["id"]
        if after is None or listener.has_heard or newest == after or newest < listener.stream.newest:
            raise Violation("8 resync", f"{event} after lastEventId {after}")
        is_young = self.restarts == 0 and observation < YOUNG
        if is_young and after < newest <= after + REPLAYED_AT_LEAST:
            raise Violation("8 replay", f"{event} for {newest - after} events that are still kept")
        listener.next = newest + 1

    def _next(self, listener: Listener, event: Json) -> None:
        if listener.next is None and event["id"] <= listener.above:
            raise Violation("8 ids", f"an old event after opening: {event}")
        if listener.next is not None and event["id"] != listener.next:
            raise Violation("8 ids", f"id {event['id']} where {listener.next} comes next: {event}")
        listener.next = event["id"] + 1
        listener.is_over = event["type"] in _LAST

    def _learn(self, stream: Stream, event: Json, observation: int, *, is_calm: bool) -> None:
        known = stream.events.get(event["id"])
        if known is not None:
            if known != event:
                raise Violation("8 events", f"an event was {known} and is {event}")
            return
        stream.events[event["id"]] = event
        if event["type"] not in _CHECKS:
            raise Violation("8 type", f"{event}")
        if event["type"] == "messageBroadcast":
            stream.session.history.learn(event["data"], observation)
        if event["id"] == stream.folded + 1 or event["id"] > stream.newest:
            _fold(stream, event, is_calm=is_calm)

    def _check_complete(self, listener: Listener, now: int, *, is_calm: bool) -> None:
        stream = listener.stream
        for began, at, what in stream.told:
            if began > listener.opened and at < now and what not in stream.seen:
                raise Violation("8 missing", f"nobody was told of {what} in {stream.session.id}")
        if is_calm and stream.is_armed and stream.threshold and stream.session.life(now) == "live":
            due = max(stream.armed_at, stream.ends - stream.threshold * MINUTE_MS)
            if due < now and not stream.session.open:
                raise Violation("8 warning", f"no warning of {stream.session.id} at {iso(due)}")


def _fold(stream: Stream, event: Json, *, is_calm: bool) -> None:
    if event["id"] != stream.folded + 1:
        stream.forget()
    stream.folded = event["id"]
    stream.newest = max(stream.newest, event["id"])
    for what in _keys(event):
        if what in stream.seen:
            raise Violation("8 twice", f"{what} for the second time: {event}")
        stream.seen.add(what)
    if event["type"] == "sessionTimeoutUpdated":  # twice at one instant is no wonder
        stream.seen.add(("retimed", epoch_ms(event["at"])))
    _CHECKS[event["type"]](stream, event, event["data"], epoch_ms(event["at"]), is_calm)


def _changes(exchange: Exchange) -> list[tuple[object, ...]]:
    """What an answer says has happened, as `_keys` names it."""
    body, operation = exchange.body, exchange.sent.operation
    if operation == "sendMessage" and exchange.status == 201:
        if epoch_ms(body["createdAt"]) < exchange.sent.at_ms:
            return []  # a repeat
        status = body["sessionStatus"]
        said: list[tuple[object, ...]] = [("message", body["id"])]
        return [*said, ("renewed", status["renewalCount"])] if status["wasRenewed"] else said
    if exchange.status == 200 and operation == "renewSession":
        return [("renewed", body["renewalCount"])]
    if exchange.status == 200 and operation == "updateTimeout":
        return [("retimed", epoch_ms(body["expiresAt"]) - body["timeRemaining"])]
    is_renewed = operation == "heartbeat" and exchange.status == 200 and body["timeoutConfig"]["autoRenew"]
    if is_renewed and body["expiresAt"] < body["maxExpiresAt"]:
        return [("renewed", body["renewalCount"])]
    return []


def _keys(event: Json) -> list[tuple[object, ...]]:
    """What can happen only once."""
    kind, data = event["type"], event["data"]
    keys: dict[str, tuple[object, ...]] = {
        "messageBroadcast": ("message", data.get("id")),
        "sessionRenewed": ("renewed", data.get("renewalCount")),
        "agentError": ("agentError", data.get("messageId")),
        "sessionCreated": (kind,),
        "sessionExpired": (kind,),
        "sessionEnded": (kind,),
    }
    return [keys[kind]] if kind in keys else []


# --- events in their order


def _created(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    session = stream.session
    del is_calm
    if event["id"] != 1 or data["sessionId"] != session.id or epoch_ms(data["createdAt"]) != at:
        raise Violation("8 created", f"{event}")
    stream.config, stream.renewals = _config(data), 0
    _arm(stream, at, epoch_ms(data["expiresAt"]))


def _broadcast(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    del stream, is_calm
    if epoch_ms(data["createdAt"]) < at:
        raise Violation("8 broadcast", f"a message is older than its event: {event}")


def _renewed(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    del is_calm
    ends, config, created = epoch_ms(data["expiresAt"]), stream.config, stream.session.created
    if stream.renewals >= 0 and data["renewalCount"] != stream.renewals + 1:
        raise Violation("8 renewed", f"renewal {data['renewalCount']} after {stream.renewals}: {event}")
    if config is not None and ends != min(at + config[0] * MINUTE_MS, created + config[2] * MINUTE_MS):
        raise Violation("8 renewed", f"{event} with {config}")
    stream.renewals = data["renewalCount"]
    _arm(stream, at, ends)


def _retimed(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    del is_calm
    before, config, ends = stream.config, _config(data), epoch_ms(data["expiresAt"])
    if stream.renewals >= 0 and data["renewalCount"] != stream.renewals:
        raise Violation("8 retimed", f"renewalCount after {stream.renewals}: {event}")
    stream.config = config
    if before is None or not stream.ends:
        stream.is_armed, stream.ends = None, ends
    elif (ends, config[3]) != (stream.ends, before[3]):
        _arm(stream, at, ends)


def _warned(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    ends = epoch_ms(data["expiresAt"])
    left = ends - at
    expected = {"expiresAt": iso(ends), "timeRemaining": left, "minutesRemaining": -(-left // MINUTE_MS)}
    if data != expected or left <= 0:
        raise Violation("8 warning", f"{event}: {difference(data, expected)}")
    if stream.is_armed is False or (stream.ends and ends != stream.ends):
        raise Violation(
            "8 warning", f"a second warning, or of another deadline than {iso(stream.ends)}: {event}"
        )
    due = ends - stream.threshold * MINUTE_MS
    if stream.threshold and at < due:
        raise Violation("8 warning", f"before {iso(due)}: {event}")
    if is_calm and stream.threshold and stream.is_armed and at != max(due, stream.armed_at):
        raise Violation("8 warning", f"not at {iso(max(due, stream.armed_at))}: {event}")
    stream.is_armed, stream.ends = False, ends


def _expired(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    session, ends = stream.session, epoch_ms(data["expiredAt"])
    # a DELETE that came at the very end finds the session expired, and only then forgets it
    worlds = [world for world in session.worlds if world.ends_lo <= ends <= world.ends_hi]
    reasons = {"max_duration" if ends == world.cap else "inactivity" for world in worlds}
    if data["reason"] not in reasons and not session.open:
        raise Violation("8 expired", f"{event} of {session.worlds}")
    if at < ends or (is_calm and at != ends and not session.open):
        raise Violation("8 expired", f"at {iso(at)}, not {iso(ends)}: {event}")
    if is_calm and stream.is_armed and stream.threshold:
        raise Violation("8 warning", f"none before {event}")


def _ended(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    del is_calm
    session = stream.session
    was_asked = any(one.sent.operation == "endSession" for one in session.open) or any(
        w.gone for w in session.worlds
    )
    if not was_asked or epoch_ms(data["endedAt"]) != at:
        raise Violation("8 ended", f"nobody ended it: {event}")


def _agent_failed(stream: Stream, event: Json, data: Json, at: int, is_calm: bool) -> None:
    del at, is_calm
    is_cancelled = data["code"] == "AGENT_CANCELLED"
    if data["code"] not in ("AGENT_FAILED", "AGENT_TIMEOUT", "AGENT_CANCELLED") or not data["message"]:
        raise Violation("8 agentError", f"{event}")
    stream.session.history.fail(data["messageId"], is_cancelled=is_cancelled)


def _arm(stream: Stream, at: int, ends: int) -> None:
    stream.is_armed, stream.armed_at, stream.ends = True, at, ends


def _config(data: Json) -> Config:
    timeout, auto_renew, most, warning = (data["timeoutConfig"][name] for name in CONFIG)
    return timeout, auto_renew, most, warning


_CHECKS: dict[str, Callable[[Stream, Json, Any, int, bool], None]] = {
    "sessionCreated": _created,
    "messageBroadcast": _broadcast,
    "sessionRenewed": _renewed,
    "sessionTimeoutUpdated": _retimed,
    "sessionExpirationWarning": _warned,
    "sessionExpired": _expired,
    "sessionEnded": _ended,
    "agentError": _agent_failed,
}
