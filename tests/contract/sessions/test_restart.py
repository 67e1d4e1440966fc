"""Spec section 10, restart: what a crash leaves, what falls due at start, what becomes of the agent's turns."""

from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore, PatientAgent, entry
from tests.harness import AGENTS, Api
from vigil.actors.agents.base import AgentEntry, Reply, Turn
from vigil.actors.runtime.clock import ScaledClock

MIN_S = 60


async def send(api: Api, session_id: str, content: str = "hello") -> int:
    return (await api.request("POST", f"/{session_id}/messages", {"content": content})).status


async def contents(api: Api, session_id: str) -> list[str]:
    """Everything that was said, oldest first."""
    page = (await api.request("GET", f"/{session_id}/messages?limit=100")).json
    return [message["content"] for message in page["messages"]][::-1]


async def status(api: Api, session_id: str) -> int:
    return (await api.request("GET", f"/{session_id}")).status


async def down_for(api: Api, seconds: float) -> None:
    """Crash, stay away, come back."""
    await api.crash()
    await trio.sleep(seconds)
    api.plan = replace(api.plan, clock=ScaledClock(api.now))
    await api.start()


# --- everything acknowledged


@pytest.mark.parametrize("crash", [True, False])
async def test_everything_acknowledged_is_there_after_a_restart(
    api: Api, autojump_clock: MockClock, crash: bool
) -> None:
    session_id = (await api.create(metadata={"k": "v"}))["sessionId"]
    ended = (await api.create())["sessionId"]
    await trio.sleep(MIN_S)
    assert await send(api, session_id, "one") == 201
    await api.request("POST", f"/{session_id}/renew")
    await api.request("PATCH", f"/{session_id}/timeout", {"timeoutMinutes": 50, "autoRenew": False})
    await trio.sleep(MIN_S)
    await api.request("POST", f"/{session_id}/heartbeat")
    await api.request("DELETE", f"/{ended}")
    before = await api.get(session_id)
    messages = (await api.request("GET", f"/{session_id}/messages")).content
    await api.restart(crash=crash)
    assert await api.get(session_id) == before
    assert (await api.request("GET", f"/{session_id}/messages")).content == messages
    assert await status(api, ended) == 404
    assert (await api.request("GET", "?status=all")).json["total"] == 1


async def test_a_session_token_is_good_after_a_restart(api: Api, autojump_clock: MockClock) -> None:
    made = await api.create()
    await api.restart(crash=True)
    answer = await api.request("GET", f"/{made['sessionId']}", credential=made["sessionToken"])
    assert answer.status == 200


async def test_timestamps_go_on_after_a_restart(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await api.create())["sessionId"]
    for n in range(5):
        await send(api, session_id, str(n))
    await api.restart(crash=True)
    await send(api, session_id, "5")
    assert await contents(api, session_id) == list("012345")


async def test_new_sessions_after_a_restart_are_apart_from_the_old_ones(
    api: Api, autojump_clock: MockClock
) -> None:
    old = (await api.create())["sessionId"]
    await send(api, old, "old")
    await api.restart(crash=True)
    new = (await api.create(userId="new"))["sessionId"]
    await send(api, new, "new")
    assert (await contents(api, old), await contents(api, new)) == (["old"], ["new"])


async def test_an_expired_session_is_410_after_a_restart_for_the_rest_of_its_time(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create())["sessionId"]
    await trio.sleep(40 * MIN_S)
    first = await api.request("GET", f"/{session_id}")
    await api.restart(crash=True)
    again = await api.request("GET", f"/{session_id}")
    assert (again.status, again.content) == (410, first.content)
    listed = (await api.request("GET", "?status=expired")).json["sessions"]
    assert [(one["sessionId"], one["status"]) for one in listed] == [(session_id, "expired")]
    await trio.sleep((30 + 1440 - 40) * MIN_S - 0.001)
    assert await status(api, session_id) == 410
    await trio.sleep(0.001)
    assert await status(api, session_id) == 404


async def test_a_forgotten_tombstone_does_not_come_back(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await api.create())["sessionId"]
    await trio.sleep((30 + 1440 + 2) * MIN_S)
    await api.restart(crash=True)
    assert await status(api, session_id) == 404
    assert (await api.plan.store.start(api.plan.clock.anchor)).tombstones == []


