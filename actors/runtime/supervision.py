"""One actor's crash is its own: logged, restarted from the store, quarantined at the third within a minute."""

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
    """Where the actors live."""

    clock: ScaledClock
    store: Store
    budget: RestartBudget

    def crashed(self, actor: SessionActor) -> None:
        """It runs no more; whatever it had under way is lost."""

    def restarted(self, actor: SessionActor, session: Session, pending: Sequence[PendingTurn]) -> None:
        """It is about to run again from what the store has."""

    def quarantine(self, actor: SessionActor, why: str) -> None:
        """It will not run again until the server is started anew."""


async def supervise(actor: SessionActor, host: SupervisingHost) -> None:
    """Run an actor until its session is over, whatever happens to it on the way.

    Cancelled, it refuses those who wait and those who come later with Overloaded: nobody waits for an answer that
    nobody will give.
    """
    try:
        while True:
            try:
                return await actor.run()  # here and not in a function: a million frames wait
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
    """Give the actor its stored state again. Gives the reason when it must not run."""
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
