"""Spec section 7 as a client sees it: three windows, their headers, their exact waits."""

import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.harness import AGENTS, OWNER, Answer, Api, only
from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.quotas import Limit

POLICY = '"session";q=60;w=60, "user";q=1000;w=3600, "agent";q=5000;w=3600'
POLICY_OF_CREATE = '"user";q=1000;w=3600, "agent";q=5000;w=3600'
ON_A_SESSION = (
    ("GET", "", None),
    ("POST", "/messages", {"content": "hello"}),
    ("GET", "/messages", None),
    ("POST", "/renew", None),
    ("PATCH", "/timeout", {"timeoutMinutes": 60}),
    ("POST", "/heartbeat", None),
    ("DELETE", "", None),
)


def rates(answer: Answer) -> dict[str, tuple[int, int]]:
    """The RateLimit header: (r, t) by scope."""
    found = re.findall(r'"(\w+)";r=(\d+);t=(\d+)', answer.headers.get("RateLimit", ""))
    return {scope: (int(left), int(wait)) for scope, left, wait in found}


async def new_session(api: Api, **fields: Any) -> str:
    return str((await api.create(**fields))["sessionId"])


async def beat(api: Api, session_id: str) -> Answer:
    return await api.request("POST", f"/{session_id}/heartbeat")


async def beats(api: Api, session_id: str, count: int) -> list[int]:
    return [(await beat(api, session_id)).status for _ in range(count)]


# --- the windows


