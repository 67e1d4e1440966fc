"""Breakages of rights, events, health and lists."""

from collections.abc import Sequence
from typing import Any

from tests.scenarios.breakages.breaking import Handler, Patch, breaks, replace_handler
from vigil.actors.core import lifecycle
from vigil.actors.core.commands import Heartbeat, Renew, Retime, Send, Tick, Transition
from vigil.actors.core.errors import (
    SessionExpired,
)
from vigil.actors.core.expiry import Phase
from vigil.actors.core.records import Session, Tombstone
from vigil.actors.hub.hub import Hub, Notice
from vigil.actors.runtime.registry import Listing, Registry
from vigil.server.api import auth, gateway
from vigil.server.api.auth import Principal
from vigil.server.front import events_socket as stream

# --- who may


@breaks(6, "token-opens-other-sessions", "a session token is good for every session")
def _(patch: Patch) -> None:
    real = auth.authorize

    def authorize(principal: Principal, scope: Any, session_id: str | None = None) -> None:
        mine = session_id if principal.session_id and session_id else principal.session_id
        real(principal._replace(session_id=mine), scope, session_id)

    patch.setattr(gateway, "authorize", authorize)


# --- events


@breaks(8, "event-ids-have-gaps", "ids count up by two")
def _(patch: Patch) -> None:
    real = lifecycle._live

    def live(*given: Any, **more: Any) -> Transition:
        done = real(*given, **more)
        ids = done.session.event_id + bool(done.events)
        return done._replace(state=done.session._replace(event_id=ids))

    patch.setattr(lifecycle, "_live", live)


@breaks(8, "no-resync", "a listener that missed events gets those that are left, as if they were all")
def _(patch: Patch) -> None:
    def missed(_self: Hub, _id: str, channel: Any, after: int | None, *_now: int) -> Sequence[Notice]:
        events: list[Any] = [] if after is None else channel.kept
        return [Notice(event) for event in events if event.id > (after or 0)]

    patch.setattr(Hub, "_missed", missed)


@breaks(8, "the-end-closes-as-a-stop", "after sessionExpired and sessionEnded the close code is 1001")
def _(patch: Patch) -> None:
    patch.setitem(stream.CLOSE_CODES, "over", 1001)


# --- health, lists, restart


@breaks(
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
        replace_handler(patch, command, change, Phase.DUE)


@breaks(10, "expiring-soon-is-never-more", "health counts nobody as expiring soon")
def _(patch: Patch) -> None:
    real = Registry.counts
    patch.setattr(Registry, "counts", lambda self: real(self)._replace(expiring_soon=0))


@breaks(1, "total-counts-the-page", "a list's total is how many it shows")
def _(patch: Patch) -> None:
    real = Registry.page

    def page(self: Registry, *where: Any, **cut: Any) -> Listing:
        listing = real(self, *where, **cut)
        return listing._replace(total=len(listing.sessions))

    patch.setattr(Registry, "page", page)
