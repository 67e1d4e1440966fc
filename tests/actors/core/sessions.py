"""Sessions and commands for tests of the rules."""

from vigil.actors.core.commands import (
    Answer,
    BeginTurn,
    CancelTurn,
    Command,
    End,
    FailTurn,
    Heartbeat,
    Renew,
    Retime,
    Send,
    Tick,
    Transition,
)
from vigil.actors.core.events import EventData
from vigil.actors.core.lifecycle import begin, step
from vigil.actors.core.records import Session, TimeoutConfig, TimeoutPatch

T0 = 1_795_338_000_000
MIN = 60_000


def at(minutes: float) -> int:
    """So many minutes after creation."""
    return T0 + int(minutes * MIN)


def new(timeout: int = 30, auto: bool = True, most: int = 180, warn: int = 5) -> Session:
    """A session that begins at T0, after its first transition."""
    config = TimeoutConfig(timeout, auto, most, warn)
    return begin(Session(1, "s-1", "agent", "user", "c-1", "{}", T0, T0, T0, config)).session


def after(session: Session, *commands: tuple[float, Command]) -> Session:
    """The session after (minute, command) pairs that it survived."""
    for minutes, command in commands:
        transition = step(session, command, at(minutes))
        assert transition.refusal is None
        session = transition.session
    return session


def kinds(transition: Transition) -> list[type[EventData]]:
    return [type(event.data) for event in transition.events]


def retime(
    timeout: int | None = None, auto: bool | None = None, most: int | None = None, warn: int | None = None
) -> Retime:
    return Retime(TimeoutPatch(timeout, auto, most, warn))


SEND = Send("m-1", "hello", '{"k":1}', "[]", "waiting")
ANSWER = Answer("m-2", "hi", "{}", T0 + 7)
BEGIN_TURN = BeginTurn(T0 + 7, "started")
FAIL_TURN = FailTurn(T0 + 7, "m-1", "AGENT_FAILED", "it broke")
CANCEL_TURN = CancelTurn(T0 + 7, "m-1", "m-3", "as far as")
WARN_SOONER = retime(warn=6)
SAMPLES: dict[type[Command], Command] = {
    Send: SEND,
    Answer: ANSWER,
    BeginTurn: BEGIN_TURN,
    FailTurn: FAIL_TURN,
    CancelTurn: CANCEL_TURN,
    Heartbeat: Heartbeat(),
    Renew: Renew(),
    Retime: WARN_SOONER,
    End: End(),
    Tick: Tick(),
}
