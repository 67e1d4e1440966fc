"""What can be asked of a session, and what a command did to it: plain values.

`core.lifecycle` says what each command does in each phase. This file knows no rule.
"""

from typing import NamedTuple, get_args

from vigil.actors.core.errors import VigilError
from vigil.actors.core.events import Event
from vigil.actors.core.records import FinishReason, Message, Session, State, TimeoutPatch, TurnState


class Send(NamedTuple):
    """The user says something. `turn` is the state of the agent's turn on it, "" when none is wanted."""

    message_id: str
    content: str
    metadata: str
    attachments: str
    turn: TurnState


class Answer(NamedTuple):
    """The agent says something, to the message at `turn_at`."""

    message_id: str
    content: str
    metadata: str
    turn_at: int
    finish_reason: FinishReason = "stop"


class BeginTurn(NamedTuple):
    """The agent starts on the message at `turn_at`: `started` the first time, `retried` after a restart."""

    turn_at: int
    state: TurnState


class FailTurn(NamedTuple):
    """The agent will not answer the message at `turn_at`."""

    turn_at: int
    message_id: str
    code: str
    message: str


class CancelTurn(NamedTuple):
    """The user stops the agent's turn on the message at `turn_at`; `said` is what it had said by then, or ""."""

    turn_at: int
    question_id: str
    answer_id: str
    said: str


class Heartbeat(NamedTuple):
    pass


class Renew(NamedTuple):
    pass


class Retime(NamedTuple):
    patch: TimeoutPatch


class End(NamedTuple):
    pass


class Tick(NamedTuple):
    pass


Command = Send | Answer | BeginTurn | FailTurn | CancelTurn | Heartbeat | Renew | Retime | End | Tick
COMMANDS: tuple[type[Command], ...] = get_args(Command)


class Transition(NamedTuple):
    """What a command did: the state after it, and everything to commit, publish and reply, in that order.

    With `refusal` the command was not carried out; the state may have changed all the same, because its time
    had come.
    """

    state: State
    events: tuple[Event, ...] = ()
    message: Message | None = None
    turn: tuple[int, TurnState] | None = None  # of the message at this instant
    was_renewed: bool = False
    refusal: VigilError | None = None

    @property
    def session(self) -> Session:
        """The session after a command that it survived."""
        assert isinstance(self.state, Session)
        return self.state


def applied_at(transition: Transition) -> int:
    """The instant of a command that was carried out: that of its events, or of the activity that it was."""
    return transition.events[0].at if transition.events else transition.session.last_activity
