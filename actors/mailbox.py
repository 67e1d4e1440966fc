"""A session's bounded queue of asks.

An ask is always answered, and waiting for the answer cannot be cancelled: what an actor has taken up may be
committed already, whoever still listens.

    asker                                 actor
    await mailbox.ask(command)    ->      for ask in await mailbox.take():
      a Transition                <-          ask.answer(transition)
      raises its refusal          <-          ask.answer(transition with a refusal)
      raises what went wrong      <-          ask.fail(error)
    raises Overloaded at once when CAPACITY asks wait, and the session's end once it is closed
"""

from collections.abc import Callable
from typing import NamedTuple

import trio
from outcome import Error, Outcome, Value

from actors.errors import Overloaded
from actors.lifecycle import Command, Transition

CAPACITY = 64


class Saving(NamedTuple):
    """An idempotency key to commit with a command; `encode` gives the answer that it stands for."""

    scope: str
    key: str
    body_sha256: bytes
    encode: Callable[[Transition], bytes]


class Ask:
    """One command and the task that waits for its answer, if any."""

    __slots__ = ("_asker", "command", "saving")

    def __init__(self, command: Command, saving: Saving | None, asker: trio.lowlevel.Task | None) -> None:
        self.command = command
        self.saving = saving
        self._asker = asker

    def answer(self, transition: Transition) -> None:
        if transition.refusal is not None:
            self.fail(transition.refusal)
        else:
            self._reply(Value(transition))

    def fail(self, error: Exception) -> None:
        self._reply(Error(error))

    def _reply(self, outcome: Outcome[Transition]) -> None:
        asker, self._asker = self._asker, None
        if asker is not None:
            trio.lowlevel.reschedule(asker, outcome)


class Mailbox:
    """First in, first out; one taker."""

    __slots__ = ("_asks", "_end", "_taker")

    def __init__(self) -> None:
        self._asks: list[Ask] = []
        self._taker: trio.lowlevel.Task | None = None
        self._end: Exception | None = None

    def __len__(self) -> int:
        return len(self._asks)

    async def ask(
        self, command: Command, saving: Saving | None = None, *, always: bool = False
    ) -> Transition:
        """Have one command carried out. `always` is for a session's one running turn, which needs no bound."""
        if self._end is not None:
            raise self._end
        if len(self._asks) >= CAPACITY and not always:
            raise Overloaded("Too many requests wait for this session")
        self._asks.append(Ask(command, saving, trio.lowlevel.current_task()))
        if self._taker is not None:
            taker, self._taker = self._taker, None
            trio.lowlevel.reschedule(taker)
        transition: Transition = await trio.lowlevel.wait_task_rescheduled(_never_abort)
        return transition

    async def take(self) -> list[Ask]:
        """All asks that wait, at least one. The only place where an actor can be cancelled."""
        if not self._asks:
            self._taker = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort_take)
        asks, self._asks = self._asks, []
        return asks

    def close(self, end: Exception) -> None:
        """Refuse everything that waits, and everything that comes later, with `end`."""
        self._end = end
        self.refuse(end)

    def refuse(self, error: Exception) -> None:
        """Answer everything that waits with `error`."""
        asks, self._asks = self._asks, []
        for ask in asks:
            ask.fail(error)

    def _abort_take(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._taker = None
        return trio.lowlevel.Abort.SUCCEEDED


def _never_abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
