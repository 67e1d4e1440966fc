"""A simulation with people who press Stop finds what is wrong with stopping (spec section 11)."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from vigil.actors.core import lifecycle
from vigil.actors.core.commands import CancelTurn, Transition
from vigil.actors.core.events import AgentError, Broadcast, Event
from vigil.actors.core.expiry import Phase
from vigil.actors.core.records import Session
from vigil.actors.stores.base import OWED
from vigil.actors.stores.memory import MemoryStore
from vigil.actors.turns.owed import Owed
from vigil.actors.turns.turns import Cancelled, Turns
from vigil.scenarios.reports.simulation_text import summary
from vigil.scenarios.simulation.faults.plan import KINDS
from vigil.scenarios.simulation.outcome import Outcome, Settings
from vigil.scenarios.simulation.simulate import simulate
from vigil.server.api import operations

Patch = pytest.MonkeyPatch


def lived(seed: int) -> Outcome:
    day = Settings(seed, people=30, hours=3.0, mix="steering", faults=KINDS)
    return simulate(day, real_now=lambda: 0.0)


def _after(change: Callable[[Session, CancelTurn, int, Transition], Transition]) -> Callable[[Patch], None]:
    """What a cancel did is changed."""

    def apply(patch: Patch) -> None:
        right = lifecycle.TABLE[Phase.LIVE][CancelTurn]

        def wrong(session: Session, command: CancelTurn, now: int) -> Transition:
            return change(session, command, now, right(session, command, now))

        patch.setitem(lifecycle.TABLE[Phase.LIVE], CancelTurn, wrong)

    return apply


def _is_activity(_session: Session, _command: CancelTurn, now: int, done: Transition) -> Transition:
    return done._replace(state=done.session._replace(last_activity=now))


def _says_failed(_session: Session, _command: CancelTurn, _now: int, done: Transition) -> Transition:
    return done._replace(events=tuple(map(_as_failed, done.events)))


def _as_failed(event: Event) -> Event:
    data = event.data
    return event._replace(data=data._replace(code="AGENT_FAILED")) if isinstance(data, AgentError) else event


def _says_stop(_session: Session, _command: CancelTurn, _now: int, done: Transition) -> Transition:
    if done.message is None:
        return done
    whole = Broadcast(done.message._replace(finish_reason="stop"))
    events = (done.events[0]._replace(data=whole), *done.events[1:])
    return done._replace(message=whole.message, events=events)


def _goes_on(patch: Patch) -> None:
    right = Turns._cancellation

    def wrong(self: Turns, actor: Any, owed: Owed, then: Any) -> Any:
        scope, owed.scope = owed.scope, trio.CancelScope()
        told = right(self, actor, owed, then)
        owed.scope = scope
        return told

    patch.setattr(Turns, "_cancellation", wrong)


def _stops_the_first(patch: Patch) -> None:
    def find(self: Turns, session_id: str, message_id: str) -> Owed | None:
        queue = self._queues.get(session_id)
        known = queue is not None and any(owed.id == message_id for owed in queue.owed)
        return queue.owed[-1] if queue is not None and known else None

    patch.setattr(Turns, "_find", find)


def _says(status: Any) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        right = Turns.cancel_turn

        async def wrong(self: Turns, actor: Any, message_id: str) -> Cancelled:
            state, done = await right(self, actor, message_id)
            return Cancelled(status if done is None and state == "cancelled" else state, done)

        patch.setattr(Turns, "cancel_turn", wrong)

    return apply


def _is_run_again(patch: Patch) -> None:
    right = MemoryStore._set_turn

    def wrong(self: MemoryStore, key: int, created_at: int, turn: Any) -> None:
        if turn != "cancelled":
            right(self, key, created_at, turn)

    patch.setattr(MemoryStore, "_set_turn", wrong)


def _is_forgotten(patch: Patch) -> None:
    right = MemoryStore._set_turn

    def wrong(self: MemoryStore, key: int, created_at: int, turn: Any) -> None:
        right(self, key, created_at, turn if turn in OWED else "answered")

    patch.setattr(MemoryStore, "_set_turn", wrong)


def _all_mind(patch: Patch) -> None:
    right = operations._send_with_turn

    def wrong(call: Any, *rest: Any) -> None:
        call.body = call.body.model_copy(update={"when_busy": "reject"})
        right(call, *rest)

    patch.setattr(operations, "_send_with_turn", wrong)


def _out_of_order(patch: Patch) -> None:
    right = Turns._submit

    def wrong(self: Turns, actor: Any, *rest: Any) -> None:
        right(self, actor, *rest)
        owed = self._queues[actor.state.id].owed
        if len(owed) > 2:
            owed.insert(1, owed.pop())

    patch.setattr(Turns, "_submit", wrong)


def _unknown_when_over(patch: Patch) -> None:
    async def wrong(_self: MemoryStore, _key: int, _message_id: str) -> None: ...

    patch.setattr(MemoryStore, "turn", wrong)


BUGS: dict[str, tuple[int, Callable[[Patch], None]]] = {
    "a stop is activity": (1, _after(_is_activity)),
    "a stopped turn is said to have failed": (1, _after(_says_failed)),
    "a cut answer looks whole": (1, _after(_says_stop)),
    "the agent goes on after the stop": (1, _goes_on),
    "another message than the one named is stopped": (1, _stops_the_first),
    "asked again, it was answered": (1, _says("answered")),
    "asked again, there was no turn": (1, _says("")),
    "a stopped turn is run again after a crash": (1, _is_run_again),
    "that it was stopped is forgotten": (1, _is_forgotten),
    "a message that does not mind is refused": (1, _all_mind),
    "turns that wait are taken out of order": (1, _out_of_order),
    "a stop of what is over finds no message": (1, _unknown_when_over),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_short_run_shows_each_bug(bug: str) -> None:
    seed, apply = BUGS[bug]
    with pytest.MonkeyPatch.context() as patch:
        apply(patch)
        outcome = lived(seed)
    assert outcome.violation is not None, f"nobody noticed: {bug}"
    assert outcome.violation.rule not in ("10 server", "10 crashes", "9 status"), summary(outcome)


def test_the_same_run_holds_where_there_is_no_bug() -> None:
    outcome = lived(1)
    assert outcome.violation is None, summary(outcome)
    assert outcome.answers["cancelTurn"]
