"""Plays one script against one target, step by step, and judges each expectation. The first step that fails ends it.

It knows what verbs do and when; what goes over the wire is `wire`'s, what matches is `matchers`', where it goes is
the target's.
"""

import json
from collections import ChainMap, Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import trio

from vigil.actors.agents.yaml_positions import Where
from vigil.scenarios.language import durations, matchers
from vigil.scenarios.language.expectations import Expect, Matcher
from vigil.scenarios.language.matchers import Finding, Moment
from vigil.scenarios.language.paths import MISSING, NoValue, look
from vigil.scenarios.language.reading import Located
from vigil.scenarios.language.script import REQUESTS, Burst, Step
from vigil.scenarios.language.settings import Settings
from vigil.scenarios.language.verbs import ExpectEvent, OfSession, Restart
from vigil.scenarios.play import wire
from vigil.scenarios.play.inbox import CLOSED, Frame, Inbox
from vigil.scenarios.play.results import (
    EventSeen,
    Exchange,
    Happening,
    Judged,
    Play,
    SessionSeen,
    StepPlayed,
    What,
    masked,
)
from vigil.scenarios.play.targets import Target
from vigil.scenarios.play.wire import Wire
from vigil.scenarios.virtual.in_process import Disconnected
from vigil.server.api.wire_time import epoch_ms
from vigil.server.front.direct import Answer

NO_ANSWER = Answer(0, (), b"no answer came")
BROKEN = 1006  # RFC 6455 section 7.1.5
LABEL_MAX = 60


class _Failed(Exception):
    """An expectation of the step did not hold; it is written down."""


async def play(located: Located, target: Target, *, clock: Callable[[], float]) -> Play:
    """All of the script. `clock` tells real seconds. What the target raises beyond Disconnected goes through."""
    return await _Player(located, target).run(clock)


@dataclass(slots=True)
class _Scope:
    """What a step finds: where it is in the script, and what those before it left."""

    where: Where
    names: Mapping[str, Any]
    parent: int | None = None
    device: str = ""
    session: str = ""  # the one created last
    listener: str = ""  # the one opened last
    ended_ms: int = 0  # the step before


@dataclass(frozen=True, slots=True)
class _Now:
    """A step under way."""

    step: Step
    where: Where
    scope: _Scope
    index: int
    session: str  # the name of the one that the step is about, or ""
    device: str

    @property
    def action(self) -> Any:
        return self.step.action


@dataclass(frozen=True, slots=True)
class _Came:
    """What a step got: an answer, or an event, which has no status."""

    at_ms: int
    status: int | None
    headers: Mapping[str, str]
    body: Any


