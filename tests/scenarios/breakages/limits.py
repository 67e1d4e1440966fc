"""Breakages of rate limits."""

from operator import attrgetter
from typing import Any

from tests.scenarios.breakages.breaking import Patch, breaks
from vigil.actors.core.errors import (
    RateLimited,
)
from vigil.actors.core.quotas import Refused
from vigil.actors.limits.limiter import Limits, Window
from vigil.actors.runtime import service
from vigil.actors.stores.base import SaveWindow
from vigil.server.api import errors, gateway
from vigil.server.api.call import Call
from vigil.server.api.routes import Route


@breaks(7, "window-one-too-large", "one request more than the limit is admitted")
def _(patch: Patch) -> None:
    real = Limits._rules_for

    def rules_for(self: Limits, *given: Any) -> tuple[Any, ...]:
        return tuple(rule._replace(requests=rule.requests + 1) for rule in real(self, *given))

    patch.setattr(Limits, "_rules_for", rules_for)


@breaks(7, "window-a-millisecond-long", "an admission at t still counts at t + length")
def _(patch: Patch) -> None:
    real = Limits._rules_for

    def rules_for(self: Limits, *given: Any) -> tuple[Any, ...]:
        return tuple(rule._replace(window_ms=rule.window_ms + 1) for rule in real(self, *given))

    patch.setattr(Limits, "_rules_for", rules_for)


@breaks(7, "windows-by-the-clock", "what was admitted before the last full hour or minute counts no more")
def _(patch: Patch) -> None:
    real = Limits.admit

    def admit(self: Limits, now: int, user_id: str, agent_id: str, session_id: str | None = None) -> Any:
        for window in self._find(user_id, agent_id, session_id):
            began = now - now % window.rule.window_ms
            if window.size and next(iter(window)) < began:
                window._forget(began - 1)
        return real(self, now, user_id, agent_id, session_id)

    patch.setattr(Limits, "admit", admit)


@breaks(7, "refused-requests-are-charged", "what one limit refuses is charged to the others")
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


@breaks(7, "the-shorter-wait-is-named", "a 429 names the full window that has room first")
def _(patch: Patch) -> None:
    real = Limits._refuse

    def refuse(self: Limits, now: int, windows: tuple[Window, ...]) -> Refused:
        full = [window.quota(now) for window in windows if window.left <= 0]
        first = min(full, key=attrgetter("reset_ms"))
        told = real(self, now, windows)
        return Refused(first.scope, first.limit.requests, first.limit.window_s, first.reset_ms, told.quotas)

    patch.setattr(Limits, "_refuse", refuse)


@breaks(7, "retry-after-rounded-down", "Retry-After is a second too short")
def _(patch: Patch) -> None:
    def headers(error: RateLimited) -> list[tuple[str, str]]:
        return [("Retry-After", str(error.refused.wait_ms // 1000))]

    patch.setitem(errors.FAILURES, RateLimited, errors.FAILURES[RateLimited]._replace(headers=headers))


@breaks(7, "bad-requests-are-free", "a request with a bad body or query is charged nowhere")
def _(patch: Patch) -> None:
    def of_head(call: Call, route: Route) -> None:
        gateway._let_in(call, route)
        call.actor = gateway._live_actor(call, route)

    def of_rest(call: Call, route: Route) -> None:
        gateway._read(call, route)
        if call.actor is not None:
            gateway.charge(call, call.actor)

    patch.setitem(gateway._CHECKS, "session", gateway._Checks(of_head, of_rest))


@breaks(7, "listeners-are-free", "a WebSocket counts for nothing")
def _(patch: Patch) -> None:
    real = gateway.charge

    def charge(call: Call, actor: Any) -> None:
        if not call.request.path.endswith("/events"):
            real(call, actor)

    patch.setattr(gateway, "charge", charge)


@breaks(7, "a-crash-keeps-the-windows", "rate-limit windows survive a crash")
def _(patch: Patch) -> None:
    real = service.run

    async def run(**given: Any) -> None:
        try:
            await real(**given)
        finally:
            for window in given["limits"].saved():
                given["store"]._windows[window.scope, window.subject] = window

    patch.setattr(service, "run", run)


@breaks(7, "a-stop-forgets-the-windows", "rate-limit windows are empty after a clean restart")
def _(patch: Patch) -> None:
    def saved(_self: Limits) -> list[SaveWindow]:
        return []

    patch.setattr(Limits, "saved", saved)
