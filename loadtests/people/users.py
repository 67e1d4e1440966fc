"""The people of a day: one class is one kind of person. The greedy ones are in `greedy.py`.

How often each does what is in `mixes.py`; here is what they do. Everything they do is a Locust request.
"""

from collections.abc import Generator
from typing import Any, NamedTuple

import orjson
from locust import tag, task

from vigil.loadtests.people import mixes
from vigil.loadtests.people.client import Answer, Connection
from vigil.loadtests.people.events import EventsSocket
from vigil.loadtests.people.person import ROUTES, ScriptedPerson, Session, SteadyPerson

WORDS = (
    "Hello, is anybody there?",
    "Thanks, that helps.",
    "Could you say that again, more slowly?",
    "My order has not arrived yet, and it is already Thursday.",
    "a < b && c > d is what the manual says, and it does not work.",
    "Gr\u00fc\u00dfe aus K\u00f6ln, wie sp\u00e4t ist es bei euch?",
    "I have tried turning it off and on again. It is still off.",
)

_CHATTER = mixes.PER_HOUR["Chatter"]
_IDLE = mixes.PER_HOUR["IdleTab"]
_DEVICES = mixes.PER_HOUR["MultiDevice"]
_CLUMSY = mixes.PER_HOUR["Clumsy"]
_LISTENER = mixes.PER_HOUR["Listener"]

_PAGE = b"?limit=20"
_WHOLE_PAGE = 100
_TIMEOUTS_MINUTES = (20, 30, 45)


