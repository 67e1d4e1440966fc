"""What follows a commit for everybody else: events for listeners, counters, agent turns, and the recording.

Owns the order in which they learn of a transition. Refuses to know actors' tasks, and where sessions are found.

A creation's event is not kept for later listeners while it is the session's only one; it is made again from the
session when it is needed. A million sessions that nobody has talked to would keep a million such events.
"""

from collections.abc import Callable, Sequence

from vigil.actors.core.commands import Transition
from vigil.actors.core.events import Event
from vigil.actors.core.lifecycle import creation
from vigil.actors.core.records import Session, TurnState
from vigil.actors.hub.hub import Hub
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.counters import Counters
from vigil.actors.stores.base import OWED
from vigil.actors.turns.turns import TURN_ENDS, Turns


class Publisher:
    """Publishes committed transitions. Keys from `first_key` on belong to sessions that were created in this run.

    `watch`, when set, is called with the session's id and each committed transition, after its events.
    """

    def __init__(self, hub: Hub, turns: Turns, first_key: int) -> None:
        self.hub = hub
        self.turns = turns
        self.counters = Counters()
        self.watch: Callable[[str, Transition], None] | None = None
        self._first_key = first_key

    def created(self, transition: Transition) -> None:
        """A session was created."""
        session, events = transition.session, transition.events
        if len(events) > 1:
            self._publish(events)
        else:  # nobody can listen yet, and the session itself stands for its only event
            self.counters.note(events[0])
        if self.watch is not None:
            self.watch(session.id, transition)

    def committed(self, actor: SessionActor, before: Session, transitions: Sequence[Transition]) -> None:
        """One batch of a live session's actor. `actor.state` is the state after it."""
        after = actor.state
        self.counters.depths[len(transitions)] += 1
        if before.event_id == 1 and isinstance(after, Session) and after.event_id > 1:
            self._keep_creation(before)
        for transition in transitions:
            if transition.events:
                self._publish(transition.events)
            if transition.turn is not None:
                self._note_turn(actor, transition, *transition.turn)
            if self.watch is not None:
                self.watch(before.id, transition)

    # --- private

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self.counters.note(event)
        self.hub.publish(events)

    def _note_turn(self, actor: SessionActor, transition: Transition, at: int, turn: TurnState) -> None:
        message = transition.message
        if turn in TURN_ENDS:
            self.turns.on_end_committed(actor.state.id, at)
        elif message and at == message.created_at and turn in OWED and isinstance(actor.state, Session):
            self.turns.submit(actor, message, turn)

    def _keep_creation(self, session: Session) -> None:
        event = only_event(session, self._first_key)
        if event is not None:
            self.hub.recall(event)


def only_event(session: Session, first_key: int) -> Event | None:
    """That of its creation, while nothing else has happened to it since it was created in this run."""
    return creation(session) if session.event_id == 1 and session.key >= first_key else None
