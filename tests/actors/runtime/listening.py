"""Who talks to an actor in tests, and hears what becomes of it."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.harness import START_MS
from vigil.actors.core.commands import Command, Heartbeat, Send, Transition
from vigil.actors.core.errors import VigilError
from vigil.actors.core.events import Event
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.directory import Directory

MIN = 60_000
HELLO = Send("m-1", "hello", "{}", "", "")


def at(minutes: float) -> int:
    return START_MS + int(minutes * MIN)


async def minutes(count: float) -> None:
    await trio.sleep(count * 60)


class Listener:
    """Hears everything of a session from its creation on, and when it heard it."""

    def __init__(self, directory: Directory, actor: SessionActor) -> None:
        self.events: list[tuple[int, Event]] = []
        self._directory = directory
        self._news = directory.hub.subscribe(actor.state.id, 0, actor.session.event_id, directory.clock.now())

    async def __call__(self) -> None:
        async for notice in self._news:
            if isinstance(notice.news, Event):  # a crash has listeners read the state anew: no event
                self.events.append((self._directory.clock.now(), notice.news))

    def of(self, kind: type) -> list[int]:
        """When events of this kind were heard, in minutes."""
        return [(now - START_MS) // MIN for now, event in self.events if isinstance(event.data, kind)]


async def outcomes(actor: SessionActor, asked: Sequence[Command]) -> list[Transition | VigilError]:
    """Ask them all in one instant, in this order, and gather what each got."""
    got: dict[int, Transition | VigilError] = {}

    async def ask(n: int) -> None:
        try:
            got[n] = await actor.ask(asked[n])
        except VigilError as error:
            got[n] = error

    async with trio.open_nursery() as nursery:
        for n in range(len(asked)):
            nursery.start_soon(ask, n)
            await wait_all_tasks_blocked()
    return [got[n] for n in sorted(got)]


async def expects(actor: SessionActor, error: type[Exception]) -> None:
    with pytest.raises(error):
        await actor.ask(Heartbeat())
