"""One session under the contract, and the requests that are about it (spec sections 3, 4). It judges nothing."""

from typing import Any

from vigil.scenarios.model.observed import Answered, Sent
from vigil.scenarios.model.rules.history import NEVER, Asked, History
from vigil.scenarios.model.rules.limits import Charge, Named
from vigil.scenarios.model.world import CONFIG, Json, Life, World, iso

WAITING_MAX = 256  # turns of one session, and 64 commands: more may be refused as OVERLOADED
COMMANDS_MAX = 64

COMMANDS = frozenset({"sendMessage", "heartbeat", "renewSession", "updateTimeout", "endSession"})


class Exchange:
    """A request and what is known of its answer. `began` and `ended` number the observations of the whole run."""

    __slots__ = (
        "answer",
        "asked",
        "began",
        "body",
        "charge",
        "early",
        "ended",
        "fate",
        "has_rival",
        "is_calm",
        "life",
        "request",
        "sent",
        "session",
        "until",
        "versions",
    )

    def __init__(self, sent: Sent, began: int, *, is_calm: bool) -> None:
        self.sent = sent
        self.began = began
        self.ended = NEVER
        self.is_calm = is_calm  # no fault: it is applied when it is sent
        self.until = NEVER  # it is not applied later than this
        self.early: int | None = None  # the status that is certain whatever the session is
        self.request: Any = None  # its body
        self.session: Session | None = None
        self.life: Life = "gone"  # of its session, when it came
        self.charge: Charge | None = None
        self.asked: Asked | None = None
        self.answer: Answered | None = None
        self.body: Any = None  # of the answer
        self.fate = ""  # "answered", "lost", "waits" for a reply once its message is stored
        self.has_rival = False  # another with its idempotency key was on its way when it came
        self.versions: list[list[World]] = []  # what a read may have seen

    @property
    def number(self) -> int:
        return self.sent.number

    @property
    def status(self) -> int:
        return 0 if self.answer is None else self.answer.status

    @property
    def is_unanswered(self) -> bool:
        """Whether its message is stored, and the agent will not answer it: 502, 504, or the turn was stopped."""
        return self.status in (502, 504) or (self.status == 409 and self.body["code"] == "AGENT_CANCELLED")  # noqa: PLR2004

    @property
    def is_sure(self) -> bool:
        """Whether it was applied even if nobody got the answer."""
        may_be_refused = self.request is not None and self.request.get("whenBusy") == "reject"
        return (
            not may_be_refused
            and self.is_calm
            and self.life == "live"
            and self.charge is not None
            and self.charge.admitted is True
        )


class Saved:
    """What was done with an idempotency key; without `answer` it is not known. Not `is_sure`: or nothing was."""

    __slots__ = ("answer", "at_ms", "body", "is_sure", "session")

    def __init__(self, body: bytes, answer: Json | None, at_ms: int, *, is_sure: bool) -> None:
        self.body = body
        self.answer = answer
        self.at_ms = at_ms
        self.is_sure = is_sure
        self.session: Session | None = None  # of a create


class Session:
    """`worlds` are the states that all answers so far allow."""

    __slots__ = (
        "_described",
        "_description",
        "agent",
        "channel",
        "created",
        "due",
        "ended",
        "history",
        "id",
        "is_echoed",
        "is_named",
        "keys",
        "metadata",
        "names",
        "open",
        "place",
        "policy",
        "readers",
        "tombstone_ms",
        "user",
        "was_troubled",
        "worlds",
    )

    def __init__(self, id_: str, agent: str, user: str, worlds: list[World], tombstone_ms: int) -> None:
        self.id = id_
        self.agent = agent
        self.user = user
        self.created = worlds[0].created
        self.channel: str | None = None
        self.metadata: Json = {}
        self.worlds = worlds
        self.tombstone_ms = tombstone_ms
        self.open: list[Exchange] = []
        self.readers: list[Exchange] = []
        self.keys: dict[str, Saved] = {}
        self.ended = NEVER  # the observation of its DELETE
        self.place: Life = "live"  # where lists count it
        self.was_troubled = False  # by a crash: turns that were interrupted twice have failed
        self.due = NEVER  # when it will be looked at again
        self.is_named = True  # some client knows its id
        self.is_echoed = False  # its agent answers at once
        self.history: History
        self.names: tuple[Named, ...] = ()
        self.policy = ""
        self._described: World | None = None
        self._description: Json = {}

    def life(self, now: int) -> Life:
        """Whether it is certain to live now, or not, whatever is on its way."""
        worlds = self.worlds
        life = worlds[0].life(now, self.tombstone_ms)
        if len(worlds) > 1 and any(world.life(now, self.tombstone_ms) != life for world in worlds):
            return "unsure"
        if not self.open or life == "gone":
            return life
        may_shorten = any(one.sent.operation in ("endSession", "updateTimeout") for one in self.open)
        return "unsure" if may_shorten or life != "live" else "live"

    def description(self, world: World, now: int) -> Json:
        """The full session object. It is good until the next one is asked for."""
        if world is not self._described:
            self._described, self._description = world, self._describe(world)
        body, ends = self._description, world.ends_lo
        body["timeRemaining"] = max(0, ends - now)
        body["isNearExpiration"] = world.is_near(now)
        body["status"] = "active" if now < ends else "expired"
        return body

    def _describe(self, world: World) -> Json:
        return {
            "sessionId": self.id,
            "agentId": self.agent,
            "userId": self.user,
            "createdAt": iso(self.created),
            "lastActivity": iso(world.active_lo),
            "expiresAt": iso(world.ends_lo),
            "timeoutConfig": dict(zip(CONFIG, world.config, strict=True)),
            "renewalCount": world.renewals,
            "metadata": self.metadata,
            "maxExpiresAt": iso(world.cap),
        }
