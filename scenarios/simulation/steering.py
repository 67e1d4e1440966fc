"""People who press Stop, or interrupt (spec section 11)."""

from functools import partial
from typing import Any

import trio

from vigil.scenarios.simulation.faults.faulty import SLOW
from vigil.scenarios.simulation.listening import keep_listening
from vigil.scenarios.simulation.person import CREATED, Chat, Person

HISTORY = 200


async def steerer(person: Person) -> None:
    """Stops answers at every moment of a turn, also twice; interrupts them, or is refused while one is made."""
    chat = await person.begin()
    if chat is None:
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_listening, chat)
        sent: list[str] = []
        for _ in range(person.random.randint(6, 20)):
            if not await _steer(chat, sent):
                break
        await person.think(20)
        await chat.read_back(100)
        nursery.cancel_scope.cancel()


async def _steer(chat: Chat, sent: list[str]) -> bool:
    """Say something, and stop it or something older. False when the session is over."""
    person = chat.person
    fields: dict[str, Any] = {"metadata": {SLOW: True}} if person.chance(0.6) else {}
    if (when_busy := person.one_of((None, None, "reject", "interrupt"))) is not None:
        fields["whenBusy"] = when_busy
    transport = person.one_of(("websocket", "websocket", "http", "sse"))
    async with trio.open_nursery() as nursery:
        if transport != "websocket":
            nursery.start_soon(partial(chat.send, transport=transport, **fields))
            answer = await chat.history(limit=1)
            messages = answer.json()["messages"] if answer is not None and answer.status == HISTORY else []
            sent += [message["id"] for message in messages]
        else:
            answer = await chat.send(**fields)
            sent += [answer.json()["id"]] if answer is not None and answer.status == CREATED else []
        await trio.sleep(person.one_of((0, 0, 0.001, person.random.randrange(6000) / 1000)))
        for _ in range(person.one_of((0, 1, 1, 2)) if sent else 0):
            nursery.start_soon(chat.stop, person.one_of(sent[-3:]))
    return await person.takes(await chat.get() if person.chance(0.3) else answer)