class _Player:
    def __init__(self, located: Located, target: Target) -> None:
        self._located = located
        self._target = target
        self._settings = located.script.settings or Settings()
        self._names: dict[str, Any] = {"key": target.key}
        self._tokens: dict[str, str] = {}
        self._created = 0
        self._inboxes: dict[str, Inbox] = {}
        self._sessions: dict[str, SessionSeen] = {}
        self._steps: list[StepPlayed | None] = []
        self._exchanges: list[Exchange] = []
        self._events: list[EventSeen] = []
        self._happenings: list[Happening] = []
        self._judged: list[Judged] = []

    async def run(self, clock: Callable[[], float]) -> Play:
        began_s = clock()
        self._start_ms = self._target.now()
        async with trio.open_nursery() as self._nursery:
            scope = _Scope(("steps",), self._names, ended_ms=self._start_ms)
            await self._play_steps(self._located.script.steps, scope)
            self._nursery.cancel_scope.cancel()
        return self._whole(clock() - began_s)

    def _whole(self, real_s: float) -> Play:
        failure = next((judged for judged in self._judged if not judged.held), None)
        whole = Play(
            title=self._located.script.title,
            why=self._located.script.why.strip(),
            file=str(self._located.file),
            target=self._target.name,
            verdict="failed" if failure else "held",
            reason=_in_words(failure) if failure else "",
            started_ms=self._start_ms,
            ended_ms=self._target.now(),
            real_s=real_s,
            sessions=tuple(self._sessions.values()),
            steps=tuple(step for step in self._steps if step is not None),
            exchanges=tuple(self._exchanges),
            events=tuple(self._events),
            happenings=tuple(self._happenings),
            judged=tuple(self._judged),
        )
        return masked(whole, {self._target.key, *self._tokens.values()})

    # --- steps

    async def _play_steps(self, steps: Sequence[Step], scope: _Scope) -> None:
        for n, step in enumerate(steps):
            await self._play_step(step, (*scope.where, n), scope)

    async def _play_step(
        self, step: Step, where: Where, scope: _Scope, *, judged: bool = True
    ) -> _Came | None:
        """Gives what came back, of a request. Without `judged` any answer will do."""
        late_ms = await self._wait_for(step, scope)
        now = self._begun(step, where, scope)
        began_ms, held = self._target.now(), False
        try:
            self._check_in_time(now, late_ms)
            came = await _DOES[step.verb](self, now)
            if came is not None and judged:
                self._judge(now, came)
            if came is not None:
                self._keep(now, came)
            held = True
        except NoValue as error:
            self._note(now, "value", Finding(False, "a value", str(error)))
        except _Failed:
            pass
        finally:
            scope.ended_ms = self._target.now()
            self._steps[now.index] = self._played(now, began_ms, held)
        if not held:
            self._nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()
        return came

    def _begun(self, step: Step, where: Where, scope: _Scope) -> _Now:
        session = ""
        if step.verb == "create":
            self._created += 1
            session = step.as_ or f"session-{self._created}"
        elif isinstance(step.action, OfSession):
            session = step.action.session or scope.session
        self._steps.append(None)
        return _Now(step, where, scope, len(self._steps) - 1, session, step.device or scope.device)

    def _played(self, now: _Now, began_ms: int, held: bool) -> StepPlayed:
        return StepPlayed(
            index=now.index,
            parent=now.scope.parent,
            line=self._line(now.where),
            verb=now.step.verb,
            label=now.step.name or _label(now),
            session=now.session,
            device=now.device,
            started_ms=began_ms,
            ended_ms=now.scope.ended_ms,
            held=held,
        )

    async def _wait_for(self, step: Step, scope: _Scope) -> int:
        """Until the step is due, and what is due with it has happened. Gives by how many ms it was missed."""
        due_ms = self._start_ms + step.at if step.at is not None else scope.ended_ms + (step.after or 0)
        late_ms = self._target.now() - due_ms
        await self._sleep_until(due_ms)
        await self._target.settle()
        return late_ms if step.at is not None else 0

    async def _sleep_until(self, at_ms: int) -> None:
        await trio.sleep_until(self._target.deadline(at_ms))

    def _check_in_time(self, now: _Now, late_ms: int) -> None:
        """Real servers take real time. In virtual time the script itself has asked for what cannot be."""
        if late_ms > 0 and not self._target.tolerance_ms:
            came = f"the step before had ended {durations.show(late_ms)} after that"
            self._require(now, "at", Finding(False, f"begins at {durations.show(now.step.at or 0)}", came))

    # --- one method a verb

    async def _request(self, now: _Now) -> _Came:
        sent = self._composed(now)
        at_ms = self._target.now()
        answer = NO_ANSWER
        with suppress(Disconnected):
            answer = await self._target.request(sent.method, sent.target, sent.headers, sent.content)
        return self._answered(now, sent, at_ms, answer)

    async def _listen(self, now: _Now) -> _Came:
        sent = self._composed(now)
        at_ms = self._target.now()
        name = now.step.as_ or f"listener-{len(self._inboxes) + 1}"
        self._inboxes[name] = Inbox()
        answer = await self._nursery.start(self._hear, now, sent, name)
        if answer.status == wire.FORMS["listen"].success:
            now.scope.listener = name
        return self._answered(now, sent, at_ms, answer)

    async def _hear(self, now: _Now, sent: Wire, name: str, *, task_status: trio.TaskStatus[Answer]) -> None:
        """A task of its own, from the handshake to the listener's end."""
        try:
            async with self._target.listen(sent.target, sent.headers) as listener:
                task_status.started(listener.answer)
                if listener.answer.status != wire.FORMS["listen"].success:
                    return
                async for text in listener:
                    self._heard(now, name, json.loads(text))
                self._heard(now, name, {"type": CLOSED, "data": {"code": listener.close_code or BROKEN}})
        except Disconnected:
            task_status.started(NO_ANSWER)

    async def _expect_event(self, now: _Now) -> _Came | None:
        wanted: ExpectEvent = now.action
        inbox = self._inboxes.get(wanted.listener or now.scope.listener)
        if inbox is None:
            raise NoValue("nobody listens: open a listener first")
        patience_ms = wanted.within + (0 if wanted.never else self._target.tolerance_ms)
        frame: Frame | None = None
        with trio.CancelScope(deadline=self._target.deadline(self._target.now() + patience_ms)):
            frame = await inbox.take(wanted.type, very_next=wanted.next)
        if frame is None:
            await self._target.settle()  # what comes at the very end of that time comes in time
            frame = inbox.take_nowait(wanted.type, very_next=wanted.next)
        self._require(now, "event", _event_found(wanted, frame, inbox))
        return None if frame is None else _Came(self._target.now(), None, {}, frame)

    async def _burst(self, now: _Now) -> None:
        burst: Burst = now.action
        statuses = now.step.expect.statuses if now.step.expect else None
        judged = statuses is None or burst.do.expect is not None
        counted: Counter[str] = Counter()
        began_ms = self._target.now()

        async def one(n: int, scope: _Scope) -> None:
            await self._sleep_until(began_ms + (n - 1) * burst.every)
            came = await self._play_step(burst.do, (*scope.where, "do"), scope, judged=judged)
            counted[str(came.status if came else None)] += 1

        async with trio.open_nursery() as nursery:
            for n in range(1, burst.count + 1):
                nursery.start_soon(one, n, self._inner(now, "burst", n=n))
        if statuses is not None:
            found = Finding(counted == Counter(statuses), _counts(statuses), _counts(counted))
            self._require(now, "statuses", found)

    async def _parallel(self, now: _Now) -> None:
        async with trio.open_nursery() as nursery:
            for name, branch in now.action.items():
                scope = self._inner(now, "parallel", name)
                nursery.start_soon(self._play_steps, branch, replace(scope, device=now.device or name))

    async def _repeat(self, now: _Now) -> None:
        began_ms = self._target.now()
        for n in range(1, now.action.times + 1):
            await self._sleep_until(began_ms + (n - 1) * now.action.every)
            scope = self._inner(now, "repeat", "do", n=n)
            await self._play_steps(now.action.do, scope)
            now.scope.session, now.scope.listener = scope.session, scope.listener

    async def _restart(self, now: _Now) -> None:
        restart: Restart = now.action
        if restart.settings is not None:
            changes = {name: getattr(restart.settings, name) for name in restart.settings.model_fields_set}
            self._settings = self._settings.model_copy(update=changes)
        crash = restart.how == "crash"
        self._happened(now, "crashed" if crash else "stopped", durations.show(restart.down))
        await self._target.restart(crash=crash, down_ms=restart.down, settings=self._settings)
        self._happened(now, "up again", "")

    async def _agent(self, now: _Now) -> None:
        await self._target.set_agents(now.action)
        for agent_id, behaviour in now.action.items():
            slow = f"slow by {durations.show(behaviour.slow)}" if behaviour.slow is not None else ""
            self._happened(now, "agent", f"{agent_id}: {behaviour.is_ or slow}")

    async def _wait(self, now: _Now) -> None:
        await self._sleep_until(self._target.now() + now.action)

    def _inner(self, now: _Now, *inside: str, n: int | None = None) -> _Scope:
        """The scope of steps inside this one."""
        names = now.scope.names if n is None else ChainMap({"n": n}, now.scope.names)  # type: ignore[arg-type]
        return replace(
            now.scope,
            where=(*now.where, *inside),
            names=names,
            parent=now.index,
            device=now.device,
            ended_ms=self._target.now(),
        )

    # --- requests and what they bring

    def _composed(self, now: _Now) -> Wire:
        """Raises NoValue."""
        seen = self._sessions.get(now.session)
        if (
            seen is None
            and "{}" in wire.FORMS[now.step.verb].path
            and not (now.step.raw and now.step.raw.path)
        ):
            raise NoValue(f"there is no session {now.session or 'yet'}")
        token = self._tokens.get(now.session) or self._tokens.get(now.scope.session)
        if token is None and now.step.auth == "token":
            raise NoValue("there is no session yet whose token it could be")
        credential = {"key": self._target.key, "token": token, "none": None}
        session_id = seen.session_id if seen else ""
        return wire.compose(now.step, session_id, credential[now.step.auth], now.scope.names)

    def _answered(self, now: _Now, sent: Wire, at_ms: int, answer: Answer) -> _Came:
        headers = {name.lower(): value for name, value in answer.headers}
        body = wire.body_of(headers, answer.body)
        self._exchanges.append(
            Exchange(
                at_ms=at_ms,
                done_ms=self._target.now(),
                step=now.index,
                session=now.session,
                device=now.device,
                operation=now.step.verb,
                method=sent.method,
                target=sent.target,
                request=sent.shown,
                status=answer.status,
                headers=tuple(headers.items()),
                answer=body,
            )
        )
        return _Came(at_ms, answer.status, headers, body)

    def _heard(self, now: _Now, name: str, frame: Frame) -> None:
        at_ms = self._target.now()
        self._events.append(
            EventSeen(
                at_ms=at_ms,
                step=now.index,
                listener=name,
                session=now.session,
                type=frame["type"],
                id=frame.get("id"),
                happened_ms=epoch_ms(frame["at"]) if "at" in frame else at_ms,
                data=frame.get("data"),
            )
        )
        self._inboxes[name].put(frame)

    def _happened(self, now: _Now, what: What, text: str) -> None:
        self._happenings.append(Happening(self._target.now(), now.index, what, text))

    def _keep(self, now: _Now, came: _Came) -> None:
        """What later steps can use. Raises NoValue when a part to be saved is not there."""
        made = came.body if now.step.verb == "create" and isinstance(came.body, dict) else {}
        if "sessionToken" in made:
            self._tokens[now.session] = made["sessionToken"]
            self._sessions[now.session] = _session_seen(now.session, made)
            now.scope.session = now.session
        if now.step.as_:
            self._names[now.step.as_] = came.body
        for name, path in now.step.save.items():
            value = look(came.body, path)
            if value is MISSING:
                raise NoValue(f"there is no {path} to save as {name}")
            self._names[name] = value

    # --- judging

    def _judge(self, now: _Now, came: _Came) -> None:
        expect = now.step.expect or Expect()
        moment = Moment(self._start_ms, came.at_ms, self._target.tolerance_ms, now.scope.names)
        if came.status is not None:
            matcher = expect.status or Matcher(equals=wire.FORMS[now.step.verb].success)
            self._require(now, "status", _with_body(matchers.judge(matcher, came.status, moment), came.body))
        found = [
            *(
                (
                    ("headers", name),
                    matchers.judge_header(matcher, came.headers.get(name.lower(), MISSING), moment),
                )
                for name, matcher in expect.headers.items()
            ),
            *(
                (("body", path), matchers.judge(matcher, look(came.body, path), moment))
                for path, matcher in expect.body.items()
            ),
        ]
        held = [self._note(now, ".".join(place), finding, place) for place, finding in found]
        if not all(held):
            raise _Failed

    def _require(self, now: _Now, expectation: str, finding: Finding) -> None:
        if not self._note(now, expectation, finding, (expectation,)):
            raise _Failed

    def _note(self, now: _Now, expectation: str, finding: Finding, place: tuple[str, ...] = ()) -> bool:
        line = self._line((*now.where, "expect", *place))
        self._judged.append(Judged(self._target.now(), now.index, line, expectation, *finding))
        return finding.held

    def _line(self, where: Where) -> int:
        return self._located.position(where).line


