"""What simulated days found, each as small as it gets."""

import trio

from tests.fakes import PatientAgent, entry, new_actor, running_directory
from vigil.actors.core.commands import Send


async def test_a_session_that_ends_in_the_commit_that_begins_its_turn_takes_nobody_with_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The turn went on with a session that was gone, and its crash ended the whole service.

    Which of the two asks comes first is Trio's choice: twenty times, so that both do.
    """
    async with running_directory(agents={"patient": entry(PatientAgent())}) as directory:
        for _ in range(20):
            actor = await new_actor(directory, "patient")
            await actor.ask(Send(directory.new_id(), "Hello", "{}", "", "waiting"))
            await directory.end(actor.state.id)
            await trio.testing.wait_all_tasks_blocked()
        assert directory.counts().active == len(directory.turns) == 0
