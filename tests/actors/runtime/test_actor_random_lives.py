"""Random lives of real actors go as the model of the rules says. In virtual time."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.actors.core.model import Model, commands, configs, tell, waits
from tests.actors.runtime.listening import Listener
from tests.fakes import new_actor, running_directory
from tests.harness import START_MS
from tests.measure import examples
from vigil.actors.core.commands import Command, Send
from vigil.actors.core.errors import SessionExpired, SessionNotFound, VigilError
from vigil.actors.core.expiry import expires_at
from vigil.actors.core.records import Session, TimeoutConfig
from vigil.actors.runtime import service
from vigil.actors.runtime.actor import SessionActor
from vigil.actors.runtime.directory import Directory

Moves = list[tuple[int | str, Command]]


def next_instant(actor: SessionActor, now: int, wait: int | str, due: int | None) -> int:
    if isinstance(wait, int):
        return now + wait
    return now if due is None else max(now, due + {"just before": -1, "at": 0, "just after": 1}[wait])


def catch_up(model: Model, now: int) -> None:
    """Everything that falls due until `now`, each at its instant."""
    while (due := model.next()) is not None and due <= now:
        model.tick(due)


async def live(directory: Directory, config: TimeoutConfig, moves: Moves) -> None:
    """One session's life beside its model; both must tell the same story, to the millisecond."""
    actor = await new_actor(directory, "silent", *config)
    listener, model, now = Listener(directory, actor), Model(*config), START_MS
    model.arm(now)
    model.tick(now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener)
        for wait, command in moves:
            now = next_instant(actor, now, wait, model.next())
            await trio.sleep_until(directory.clock.deadline(now))
            catch_up(model, now)
            try:
                await actor.ask(command._replace(turn="") if isinstance(command, Send) else command)
            except (SessionExpired, SessionNotFound):
                break
            except VigilError:
                assert not model.do(command, now)
            else:
                assert model.do(command, now)
            if isinstance(actor.state, Session):
                assert expires_at(actor.session) == model.deadline()
        while (due := model.next()) is not None:
            await trio.sleep_until(directory.clock.deadline(due))
            model.tick(due)
    assert [told for _, event in listener.events if (told := tell(event))] == model.told
    assert all(heard == event.at for heard, event in listener.events)
    assert not isinstance(actor.state, Session)


lives = st.tuples(configs, st.lists(st.tuples(waits, commands), max_size=15))


@examples(250)
@given(st.lists(lives, min_size=1, max_size=3))
def test_random_lives_of_real_actors_go_as_the_model_says(several: list[tuple[TimeoutConfig, Moves]]) -> None:
    async def main() -> None:
        async with running_directory() as directory:
            async with trio.open_nursery() as nursery:
                for config, moves in several:
                    nursery.start_soon(live, directory, config, moves)
            assert directory.counts().active == 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "HOUSEKEEPING_S", 10**9)  # days of it are most of the test's time
        trio.run(main, clock=MockClock(autojump_threshold=0))
