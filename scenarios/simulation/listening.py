"""How people listen to a session's events: with resume, over every cut. It knows no character."""

import trio

from vigil.scenarios.simulation.faults.connection import Ear
from vigil.scenarios.simulation.person import OVER, Chat

OVER_CODE = 1000  # a listener's close code when its session is over


async def keep_listening(chat: Chat) -> None:
    """Callback events until the session is over; come back where it was after each cut, or somewhere else."""
    person, ear = chat.person, Ear(chat.person.one_of((None, 0)))
    while ear.code != OVER_CODE and ear.status not in OVER:
        with trio.move_on_after(person.random.randint(30, 3600)):
            await chat.listen(ear)
        await person.think(5)
        if person.chance(0.1):
            ear.last_id = person.one_of((None, 0, (ear.last_id or 0) + 1000))
