"""Supervision: an actor that crashes is logged and restarted from the store; at the third crash in a minute it is not.

Owns when an actor runs again. Refuses to know what a session is.

Each actor has a supervisor of its own, in its own task. A Trio nursery has one task's crash cancel all others, so a
crash may not leave `supervise`. Quarantine is for a session whose stored state makes the actor crash again and again:
it would cost a crash for every request.
"""

from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from vigil.actors.core.errors import Overloaded, RecordDamaged, StoreUnavailable
from vigil.actors.core.records import Session
from vigil.actors.runtime.actor import RETRY_S, SessionActor
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import PendingTurn, Store

log = structlog.get_logger()

CRASHES_MAX = 3
WINDOW_MS = 60_000


class RestartBudget:
    """Counts crashes by session."""

    def __init__(self) -> None:
        self._crashes: dict[str, list[int]] = {}

    def exceeded(self, session_id: str, now: int) -> bool:
        """Note a crash at `now`; True when it is one too many within the window."""
        recent = [at for at in self._crashes.get(session_id, ()) if at > now - WINDOW_MS]
        self._crashes[session_id] = [*recent, now]
        return len(recent) + 1 >= CRASHES_MAX

    def forget(self, session_id: str) -> None:
        self._crashes.pop(session_id, None)


class SupervisingHost(Protocol):
    """What supervision needs of the place where actors run."""

    clock: ScaledClock
    store: Store
    budget: RestartBudget

    def crashed(self, actor: SessionActor) -> None:
        """The actor's task has ended with a bug. Whether its batch was committed is unknown."""

    def restarted(self, actor: SessionActor, session: Session, pending: Sequence[PendingTurn]) -> None:
        """The actor runs again in a moment, from what the store has."""

    def quarantine(self, actor: SessionActor, why: str) -> None:
        """The actor does not run again before the server is restarted."""


async def supervise(actor: SessionActor, host: SupervisingHost) -> None:
    """Run an actor until its session is over or quarantined. Raises nothing but Cancelled.

    Cancelled, it closes the mailbox with Overloaded, so that nobody waits for a result that will not come.
    """
    try:
        while True:
            try:
                return await actor.run()  # not in a coroutine of its own: a million of its frames would wait
            except RecordDamaged as damage:
                why: str | None = str(damage)
            except Exception:
                log.exception("an actor crashed", session_id=actor.state.id)
                host.crashed(actor)
                why = await _restart(actor, host)
            if why:
                log.error(
                    "a session is quarantined: 500 until it is deleted", session_id=actor.state.id, why=why
                )
                return host.quarantine(actor, why)
    except trio.Cancelled:
        actor.close(Overloaded("The server is stopping"))
        raise


async def _restart(actor: SessionActor, host: SupervisingHost) -> str | None:
    """Set the actor to its stored state, waiting for the store if need be. Gives a reason when it must not run."""
    if host.budget.exceeded(actor.state.id, host.clock.now()):
        return f"its actor crashed {CRASHES_MAX} times within a minute"
    key = actor.session.key
    while True:
        try:
            session, pending = await host.store.session(key), await host.store.pending_turns(key)
        except StoreUnavailable:
            await trio.sleep(RETRY_S)
        except RecordDamaged as damage:
            return str(damage)
        else:
            break
    if session is None:
        return "its record is gone from the store"
    host.restarted(actor, session, pending)
    return None
