"""A session's bounded queue of asks.

An ask is always answered, and waiting for the answer cannot be cancelled: what an actor has taken up may be
committed already, whoever still listens.

    asker                                 actor
                                          await mailbox.wait()
    await mailbox.ask(command)    ->      for ask in mailbox.take():
      a Transition                <-          ask.answer(transition)
      raises its refusal          <-          ask.answer(transition with a refusal)
      raises what went wrong      <-          ask.fail(error)
    raises Overloaded at once when CAPACITY asks wait, and the session's end once it is closed
"""

from collections.abc import Awaitable, Callable, Sequence
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
    """First in, first out; one taker. Empty, it holds nothing: a million of them wait."""

    __slots__ = ("_asks", "_end", "_taker")

    def __init__(self) -> None:
        self._asks: Sequence[Ask] = ()
        self._taker: trio.lowlevel.Task | None = None
        self._end: Exception | None = None

    @property
    def waiting(self) -> int:
        """How many asks wait to be taken."""
        return len(self._asks)

    async def ask(
        self, command: Command, saving: Saving | None = None, *, always: bool = False
    ) -> Transition:
        """Have one command carried out. `always` is for a session's one running turn, which needs no bound."""
        if self._end is not None:
            raise self._end
        if len(self._asks) >= CAPACITY and not always:
            raise Overloaded("Too many requests wait for this session")
        ask = Ask(command, saving, trio.lowlevel.current_task())
        if isinstance(self._asks, list):
            self._asks.append(ask)
        else:
            self._asks = [ask]
        taker = self._taker
        if taker is not None and taker.custom_sleep_data is self:
            trio.lowlevel.reschedule(taker)
        transition: Transition = await trio.lowlevel.wait_task_rescheduled(_never_abort)
        return transition

    def wait(self) -> Awaitable[None]:
        """Until an ask waits; not to be awaited while one does. The only place where an actor can be cancelled.

        A function and not a coroutine: a million takers wait here, each without a frame for it.
        """
        self._taker = task = trio.lowlevel.current_task()
        task.custom_sleep_data = self  # until it is rescheduled, for whatever reason: then Trio forgets it
        return trio.lowlevel.wait_task_rescheduled(_stop_waiting)  # noqa: ASYNC105  the caller awaits it

    def take(self) -> Sequence[Ask]:
        """All asks that wait."""
        asks, self._asks = self._asks, ()
        return asks

    def close(self, end: Exception) -> None:
        """Refuse everything that waits, and everything that comes later, with `end`."""
        self._end = end
        self.refuse(end)

    def refuse(self, error: Exception) -> None:
        """Answer everything that waits with `error`."""
        for ask in self.take():
            ask.fail(error)


def _stop_waiting(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


def _never_abort(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
