"""A server inside the process comes back after a stop or a crash, with what was committed and nothing else."""

from collections.abc import Awaitable, Callable
from functools import partial

import orjson
import pytest
import trio

from vigil.actors.core.errors import StoreUnavailable
from vigil.actors.stores.base import Write
from vigil.actors.stores.memory import SlowMemoryStore
from vigil.scenarios.virtual.in_process import (
    KEY,
    Disconnected,
    InProcessServer,
    running_in_process,
    virtual_plan,
)
from vigil.server.api.routes import BASE

HEADERS = [("Authorization", f"Bearer {KEY}"), ("Content-Type", "application/json")]


class SlowStore(SlowMemoryStore):
    """Commits after `delay_s`, unless that is `lost` meanwhile."""

    delay_s = 0.0
    lost = False

    async def commit(self, writes: list[Write]) -> None:  # type: ignore[override]
        if self.delay_s:
            await trio.sleep(self.delay_s)
            if self.lost:
                raise StoreUnavailable("the server has crashed")
        await super().commit(writes)


async def create(server: InProcessServer) -> str:
    body = orjson.dumps({"agentId": "agent-123", "userId": "user-456"})
    answer = await server.request("POST", BASE, HEADERS, body)
    assert answer.status == 201, answer
    return str(answer.json()["sessionId"])


async def test_a_crash_keeps_what_was_committed_and_empties_the_windows(autojump_clock: object) -> None:
    async with running_in_process(virtual_plan()) as server:
        session_id = await create(server)
        await server.restart(crash=True, down_s=60)
        answer = await server.request("GET", f"{BASE}/{session_id}", HEADERS)
        assert answer.status == 200
        assert '"user";r=999' in str(answer.header("ratelimit"))


async def test_a_clean_stop_keeps_the_windows(autojump_clock: object) -> None:
    async with running_in_process(virtual_plan()) as server:
        session_id = await create(server)
        await server.restart()
        answer = await server.request("GET", f"{BASE}/{session_id}", HEADERS)
        assert '"user";r=998' in str(answer.header("RateLimit"))


async def test_time_goes_on_while_it_is_down(autojump_clock: object) -> None:
    async with running_in_process(virtual_plan()) as server:
        session_id = await create(server)
        await server.restart(crash=True, down_s=31 * 60)
        assert (await server.request("GET", f"{BASE}/{session_id}", HEADERS)).status == 410


@pytest.mark.parametrize("what", ["create", "heartbeat"])
async def test_a_crash_in_the_middle_of_a_commit_loses_it_and_answers_nothing(
    autojump_clock: object, what: str
) -> None:
    store = SlowStore()
    async with running_in_process(virtual_plan(store=store)) as server, trio.open_nursery() as nursery:
        session_id = await create(server)
        created = (await server.request("GET", f"{BASE}/{session_id}", HEADERS)).json()
        store.delay_s = 10.0

        async def beat() -> None:
            await server.request("POST", f"{BASE}/{session_id}/heartbeat", HEADERS)

        asks: dict[str, Callable[[], Awaitable[object]]] = {
            "create": partial(create, server),
            "heartbeat": beat,
        }

        async def change() -> None:
            with pytest.raises(Disconnected):
                await asks[what]()

        nursery.start_soon(change)
        await trio.sleep(1)
        store.delay_s, store.lost = 0.0, True
        await server.restart(crash=True)
        await trio.sleep(60)
        after = (await server.request("GET", f"{BASE}/{session_id}", HEADERS)).json()
        assert after["lastActivity"] == created["lastActivity"]
        listing = await server.request("GET", BASE, HEADERS)
        assert listing.json()["total"] == 1


async def test_nobody_is_answered_while_it_is_down(autojump_clock: object) -> None:
    async with running_in_process(virtual_plan()) as server:
        await server.crash()
        with pytest.raises(Disconnected):
            await create(server)
        with pytest.raises(Disconnected):
            server.listen(f"{BASE}/x/events")


async def test_events_come_and_a_stop_says_1001(autojump_clock: object) -> None:
    async with running_in_process(virtual_plan()) as server:
        session_id = await create(server)
        async with server.listen(f"{BASE}/{session_id}/events?lastEventId=0", HEADERS) as listener:
            assert listener.answer.status == 101
            assert orjson.loads(await anext(listener))["type"] == "sessionCreated"
            await server.stop()
            assert [frame async for frame in listener] == []
            assert listener.close_code == 1001
