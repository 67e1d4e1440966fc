"""Plays one script against one target, step by step, and judges each expectation. The first step that fails ends it.

It knows what verbs do and when; what goes over the wire is `wire`'s, what matches is `matchers`', where it goes is
the target's.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
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
from vigil.scenarios.play.context import Response, Scope, StepContext, session_seen
from vigil.scenarios.play.findings import counts, event_found, in_words, parts_found, with_body
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


class _ExpectationFailed(Exception):
    """An expectation of the step did not hold; it is written down."""


async def play(located: Located, target: Target, *, clock: Callable[[], float]) -> Play:
    """All of the script. `clock` tells real seconds. What the target raises beyond Disconnected goes through."""
    return await _Player(located, target).run(clock)


class _Player:
    def __init__(self, located: Located, target: Target) -> None:
        self._located = located
        self._target = target
        self._settings = located.script.settings or Settings()
        self._names: dict[str, Any] = {"key": target.key}
        self._tokens: dict[str, str] = {}
        self._messages: dict[str, str] = {}  # the one sent last, by session
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
            scope = Scope(("steps",), self._names, ended_ms=self._start_ms)
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
            reason=in_words(failure) if failure else "",
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

    async def _play_steps(self, steps: Sequence[Step], scope: Scope) -> None:
        for n, step in enumerate(steps):
            await self._play_step(step, (*scope.where, n), scope)

    async def _play_step(
        self, step: Step, where: Where, scope: Scope, *, judged: bool = True
    ) -> Response | None:
        """Gives what came back, of a request. Without `judged` any answer will do."""
        late_ms = await self._wait_for(step, scope)
        context = self._begun(step, where, scope)
        began_ms, held = self._target.now(), False
        try:
            self._check_in_time(context, late_ms)
            response = await _DOES[step.verb](self, context)
            if response is not None and judged:
                self._judge(context, response)
            if response is not None:
                self._keep(context, response)
            held = True
        except NoValue as error:
            self._note(context, "value", Finding(False, "a value", str(error)))
        except _ExpectationFailed:
            pass
        finally:
            scope.ended_ms = self._target.now()
            self._steps[context.index] = context.played(self._line(where), began_ms, held=held)
        if not held:
            self._nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()
        return response

    def _begun(self, step: Step, where: Where, scope: Scope) -> StepContext:
        session = ""
        if step.verb == "create":
            self._created += 1
            session = step.as_ or f"session-{self._created}"
        elif isinstance(step.action, OfSession):
            session = step.action.session or scope.session
        self._steps.append(None)
        return StepContext(step, where, scope, len(self._steps) - 1, session, step.device or scope.device)

    async def _wait_for(self, step: Step, scope: Scope) -> int:
        """Until the step is due, and what is due with it has happened. Gives by how many ms it was missed."""
        due_ms = self._start_ms + step.at if step.at is not None else scope.ended_ms + (step.after or 0)
        late_ms = self._target.now() - due_ms
        await self._sleep_until(due_ms)
        await self._target.settle()
        return late_ms if step.at is not None else 0

    async def _sleep_until(self, at_ms: int) -> None:
        await trio.sleep_until(self._target.deadline(at_ms))

    def _check_in_time(self, context: StepContext, late_ms: int) -> None:
        """Real servers take real time. In virtual time the script itself has asked for what cannot be."""
        if late_ms > 0 and not self._target.tolerance_ms:
            came = f"the step before had ended {durations.show(late_ms)} after that"
            self._require(
                context, "at", Finding(False, f"begins at {durations.show(context.step.at or 0)}", came)
            )

    # --- one method a verb

    async def _request(self, context: StepContext) -> Response:
        sent = self._composed(context)
        at_ms = self._target.now()
        answer = NO_ANSWER
        with suppress(Disconnected):
            answer = await self._target.request(sent.method, sent.target, sent.headers, sent.content)
        return self._answered(context, sent, at_ms, answer)

    async def _listen(self, context: StepContext) -> Response:
        sent = self._composed(context)
        at_ms = self._target.now()
        name = context.step.as_ or f"listener-{len(self._inboxes) + 1}"
        self._inboxes[name] = Inbox()
        answer = await self._nursery.start(self._hear, context, sent, name)
        if answer.status == wire.FORMS["listen"].success:
            context.scope.listener = name
        return self._answered(context, sent, at_ms, answer)

    async def _hear(
        self, context: StepContext, sent: Wire, name: str, *, task_status: trio.TaskStatus[Answer]
    ) -> None:
        """A task of its own, from the handshake to the listener's end."""
        try:
            async with self._target.listen(sent.target, sent.headers) as listener:
                task_status.started(listener.answer)
                if listener.answer.status != wire.FORMS["listen"].success:
                    return
                async for text in listener:
                    self._heard(context, name, json.loads(text))
                self._heard(context, name, {"type": CLOSED, "data": {"code": listener.close_code or BROKEN}})
        except Disconnected:
            task_status.started(NO_ANSWER)

    async def _expect_event(self, context: StepContext) -> Response | None:
        wanted: ExpectEvent = context.action
        inbox = self._inboxes.get(wanted.listener or context.scope.listener)
        if inbox is None:
            raise NoValue("nobody listens: open a listener first")
        patience_ms = wanted.within + (0 if wanted.never else self._target.tolerance_ms)
        frame: Frame | None = None
        with trio.CancelScope(deadline=self._target.deadline(self._target.now() + patience_ms)):
            frame = await inbox.take(wanted.type, very_next=wanted.next)
        if frame is None:
            await self._target.settle()  # what comes at the very end of that time comes in time
            frame = inbox.take_nowait(wanted.type, very_next=wanted.next)
        self._require(context, "event", event_found(wanted, frame, inbox))
        return None if frame is None else Response(self._target.now(), None, {}, frame)

    async def _burst(self, context: StepContext) -> None:
        burst: Burst = context.action
        statuses = context.step.expect.statuses if context.step.expect else None
        judged = statuses is None or burst.do.expect is not None
        counted: Counter[str] = Counter()
        began_ms = self._target.now()

        async def one(n: int, scope: Scope) -> None:
            await self._sleep_until(began_ms + (n - 1) * burst.every)
            response = await self._play_step(burst.do, (*scope.where, "do"), scope, judged=judged)
            counted[str(response.status if response else None)] += 1

        async with trio.open_nursery() as nursery:
            for n in range(1, burst.count + 1):
                nursery.start_soon(one, n, context.inner(self._target.now(), "burst", n=n))
        if statuses is not None:
            found = Finding(counted == Counter(statuses), counts(statuses), counts(counted))
            self._require(context, "statuses", found)

    async def _parallel(self, context: StepContext) -> None:
        async with trio.open_nursery() as nursery:
            for name, branch in context.action.items():
                scope = context.inner(self._target.now(), "parallel", name)
                nursery.start_soon(self._play_steps, branch, replace(scope, device=context.device or name))

    async def _repeat(self, context: StepContext) -> None:
        began_ms = self._target.now()
        for n in range(1, context.action.times + 1):
            await self._sleep_until(began_ms + (n - 1) * context.action.every)
            scope = context.inner(self._target.now(), "repeat", "do", n=n)
            await self._play_steps(context.action.do, scope)
            context.scope.session, context.scope.listener = scope.session, scope.listener

    async def _restart(self, context: StepContext) -> None:
        restart: Restart = context.action
        if restart.settings is not None:
            changes = {name: getattr(restart.settings, name) for name in restart.settings.model_fields_set}
            self._settings = self._settings.model_copy(update=changes)
        crash = restart.how == "crash"
        self._happened(context, "crashed" if crash else "stopped", durations.show(restart.down))
        await self._target.restart(crash=crash, down_ms=restart.down, settings=self._settings)
        self._happened(context, "up again", "")

    async def _agent(self, context: StepContext) -> None:
        await self._target.set_agents(context.action)
        for agent_id, behaviour in context.action.items():
            slow = f"slow by {durations.show(behaviour.slow)}" if behaviour.slow is not None else ""
            self._happened(context, "agent", f"{agent_id}: {behaviour.is_ or slow}")

    async def _wait(self, context: StepContext) -> None:
        await self._sleep_until(self._target.now() + context.action)

    # --- requests and what they bring

    def _composed(self, context: StepContext) -> Wire:
        """Raises NoValue."""
        seen = self._sessions.get(context.session)
        if (
            seen is None
            and "{}" in wire.FORMS[context.step.verb].path
            and not (context.step.raw and context.step.raw.path)
        ):
            raise NoValue(f"there is no session {context.session or 'yet'}")
        token = self._tokens.get(context.session) or self._tokens.get(context.scope.session)
        if token is None and context.step.auth == "token":
            raise NoValue("there is no session yet whose token it could be")
        credential = {"key": self._target.key, "token": token, "none": None}[context.step.auth]
        session_id = seen.session_id if seen else ""
        message_id = self._messages.get(context.session, "")
        if context.step.verb == "stop" and not (message_id or context.action.message):
            raise NoValue("no message was sent yet whose answer could be stopped")
        return wire.compose(context.step, session_id, message_id, credential, context.scope.names)

    def _answered(self, context: StepContext, sent: Wire, at_ms: int, answer: Answer) -> Response:
        headers = {name.lower(): value for name, value in answer.headers}
        body = wire.body_of(headers, answer.body)
        self._exchanges.append(
            Exchange(
                at_ms=at_ms,
                done_ms=self._target.now(),
                step=context.index,
                session=context.session,
                device=context.device,
                operation=context.step.verb,
                method=sent.method,
                target=sent.target,
                request=sent.shown,
                status=answer.status,
                headers=tuple(headers.items()),
                answer=body,
            )
        )
        return Response(at_ms, answer.status, headers, body)

    def _heard(self, context: StepContext, name: str, frame: Frame) -> None:
        at_ms = self._target.now()
        self._events.append(
            EventSeen(
                at_ms=at_ms,
                step=context.index,
                listener=name,
                session=context.session,
                type=frame["type"],
                id=frame.get("id"),
                happened_ms=epoch_ms(frame["at"]) if "at" in frame else at_ms,
                data=frame.get("data"),
            )
        )
        self._inboxes[name].put(frame)

    def _happened(self, context: StepContext, what: What, text: str) -> None:
        self._happenings.append(Happening(self._target.now(), context.index, what, text))

    def _keep(self, context: StepContext, response: Response) -> None:
        """What later steps can use. Raises NoValue when a part to be saved is not there."""
        made = response.body if context.step.verb == "create" and isinstance(response.body, dict) else {}
        if "sessionToken" in made:
            self._tokens[context.session] = made["sessionToken"]
            self._sessions[context.session] = session_seen(context.session, made)
            context.scope.session = context.session
        if context.step.verb == "send" and isinstance(response.body, dict) and "id" in response.body:
            self._messages[context.session] = response.body["id"]
        if context.step.as_:
            self._names[context.step.as_] = response.body
        for name, path in context.step.save.items():
            value = look(response.body, path)
            if value is MISSING:
                raise NoValue(f"there is no {path} to save as {name}")
            self._names[name] = value

    # --- judging

    def _judge(self, context: StepContext, response: Response) -> None:
        expect = context.step.expect or Expect()
        moment = Moment(self._start_ms, response.at_ms, self._target.tolerance_ms, context.scope.names)
        if response.status is not None:
            matcher = expect.status or Matcher(equals=wire.FORMS[context.step.verb].success)
            self._require(
                context, "status", with_body(matchers.judge(matcher, response.status, moment), response.body)
            )
        found = parts_found(expect, response, moment)
        held = [self._note(context, ".".join(place), finding, place) for place, finding in found]
        if not all(held):
            raise _ExpectationFailed

    def _require(self, context: StepContext, expectation: str, finding: Finding) -> None:
        if not self._note(context, expectation, finding, (expectation,)):
            raise _ExpectationFailed

    def _note(
        self, context: StepContext, expectation: str, finding: Finding, place: tuple[str, ...] = ()
    ) -> bool:
        line = self._line((*context.where, "expect", *place))
        self._judged.append(Judged(self._target.now(), context.index, line, expectation, *finding))
        return finding.held

    def _line(self, where: Where) -> int:
        return self._located.position(where).line


_DOES: Mapping[str, Callable[[_Player, StepContext], Awaitable[Response | None]]] = {
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