async def test_a_session_has_60_requests_in_any_minute(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    assert await beats(api, session_id, 60) == [200] * 60
    refused = await beat(api, session_id)
    assert (refused.status, refused.code) == (429, "RATE_LIMITED")
    assert refused.json["details"] == {
        "scope": "session",
        "limit": 60,
        "windowSeconds": 60,
        "retryAfterMs": 60_000,
    }
    await trio.sleep(59.999)
    assert (await beat(api, session_id)).status == 429
    await trio.sleep(0.001)
    assert await beats(api, session_id, 61) == [200] * 60 + [429]


async def test_the_window_slides(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    assert await beats(api, session_id, 30) == [200] * 30
    await trio.sleep(40)
    assert await beats(api, session_id, 31) == [200] * 30 + [429]
    await trio.sleep(20)
    assert await beats(api, session_id, 31) == [200] * 30 + [429]
    await trio.sleep(40)
    assert await beats(api, session_id, 31) == [200] * 30 + [429]


@pytest.mark.parametrize(
    ("plan", "scope"), [({"user_limit": Limit(3, 3600)}, "user"), ({"agent_limit": Limit(3, 3600)}, "agent")]
)
async def test_a_users_and_an_agents_requests_add_up_over_sessions(
    api: Api, autojump_clock: MockClock, plan: dict[str, Any], scope: str
) -> None:
    await api.restart(**plan)
    sessions = [await new_session(api), await new_session(api)]
    assert (await beat(api, sessions[0])).status == 200
    for session_id in sessions:
        refused = await beat(api, session_id)
        assert (refused.status, refused.json["details"]["scope"]) == (429, scope)
    stranger = {"userId": "somebody", "agentId": "agent-123"}
    assert (await api.request("POST", "", stranger)).status == 201
    await trio.sleep(3600)
    assert (await api.request("POST", "", {"agentId": "silent", "userId": "user-456"})).status == 201


async def test_all_three_are_charged_or_none(api: Api, autojump_clock: MockClock) -> None:
    await api.restart(session_limit=Limit(2, 60), user_limit=Limit(10, 3600))
    session_id = await new_session(api)
    assert await beats(api, session_id, 5) == [200, 200, 429, 429, 429]
    await trio.sleep(60)
    assert rates(await beat(api, session_id)) == {
        "session": (1, 60),
        "user": (6, 3540),
        "agent": (4996, 3540),
    }


async def test_429_names_the_limit_with_the_longest_wait(api: Api, autojump_clock: MockClock) -> None:
    await api.restart(session_limit=Limit(2, 60), user_limit=Limit(3, 3600), agent_limit=Limit(4, 60))
    session_id = await new_session(api)
    await trio.sleep(1)
    assert await beats(api, session_id, 2) == [200, 200]
    refused = await beat(api, session_id)
    assert refused.json["details"] == {
        "scope": "user",
        "limit": 3,
        "windowSeconds": 3600,
        "retryAfterMs": 3_599_000,
    }
    assert refused.headers["Retry-After"] == "3599"
    assert rates(refused) == {"session": (0, 60), "user": (0, 3599), "agent": (1, 59)}


# --- what counts


@pytest.mark.parametrize(("method", "path", "body"), ON_A_SESSION)
async def test_every_operation_on_a_live_session_counts_once(
    api: Api, autojump_clock: MockClock, method: str, path: str, body: object
) -> None:
    session_id = await new_session(api)
    answer = await api.request(method, f"/{session_id}{path}", body)
    assert answer.headers["RateLimit-Policy"] == POLICY
    assert rates(answer) == {"session": (59, 60), "user": (998, 3600), "agent": (4998, 3600)}


async def test_a_request_that_is_refused_later_counts_too(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api, timeoutConfig={"timeoutMinutes": 30, "maxDurationMinutes": 30})
    path = f"/{session_id}"
    json = {"Content-Type": "application/json"}
    answers = [
        await api.request("POST", f"{path}/messages", {"content": ""}),
        await api.request("GET", f"{path}/messages?limit=0"),
        await api.request("POST", f"{path}/messages", content=b"{", headers=json),
        await api.request("POST", f"{path}/messages", content=b"{}"),
        await api.request("POST", f"{path}/messages", content=b"x" * 300_000, headers=json),
        await api.request("POST", f"{path}/renew"),
    ]
    assert [answer.status for answer in answers] == [400, 400, 400, 415, 413, 422]
    assert [rates(answer)["session"][0] for answer in answers] == [59, 58, 57, 56, 55, 54]


async def test_a_request_that_does_not_get_in_or_finds_no_live_session_counts_for_nothing(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await new_session(api)
    gone = await new_session(api, timeoutConfig={"timeoutMinutes": 5})
    await trio.sleep(300)
    answers = [
        await api.request("GET", f"/{session_id}", credential="nonsense"),
        await api.request("GET", f"/{session_id}", credential=None),
        await api.request("GET", f"/{session_id}", credential=only("sessions:health")),
        await api.request("GET", "/00000000-0000-4000-8000-000000000000"),
        await api.request("GET", f"/{gone}"),
        await api.request("DELETE", f"/{gone}"),
    ]
    assert [answer.status for answer in answers] == [401, 401, 403, 404, 410, 200]
    assert not any(name in answer.headers for answer in answers for name in ("RateLimit", "RateLimit-Policy"))
    assert rates(await beat(api, session_id)) == {
        "session": (59, 60),
        "user": (997, 3300),
        "agent": (4997, 3300),
    }


async def test_a_create_counts_for_the_user_and_the_agent_alone(api: Api, autojump_clock: MockClock) -> None:
    answer = await api.request("POST", "", {"agentId": "silent", "userId": "u"})
    assert answer.headers["RateLimit-Policy"] == POLICY_OF_CREATE
    assert rates(answer) == {"user": (999, 3600), "agent": (4999, 3600)}


async def test_a_create_that_fails_before_429_counts_for_nothing(api: Api, autojump_clock: MockClock) -> None:
    body = {"agentId": "silent", "userId": "u"}
    answers = [
        await api.request("POST", "", body, credential="nonsense"),
        await api.request("POST", "", body, credential=only("sessions:read")),
        await api.request("POST", "", body | {"extra": 1}),
        await api.request("POST", "", body | {"agentId": "nobody"}),
    ]
    assert [answer.status for answer in answers] == [401, 403, 400, 404]
    assert not any("RateLimit" in answer.headers for answer in answers)
    assert rates(await api.request("POST", "", body))["user"] == (999, 3600)


async def test_a_create_that_fails_after_429_counts(api: Api, autojump_clock: MockClock) -> None:
    await api.restart(rules=api.plan.rules._replace(session_max=0))
    answer = await api.request("POST", "", {"agentId": "silent", "userId": "u"})
    assert (answer.status, rates(answer)["user"]) == (503, (999, 3600))


async def test_a_refused_create_is_429_with_its_two_limits(api: Api, autojump_clock: MockClock) -> None:
    await api.restart(user_limit=Limit(1, 3600))
    await new_session(api)
    await trio.sleep(0.5)
    refused = await api.request("POST", "", {"agentId": "silent", "userId": "user-456"})
    assert (refused.status, refused.headers["Retry-After"]) == (429, "3600")
    assert refused.json["details"]["retryAfterMs"] == 3_599_500
    assert refused.headers["RateLimit-Policy"] == '"user";q=1;w=3600, "agent";q=5000;w=3600'
    assert rates(refused) == {"user": (0, 3600), "agent": (4999, 3600)}


async def test_list_and_health_count_for_nothing(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    for path in ("", "/health", "?status=all&userId=user-456"):
        answer = await api.request("GET", path)
        assert "RateLimit" not in answer.headers
        assert "RateLimit-Policy" not in answer.headers
    assert rates(await beat(api, session_id))["user"] == (998, 3600)


async def test_a_session_token_is_counted_like_a_key(api: Api, autojump_clock: MockClock) -> None:
    made = await api.create()
    for credential, left in ((made["sessionToken"], 59), (OWNER, 58)):
        answer = await api.request("GET", f"/{made['sessionId']}", credential=credential)
        assert rates(answer)["session"][0] == left


# --- the headers


async def test_t_is_the_whole_seconds_until_r_grows(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    await trio.sleep(10.5)
    await beat(api, session_id)
    await trio.sleep(10.25)
    told = rates(await beat(api, session_id))
    assert told == {"session": (58, 50), "user": (997, 3580), "agent": (4997, 3580)}
    await trio.sleep(49.749)  # one millisecond before the first one leaves the window
    assert rates(await beat(api, session_id))["session"] == (57, 1)
    await trio.sleep(0.001)
    assert rates(await beat(api, session_id))["session"][0] == 57


@pytest.mark.parametrize("early_ms", [0, 1, 400, 999])
async def test_retry_after_is_the_first_whole_second_at_which_the_request_is_admitted(
    api: Api, autojump_clock: MockClock, early_ms: int
) -> None:
    session_id = await new_session(api)
    assert (await beat(api, session_id)).status == 200
    await trio.sleep(7 + early_ms / 1000)
    assert await beats(api, session_id, 59) == [200] * 59
    refused = await beat(api, session_id)
    wait_s = int(refused.headers["Retry-After"])
    assert refused.json["details"]["retryAfterMs"] == 53_000 - early_ms
    assert wait_s == 53
    assert rates(refused)["session"] == (0, wait_s)
    await trio.sleep(wait_s - 1)
    assert (await beat(api, session_id)).status == 429
    await trio.sleep(1)
    assert (await beat(api, session_id)).status == 200


async def test_a_polite_client_is_not_starved_by_its_refusals(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    await beats(api, session_id, 60)
    for _ in range(59):
        await trio.sleep(1)
        refused = await beat(api, session_id)
        assert refused.status == 429
    assert refused.headers["Retry-After"] == "1"
    await trio.sleep(1)
    assert (await beat(api, session_id)).status == 200


# --- settings and restarts


async def test_an_agent_may_override_its_session_and_agent_limits(
    api: Api, autojump_clock: MockClock
) -> None:
    strict = AgentEntry("strict", "Strict", None, session_limit=Limit(2, 1), agent_limit=Limit(4, 60))
    await api.restart(agents={**AGENTS, "strict": strict})
    session_id = await new_session(api, agentId="strict")
    answer = await beat(api, session_id)
    assert answer.headers["RateLimit-Policy"] == '"session";q=2;w=1, "user";q=1000;w=3600, "agent";q=4;w=60'
    assert await beats(api, session_id, 2) == [200, 429]
    await trio.sleep(1)
    assert await beats(api, session_id, 2) == [200, 429]
    assert (await beat(api, await new_session(api))).headers["RateLimit-Policy"] == POLICY


@pytest.mark.parametrize(("crash", "left"), [(False, 57), (True, 59)])
async def test_windows_survive_a_clean_stop_and_not_a_crash(
    api: Api, autojump_clock: MockClock, crash: bool, left: int
) -> None:
    session_id = await new_session(api)
    await beats(api, session_id, 2)
    await api.restart(crash=crash)
    told = rates(await beat(api, session_id))
    assert told == {
        "session": (left, 60),
        "user": (left + 939 + crash, 3600),
        "agent": (left + 4939 + crash, 3600),
    }


async def test_saved_windows_are_used_once(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    await beats(api, session_id, 2)
    await api.restart()
    await api.restart(crash=True)
    assert rates(await beat(api, session_id))["session"] == (59, 60)
