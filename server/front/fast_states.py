"""The states of a connection on the fast path, and what each event makes of them: one table.

It refuses to know sockets, requests and answers. What is done in a state is in `server.front.fast_connection`.

        NEW ──► IDLE ──► SERVING ◄──► ASKED          one batch of requests, without waiting
                 ▲        │  ▲ ▲
                 └────────┘  │ └── COMMITTING        the answer comes with a commit
                             ├──── DEFERRED          the answer takes a task's time
                             ├──── SENDING...        the socket did not take all that is answered
                             ├──── PARTIAL           a request has begun
                             └──── YIELDING          more requests are there, after somebody else's turn

From SERVING, and from where one waits for more of a request, a connection can be HANDED_OFF. From anywhere it can be
CLOSED.
"""

from collections.abc import Mapping
from enum import IntEnum, auto


class NoSuchTransition(Exception):
    """A bug: this event does not happen in this state."""


class State(IntEnum):  # whose hash, unlike Enum's, is made in C
    NEW = auto()  # nothing has come yet
    IDLE = auto()  # everything that has come is answered
    SERVING = auto()  # what has come is being read
    ASKED = auto()  # a request is at the gateway
    COMMITTING = auto()  # its answer comes by a callback
    DEFERRED = auto()  # its answer comes when a task has waited for it
    SENDING = auto()  # a task sends what the socket did not take
    SENDING_COMMITTING = auto()  # and one more request is under way
    SENDING_DEFERRED = auto()
    PARTIAL = auto()  # a request has begun
    YIELDING = auto()  # others have their turn before the next batch
    HANDED_OFF = auto()  # it is for the protocols behind the fast path
    CLOSED = auto()  # the socket, or all that this side will do


class Event(IntEnum):
    RECEIVED = auto()  # what may be a request
    ENDED = auto()  # the client has closed its side
    CROWDED = auto()  # a new client comes with many
    ASK = auto()  # a whole request goes to the gateway
    ANSWERED = auto()
    COMMIT = auto()  # the gateway has returned without an answer
    DEFER = auto()  # the gateway has returned what a task must wait for
    BLOCKED = auto()  # the socket has not taken everything
    SENT = auto()  # now it has
    SERVED = auto()  # nothing is left of what was received
    INCOMPLETE = auto()  # a request's beginning is left
    FULL = auto()  # a batch is full, more is left
    TURN = auto()  # others had theirs
    UNFIT = auto()  # what is left is not for the fast path
    STOPPED = auto()  # the server takes no more requests
    CUT = auto()  # the socket is closed


(
    NEW,
    IDLE,
    SERVING,
    ASKED,
    COMMITTING,
    DEFERRED,
    SENDING,
    SENDING_COMMITTING,
    SENDING_DEFERRED,
    PARTIAL,
    YIELDING,
    HANDED_OFF,
    CLOSED,
) = State

TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    NEW: {
        Event.RECEIVED: SERVING,
        Event.ENDED: CLOSED,
        Event.CROWDED: IDLE,
        Event.STOPPED: CLOSED,
        Event.CUT: CLOSED,
    },
    IDLE: {Event.RECEIVED: SERVING, Event.ENDED: CLOSED, Event.CUT: CLOSED},
    SERVING: {
        Event.ASK: ASKED,
        Event.BLOCKED: SENDING,
        Event.SERVED: IDLE,
        Event.INCOMPLETE: PARTIAL,
        Event.FULL: YIELDING,
        Event.UNFIT: HANDED_OFF,
        Event.STOPPED: CLOSED,
        Event.CUT: CLOSED,
    },
    ASKED: {
        Event.ANSWERED: SERVING,
        Event.COMMIT: COMMITTING,
        Event.DEFER: DEFERRED,
        Event.CUT: CLOSED,
    },
    COMMITTING: {Event.ANSWERED: SERVING, Event.BLOCKED: SENDING_COMMITTING, Event.CUT: CLOSED},
    DEFERRED: {Event.ANSWERED: SERVING, Event.BLOCKED: SENDING_DEFERRED, Event.CUT: CLOSED},
    SENDING: {Event.SENT: SERVING, Event.CUT: CLOSED},
    SENDING_COMMITTING: {Event.ANSWERED: SENDING, Event.SENT: COMMITTING, Event.CUT: CLOSED},
    SENDING_DEFERRED: {Event.SENT: DEFERRED, Event.CUT: CLOSED},
    PARTIAL: {
        Event.RECEIVED: SERVING,
        Event.UNFIT: HANDED_OFF,
        Event.STOPPED: CLOSED,
        Event.CUT: CLOSED,
    },
    YIELDING: {Event.TURN: SERVING, Event.CUT: CLOSED},
    HANDED_OFF: {Event.CUT: CLOSED},
    CLOSED: dict.fromkeys(Event, CLOSED),  # what was under way may still end
}


def after(state: State, event: Event) -> State:
    """The next state. Raises NoSuchTransition."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise NoSuchTransition(f"{event.name} in state {state.name}") from None
