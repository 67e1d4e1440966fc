"""Spec section 10, health and faults, as a client sees them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore
from tests.harness import START_MS, Answer, Api
from vigil.actors.core.commands import Command, Transition
from vigil.actors.core.lifecycle import step
from vigil.actors.core.records import State
from vigil.actors.runtime import actor as session_module
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.stores.base import BrokenRecord, RemoveSession, Snapshot, Write
from vigil.actors.stores.memory import MemoryStore
from vigil.server.ops.health import PROBE_PATIENCE_S


async def health(api: Api) -> Answer:
    return await api.request("GET", "/health")


async def test_the_body_counts_sessions_and_seconds(api: Api, autojump_clock: MockClock) -> None:
    await api.create(timeoutConfig={"timeoutMinutes": 10})
    await api.create()
    await trio.sleep(360.9)
    answer = await health(api)
    assert answer.status == 200
    assert answer.json == {
        "status": "healthy",
        "activeSessions": 2,
        "timestamp": "2026-11-22T09:06:00.900Z",
        "expiringSoon": 1,
        "invalidSessions": 0,
        "uptime": 360,
    }


async def test_uptime_begins_anew_with_a_restart(api: Api, autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    await api.restart()
    await trio.sleep(7)
    assert (await health(api)).json["uptime"] == 7


async def test_ended_and_expired_sessions_are_not_active(api: Api, autojump_clock: MockClock) -> None:
    await api.create(timeoutConfig={"timeoutMinutes": 5})
    ended = await api.create()
    await api.request("DELETE", f"/{ended['sessionId']}")
    await trio.sleep(301)
    body = (await health(api)).json
    assert (body["activeSessions"], body["expiringSoon"]) == (0, 0)


# --- unhealthy: the store


async def test_a_store_that_cannot_commit_is_unhealthy_503_and_comes_back(
    api: Api, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    assert (await health(api)).json["status"] == "healthy"
    store.failing = True
    await trio.sleep(1)
    answer = await health(api)
    assert (answer.status, answer.json["status"]) == (503, "unhealthy")
    assert answer.json["activeSessions"] == 0
    store.failing = False
    await trio.sleep(1)
    assert ((await health(api)).status, (await health(api)).json["status"]) == (200, "healthy")


async def test_a_store_that_hangs_is_unhealthy_after_a_while(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    began = trio.current_time()
    with store.held():
        assert (await health(api)).status == 503
        assert trio.current_time() - began == PROBE_PATIENCE_S
        assert (await health(api)).status == 503
    await wait_all_tasks_blocked()
    assert (await health(api)).status == 200


async def test_a_probe_commits_at_most_once_a_second(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(health, api)
    for _ in range(20):
        await health(api)
        await trio.sleep(0.1)
    assert len(store.commits) == 2
    await trio.sleep(1)
    await health(api)
    assert len(store.commits) == 3


# --- degraded: the event loop


async def with_clock(api: Api, clock: ScaledClock) -> None:
    """Start anew with this clock; a plain restart goes on with one of its own."""
    await api.stop()
    api.plan = replace(api.plan, clock=clock)
    await api.start()


async def test_a_loop_that_lagged_over_250_ms_is_degraded_for_10_s(
    api: Api, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    clock = ScaledClock(START_MS, wall=lambda: START_MS + round((trio.current_time() - began) * 1000))
    await with_clock(api, clock)
    await trio.sleep(1)
    autojump_clock.jump(0.3)
    await trio.sleep(0.05)
    autojump_clock.jump(0.2)
    await trio.sleep(0.2)
    assert (await health(api)).json["status"] == "healthy"
    autojump_clock.jump(0.36)
    await trio.sleep(0.1)
    answer = await health(api)
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    await trio.sleep(9.8)
    assert (await health(api)).json["status"] == "degraded"
    await trio.sleep(0.5)
    assert (await health(api)).json["status"] == "healthy"


# --- degraded: sessions that cannot be served


class StoreWithABrokenRecord(MemoryStore):
    """Holds one record that nobody can read."""

    record = BrokenRecord(77, "11111111-2222-4333-8444-555555555555", "its metadata is not JSON")

    def __init__(self) -> None:
        super().__init__()
        self.is_there = True

    async def start(self, anchor: Any) -> Snapshot:
        snapshot = await super().start(anchor)
        return snapshot._replace(broken=[self.record] if self.is_there else [])

    async def commit(self, writes: Sequence[Write]) -> None:
        await super().commit(writes)
        if RemoveSession(77, None) in writes:
            self.is_there = False


async def test_a_record_that_cannot_be_restored_is_500_on_its_id_alone_until_it_is_deleted(
    api: Api, autojump_clock: MockClock
) -> None:
    await api.restart(store=StoreWithABrokenRecord())
    broken = StoreWithABrokenRecord.record.id
    other = (await api.create())["sessionId"]
    for method, path in (("GET", ""), ("POST", "/heartbeat"), ("POST", "/renew")):
        answer = await api.request(method, f"/{broken}{path}")
        assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
        assert "metadata" not in answer.content.decode(), "no detail leaks"
        assert "RateLimit" not in answer.headers
    body = (await health(api)).json
    assert (body["status"], body["invalidSessions"], body["activeSessions"]) == ("degraded", 1, 1)
    assert (await api.get(other))["status"] == "active"
    assert (await api.request("DELETE", f"/{broken}")).status == 200
    assert (await api.request("GET", f"/{broken}")).status == 404
    assert (await health(api)).json["status"] == "healthy"
    await api.restart(crash=True)
    assert (await api.request("GET", f"/{broken}")).status == 404


Step = Callable[[State, Command, int], Transition]


def crashing(session_id: str) -> Step:
    """`lifecycle.step` with a bug that only this session meets, in heartbeats."""

    def buggy(state: State, command: Command, now: int) -> Transition:
        if state.id == session_id and type(command).__name__ == "Heartbeat":
            raise ZeroDivisionError
        return step(state, command, now)

    return buggy


async def test_an_actor_that_crashes_is_restarted_and_takes_nobody_with_it(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, other = (await api.create())["sessionId"], (await api.create())["sessionId"]
    monkeypatch.setattr(session_module, "step", crashing(session_id))
    before = await api.get(session_id)
    answer = await api.request("POST", f"/{session_id}/heartbeat")
    assert (answer.status, answer.code) == (500, "INTERNAL_ERROR")
    assert list(answer.json["details"]) == ["requestId"]
    assert await api.get(session_id) == before
    assert (await api.request("POST", f"/{session_id}/messages", {"content": "still here"})).status == 201
    assert (await api.request("POST", f"/{other}/heartbeat")).status == 200
    assert (await health(api)).json["status"] == "healthy"


async def test_the_third_crash_within_60_s_quarantines_until_restart(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id, other = (await api.create())["sessionId"], (await api.create())["sessionId"]
    monkeypatch.setattr(session_module, "step", crashing(session_id))
    for _ in range(3):
        await trio.sleep(20)
        assert (await api.request("POST", f"/{session_id}/heartbeat")).status == 500
    assert (await api.request("GET", f"/{session_id}")).status == 500
    body = (await health(api)).json
    assert (body["status"], body["invalidSessions"], body["activeSessions"]) == ("degraded", 1, 1)
    assert (await api.request("GET", "?status=all")).json["total"] == 1
    assert (await api.request("POST", f"/{other}/heartbeat")).status == 200
    monkeypatch.undo()
    assert (await api.request("GET", f"/{session_id}")).status == 500, "until restart"
    await api.restart()
    assert (await api.request("POST", f"/{session_id}/heartbeat")).status == 200
    assert (await health(api)).json["status"] == "healthy"


async def test_three_crashes_over_more_than_60_s_do_not_quarantine(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = (await api.create())["sessionId"]
    monkeypatch.setattr(session_module, "step", crashing(session_id))
    for _ in range(5):
        assert (await api.request("POST", f"/{session_id}/heartbeat")).status == 500
        await trio.sleep(30)
    assert (await api.request("GET", f"/{session_id}")).status == 200


async def test_a_quarantined_session_can_be_deleted(
    api: Api, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = (await api.create())["sessionId"]
    monkeypatch.setattr(session_module, "step", crashing(session_id))
    for _ in range(3):
        await api.request("POST", f"/{session_id}/heartbeat")
    assert (await api.request("DELETE", f"/{session_id}")).status == 200
    assert (await api.request("GET", f"/{session_id}")).status == 404
    assert (await health(api)).json["invalidSessions"] == 0
    await api.restart(crash=True)
    assert (await api.request("GET", f"/{session_id}")).status == 404


# --- time


async def test_every_time_is_session_time_under_a_time_scale(api: Api, autojump_clock: MockClock) -> None:
    await with_clock(api, ScaledClock(START_MS, scale=60))
    session_id = (await api.create())["sessionId"]
    await trio.sleep(10)
    answer = await api.request("POST", f"/{session_id}/renew")
    assert answer.headers["Vigil-Time-Scale"] == "60"
    assert answer.json["expiresAt"] == "2026-11-22T09:40:00.000Z"
    assert '"user";r=998;t=3000' in answer.headers["RateLimit"]
    assert (await health(api)).json["uptime"] == 600
    await trio.sleep(30 - 0.001)
    assert (await api.request("GET", f"/{session_id}")).status == 200
    await trio.sleep(0.001)
    assert (await api.request("GET", f"/{session_id}")).status == 410


async def test_answers_at_the_usual_pace_carry_no_time_scale(api: Api, autojump_clock: MockClock) -> None:
    assert "Vigil-Time-Scale" not in (await health(api)).headers
