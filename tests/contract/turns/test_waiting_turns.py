"""A client inside the default limits never gets 503 from its own session (spec section 4), however it spreads them."""

from collections.abc import Sequence
from itertools import cycle
from typing import Literal, NamedTuple

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.contract.operations import HISTORY, SEND
from tests.fakes import FaultyStore
from tests.harness import AGENTS, Api, direct_way, running_api
from tests.measure import examples
from vigil.actors.agents.base import AgentEntry, Reply, Turn
from vigil.actors.turns.turns import HELD_MAX

CHARACTERS_MAX = 10_000
Transport = Literal["websocket", "http", "sse"]


class Client(NamedTuple):
    """How a client that uses its limits up goes about it."""

    burst: int  # so many messages at once
    gap_s: float  # and then so long nothing
    transport: Transport
    turns_s: Sequence[float]  # how long the agent takes, in turn
    commit_s: float


class TimedAgent:
    """Takes as long as it is told, one turn after another."""

    def __init__(self, turns_s: Sequence[float]) -> None:
        self._turns_s = cycle(turns_s)

    async def reply(self, turn: Turn) -> Reply:
        await trio.sleep(next(self._turns_s))
        return Reply(turn.message.content)


async def answers_of(client: Client, sends: int) -> list[int]:
    """The statuses of so many messages that were admitted, and of those that were limited before."""
    store = FaultyStore()
    store.delay_s = client.commit_s
    timed = {**AGENTS, "timed": AgentEntry("timed", "Timed", TimedAgent(client.turns_s))}
    statuses: list[int] = []
    async with running_api(direct_way, store=store, agents=timed) as api, trio.open_nursery() as nursery:
        session_id = (await api.create(agentId="timed"))["sessionId"]
        for n in range(sends):
            nursery.start_soon(send, api, session_id, client.transport, statuses)
            if n % client.burst == client.burst - 1:
                await trio.sleep(client.gap_s)
    return statuses


async def send(api: Api, session_id: str, transport: Transport, statuses: list[int]) -> None:
    """One message, asked again as soon as the limits let it in."""
    while True:
        answer = await SEND(api, session_id, body={"content": "hello", "transport": transport})
        statuses.append(answer.status)
        if answer.status != 429:
            return
        await trio.sleep(int(answer.headers["Retry-After"]))


clients = st.builds(
    Client,
    burst=st.integers(1, 70),
    gap_s=st.sampled_from([0.0, 0.01, 0.9, 1.0, 7.5, 59.9, 60.0]),
    transport=st.sampled_from(["websocket", "http", "sse"]),
    turns_s=st.lists(st.floats(0, 0.999), min_size=1, max_size=5),
    commit_s=st.sampled_from([0.0, 0.001, 0.2]),
)


@examples(15)
@given(clients)
def test_a_client_inside_the_default_limits_is_never_told_that_its_session_is_overloaded(
    client: Client,
) -> None:
    statuses = trio.run(answers_of, client, 250, clock=MockClock(autojump_threshold=0))
    assert set(statuses) <= {201, 429}
    assert statuses.count(201) == 250


async def test_forty_quick_messages_to_an_echo_are_all_taken_and_answered(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create(agentId="agent-123"))["sessionId"]
    statuses: list[int] = []
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(send, api, session_id, "websocket", statuses)
    assert statuses == [201] * 40
    await trio.sleep(1)
    page = (await HISTORY(api, session_id, "?limit=100")).json["messages"]
    assert sum(message["isAgent"] for message in page) == 40


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_sixty_of_the_longest_messages_at_once_are_all_answered(
    transport: Transport, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    async with running_api(direct_way, store=store) as api, trio.open_nursery() as nursery:
        session_id = (await api.create(agentId="agent-123"))["sessionId"]
        body = {"content": "😀" * CHARACTERS_MAX, "transport": transport}

        async def ask() -> None:
            answer = await SEND(api, session_id, body=body)
            assert answer.status == 201
            assert b"gentResponse" in answer.content

        with store.held():
            for _ in range(60):
                nursery.start_soon(ask)
            await trio.sleep(0.1)


async def test_turns_that_wait_far_behind_are_asked_in_order_and_see_what_was_said_before(
    autojump_clock: MockClock,
) -> None:
    agent = Noting()
    agents = {**AGENTS, "noting": AgentEntry("noting", "Noting", agent)}
    async with running_api(direct_way, agents=agents) as api:
        session_id = (await api.create(agentId="noting"))["sessionId"]
        for n in range(HELD_MAX * 3):
            await SEND(api, session_id, body={"content": str(n)})
        agent.go.set()
        await trio.sleep(1)
    assert agent.asked == [str(n) for n in range(HELD_MAX * 3)]
    assert agent.looked_back[40] == ["re: 39", "re: 38", "re: 37", "re: 36", "re: 35"]
    assert agent.looked_back[0] == []


class Noting:
    """Waits until it is let, and notes what it is asked and what it is told of before."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.asked: list[str] = []
        self.looked_back: list[list[str]] = []

    async def reply(self, turn: Turn) -> Reply:
        await self.go.wait()
        self.asked.append(turn.message.content)
        self.looked_back.append([message.content for message in await turn.history(5)])
        return Reply(f"re: {turn.message.content}")
