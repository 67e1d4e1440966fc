"""Who uses the service: characters, how often each comes in a day, and the mixes of them.

A character is an async function that lives through one visit. Think times are log-normal, their medians in seconds.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any, NamedTuple

import orjson
import trio

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch
from vigil.scenarios.simulation.clumsiness import clumsy
from vigil.scenarios.simulation.faults.faulty import SimulatedAgent
from vigil.scenarios.simulation.faults.plan import Weather
from vigil.scenarios.simulation.listening import keep_listening
from vigil.scenarios.simulation.person import CREATED, OVER, RATE_LIMITED, Chat, Person
from vigil.scenarios.simulation.steering import steerer
from vigil.server.front.direct import Answer

Post = Callable[[bytes, str | None], Awaitable[Answer | None]]


class Character(NamedTuple):
    """What one visit is, and how many there are in a day."""

    visit: Callable[[Person], Awaitable[None]]
    a_day: int


def cast(seed: int, people: int, mix: str) -> list[str]:
    """The character of each person. Every twenty of them hold the whole mix."""
    twenty = [name for name, share in MIXES[mix].items() for _ in range(share)]
    random = Random(f"{seed}/cast")  # noqa: S311  a simulation's
    return [name for _ in range(-(-people // 20)) for name in random.sample(twenty, len(twenty))][:people]


def arrivals(character: Character, random: Random, start_ms: int, length_ms: int) -> list[int]:
    """The instants at which one person comes, drawn from the day's curve. A short run is a busy one."""
    visits = max(min(VISITS_LEAST, character.a_day), round(character.a_day * length_ms / _DAY_MS))
    hours = range(-(-length_ms // _HOUR_MS))
    weights = [HOURS[(start_ms // _HOUR_MS + hour) % 24] for hour in hours]
    begin = random.choices(hours, weights, k=visits)
    last_hour_ms = length_ms - hours[-1] * _HOUR_MS
    width_ms = [last_hour_ms if hour == hours[-1] else _HOUR_MS for hour in begin]
    found = zip(begin, width_ms, strict=True)
    return sorted(start_ms + hour * _HOUR_MS + random.randrange(width) for hour, width in found)


def catalogue(seed: int, people: int, weather: Weather) -> dict[str, AgentEntry]:
    """The agents: enough ordinary ones that the usual limit of each is met by greedy people only."""
    entry = partial(AgentEntry, agent=SimulatedAgent(seed, weather))
    ordinary = [entry(f"helper-{n}", f"Helper {n}") for n in range(2 + people // 60)]
    special = (
        AgentEntry(SILENT, "Silent", None),
        entry(SCARCE, "Scarce", agent_limit=Limit(40, 60)),
        entry(NARROW, "Narrow", session_limit=Limit(10, 60)),
        entry(BRIEF, "Brief", timeouts=TimeoutPatch(10, False, 45, 2)),
    )
    return {agent.id: agent for agent in (*ordinary, *special)}


def everyday(agents: Mapping[str, AgentEntry]) -> list[str]:
    """The agents that people talk to who want nothing special."""
    return [name for name in agents if name not in (SCARCE, NARROW)]


# --- characters


async def chatter(person: Person) -> None:
    """Talks in bursts, looks back now and then, and ends the session half of the time."""
    chat = await person.begin()
    if chat is not None and await talk(chat, person.random.randint(4, 18)) and person.chance(0.5):
        await chat.end()


async def idle_tab(person: Person) -> None:
    """Only a heartbeat every few minutes, for hours; opens a new session when the old one is over."""
    every_s, until = person.random.randint(60, 400), person.now + person.random.randint(1, 5) * _HOUR_MS
    chat = await person.begin(**person.one_of(_TAB_CONFIGS))
    while chat is not None and person.now < until:
        await trio.sleep(every_s)
        if not await person.takes(await chat.heartbeat()):
            chat = await person.begin()


async def closed_laptop(person: Person) -> None:
    """Is shut in the middle of a talk and comes back late: to a session that is over, most of the time."""
    chat = await person.begin(timeoutMinutes=person.one_of((5, 15, 30, 60)))
    if chat is None or not await talk(chat, 3):
        return
    await person.think(3 * 3600, 1.2)
    if await person.takes(await chat.get()):
        await talk(chat, 2)
    elif person.chance(0.3):
        await chat.end()
        await chat.get()
    if (chat := await person.begin()) is not None:
        await talk(chat, 3)


async def multi_device(person: Person) -> None:
    """Two devices and a listener on one session, often at the very same instant."""
    chat = await person.begin()
    if chat is None:
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_listening, chat)
        async with trio.open_nursery() as devices:
            for _ in range(2):
                devices.start_soon(_device, chat, person.random.randint(8, 20))
        await chat.end()
        nursery.cancel_scope.cancel()


async def _device(chat: Chat, requests: int) -> None:
    person = chat.person
    for _ in range(requests):
        await trio.sleep(person.random.randint(1, 60))  # whole seconds: so the two meet
        verb = person.one_of((chat.send, chat.send, chat.heartbeat, chat.get, chat.renew, chat.history))
        if not await person.takes(await verb()):
            return


async def renewer(person: Person) -> None:
    """Renews by hand shortly before the end, until the cap; then is there in the last and the first millisecond."""
    chat = await person.begin(
        timeoutMinutes=person.one_of((5, 7, 20)),
        autoRenew=False,
        maxDurationMinutes=person.one_of((12, 45, 90)),
    )
    while chat is not None:
        await person.wait_until(chat.expires_at - person.random.randint(1, 240_000))
        answer = await chat.renew()
        if not await person.takes(answer):
            return
        if answer is not None and answer.status == 422:  # noqa: PLR2004
            break
    if chat is not None:
        await at_the_deadline(chat)


async def at_the_deadline(chat: Chat) -> None:
    """Ask a millisecond before the session ends, and at that very instant."""
    await chat.person.wait_until(chat.expires_at - 1)
    await chat.get()
    await chat.person.wait_until(chat.expires_at)
    await chat.person.one_of((chat.get, chat.heartbeat, chat.send, chat.renew, chat.end))()
    await chat.get()


async def retimer(person: Person) -> None:
    """Cannot decide how long the session should last."""
    chat = await person.begin()
    for _ in range(person.random.randint(4, 16)):
        await person.think(150)
        if chat is None or not await person.takes(await chat.retime(**_change(person))):
            return
        if person.chance(0.5) and not await person.takes(await chat.send()):
            return
    if chat is not None and person.chance(0.5):
        await at_the_deadline(chat)


def _change(person: Person) -> dict[str, int | bool]:
    fields: dict[str, int | bool] = {
        "timeoutMinutes": person.random.randint(5, 90),
        "autoRenew": person.chance(0.5),
        "maxDurationMinutes": person.random.randint(1, 300),
        "warningThresholdMinutes": person.random.randint(1, 60),
    }
    return {name: fields[name] for name in person.random.sample(list(fields), person.random.randint(1, 3))}


async def greedy_session(person: Person) -> None:
    """As many requests as the session's limit takes, and more; waits as it is told, or a second less."""
    chat = await person.begin(person.one_of((NARROW, SILENT, *person.agents[:2])))
    refusals = 0
    while chat is not None and refusals < 3:  # noqa: PLR2004
        answer = await person.one_of((chat.heartbeat, chat.get, chat.get, chat.history, chat.send))()
        refusals += answer is not None and answer.status == RATE_LIMITED
        if not await person.takes(answer):
            return
        if person.chance(0.7):
            await trio.sleep(person.random.randrange(400) / 1000)


async def greedy_user(person: Person) -> None:
    """More sessions and requests than one user may have in an hour."""
    chats = [await person.begin(SILENT) for _ in range(20)]
    refusals, tries = 0, 0
    while refusals < 2 and tries < 1200:  # noqa: PLR2004
        tries += 1
        chat = chats[tries % len(chats)]
        answer = None if chat is None else await person.one_of((chat.heartbeat, chat.get, chat.renew))()
        refusals += answer is not None and answer.status == RATE_LIMITED
        if answer is None or answer.status in OVER:
            chats[tries % len(chats)] = await person.begin(SILENT)
        await trio.sleep(person.random.randrange(3000) / 1000)
        await person.takes(answer)


async def greedy_agent(person: Person) -> None:
    """Wants more of an agent than that one gives to all together."""
    chats: list[Chat] = []
    refusals = 0
    while refusals < 3:  # noqa: PLR2004
        if chats and person.chance(0.8):
            answer = await person.one_of(chats[-3:]).get()
        else:
            answer = await person.create(SCARCE, timeoutMinutes=5)
            if answer is not None and answer.status == CREATED:
                chats.append(Chat(person, answer))
        refusals += answer is not None and answer.status == RATE_LIMITED
        await person.takes(answer)
        await person.think(0.4)


async def retrier(person: Person) -> None:
    """Gives everything an Idempotency-Key and tries until it hears an answer; sometimes once more, or otherwise."""
    body = orjson.dumps({"agentId": person.one_of(person.agents), "userId": person.user_id})
    answer = await _until_heard(person, person.post_session, body)
    if answer is None or answer.status != CREATED:
        return
    chat = Chat(person, answer)
    for _ in range(person.random.randint(4, 14)):
        await person.think(60)
        transport = person.one_of(("websocket", "websocket", "http", "sse"))
        body = orjson.dumps({"content": person.text(), "transport": transport})
        answer = await _until_heard(person, chat.post_message, body)
        if answer is not None and answer.status in OVER:
            return


async def _until_heard(person: Person, post: Post, body: bytes) -> Answer | None:
    """Post with one key until there is a final answer; two at once, a repeat, or another body now and then."""
    key = person.uuid()
    if person.chance(0.2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, body, key)
            nursery.start_soon(post, body, key)
    for _ in range(6):
        answer = await post(body, key)
        if answer is not None and answer.status not in _TRY_AGAIN:
            break
        await person.takes(answer)
        await person.think(1)
    if person.chance(0.3):
        await post(body if person.chance(0.6) else body.replace(b"{", b"{ ", 1), key)
    return answer


async def listener(person: Person) -> None:
    """Listens with resume while it talks; in some sessions warnings come in every longer pause."""
    chat = await person.begin(**person.one_of(_HEARD_CONFIGS))
    if chat is None:
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_listening, chat)
        if await talk(chat, person.random.randint(3, 12)):
            await (chat.end() if person.chance(0.5) else at_the_deadline(chat))
        await person.think(60)
        nursery.cancel_scope.cancel()


async def operator(person: Person) -> None:
    """Looks after the service: lists and health."""
    for _ in range(person.random.randint(5, 25)):
        await (person.health() if person.chance(0.3) else person.list_sessions(**_filter(person)))
        await person.think(120)


def _filter(person: Person) -> dict[str, object]:
    choices: dict[str, object] = {
        "status": person.one_of(("active", "expired", "all")),
        "agentId": person.one_of(person.agents),
        "userId": f"person-{person.random.randrange(20)}",
        "limit": person.one_of((1, 5, 50)),
        "offset": person.random.randrange(8),
    }
    return {name: choices[name] for name in person.random.sample(list(choices), person.random.randint(0, 3))}


async def talk(chat: Chat, times: int) -> bool:
    """Say something so many times, with bursts between the pauses. False when the session is over."""
    person = chat.person
    for _ in range(times):
        for _ in range(person.one_of((1, 1, 1, 2, 4))):
            transport = person.one_of(("websocket", "websocket", "websocket", "http", "sse"))
            if not await person.takes(await chat.send(transport=transport)):
                return False
        await person.think(45)
        if person.chance(0.2) and not await person.takes(await chat.read_back(person.one_of((1, 3, 20)))):
            return False
    return True


# --- tables

VISITS_LEAST = 3  # however short the run
_TRY_AGAIN = (409, RATE_LIMITED, 503)
SILENT, SCARCE, NARROW, BRIEF = "silent", "scarce", "narrow", "brief"

CHARACTERS: dict[str, Character] = {
    "chatter": Character(chatter, 4),
    "idle tab": Character(idle_tab, 2),
    "closed laptop": Character(closed_laptop, 3),
    "multi-device": Character(multi_device, 3),
    "renewer": Character(renewer, 4),
    "retimer": Character(retimer, 4),
    "greedy session": Character(greedy_session, 4),
    "greedy user": Character(greedy_user, 1),
    "greedy agent": Character(greedy_agent, 4),
    "clumsy": Character(clumsy, 4),
    "retrier": Character(retrier, 4),
    "listener": Character(listener, 4),
    "steerer": Character(steerer, 4),
    "operator": Character(operator, 3),
}

MIXES: dict[str, dict[str, int]] = {  # how many of every twenty people
    "realistic": {
        "chatter": 6,
        "idle tab": 2,
        "closed laptop": 2,
        "multi-device": 1,
        "renewer": 1,
        "retimer": 1,
        "greedy session": 1,
        "greedy user": 1,
        "greedy agent": 1,
        "clumsy": 1,
        "retrier": 1,
        "listener": 1,
        "operator": 1,
    },
    "limits": {
        "chatter": 3,
        "greedy session": 6,
        "greedy user": 3,
        "greedy agent": 6,
        "retrier": 1,
        "operator": 1,
    },
    "chaos": {
        "chatter": 1,
        "idle tab": 1,
        "closed laptop": 2,
        "multi-device": 3,
        "renewer": 2,
        "retimer": 2,
        "greedy session": 1,
        "clumsy": 3,
        "retrier": 2,
        "listener": 2,
        "operator": 1,
    },
    "steering": {"chatter": 4, "multi-device": 1, "retrier": 2, "listener": 1, "steerer": 12},
}

HOURS = (  # how busy each hour of the day is, from midnight UTC
    *(4, 3, 2, 2, 2, 3),
    *(6, 12, 22, 30, 34, 33),
    *(28, 30, 33, 32, 30, 28),
    *(30, 34, 32, 24, 14, 8),
)

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_TAB_CONFIGS: tuple[dict[str, Any], ...] = ({}, {"timeoutMinutes": 5}, {"autoRenew": False})
_HEARD_CONFIGS: tuple[dict[str, Any], ...] = (
    {},
    {"timeoutMinutes": 5, "warningThresholdMinutes": 4},
    {"warningThresholdMinutes": 60},  # longer than the session: each arming warns at once
)
