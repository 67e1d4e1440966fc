"""The actor: one Trio task for each live session, with one deadline.

It waits for a command or for the next thing that falls due, steps, commits, publishes, replies, in that order.
All commands that wait at the same moment are stepped at one instant and share one commit.
"""

from collections.abc import Sequence
from typing import Protocol

import trio

from actors.clock import ScaledClock
from actors.errors import (
    Overloaded,
    SessionBroken,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    VigilError,
)
from actors.lifecycle import Tick, Transition, due_at, step
from actors.mailbox import Ask, Mailbox, Saving
from actors.records import Gone, Session, State, Tombstone
from actors.stores.base import (
    InsertMessage,
    RemoveSession,
    SaveAnswer,
    Store,
    UpdateSession,
    UpdateTurn,
    Write,
)

RETRY_S = 1.0  # until something that fell due but could not be committed is tried again


def save_answer(key: int, now: int, saving: Saving, transition: Transition) -> SaveAnswer:
    """What a command with an idempotency key commits beside its own effects."""
    return SaveAnswer(saving.scope, saving.key, saving.body_sha256, saving.encode(transition), key, now)


def end_of(state: Tombstone | Gone) -> VigilError:
    """What is said to those who come after the end."""
    return SessionExpired(state) if isinstance(state, Tombstone) else SessionNotFound(state.id)


class Home(Protocol):
    """What an actor knows of the world it lives in."""

    clock: ScaledClock
    store: Store

    def settled(self, actor: "SessionActor", before: Session, transitions: Sequence[Transition]) -> None:
        """These transitions are committed, and nobody has an answer yet."""


class SessionActor(Mailbox):
    """One live session, which is its own mailbox. `state` is what is committed, so reading it needs no ask.

    `ask` raises a command's refusal; Overloaded when 64 commands wait; StoreUnavailable when it could not be
    committed, and then nothing of it happened.
    """

    __slots__ = ("_home", "_not_before", "_scope", "state")

    def __init__(self, session: Session, home: Home) -> None:
        super().__init__()
        self.state: State = session
        self._home = home
        self._scope: trio.CancelScope | None = None
        self._not_before = 0.0  # on Trio's clock: no timer is served earlier

    @property
    def session(self) -> Session:
        """The session, while it lives."""
        assert isinstance(self.state, Session)  # noqa: S101  only the directory's live actors are read
        return self.state

    async def run(self) -> None:
        """Live until the session is over. Whatever it raises is a bug; `state` is then as before it."""
        while isinstance(self.state, Session):
            with trio.CancelScope(deadline=self._wake_at(self.state)) as self._scope:
                while isinstance(self.state, Session):  # here and not in a function: a million frames wait
                    if not self._asks:
                        await self.wait()
                    await self._serve(self.take())
            await self._serve_timer()
        self.close(end_of(self.state))

    def re_aim(self) -> None:
        """The clock has jumped: the deadline lies elsewhere on Trio's clock now."""
        if self._scope is not None and isinstance(self.state, Session):
            self._scope.deadline = self._wake_at(self.state)

    def _wake_at(self, session: Session) -> float:
        return max(self._home.clock.deadline(due_at(session)), self._not_before)

    async def _serve_timer(self) -> None:
        """Do what fell due. When the deadline has moved later meanwhile, nothing did."""
        if isinstance(self.state, Session) and self._home.clock.now() >= due_at(self.state):
            await self._serve([Ask(Tick(), None, None)])

    async def _serve(self, asks: Sequence[Ask]) -> None:
        before = self.state
        try:
            await self._carry_out(asks)
        except (StoreUnavailable, Overloaded) as error:
            self._not_before = trio.current_time() + RETRY_S
            for ask in asks:
                ask.fail(error)
        except trio.Cancelled:
            for ask in asks:
                ask.fail(Overloaded("The server is stopping"))
            raise
        except Exception as bug:
            self.state = before  # what its supervisor and the directory know; the store is read anew
            broken = SessionBroken(before.id, f"{type(bug).__name__} in its actor")
            for ask in asks:
                ask.fail(broken)
            self.refuse(broken)  # a turn's answer among them would be given twice: turns begin anew
            raise

    async def _carry_out(self, asks: Sequence[Ask]) -> None:
        now = self._home.clock.now()
        before, state = self.session, self.state
        transitions = []
        for ask in asks:
            transition = step(state, ask.command, now)
            transitions.append(transition)
            state = transition.state
        if writes := _writes(before, now, asks, transitions):
            await self._home.store.commit(writes)
        self.state = state
        self._aim_earlier()
        self._home.settled(self, before, transitions)
        for ask, transition in zip(asks, transitions, strict=True):
            ask.answer(transition)

    def _aim_earlier(self) -> None:
        """A later deadline is left alone: the actor wakes at the old one and looks again."""
        if self._scope is not None and isinstance(self.state, Session):
            wake_at = self._wake_at(self.state)
            if wake_at < self._scope.deadline:  # noqa: PLR1730  setting it costs more than looking at it
                self._scope.deadline = wake_at


def _writes(before: Session, now: int, asks: Sequence[Ask], transitions: Sequence[Transition]) -> list[Write]:
    """Everything that must be on disk before anybody hears of these transitions."""
    after = transitions[-1].state
    if not isinstance(after, Session):
        return [RemoveSession(before.key, after if isinstance(after, Tombstone) else None)]
    writes: list[Write] = [UpdateSession(after)] if after != before else []
    for ask, transition in zip(asks, transitions, strict=True):
        if transition.message is not None or transition.turn is not None:
            writes.extend(_message_writes(before.key, transition))
        if ask.saving is not None and transition.refusal is None:
            writes.append(save_answer(before.key, now, ask.saving, transition))
    return writes


def _message_writes(key: int, transition: Transition) -> list[Write]:
    message, turn = transition.message, transition.turn
    is_its_own = message is not None and turn is not None and turn[0] == message.created_at
    writes: list[Write] = []
    if message is not None:
        writes.append(InsertMessage(key, message, turn[1] if turn and is_its_own else ""))
    if turn is not None and not is_its_own:
        writes.append(UpdateTurn(key, *turn))
    return writes
