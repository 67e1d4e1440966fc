"""A session's bounded queue of asks.

Owns the order of commands and the bound on how many wait. Refuses to know what a command does.

An ask is always answered, exactly once. It cannot be taken back, because the actor may have committed it already.

    sender                                   actor
    mailbox.tell(command, on_result)   ->     for ask in mailbox.take():
      on_result(a Transition)          <-         ask.answer(transition)
      on_result(its refusal)           <-         ask.answer(transition with a refusal)
      on_result(what went wrong)       <-         ask.fail(error)
    on_result(Overloaded) at once when CAPACITY asks wait, and the session's end once it is closed

`await mailbox.ask(command)` is the same for a task: it raises what is an exception.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from vigil.actors.callbacks import Callback, await_callback
from vigil.actors.core.commands import Command, Transition
from vigil.actors.core.errors import Overloaded

CAPACITY = 64


class IdempotencyKey(NamedTuple):
    """An idempotency key to commit with a command; `encode` gives the answer that it stands for."""

    scope: str
    key: str
    body_sha256: bytes
    encode: Callable[[Transition], bytes]


class Ask:
    """One command, and the callback for its result."""

    __slots__ = ("command", "idempotency", "on_result")

    def __init__(
        self, command: Command, on_result: Callback[Transition], idempotency: IdempotencyKey | None
    ) -> None:
        self.command = command
        self.on_result = on_result
        self.idempotency = idempotency

    def answer(self, transition: Transition) -> None:
        self.on_result(transition if transition.refusal is None else transition.refusal)

    def fail(self, error: Exception) -> None:
        self.on_result(error)


class Mailbox:
    """First in, first out. Empty, it holds a shared tuple and no list of its own: most of a million are empty."""

    __slots__ = ("_asks", "_end")

    def __init__(self) -> None:
        self._asks: Sequence[Ask] = ()
        self._end: Exception | None = None

    @property
    def waiting(self) -> int:
        """How many asks wait to be taken."""
        return len(self._asks)

    def tell(
        self,
        command: Command,
        on_result: Callback[Transition],
        idempotency: IdempotencyKey | None = None,
        *,
        always: bool = False,
        first: Sequence[tuple[Command, Callback[Transition]]] = (),
    ) -> None:
        """Have one command carried out. `on_result` is called once, perhaps before this returns, and must not raise.

        `always` passes the bound; it is for a session's running turn and its timer, of which there is one each. The
        commands of `first` are carried out right before this one, at the same instant and in the same commit.
        """
        if self._end is not None:
            on_result(self._end)
        elif len(self._asks) >= CAPACITY and not always:
            on_result(Overloaded("Too many requests wait for this session"))
        else:
            ask = Ask(command, on_result, idempotency)
            self._enqueue((*[Ask(*one, None) for one in first], ask) if first else (ask,))

    async def ask(
        self, command: Command, idempotency: IdempotencyKey | None = None, *, always: bool = False
    ) -> Transition:
        """`tell`, waited for: gives the transition, or raises the error. Cannot be cancelled."""
        return await await_callback(partial(self._tell, command, idempotency, always))

    def take(self) -> Sequence[Ask]:
        """Remove and give all asks that wait."""
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

    def _enqueue(self, asks: Sequence[Ask]) -> None:
        """Add them to those that wait. They stay together: `take` gives all or none."""
        self._asks = [*self._asks, *asks]

    def _tell(
        self,
        command: Command,
        idempotency: IdempotencyKey | None,
        always: bool,
        on_result: Callback[Transition],
    ) -> None:
        self.tell(command, on_result, idempotency, always=always)
