"""The actor: one Trio task for each live session, with one deadline, and a mailbox.

The task sleeps until the session's next deadline. Commands do not wake it: they run inline in the sender's task.

    step       `core.lifecycle` turns the state and the command into a transition
    commit     the store makes the transition durable
    publish    `state` is replaced, and the host sends events and starts turns
    reply      the command's callback gets the transition

One commit is under way at a time, so that transitions follow each other. Commands that come during a commit wait in the
mailbox; afterwards all of them are stepped at one instant, as a batch, and share the next commit.

Why inline: waking a task for every command costs a turn of Trio's scheduler. Waking it was tried first; PERFORMANCE.md
has what the change saved. The task is still needed: it owns the timer, a stop cancels it, and a crash ends it alone.
"""

from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Protocol

import trio

from vigil.actors.callbacks import Callback, await_callback
from vigil.actors.core.commands import Tick, Transition
from vigil.actors.core.errors import (
    Overloaded,
    RecordDamaged,
    SessionBroken,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    VigilError,
)
from vigil.actors.core.expiry import due_at
from vigil.actors.core.lifecycle import step
from vigil.actors.core.records import Gone, Session, State, Tombstone, maker
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.mailbox import Ask, IdempotencyKey, Mailbox
from vigil.actors.stores.base import (
    InsertMessage,
    RemoveSession,
    SaveAnswer,
    Store,
    UpdateSession,
    UpdateTurn,
    Write,
)

RETRY_S = 1.0  # until something that fell due but could not be committed is tried again


def save_answer(key: int, now: int, idempotency: IdempotencyKey, transition: Transition) -> SaveAnswer:
    """The write that stores the answer to a command with an idempotency key, beside the command's own effects."""
    return SaveAnswer(
        idempotency.scope, idempotency.key, idempotency.body_sha256, idempotency.encode(transition), key, now
    )


def end_of(state: Tombstone | Gone) -> VigilError:
    """The error that commands get after the session's end."""
    return SessionExpired(state) if isinstance(state, Tombstone) else SessionNotFound(state.id)


class Host(Protocol):
    """What an actor needs of the place where it runs."""

    clock: ScaledClock
    store: Store

    def on_committed(self, actor: "SessionActor", before: Session, transitions: Sequence[Transition]) -> None:
        """These transitions are durable and `actor.state` is the state after them; no callback was called yet."""


_UnderWay = tuple[Sequence[Ask], Sequence[Transition]]
"""A batch that waits for its commit: the asks, and the transition of each."""

_DOWN: _UnderWay = ((), ())  # in place of a batch while the task does not run: commands wait in the mailbox