class SessionPerson(SteadyPerson):
    """Has one session at a time, and begins another when that one has gone."""

    abstract = True
    session: Session | None = None

    def on_start(self) -> None:
        self.session = self.create()

    def leave(self) -> None:
        if self.world.reads_back and self.session is not None and not self.world.recorder.in_a_hurry:
            self.read_back(self.session)

    def here(self) -> Session | None:
        """The session; a new one when it has gone. None when the server gives none."""
        if self.session is None:
            self.session = self.create()
        return self.session

    def went(self, answer: Answer) -> Answer:
        """Forget a session that the server no longer has."""
        if answer.status in (404, 410):
            self.session = None
        return answer

    def say(self, connection: Connection | None = None) -> Answer | None:
        session = self.here()
        if session is None:
            return None
        return self.went(self.send(session, self.rng.choice(WORDS), connection=connection))

    def do(self, operation: str, *, query: bytes = b"", body: bytes = b"") -> Answer | None:
        session = self.here()
        if session is None:
            return None
        return self.went(self.ask(operation, session, body, query=query))

    def read_back(self, session: Session) -> None:
        """Look for every message that the server has acknowledged. What is not there is lost."""
        wanted = set(session.acknowledged)
        session.acknowledged.clear()
        if not wanted:
            return
        found = self._history(session, len(wanted))
        if found is None:  # the session is over, and its messages with it; or it cannot be read now
            return
        lost = wanted - found
        self.world.recorder.acknowledged += len(wanted)
        self.world.recorder.lost += len(lost)
        if lost:
            self.report("read_back", error=f"lost {len(lost)} of {len(wanted)} acknowledged messages")

    def _history(self, session: Session, count: int) -> set[str] | None:
        """The ids of all messages; None when the history cannot be read to its end."""
        found: set[str] = set()
        query = b"?limit=%d" % _WHOLE_PAGE
        for _ in range(2 + 3 * count // _WHOLE_PAGE):  # an answer for each, and some more
            answer = self.ask("messages", session, query=query, name="read_back")
            if answer.status != ROUTES["messages"].success:
                return None
            page = orjson.loads(answer.body)
            found.update(message["id"] for message in page["messages"])
            if not page["hasMore"]:
                return found
            query = b"?limit=%d&before=%d" % (_WHOLE_PAGE, page["cursors"]["before"])
        return None


class Chatter(SessionPerson):
    """Talks with an agent: sends, reads, now and then looks at the session, renews it or begins another."""

    per_hour = mixes.per_hour("Chatter")

    @tag("chat")
    @task(_CHATTER["send"])
    def send_message(self) -> None:
        self.say()

    @tag("chat")
    @task(_CHATTER["read"])
    def read(self) -> None:
        self.do("messages", query=_PAGE)

    @tag("chat")
    @task(_CHATTER["look"])
    def look(self) -> None:
        self.do("get")

    @tag("life")
    @task(_CHATTER["renew"])
    def renew(self) -> None:
        self.do("renew")

    @tag("life")
    @task(_CHATTER["change_timeout"])
    def change_timeout(self) -> None:
        minutes = self.rng.choice(_TIMEOUTS_MINUTES)
        answer = self.do("timeout", body=b'{"timeoutMinutes":%d}' % minutes)
        if answer and self.session and answer.status == ROUTES["timeout"].success:
            self.session.timeout_s = self.world.real_s(minutes * 60)

    @tag("life")
    @task(_CHATTER["start_anew"])
    def start_anew(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            if self.world.reads_back:
                self.read_back(session)
            self.ask("end", session)
        self.here()


class IdleTab(SessionPerson):
    """A tab in the background: heartbeats, and a look now and then."""

    per_hour = mixes.per_hour("IdleTab")

    @tag("life")
    @task(_IDLE["heartbeat"])
    def heartbeat(self) -> None:
        self.do("heartbeat")

    @tag("life")
    @task(_IDLE["look"])
    def look(self) -> None:
        self.do("get")


class MultiDevice(SessionPerson):
    """One session on three devices: what one has sent, another must find."""

    per_hour = mixes.per_hour("MultiDevice")

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.devices = [self.connection, *(Connection(self.world.target, self.world.clock) for _ in range(2))]
        self._sent: tuple[str, str] | None = None  # session and message

    @tag("chat")
    @task(_DEVICES["send"])
    def send_message(self) -> None:
        answer = self.say(self.rng.choice(self.devices))
        if answer and self.session and answer.status == ROUTES["send"].success:
            self._sent = self.session.id, orjson.loads(answer.body)["id"]

    @tag("chat")
    @task(_DEVICES["read_elsewhere"])
    def read_elsewhere(self) -> None:
        session = self.here()
        if session is None:
            return
        device = self.rng.choice(self.devices)
        answer = self.went(self.ask("messages", session, query=_PAGE, connection=device))
        if answer.status != ROUTES["messages"].success or not self._sent or self._sent[0] != session.id:
            return
        if self._sent[1].encode() not in answer.body:
            self.report("other_device", error="a message that one device has sent is not on the other")

    @tag("life")
    @task(_DEVICES["heartbeat"])
    def heartbeat(self) -> None:
        self.do("heartbeat")

    def on_stop(self) -> None:
        super().on_stop()
        for device in self.devices:
            device.close()


class Listener(SessionPerson):
    """Hears the session's events on a WebSocket while sending. Each frame is a Locust request, by its event's type."""

    per_hour = mixes.per_hour("Listener")
    socket: EventsSocket | None = None

    @tag("events")
    @task(_LISTENER["send"])
    def send_message(self) -> None:
        session = self.here()
        if session is None:
            return
        if self.socket is None or not self.socket.hears(session):
            self.listen_to(session)
        due_s = self._due_s or self.world.clock()
        answer = self.say()
        if answer and self.socket and answer.status == ROUTES["send"].success:
            self.socket.expect(orjson.loads(answer.body)["id"], due_s)

    @tag("events")
    @task(_LISTENER["look"])
    def look(self) -> None:
        self.do("get")

    def listen_to(self, session: Session) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = EventsSocket(self, session)
        self.socket.open()

    def on_stop(self) -> None:
        if self.socket is not None:
            self.socket.close()
        super().on_stop()


class ClosedLaptop(ScriptedPerson):
    """Chats a little, closes the lid for a while, comes back: to the session if it lives, else to a new one."""

    @tag("chat")
    @task
    def go_on(self) -> None:
        self.advance()

    def live(self) -> Generator[float]:
        session = self.create()
        while True:
            for _ in range(4):
                if session is not None:
                    self.send(session, self.rng.choice(WORDS))
                yield self.later(20)
            self.connection.close()
            yield self.later(_LID_CLOSED_S)
            if session is None or self.ask("get", session).status != ROUTES["get"].success:
                session = self.create()


class Ghost(ScriptedPerson):
    """Lets a session expire, and checks that it does so when it should: not before, and not after."""

    @tag("expiry")
    @task
    def go_on(self) -> None:
        self.advance()

    def live(self) -> Generator[float]:
        while True:
            session = self.create(config={"timeoutMinutes": 5, "autoRenew": False})
            if session is None:
                yield self.later(60)
                continue
            made = session.created
            yield made.sent_s + session.timeout_s - self.world.real_s(_BEFORE_S) - _BEFORE_REAL_S
            self._look(session, alive=True)
            yield (made.received_s or made.sent_s) + session.timeout_s * 1.0001 + _AFTER_REAL_S
            self._look(session, alive=False)
            self.ask("end", session, name="forget")

    def _look(self, session: Session, *, alive: bool) -> None:
        """Ask for the session when it must be there, or must not. An answer that came too late to tell is let pass."""
        answer = self.ask("get", session, expect=frozenset((200, 410)), name="get_at_expiry")
        still_early = session.may_be_over(answer.received_s or self.world.clock()) is False
        if alive and answer.status == 410 and still_early:  # noqa: PLR2004  a status
            self.report("expiry", error="the session was expired before its deadline")
        if not alive and answer.status == 200:  # noqa: PLR2004  a status
            self.report("expiry", error="the session was alive after its deadline")


class Clumsy(SessionPerson):
    """Gets things wrong: each blunder has the status that it must be answered with."""

    per_hour = mixes.per_hour("Clumsy")

    @tag("invalid")
    @task(_CLUMSY["blunder"])
    def blunder(self) -> None:
        session = self.here()
        if session is None:
            return
        blunder = self.rng.choice(BLUNDERS)
        credential = {"own": session.token, "none": None, "wrong": "no-such-key-0123456789"}[
            blunder.credential
        ]
        self.went(
            self.ask(
                blunder.operation,
                None if blunder.operation == "create" else session,
                blunder.body,
                query=blunder.query,
                common=self.headers(credential, blunder.content_type),
                expect=frozenset((blunder.status,)),
                user=self.user_id,
                agent=self.agent,
                name="clumsy_" + blunder.name.lower().replace(" ", "_"),
            )
        )

    @tag("chat")
    @task(_CLUMSY["send"])
    def send_message(self) -> None:
        self.say()


class Blunder(NamedTuple):
    """Something wrong, and how it must be answered (spec sections 2, 6 and 9)."""

    name: str
    status: int
    operation: str
    body: bytes = b""
    query: bytes = b""
    credential: str = "own"
    content_type: str = "application/json"


BLUNDERS = (
    Blunder("empty content", 400, "send", b'{"content":""}'),
    Blunder("no content", 400, "send", b"{}"),
    Blunder("broken JSON", 400, "send", b'{"content":'),
    Blunder("duplicate key", 400, "send", b'{"content":"a","content":"b"}'),
    Blunder("unknown field", 400, "send", b'{"content":"a","colour":"red"}'),
    Blunder("script", 400, "send", b'{"content":"<script>alert(1)</script>"}'),
    Blunder("not JSON", 415, "send", b"hello", content_type="text/plain"),
    Blunder("short timeout", 400, "timeout", b'{"timeoutMinutes":1}'),
    Blunder("nothing to change", 400, "timeout", b"{}"),
    Blunder("limit of 0", 400, "messages", query=b"?limit=0"),
    Blunder("unknown query", 400, "messages", query=b"?colour=red"),
    Blunder("no credentials", 401, "get", credential="none"),
    Blunder("wrong credentials", 401, "get", credential="wrong"),
    Blunder("token instead of key", 403, "create", b'{"agentId":"a","userId":"b"}'),
)

_LID_CLOSED_S = 20 * 60
_BEFORE_S = 1.0  # of session time
_BEFORE_REAL_S = 0.05
_AFTER_REAL_S = 0.005
