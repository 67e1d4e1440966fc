"""A recording, played again in virtual time: every answer that differs from the recorded one is reported.

What the recorded server could not choose is fed back: the instant of each request and of each command's take-up,
when each commit was done, and what agents said when. All else is computed anew. Ids are matched one to one.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import orjson
import trio

from vigil.actors.agents.base import Reply, Turn
from vigil.actors.core.errors import AgentFailed, AgentTimedOut, RateLimited
from vigil.actors.core.records import FinishReason, Message
from vigil.actors.stores.base import (
    OWED,
    ForgetTombstones,
    InsertMessage,
    InsertSession,
    Page,
    RemoveSession,
    UpdateSession,
    UpdateTurn,
    Write,
)
from vigil.actors.stores.memory import SlowMemoryStore, page_of
from vigil.scenarios.replay.timing import Timing
from vigil.scenarios.replay.trace import UUID, Recorded, RecordedTurn, Trace
from vigil.scenarios.virtual import determinism
from vigil.scenarios.virtual.in_process import InProcessServer, running_in_process, virtual_plan
from vigil.server.api.auth import Principal
from vigil.server.api.gateway import BODY_BYTES_MAX
from vigil.server.front.direct import Answer
from vigil.server.ops.site import Plan

NOT_PLAYED = frozenset({"livez", "readyz", "metrics", "openapi", "docs", "preflight"})
STATUS_ONLY = frozenset({"getHealth"})  # its counts follow the machine's own lateness
_ADDED = {"finishReason"}  # missing in recordings that are older than it
_OTHER_ID = "00000000-0000-4000-8000-000000000000"


class Difference(NamedTuple):
    """One thing that an answer says otherwise than the recorded one. `path` is `status`, a header or a body path."""

    line: int
    at_ms: int  # since the recording began
    operation: str
    path: str
    recorded: str
    replayed: str


@dataclass(slots=True)
class Replayed:
    """The result of a replay. `left_out` counts requests that could not be played or judged, by reason."""

    requests: int
    duration_ms: int
    differences: list[Difference] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def replay(trace: Trace, *, change: Callable[[Plan], Plan] = lambda plan: plan) -> Replayed:
    """Play it again. `change` may alter the server that plays."""
    return determinism.run(partial(_play, trace, change))


async def _play(trace: Trace, change: Callable[[Plan], Plan]) -> Replayed:
    player = _Player(trace)
    async with running_in_process(change(player.plan())) as server, trio.open_nursery() as nursery:
        player.server = server
        for request in trace.requests:
            await player.until(player.timing.asked(request))
            nursery.start_soon(player.ask, request)
    return player.outcome


class _Player:
    """One replay under way."""

    server: InProcessServer

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.timing = Timing(trace)
        self.outcome = Replayed(len(trace.requests), trace.duration_ms)
        self._ids: dict[str, str] = {}  # recorded to replayed
        self._recorded: dict[str, str] = {}  # and back
        self._turns = {(turn.session, turn.to): turn for turn in trace.turns}
        self._keys = {
            f"key-of-{name}": Principal(name, name, scopes)  # type: ignore[arg-type]
            for name, scopes in trace.callers.items()
        }

    def plan(self) -> Plan:
        start = self.trace.start
        limits = start.settings.limits
        agents = {agent.id: agent.entry(_Agent(self)) for agent in start.agents}
        plan = virtual_plan(
            start_ms=start.started_at,
            agents=agents,
            find_key=self._keys.get,
            rules=start.settings.rules,
            session_limit=limits.session,
            user_limit=limits.user,
            agent_limit=limits.agent,
            content_policy=start.settings.content_policy,
        )
        self.clock = plan.clock
        store = _Store(self, self._recorded)
        return replace(plan, store=store)

    async def until(self, at_ms: float) -> None:
        await trio.sleep_until(self.clock.deadline(at_ms))

    def turn(self, turn: Turn) -> RecordedTurn | None:
        """What was said to this message in the recording."""
        session_id = self._recorded.get(turn.session.id, "")
        return self._turns.get((session_id, turn.message.created_at))

    async def ask(self, request: Recorded) -> None:
        """Send one request as it was sent, and compare what comes."""
        if reason := self._why_not(request):
            self.outcome.left_out[reason] += 1
            return
        if request.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._charge(request)
            self.outcome.left_out["refused by an overloaded server or store, now only charged"] += 1
            return
        answer = await self._answer(request)
        if request.status == 0:
            self.outcome.left_out["not waited for by its client"] += 1
            return
        for difference in self._differences(request, answer):
            self.outcome.differences.append(difference)

    def _why_not(self, request: Recorded) -> str:
        if request.operation in NOT_PLAYED:
            return "about the server, not its sessions"
        if request.session and request.session not in self._ids and request.status not in (401, 403, 404):
            return "about a session that began before the recording"
        return ""

    async def _answer(self, request: Recorded) -> Answer:
        headers = [*request.headers.items(), *self._credential(request)]
        target = self._here(request.target)
        if request.operation == "listenToEvents" and request.status != HTTPStatus.BAD_REQUEST:
            async with self.server.listen(target, headers) as listener:
                return listener.answer
        body = _body(request)

        async def when_taken() -> bytes:
            await self.until(self.timing.told(request))
            return body

        return await self.server.request(request.method, target, headers, when_taken)

    def _credential(self, request: Recorded) -> list[tuple[str, str]]:
        how, _, name = request.by.partition(" ")
        if request.by == "none":
            return []
        if how == "key":
            return [("Authorization", f"Bearer key-of-{name}")]
        mint = self.server.site.auth.mint
        own = mint(self._here(request.session) or _OTHER_ID)
        tokens = {"token": own, "other token": mint(_OTHER_ID)}
        return [("Authorization", f"Bearer {tokens.get(request.by, 'bad')}")]

    def _here(self, target: str) -> str:
        return UUID.sub(lambda found: self._ids.get(found[0], found[0]), target)

    def _charge(self, request: Recorded) -> None:
        if not request.session:
            return
        session = self.server.site.directory.find(self._here(request.session)).session
        try:
            limits = self.server.site.directory.limits
            limits.admit(self.clock.now(), session.user_id, session.agent_id, session.id)
        except RateLimited:
            return

    def _differences(self, request: Recorded, answer: Answer) -> Iterator[Difference]:
        about = partial(
            Difference, request.number, request.now - self.trace.start.started_at, request.operation
        )
        if answer.status != request.status:
            yield about("status", str(request.status), f"{answer.status} {_code(answer)}".strip())
            return
        if self.trace.start.sessions == 0:
            yield from self._header_differences(about, request, answer)
        if request.operation in STATUS_ONLY or request.answer is None:
            return
        recorded, replayed = request.answer, orjson.loads(answer.body)
        replayed.pop("sessionToken", None)
        if request.status in (400, 500):
            recorded, replayed = recorded.get("code"), replayed.get("code")
        for path, was, came in self._compare("", recorded, replayed):
            yield about(path, was, came)

    def _header_differences(
        self, about: Callable[..., Difference], request: Recorded, answer: Answer
    ) -> Iterator[Difference]:
        for name in ("RateLimit", "RateLimit-Policy", "Retry-After"):
            was, came = request.answered.get(name), answer.header(name)
            if was != came:
                yield about(name, str(was), str(came))

    def _compare(self, path: str, was: Any, came: Any) -> Iterator[tuple[str, str, str]]:
        if isinstance(was, dict) and isinstance(came, dict):
            for name in sorted(was.keys() | came.keys() - (_ADDED - was.keys())):
                yield from self._compare(f"{path}.{name}".lstrip("."), was.get(name), came.get(name))
        elif isinstance(was, list) and isinstance(came, list) and len(was) == len(came):
            for n, (one, other) in enumerate(zip(was, came, strict=True)):
                yield from self._compare(f"{path}[{n}]", one, other)
        elif not self._same(was, came):
            yield path, _shown(was), _shown(came)

    def _same(self, was: Any, came: Any) -> bool:
        if not (isinstance(was, str) and isinstance(came, str)):
            return bool(was == came)
        return UUID.sub("id", was) == UUID.sub("id", came) and all(
            self._is_one(one[0], other[0])
            for one, other in zip(UUID.finditer(was), UUID.finditer(came), strict=True)
        )

    def _is_one(self, was: str, came: str) -> bool:
        """Whether these two ids stand for the same thing; new ones do from now on."""
        if self._ids.setdefault(was, came) != came:
            return False
        return self._recorded.setdefault(came, was) == was


class _Agent:
    """Says what was said, when it was said."""

    def __init__(self, player: _Player) -> None:
        self._player = player

    async def reply(self, turn: Turn) -> Reply:
        recorded = self._player.turn(turn)
        if recorded is None:
            await trio.sleep_forever()  # it had not answered when the recording ended
        assert recorded is not None  # for the type checker: nobody wakes from the line above
        if recorded.is_cancelled:
            turn.say(recorded.reply or "")
            await trio.sleep_forever()  # until the request comes that cancelled it
        await self._player.until(self._player.timing.said(recorded))
        if recorded.error == "AGENT_TIMEOUT":
            raise AgentTimedOut(recorded.why)
        if recorded.reply is None:
            raise AgentFailed(recorded.why)
        finish_reason = cast("FinishReason", recorded.finish_reason)
        return Reply(recorded.reply, orjson.dumps(recorded.metadata).decode(), finish_reason)


class _Store(SlowMemoryStore):
    """Commits as late as the recorded server did.

    A read of messages that was under way while something was committed saw it or not: any state in between may be
    what it saw. It may have seen what was durable already, though nobody had an answer yet.
    """

    def __init__(self, player: _Player, recorded: Mapping[str, str]) -> None:
        super().__init__()
        self._player = player
        self._recorded = recorded  # ids, by those of the replay
        self._timing = player.timing
        self._committed = trio.Event()
        self._untold: list[tuple[int, Message]] = []  # under way, by session

    async def commit(self, writes: Sequence[Write]) -> None:
        untold = [(write.session_key, write.message) for write in writes if isinstance(write, InsertMessage)]
        self._untold += untold
        await self._player.until(max(map(self._done, writes), default=0))
        await super().commit(writes)
        for one in untold:
            self._untold.remove(one)
        self._committed.set()
        self._committed = trio.Event()

    async def history(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        done, seen = self._timing.read(self._session_of(session_key), self._player.clock.now())
        page = await super().history(session_key, before, after, limit)
        with trio.move_on_at(self._player.clock.deadline(done)):
            while seen != _instants(page):
                await self._committed.wait()
                page = await super().history(session_key, before, after, limit)
        if seen in (None, _instants(page)):
            return page
        return self._with_untold(session_key, before, after, limit)

    def _with_untold(self, session_key: int, before: int | None, after: int | None, limit: int) -> Page:
        untold = [message for key, message in self._untold if key == session_key]
        return page_of([*self._messages.get(session_key, ()), *untold], before, after, limit)

    def _done(self, write: Write) -> float:
        """When its commit was done, which begins now."""
        now, timing = self._player.clock.now(), self._timing
        if isinstance(write, InsertSession):
            return timing.created(write.session.user_id, now)
        if isinstance(write, UpdateSession):
            return timing.committed(self._recorded.get(write.session.id, ""), now)
        if isinstance(write, UpdateTurn) and write.turn in OWED:
            return timing.begun(self._session_of(write.session_key), write.created_at, now)
        if isinstance(write, RemoveSession):
            return timing.over(self._session_of(write.session_key))
        if isinstance(write, ForgetTombstones):
            return timing.forgotten([self._recorded.get(one, "") for one in write.ids])
        return 0

    def _session_of(self, session_key: int) -> str:
        """As it was recorded."""
        return self._recorded.get(self._sessions[session_key].id, "")


def _instants(page: Page) -> list[int]:
    return [message.created_at for message in page.messages]


def _body(request: Recorded) -> bytes:
    body = request.body
    if request.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return b" " * (BODY_BYTES_MAX + 1)
    if body is None:
        return b""
    if isinstance(body, dict) and body.keys() == {"bytes"}:
        return b"x" * int(body["bytes"])
    if isinstance(body, dict) and body.keys() == {"text"}:
        return str(body["text"]).encode("latin-1")
    return orjson.dumps(body)


def _code(answer: Answer) -> str:
    return str(answer.json().get("code", "")) if answer.body.startswith(b"{") else ""


def _shown(value: Any) -> str:
    return "nothing" if value is None else orjson.dumps(value).decode()[:200]