class SessionActor(Mailbox):
    """One live session. It is its own mailbox, because a million of them would need a million more objects.

    `state` only ever holds what is committed, so it may be read at any time without a command.

    The callback of a command gets its transition, or the command's refusal; Overloaded when 64 commands wait;
    StoreUnavailable when it could not be committed, and then nothing of it happened; SessionBroken when a bug ended the
    actor, and then it may or may not have happened.
    """

    __slots__ = ("_bug", "_host", "_not_before", "_scope", "_task", "_under_way", "state")

    def __init__(self, session: Session, host: Host) -> None:
        super().__init__()
        self.state: State = session
        self._host = host
        self._task: trio.lowlevel.Task | None = None
        self._scope: trio.CancelScope | None = None
        self._under_way: _UnderWay | None = _DOWN
        self._bug: Exception | None = None
        self._not_before = 0.0  # on Trio's clock: no timer is served earlier

    @property
    def session(self) -> Session:
        """The session, while it lives."""
        assert isinstance(self.state, Session)  # only the directory's live actors are read
        return self.state

    async def run(self) -> None:
        """Serve deadlines until the session is over.

        Raises nothing but bugs, and RecordDamaged when the stored session cannot be read; `state` is then what it was
        before. Cancelled, it waits for the commit under way, so that nobody is left without an answer.
        """
        self._task = trio.lowlevel.current_task()
        try:
            self._under_way = None
            while self._bug is None and isinstance(self.state, Session):
                if self._asks and self._under_way is None:
                    self._start_batch(self.take())  # they came while this task was not parked
                    continue
                with trio.CancelScope(deadline=self._wake_at(self.state)) as self._scope:
                    await self._parked()  # not in a coroutine of its own: a million of its frames would wait
                if self._is_due():
                    with suppress(VigilError):  # not committed: it is tried again
                        await await_callback(self._tick)
        except trio.Cancelled:
            self.close(Overloaded("The server is stopping"))
            await self._finished()
            raise
        finally:
            self._task = self._scope = None
            self._under_way = _DOWN
        if self._bug is not None:
            self._refuse_broken()
            bug, self._bug = self._bug, None
            raise bug

    def reschedule(self) -> None:
        """Compute the deadline again, after session time has jumped against Trio's clock."""
        if self._scope is not None and isinstance(self.state, Session):
            self._scope.deadline = self._wake_at(self.state)

    def take_out_of_service(self, damage: RecordDamaged) -> None:
        """End the task with `damage`, which has the supervisor quarantine the session: its record cannot be read.

        A batch under way gets its result first. Without effect on an actor that does not run.
        """
        if self._under_way is None:
            self._crash(damage, ())
        elif self._under_way is not _DOWN:
            self._bug = damage  # `_resume` sees to it

    def _wake_at(self, session: Session) -> float:
        return max(self._host.clock.deadline(due_at(session)), self._not_before)

    def _tick(self, on_result: Callback[Transition]) -> None:
        """Carry out what fell due, before all commands that wait."""
        self._asks = [Ask(Tick(), on_result, None), *self._asks]
        if self._under_way is None:
            self._start_batch(self.take())

    def _is_due(self) -> bool:
        """Whether something fell due. Nothing did when the deadline has moved later since the timer was set."""
        is_up = self._bug is None and isinstance(self.state, Session)
        return is_up and self._host.clock.now() >= due_at(self.session)

    # --- commands

    def _enqueue(self, asks: Sequence[Ask]) -> None:
        if self._under_way is None and self._is_parked():
            self._start_batch(asks)
        else:
            super()._enqueue(
                asks
            )  # a batch is under way, or the timer has just woken the task and goes first

    def _start_batch(self, asks: Sequence[Ask]) -> None:
        try:
            self._process_batch(asks)
        except Exception as bug:
            self._crash(bug, asks)

    def _process_batch(self, asks: Sequence[Ask]) -> None:
        now = self._host.clock.now()
        before = state = self.state
        assert isinstance(before, Session)  # one that is over has closed its mailbox
        transitions = []
        for ask in asks:
            transition = step(state, ask.command, now)
            transitions.append(transition)
            state = transition.state
        writes = _writes(before, now, asks, transitions)
        self._under_way = asks, transitions
        if writes:
            self._host.store.submit(writes, self._committed)
        else:
            self._committed(None)

    def _committed(self, error: Exception | None) -> None:
        """The store's callback: the batch under way is durable, or it failed."""
        assert self._under_way is not None  # the store calls this once for a batch
        asks, transitions = self._under_way
        if error is not None:
            return self._not_committed(error, asks)
        try:
            self._apply(transitions)
        except Exception as bug:
            return self._crash(bug, asks)
        for ask, transition in zip(asks, transitions, strict=True):
            ask.answer(transition)
        return self._resume()

    def _not_committed(self, error: Exception, asks: Sequence[Ask]) -> None:
        if not isinstance(error, StoreUnavailable | Overloaded):
            return self._crash(error, asks)
        self._not_before = trio.current_time() + RETRY_S
        for ask in asks:
            ask.fail(error)
        return self._resume()

    def _apply(self, transitions: Sequence[Transition]) -> None:
        before, after = self.session, transitions[-1].state
        self.state = after
        try:
            if isinstance(after, Session) and (before.warned or after.config is not before.config):
                self._wake_earlier(after)  # anything else only puts off what is due
            self._host.on_committed(self, before, transitions)
        except Exception:
            self.state = before  # what its supervisor and the directory know; the store is read anew
            raise

    def _resume(self) -> None:
        """A batch is done: start the next, or end."""
        self._under_way = None
        if not isinstance(self.state, Session):
            self._bug = None
            self.close(end_of(self.state))
        elif self._bug is not None:
            return self._crash(self._bug, ())
        if self._end is not None:
            self._wake()
        elif self._asks:
            self._start_batch(self.take())
        return None

    def _crash(self, bug: Exception, asks: Sequence[Ask]) -> None:
        """Have the task raise `bug`, for its supervisor, and give SessionBroken to everybody who waits.

        A task that is parked is woken and gives the errors itself. One that is not may be waiting for the result of its
        own `Tick`, which is among them, so they are given here.
        """
        self._bug, self._under_way = bug, _DOWN
        self._asks = [*asks, *self._asks]  # a turn's answer among them would be given twice: turns begin anew
        if not self._wake():
            self._refuse_broken()

    def _refuse_broken(self) -> None:
        self.refuse(SessionBroken(self.state.id, f"{type(self._bug).__name__} in its actor"))

    # --- the task

    def _parked(self) -> Awaitable[None]:
        """Wait until something falls due, ends or crashes. The only place where an actor can be cancelled.

        A function that gives an awaitable, not a coroutine: a million actors wait here, and each would keep a frame.
        """
        assert self._task is not None  # it is the one that calls
        self._task.custom_sleep_data = (
            self  # until it is rescheduled, for whatever reason: then Trio forgets it
        )
        return trio.lowlevel.wait_task_rescheduled(_stop_waiting)  # noqa: ASYNC105  the caller awaits it

    def _is_parked(self) -> bool:
        return self._task is not None and self._task.custom_sleep_data is self

    def _wake(self) -> bool:
        """Wake the task if it is parked. Gives whether it was."""
        is_parked = self._is_parked()
        if is_parked:
            assert self._task is not None  # as it is parked
            trio.lowlevel.reschedule(self._task)
        return is_parked

    async def _finished(self) -> None:
        """Wait until the batch under way is committed or has failed."""
        with trio.CancelScope(shield=True):
            while self._under_way is not None and self._under_way is not _DOWN:
                await self._parked()

    def _wake_earlier(self, after: Session) -> None:
        """Set the timer to an earlier deadline.

        A later one is not set: the task wakes at the old instant and computes the next. Activity moves a deadline
        later with every request, and each change would be an entry in Trio's heap of deadlines.
        """
        if self._scope is not None:
            wake_at = self._wake_at(after)
            if wake_at < self._scope.deadline:  # noqa: PLR1730  setting it costs more than looking at it
                self._scope.deadline = wake_at


def _stop_waiting(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


def _writes(before: Session, now: int, asks: Sequence[Ask], transitions: Sequence[Transition]) -> list[Write]:
    """All that must be durable before these transitions are published."""
    after = transitions[-1].state
    if not isinstance(after, Session):
        return [RemoveSession(before.key, after if isinstance(after, Tombstone) else None)]
    writes: list[Write] = [_update((after,))] if after is not before and after != before else []
    for ask, transition in zip(asks, transitions, strict=True):
        if transition.message is not None or transition.turn is not None:
            writes.extend(_message_writes(before.key, transition))
        if ask.idempotency is not None and transition.refusal is None:
            writes.append(save_answer(before.key, now, ask.idempotency, transition))
    return writes


def _message_writes(key: int, transition: Transition) -> list[Write]:
    message, turn = transition.message, transition.turn
    is_its_own = message is not None and turn is not None and turn[0] == message.created_at
    writes: list[Write] = []
    if message is not None:
        writes.append(_insert((key, message, turn[1] if turn and is_its_own else "")))
    if turn is not None and not is_its_own:
        writes.append(UpdateTurn(key, *turn))
    return writes


_update, _insert = maker(UpdateSession), maker(InsertMessage)