async def test_what_was_not_acknowledged_is_not_there(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = (await api.create())["sessionId"]
    store.failing = True
    assert await send(api, session_id) == 503
    store.failing = False
    await api.restart(crash=True)
    assert await contents(api, session_id) == []


# --- timers


async def test_timers_go_on_over_a_restart_to_their_exact_instants(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create())["sessionId"]
    await trio.sleep(10 * MIN_S)
    await down_for(api, 10 * MIN_S)
    assert (await api.get(session_id))["timeRemaining"] == 10 * 60_000
    await trio.sleep(10 * MIN_S - 0.001)
    assert await status(api, session_id) == 200
    await trio.sleep(0.001)
    assert await status(api, session_id) == 410


async def test_what_fell_due_while_the_server_was_down_fires_at_once_at_start(
    api: Api, autojump_clock: MockClock
) -> None:
    expired = (await api.create())["sessionId"]
    warned = (await api.create(timeoutConfig={"timeoutMinutes": 60, "warningThresholdMinutes": 20}))[
        "sessionId"
    ]
    await send(api, expired, "the secret")
    await down_for(api, 45 * MIN_S)
    began = trio.current_time()
    await wait_all_tasks_blocked()
    health = (await api.request("GET", "/health")).json
    assert (health["activeSessions"], health["expiringSoon"]) == (1, 1)
    answer = await api.request("GET", f"/{expired}")
    assert answer.status == 410
    assert answer.json["details"]["expiresAt"] == "2026-11-22T09:30:00.000Z"
    assert (await api.get(warned))["isNearExpiration"] is True
    assert trio.current_time() == began
    assert "the secret" not in repr(await api.plan.store.start(api.plan.clock.anchor))


async def test_a_warning_that_fired_is_not_armed_again_by_a_restart(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create())["sessionId"]
    await trio.sleep(26 * MIN_S)
    event_id = api.site.directory.find(session_id).session.event_id
    await api.restart(crash=True)
    await wait_all_tasks_blocked()
    session = api.site.directory.find(session_id).session
    assert (session.warned, session.event_id) == (True, event_id)
    assert (await api.request("GET", "/health")).json["expiringSoon"] == 1


# --- turns (spec section 4)


async def patient(api: Api, agent: Any) -> str:
    await api.restart(agents={**AGENTS, "patient": entry(agent)})
    return str((await api.create(agentId="patient"))["sessionId"])


async def test_a_restart_runs_the_waiting_turns_and_a_started_one_once_more(
    api: Api, autojump_clock: MockClock
) -> None:
    agent = PatientAgent()
    session_id = await patient(api, agent)
    for word in ("started", "waiting", "waiting too"):
        await send(api, session_id, word)
    await wait_all_tasks_blocked()
    assert agent.asked == ["started"]
    await api.restart(crash=True)
    await wait_all_tasks_blocked()
    assert agent.asked == ["started", "started"]
    agent.go.set()
    await wait_all_tasks_blocked()
    assert agent.asked == ["started", "started", "waiting", "waiting too"]
    assert (await contents(api, session_id))[3:] == ["re: started", "re: waiting", "re: waiting too"]


async def test_a_retried_turn_fails_at_the_next_restart_and_the_waiting_ones_run(
    api: Api, autojump_clock: MockClock
) -> None:
    agent = PatientAgent()
    session_id = await patient(api, agent)
    await send(api, session_id, "unlucky")
    await send(api, session_id, "lucky")
    for _ in range(2):
        await wait_all_tasks_blocked()
        await api.restart(crash=True)
    agent.go.set()
    await wait_all_tasks_blocked()
    assert agent.asked == ["unlucky", "unlucky", "lucky"]
    assert await contents(api, session_id) == ["unlucky", "lucky", "re: lucky"]
    assert await send(api, session_id, "again") == 201


async def test_answered_and_failed_turns_do_not_run_again(api: Api, autojump_clock: MockClock) -> None:
    agent = PatientAgent()
    agent.go.set()
    session_id = await patient(api, agent)
    await send(api, session_id, "answered")
    await wait_all_tasks_blocked()
    await api.restart(crash=True)
    await wait_all_tasks_blocked()
    assert agent.asked == ["answered"]
    assert await contents(api, session_id) == ["answered", "re: answered"]


async def test_a_clean_stop_leaves_the_turns_to_the_next_start_too(
    api: Api, autojump_clock: MockClock
) -> None:
    agent = PatientAgent()
    session_id = await patient(api, agent)
    await send(api, session_id)
    await wait_all_tasks_blocked()
    await api.restart()
    agent.go.set()
    await wait_all_tasks_blocked()
    assert await contents(api, session_id) == ["hello", "re: hello"]


@pytest.mark.parametrize(
    "agents", [AGENTS, {**AGENTS, "patient": entry(None)}], ids=["unknown", "without one"]
)
async def test_an_agent_that_is_gone_from_the_catalogue_fails_the_turn(
    api: Api, autojump_clock: MockClock, agents: dict[str, AgentEntry]
) -> None:
    agent = PatientAgent()
    session_id = await patient(api, agent)
    await send(api, session_id)
    await wait_all_tasks_blocked()
    await api.restart(crash=True, agents=agents)
    await wait_all_tasks_blocked()
    assert len(api.site.directory.turns) == 0
    await api.restart(agents={**AGENTS, "patient": entry(agent)})
    agent.go.set()
    await wait_all_tasks_blocked()
    assert await contents(api, session_id) == ["hello"], "a failed turn is not run again"


async def test_a_session_whose_agent_is_gone_lives_on_and_takes_messages(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await patient(api, PatientAgent())
    await api.restart(crash=True, agents=AGENTS)
    assert await send(api, session_id) == 201
    await wait_all_tasks_blocked()
    assert (await contents(api, session_id), len(api.site.directory.turns)) == (["hello"], 0)
    assert (await api.request("POST", "", {"agentId": "patient", "userId": "u"})).code == "AGENT_NOT_FOUND"


async def test_a_turn_whose_session_expired_while_down_is_not_run(
    api: Api, autojump_clock: MockClock
) -> None:
    agent = PatientAgent()
    session_id = await patient(api, agent)
    await send(api, session_id)
    await wait_all_tasks_blocked()
    await down_for(api, 31 * MIN_S)
    await wait_all_tasks_blocked()
    assert (agent.asked, await status(api, session_id)) == (["hello"], 410)
    assert len(api.site.directory.turns) == 0


class HastyAgent:
    """Answers before anything else can run."""

    async def reply(self, turn: Turn) -> Reply:
        return Reply(f"re: {turn.message.content}")


async def test_a_stop_at_any_step_of_a_turn_comes_to_its_end(api: Api, autojump_clock: MockClock) -> None:
    """However far the turn has got, nobody is left waiting for an actor that runs no more."""
    session_id = await patient(api, HastyAgent())
    for steps in range(25):
        await send(api, session_id, str(steps))
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        with trio.fail_after(60):
            await api.restart(agents=api.plan.agents)
    await wait_all_tasks_blocked()
    said = await contents(api, session_id)
    numbers = [str(n) for n in range(25)]
    assert sorted(said) == sorted([*numbers, *(f"re: {n}" for n in numbers)])