_DOES: Mapping[str, Callable[[_Player, _Now], Awaitable[_Came | None]]] = {
    **dict.fromkeys(REQUESTS, _Player._request),
    "listen": _Player._listen,
    "expect_event": _Player._expect_event,
    "burst": _Player._burst,
    "parallel": _Player._parallel,
    "repeat": _Player._repeat,
    "restart": _Player._restart,
    "agent": _Player._agent,
    "wait": _Player._wait,
}


def _session_seen(name: str, made: Mapping[str, Any]) -> SessionSeen:
    return SessionSeen(
        name,
        made["sessionId"],
        made["agentId"],
        made["userId"],
        epoch_ms(made["createdAt"]),
        epoch_ms(made["expiresAt"]),
    )


def _event_found(wanted: ExpectEvent, frame: Frame | None, inbox: Inbox) -> Finding:
    """Whether the frame that was taken, or none, is what was wanted."""
    kind, within = wanted.type or "any event", durations.show(wanted.within)
    came = "nothing" if frame is None else f"{frame['type']} {matchers.shown(frame.get('data'))}"
    if wanted.never:
        return Finding(frame is None, f"no {kind} within {within}", came)
    if frame is None and (others := inbox.not_taken()):
        came = f"only {', '.join(others)}"
    is_it = frame is not None and wanted.type in (None, frame["type"])
    return Finding(is_it, f"{'next ' if wanted.next else ''}{kind} within {within}", came)


def _with_body(finding: Finding, body: Any) -> Finding:
    """A status that nobody expected is explained by its body."""
    return finding if finding.held else finding._replace(came=f"{finding.came} {matchers.shown(body)}")


def _counts(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def _in_words(failure: Judged) -> str:
    return f"{failure.expectation}: expected {failure.expected}, came {failure.came}"


def _label(now: _Now) -> str:
    """What a step does, in a few words."""
    action = now.action
    detail = _DETAILS.get(now.step.verb, lambda _: now.session)(action)
    return f"{now.step.verb} {detail}".strip()[:LABEL_MAX]


_DETAILS: Mapping[str, Callable[[Any], str]] = {
    "send": lambda action: str(action.content),
    "expect_event": lambda action: action.type or "",
    "burst": lambda action: f"{action.count} x {action.do.verb}",
    "parallel": ", ".join,
    "repeat": lambda action: f"{action.times} times",
    "restart": lambda action: action.how,
    "agent": ", ".join,
    "wait": durations.show,
}
