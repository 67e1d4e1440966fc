"""Rules of the spec, broken one at a time inside this process: what scripts and simulations must notice.

Each breakage patches the product where its names are looked up at call time, and nothing else. It knows neither
scripts nor people. `with broken(BREAKAGES[name]):` breaks the rule and mends it again.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import pytest

from vigil.actors.core import expiry, lifecycle
from vigil.actors.core.commands import CancelTurn, Heartbeat, Renew, Retime, Send, Tick, Transition
from vigil.actors.core.errors import (
    AgentFailed,
    AgentTimedOut,
    ChangeRefused,
    RateLimited,
    RenewalRefused,
    SessionExpired,
)
from vigil.actors.core.events import Renewed, TimeoutUpdated
from vigil.actors.core.expiry import Phase
from vigil.actors.core.quotas import Refused
from vigil.actors.core.records import Message, Session, State, TimeoutConfig, TimeoutPatch, Tombstone
from vigil.actors.hub.hub import Chunk, Hub, Notice
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.limits.limiter import Limits, Window
from vigil.actors.runtime import creation, idempotency, service
from vigil.actors.runtime.host import ActorHost
from vigil.actors.runtime.idempotency import Keys
from vigil.actors.runtime.registry import Listing, Registry
from vigil.actors.stores.base import Page, SaveWindow
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.turns import turns
from vigil.actors.turns.turns import Turns
from vigil.server.api import answers, auth, errors, gateway
from vigil.server.api.auth import Principal
from vigil.server.api.call import Call
from vigil.server.api.routes import Route
from vigil.server.front import events_socket as stream

Patch = pytest.MonkeyPatch

_ROOMS = ("vigil.actors", "vigil.server")
_DEFAULTS = TimeoutConfig(30, True, 180, 5)


class Breakage(NamedTuple):
    """A rule that does not hold any more: its section of the spec, what is wrong, and how it comes about."""

    section: int
    what: str
    apply: Callable[[Patch], None]


BREAKAGES: dict[str, Breakage] = {}


@contextmanager
def broken(breakage: Breakage) -> Iterator[None]:
    """The rule is broken until the block is left. Nothing that was computed meanwhile is remembered."""
    with pytest.MonkeyPatch.context() as patch:
        _forget_computed()
        breakage.apply(patch)
        try:
            yield
        finally:
            _forget_computed()


def _forget_computed() -> None:
    """Sessions of one seed are equal in every run, so what is cached for them would outlive the breakage."""
    for module in _modules():
        for value in list(vars(module).values()):
            if type(value) is _Cached and value is not _documentation():
                value.cache_clear()


_Cached = type(lru_cache(lambda: None))  # asked for anything else, Quart's proxies raise


def _documentation() -> Any:
    """Costs a second to make, and depends on no rule."""
    return (
        sys.modules["vigil.server.ops.site"]._documentation
        if "vigil.server.ops.site" in sys.modules
        else None
    )


def _modules() -> list[Any]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(_ROOMS)]


def _everywhere(patch: Patch, old: object, new: object) -> None:
    """Replace a function of a module under all names that it was imported as."""
    for module in _modules():
        for name, value in list(vars(module).items()):
            if value is old:
                patch.setattr(module, name, new)


Handler = Callable[[Any, Any, int], Transition]
Apply = Callable[[Patch], None]


def _breaks(section: int, name: str, what: str) -> Callable[[Apply], Apply]:
    def note(apply: Apply) -> Apply:
        BREAKAGES[name] = Breakage(section, what, apply)
        return apply

    return note


def _handle(
    patch: Patch,
    command: type,
    change: Callable[[Handler, Any, Any, int], Transition],
    phase: Phase = Phase.LIVE,
) -> None:
    """Have `change(handler, state, command, now)` take the place of what that command does."""
    handler = lifecycle.TABLE[phase][command]
    patch.setitem(
        lifecycle.TABLE[phase], command, lambda state, asked, now: change(handler, state, asked, now)
    )


Activity = tuple[Session, tuple[Renewed, ...]]


def _at_activity(patch: Patch, change: Callable[[Session, Activity], Session]) -> None:
    """Have `change(before, (after, news))` say what the session is after a sign of life."""
    real = lifecycle._activity

    def activity(session: Session, now: int) -> Activity:
        outcome = real(session, now)
        return change(session, outcome), outcome[1]

    patch.setattr(lifecycle, "_activity", activity)


# --- lifecycle


@_breaks(3, "renewal-forgets-the-cap", "the deadline is renewedAt + timeout, whatever the maximum duration")
def _(patch: Patch) -> None:
    def expires_at(session: Session) -> int:
        return session.renewed_at + session.config.timeout_minutes * expiry.MINUTE_MS

    _everywhere(patch, expiry.expires_at, expires_at)


@_breaks(3, "renewals-are-not-counted", "activity renews a session and does not count it")
def _(patch: Patch) -> None:
    _at_activity(patch, lambda before, after: after[0]._replace(renewal_count=before.renewal_count))


@_breaks(3, "renewals-count-at-the-cap", "activity counts as a renewal where nothing can be put off any more")
def _(patch: Patch) -> None:
    _at_activity(
        patch,
        lambda before, after: after[0]._replace(
            renewal_count=before.renewal_count + before.config.auto_renew
        ),
    )


@_breaks(3, "activity-is-not-noted", "a message or heartbeat leaves lastActivity alone")
def _(patch: Patch) -> None:
    _at_activity(patch, lambda before, after: after[0]._replace(last_activity=before.last_activity))


@_breaks(3, "heartbeat-renews-without-auto-renew", "a heartbeat renews although autoRenew is off")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Heartbeat, now: int) -> Transition:
        on = session._replace(config=session.config._replace(auto_renew=True))
        done = handler(on, asked, now)
        return done._replace(state=done.session._replace(config=session.config))

    _handle(patch, Heartbeat, change)


@_breaks(3, "renew-is-activity", "POST /renew sets lastActivity")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Renew, now: int) -> Transition:
        done = handler(session, asked, now)
        return done if done.refusal else done._replace(state=done.session._replace(last_activity=now))

    _handle(patch, Renew, change)


@_breaks(3, "renewed-at-the-cap", "POST /renew succeeds and counts although the cap is reached")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Renew, now: int) -> Transition:
        done = handler(session, asked, now)
        if not isinstance(done.refusal, RenewalRefused):
            return done
        after = session._replace(renewed_at=now, renewal_count=session.renewal_count + 1)
        return lifecycle._live(after, now, Renewed(expiry.expires_at(after), after.renewal_count))

    _handle(patch, Renew, change)


@_breaks(11, "what-was-said-is-dropped", "a stopped answer leaves no message, whatever was said of it")
def _(patch: Patch) -> None:
    _handle(
        patch, CancelTurn, lambda handler, state, asked, now: handler(state, asked._replace(said=""), now)
    )


@_breaks(3, "warning-is-not-armed-again", "a renewal by activity leaves the warning fired")
def _(patch: Patch) -> None:
    _at_activity(patch, lambda before, after: after[0]._replace(warned=before.warned))


@_breaks(3, "every-change-arms-the-warning", "a PATCH that moves neither deadline nor threshold warns again")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Retime, now: int) -> Transition:
        done = handler(session._replace(warned=False), asked, now)
        return done._replace(state=session) if done.refusal else done

    _handle(patch, Retime, change)


@_breaks(3, "warning-comes-late", "the warning fires one minute after it is due")
def _(patch: Patch) -> None:
    real = expiry.warn_at
    _everywhere(patch, real, lambda session: real(session) + expiry.MINUTE_MS)


@_breaks(3, "expiry-a-millisecond-late", "a session still takes commands at expiresAt")
def _(patch: Patch) -> None:
    def phase(state: State, now: int) -> Phase:
        return real_phase(state, now - 1)

    def due_at(session: Session) -> int:
        return real_due_at(session) + session.warned

    real_phase, real_due_at = expiry.phase, expiry.due_at
    _everywhere(patch, real_phase, phase)
    _everywhere(patch, real_due_at, due_at)


@_breaks(3, "expiry-reason-is-always-inactivity", "a session that reached its cap says it was idle")
def _(patch: Patch) -> None:
    _everywhere(patch, expiry.expiry_reason, lambda _: "inactivity")


@_breaks(3, "patch-falls-back-to-defaults", "what a PATCH does not say becomes the default again")
def _(patch: Patch) -> None:
    real = expiry.merge

    def merge(_config: TimeoutConfig, change: TimeoutPatch) -> TimeoutConfig:
        return real(_DEFAULTS, change)

    patch.setattr(lifecycle, "merge", merge)  # creation has a name of its own for it


@_breaks(3, "patch-into-the-past-is-accepted", "a PATCH may end the session by the way")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Retime, now: int) -> Transition:
        done = handler(session, asked, now)
        if not isinstance(done.refusal, ChangeRefused):
            return done
        after = session._replace(config=expiry.merge(session.config, asked.patch))
        return lifecycle._live(after, now, TimeoutUpdated(after))

    _handle(patch, Retime, change)


@_breaks(3, "auto-renew-forgets-activity", "turning autoRenew on does not count from lastActivity")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Retime, now: int) -> Transition:
        done = handler(session._replace(last_activity=session.created_at), asked, now)
        if done.refusal:
            return done._replace(state=session)
        return done._replace(state=done.session._replace(last_activity=session.last_activity))

    _handle(patch, Retime, change)


@_breaks(
    3, "creation-goes-by-defaults", "what a request does not say is the default, not the agent's or server's"
)
def _(patch: Patch) -> None:
    real = expiry.merge
    patch.setattr(creation, "merge", lambda _config, change: real(_DEFAULTS, change))


@_breaks(3, "tombstones-last-an-hour", "an expired session is 404 after an hour")
def _(patch: Patch) -> None:
    real = Tombstones.__init__

    def short(self: Tombstones, minutes: int, most: int) -> None:
        real(self, min(minutes, 60), most)

    patch.setattr(Tombstones, "__init__", short)


@_breaks(3, "tombstones-without-bound", "more tombstones are kept than the setting allows")
def _(patch: Patch) -> None:
    real = Tombstones.__init__

    def many(self: Tombstones, minutes: int, _most: int) -> None:
        real(self, minutes, 1_000_000)

    patch.setattr(Tombstones, "__init__", many)


@_breaks(3, "delete-leaves-the-tombstone", "DELETE of an expired session says 200 and removes nothing")
def _(patch: Patch) -> None:
    real = ActorHost._end_what_is_left

    async def leave(self: ActorHost, session_id: str) -> None:
        if self._registry.tombstones.get(session_id, self.clock.now()) is None:
            await real(self, session_id)

    patch.setattr(ActorHost, "_end_what_is_left", leave)


# --- messages


@_breaks(4, "equal-timestamps", "messages of one millisecond have one timestamp")
def _(patch: Patch) -> None:
    patch.setattr(lifecycle, "_next_instant", lambda _session, now: now)


@_breaks(4, "has-more-on-an-exact-page", "a page that takes the last message says that there are more")
def _(patch: Patch) -> None:
    async def history(self: MemoryStore, *where: Any) -> Page:
        page = await real(self, *where)
        return page._replace(has_more=page.has_more or len(page.messages) == where[-1])

    real = MemoryStore.history
    patch.setattr(MemoryStore, "history", history)


@_breaks(4, "cursor-includes-its-message", "before=T gives the message at T once more")
def _(patch: Patch) -> None:
    async def history(self: MemoryStore, key: int, before: int | None, after: int | None, limit: int) -> Page:
        return await real(self, key, before if before is None else before + 1, after, limit)

    real = MemoryStore.history
    patch.setattr(MemoryStore, "history", history)


@_breaks(4, "idempotency-is-forgotten", "a repeated request is done again")
def _(patch: Patch) -> None:
    async def saved(_self: Keys, *_request: Any) -> None:
        return None

    patch.setattr(Keys, "saved", saved)


@_breaks(4, "idempotency-key-for-any-body", "a key that was used gives its answer to another body too")
def _(patch: Patch) -> None:
    async def saved(self: Keys, scope: str, key: str, _digest: bytes) -> bytes | None:
        kept = await self._store.saved_answer(scope, key)
        return kept.answer if kept else None

    patch.setattr(Keys, "saved", saved)


@_breaks(4, "idempotency-keys-last-for-ever", "a key is still taken after 24 hours")
def _(patch: Patch) -> None:
    patch.setattr(idempotency, "KEPT_MS", 10 * idempotency.KEPT_MS)


@_breaks(4, "turns-out-of-order", "the newest question is answered before those that wait")
def _(patch: Patch) -> None:
    real = Turns._submit

    def submit(self: Turns, actor: Any, *owed: Any) -> None:
        real(self, actor, *owed)
        waiting = self._queues[actor.state.id].owed
        if len(waiting) > 2:
            waiting.insert(1, waiting.pop())  # the first is being answered

    patch.setattr(Turns, "_submit", submit)


@_breaks(4, "retried-for-ever", "a question whose turn a restart interrupted twice is asked a third time")
def _(patch: Patch) -> None:
    patch.setitem(turns._AFTER_RESTART, "retried", "retried")


@_breaks(4, "metadata-overwrites", "a client's metadata takes the place of the server's fields")
def _(patch: Patch) -> None:
    real = answers.created_session

    def created_session(session: Session) -> dict[str, Any]:
        body = real(session)
        body.update(json.loads(session.metadata))
        return body

    _everywhere(patch, real, created_session)


@_breaks(4, "written-by-metadata", "a message's author is who its metadata says")
def _(patch: Patch) -> None:
    real = answers.message

    def message(said: Message) -> Any:
        return real(said) | json.loads(said.metadata)

    _everywhere(patch, real, message)


@_breaks(4, "a-crash-loses-a-message", "the newest message of each session is acknowledged before it is kept")
def _(patch: Patch) -> None:
    real = MemoryStore.start

    async def start(self: MemoryStore, anchor: Any) -> Any:
        for key, messages in self._messages.items():
            lost = messages.pop() if messages else None
            self._turns.get(key, {}).pop(lost.created_at if lost else 0, None)
        return await real(self, anchor)

    patch.setattr(MemoryStore, "start", start)


@_breaks(4, "failures-without-the-message", "502 and 504 do not say which message has no answer")
def _(patch: Patch) -> None:
    for kind in (AgentFailed, AgentTimedOut):
        silent = errors.FAILURES[kind]._replace(details=lambda _: {})
        patch.setitem(errors.FAILURES, kind, silent)


@_breaks(4, "nothing-is-streamed", "an agent's answer comes whole, without chunks before it")
def _(patch: Patch) -> None:
    def say(_self: Hub, _chunk: Chunk) -> None:
        pass

    patch.setattr(Hub, "say", say)


@_breaks(11, "answers-do-not-say-why-they-end", "an agent's message has no finishReason")
def _(patch: Patch) -> None:
    real = answers.message

    def message(said: Message) -> Any:
        return real(said._replace(finish_reason=""))

    _everywhere(patch, real, message)


# --- who may


@_breaks(6, "token-opens-other-sessions", "a session token is good for every session")
def _(patch: Patch) -> None:
    real = auth.authorize

    def authorize(principal: Principal, scope: Any, session_id: str | None = None) -> None:
        mine = session_id if principal.session_id and session_id else principal.session_id
        real(principal._replace(session_id=mine), scope, session_id)

    patch.setattr(gateway, "authorize", authorize)


# --- rate limits


@_breaks(7, "window-one-too-large", "one request more than the limit is admitted")
def _(patch: Patch) -> None:
    real = Limits._rules_for

    def rules_for(self: Limits, *given: Any) -> tuple[Any, ...]:
        return tuple(rule._replace(requests=rule.requests + 1) for rule in real(self, *given))

    patch.setattr(Limits, "_rules_for", rules_for)


@_breaks(7, "window-a-millisecond-long", "an admission at t still counts at t + length")
def _(patch: Patch) -> None:
    real = Limits._rules_for

    def rules_for(self: Limits, *given: Any) -> tuple[Any, ...]:
        return tuple(rule._replace(window_ms=rule.window_ms + 1) for rule in real(self, *given))

    patch.setattr(Limits, "_rules_for", rules_for)


@_breaks(7, "windows-by-the-clock", "what was admitted before the last full hour or minute counts no more")
def _(patch: Patch) -> None:
    real = Limits.admit

    def admit(self: Limits, now: int, user_id: str, agent_id: str, session_id: str | None = None) -> Any:
        for window in self._find(user_id, agent_id, session_id):
            began = now - now % window.rule.window_ms
            if window.size and next(iter(window)) < began:
                window._forget(began - 1)
        return real(self, now, user_id, agent_id, session_id)

    patch.setattr(Limits, "admit", admit)


@_breaks(7, "refused-requests-are-charged", "what one limit refuses is charged to the others")
def _(patch: Patch) -> None:
    real = Limits.admit

    def admit(self: Limits, now: int, *names: Any) -> Any:
        try:
            return real(self, now, *names)
        except RateLimited:
            for window in self._find(*names, *[None] * (3 - len(names))):
                if window.left > 0:
                    self._keep(now, window)
                    window.charge(now)
            raise

    patch.setattr(Limits, "admit", admit)


@_breaks(7, "the-shorter-wait-is-named", "a 429 names the full window that has room first")
def _(patch: Patch) -> None:
    real = Limits._refuse

    def refuse(self: Limits, now: int, windows: tuple[Window, ...]) -> Refused:
        full = [window.quota(now) for window in windows if window.left <= 0]
        first = min(full, key=attrgetter("reset_ms"))
        told = real(self, now, windows)
        return Refused(first.scope, first.limit.requests, first.limit.window_s, first.reset_ms, told.quotas)

    patch.setattr(Limits, "_refuse", refuse)


@_breaks(7, "retry-after-rounded-down", "Retry-After is a second too short")
def _(patch: Patch) -> None:
    def headers(error: RateLimited) -> list[tuple[str, str]]:
        return [("Retry-After", str(error.refused.wait_ms // 1000))]

    patch.setitem(errors.FAILURES, RateLimited, errors.FAILURES[RateLimited]._replace(headers=headers))


@_breaks(7, "bad-requests-are-free", "a request with a bad body or query is charged nowhere")
def _(patch: Patch) -> None:
    def of_head(call: Call, route: Route) -> None:
        gateway._let_in(call, route)
        call.actor = gateway._live_actor(call, route)

    def of_rest(call: Call, route: Route) -> None:
        gateway._read(call, route)
        if call.actor is not None:
            gateway.charge(call, call.actor)

    patch.setitem(gateway._CHECKS, "session", gateway._Checks(of_head, of_rest))


@_breaks(7, "listeners-are-free", "a WebSocket counts for nothing")
def _(patch: Patch) -> None:
    real = gateway.charge

    def charge(call: Call, actor: Any) -> None:
        if not call.request.path.endswith("/events"):
            real(call, actor)

    patch.setattr(gateway, "charge", charge)


@_breaks(7, "a-crash-keeps-the-windows", "rate-limit windows survive a crash")
def _(patch: Patch) -> None:
    real = service.run

    async def run(**given: Any) -> None:
        try:
            await real(**given)
        finally:
            for window in given["limits"].saved():
                given["store"]._windows[window.scope, window.subject] = window

    patch.setattr(service, "run", run)


@_breaks(7, "a-stop-forgets-the-windows", "rate-limit windows are empty after a clean restart")
def _(patch: Patch) -> None:
    def saved(_self: Limits) -> list[SaveWindow]:
        return []

    patch.setattr(Limits, "saved", saved)


# --- events


@_breaks(8, "event-ids-have-gaps", "ids count up by two")
def _(patch: Patch) -> None:
    real = lifecycle._live

    def live(*given: Any, **more: Any) -> Transition:
        done = real(*given, **more)
        ids = done.session.event_id + bool(done.events)
        return done._replace(state=done.session._replace(event_id=ids))

    patch.setattr(lifecycle, "_live", live)


@_breaks(8, "no-resync", "a listener that missed events gets those that are left, as if they were all")
def _(patch: Patch) -> None:
    def missed(_self: Hub, _id: str, channel: Any, after: int | None, *_now: int) -> Sequence[Notice]:
        events: list[Any] = [] if after is None else channel.kept
        return [Notice(event) for event in events if event.id > (after or 0)]

    patch.setattr(Hub, "_missed", missed)


@_breaks(8, "the-end-closes-as-a-stop", "after sessionExpired and sessionEnded the close code is 1001")
def _(patch: Patch) -> None:
    patch.setitem(stream.CLOSE_CODES, "over", 1001)


# --- health, lists, restart


@_breaks(
    10, "down-time-is-not-counted", "a session that fell due while the server was down ends at the restart"
)
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Any, now: int) -> Transition:
        done = handler(session, asked, now)
        tombstone = done.state
        assert isinstance(tombstone, Tombstone)
        late = tombstone._replace(expires_at=now)
        return done._replace(state=late, refusal=SessionExpired(late) if done.refusal else None)

    for command in (Tick, Send, Heartbeat, Renew, Retime):
        _handle(patch, command, change, Phase.DUE)


@_breaks(10, "expiring-soon-is-never-more", "health counts nobody as expiring soon")
def _(patch: Patch) -> None:
    real = Registry.counts
    patch.setattr(Registry, "counts", lambda self: real(self)._replace(expiring_soon=0))


@_breaks(1, "total-counts-the-page", "a list's total is how many it shows")
def _(patch: Patch) -> None:
    real = Registry.page

    def page(self: Registry, *where: Any, **cut: Any) -> Listing:
        listing = real(self, *where, **cut)
        return listing._replace(total=len(listing.sessions))

    patch.setattr(Registry, "page", page)
