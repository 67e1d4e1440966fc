"""When a session expires: activity, renewals and changes of its config (spec section 3)."""

import pytest
import trio
from trio.testing import MockClock

from tests.contract.lives import HELLO, MIN, at, config, created, minutes, patch, post
from tests.harness import Api
from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.records import TimeoutConfig, TimeoutPatch
from vigil.actors.runtime.creation import Rules

SIGNS_OF_LIFE = (("messages", HELLO), ("heartbeat", None))


# --- the formula and the config


@pytest.mark.parametrize(
    ("timeout", "most", "expected"), [(30, 180, 30), (30, 29, 29), (5, 1, 1), (1440, 4320, 1440)]
)
async def test_a_session_expires_after_its_timeout_or_at_its_cap_whichever_is_first(
    api: Api, autojump_clock: MockClock, timeout: int, most: int, expected: int
) -> None:
    session_id = await created(api, timeout=timeout, most=most)
    session = await api.get(session_id)
    assert (session["expiresAt"], session["maxExpiresAt"]) == (at(expected), at(most))
    assert session["timeRemaining"] == expected * MIN
    await trio.sleep(expected * 60 - 0.001)
    assert (await api.get(session_id))["timeRemaining"] == 1
    await trio.sleep(0.001)
    answer = await api.request("GET", f"/{session_id}")
    assert (answer.status, answer.code) == (410, "SESSION_EXPIRED")
    assert answer.json["details"] == {
        "sessionId": session_id,
        "expiresAt": at(expected),
        "reason": "max_duration" if expected == most else "inactivity",
        "lastActivity": at(0),
        "renewalCount": 0,
    }


async def test_a_new_session_was_active_and_renewed_when_it_was_created(
    api: Api, autojump_clock: MockClock
) -> None:
    made = await api.create()
    assert (made["createdAt"], made["expiresAt"], made["renewalCount"]) == (at(0), at(30), 0)
    assert (made["status"], made["timeoutConfig"]) == ("active", config())
    assert (await api.get(made["sessionId"]))["lastActivity"] == at(0)


async def test_config_resolves_from_defaults_over_the_agents_to_the_requests_field_by_field(
    api: Api, autojump_clock: MockClock
) -> None:
    own = AgentEntry("silent", "Silent", None, TimeoutPatch(timeout_minutes=60, auto_renew=False))
    await api.restart(agents={"silent": own}, rules=Rules(defaults=TimeoutConfig(20, True, 90, 3)))
    assert (await api.create())["timeoutConfig"] == config(60, False, 90, 3)
    wants = {"timeoutMinutes": 10, "warningThresholdMinutes": 1}
    assert (await api.create(timeoutConfig=wants))["timeoutConfig"] == config(10, False, 90, 1)
    assert (await api.create(timeoutConfig={"autoRenew": True}))["timeoutConfig"] == config(60, True, 90, 3)


async def test_config_resolves_once_at_creation(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await api.create())["sessionId"]
    own = AgentEntry("silent", "Silent", None, TimeoutPatch(timeout_minutes=60))
    await api.restart(agents={"silent": own}, rules=Rules(defaults=TimeoutConfig(20, False, 90, 3)))
    assert (await patch(api, session_id, warningThresholdMinutes=4)).json["timeoutConfig"] == config(warn=4)


# --- activity


@pytest.mark.parametrize(("what", "body"), SIGNS_OF_LIFE)
async def test_activity_renews_a_session_with_auto_renew(
    api: Api, autojump_clock: MockClock, what: str, body: object
) -> None:
    session_id = await created(api)
    await minutes(10)
    status = (await post(api, session_id, what, body)).json
    told = status["sessionStatus"] if what == "messages" else status
    assert (told["expiresAt"], told["renewalCount"], told["isNearExpiration"]) == (at(40), 1, False)
    assert told.get("wasRenewed", True) is True
    session = await api.get(session_id)
    assert (session["lastActivity"], session["expiresAt"], session["renewalCount"]) == (at(10), at(40), 1)
    await minutes(29)
    assert (await api.get(session_id))["timeRemaining"] == MIN


@pytest.mark.parametrize(("what", "body"), SIGNS_OF_LIFE)
async def test_activity_without_auto_renew_leaves_the_deadline_alone(
    api: Api, autojump_clock: MockClock, what: str, body: object
) -> None:
    session_id = await created(api, auto=False)
    await minutes(10)
    status = (await post(api, session_id, what, body)).json
    assert status.get("sessionStatus", {"wasRenewed": False})["wasRenewed"] is False
    session = await api.get(session_id)
    assert (session["lastActivity"], session["expiresAt"], session["renewalCount"]) == (at(10), at(30), 0)


@pytest.mark.parametrize(("what", "body"), SIGNS_OF_LIFE)
async def test_activity_at_the_cap_counts_no_renewal_but_is_remembered(
    api: Api, autojump_clock: MockClock, what: str, body: object
) -> None:
    session_id = await created(api, timeout=30, most=30)
    await minutes(10)
    status = (await post(api, session_id, what, body)).json
    assert status.get("sessionStatus", {"wasRenewed": False})["wasRenewed"] is False
    session = await api.get(session_id)
    assert (session["lastActivity"], session["expiresAt"], session["renewalCount"]) == (at(10), at(30), 0)
    raised = (await patch(api, session_id, maxDurationMinutes=180)).json
    assert raised["expiresAt"] == at(40), "renewedAt was set at the cap too"


async def test_the_renewal_that_reaches_the_cap_counts_and_the_next_does_not(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api, timeout=30, most=40)
    counts = []
    for _ in range(3):
        await minutes(10)
        counts.append((await post(api, session_id, "heartbeat")).json["renewalCount"])
    assert counts == [1, 1, 1]
    assert (await api.get(session_id))["expiresAt"] == at(40)


async def test_renew_and_patch_are_not_activity(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api)
    await minutes(10)
    assert (await post(api, session_id, "renew")).json["lastActivity"] == at(0)
    assert (await patch(api, session_id, timeoutMinutes=60)).json["lastActivity"] == at(0)


# --- renew


@pytest.mark.parametrize("auto", [True, False])
async def test_renew_counts_and_starts_the_timeout_anew_whatever_auto_renew_says(
    api: Api, autojump_clock: MockClock, auto: bool
) -> None:
    session_id = await created(api, auto=auto)
    await minutes(10)
    renewed = (await post(api, session_id, "renew")).json
    assert (renewed["expiresAt"], renewed["renewalCount"], renewed["timeRemaining"]) == (at(40), 1, 30 * MIN)
    assert await api.get(session_id) == renewed


async def test_renew_at_the_cap_is_refused_with_its_reason_and_changes_nothing(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api, timeout=30, most=30)
    await minutes(10)
    before = await api.get(session_id)
    answer = await post(api, session_id, "renew")
    assert (answer.status, answer.code) == (422, "SESSION_RENEWAL_FAILED")
    assert answer.json["details"]["reason"] == "max_duration"
    assert await api.get(session_id) == before
    assert (await patch(api, session_id, maxDurationMinutes=60)).json["expiresAt"] == at(30)


# --- patch


async def test_a_patch_merges_over_the_sessions_own_config(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api, timeout=40, auto=False, most=100, warn=7)
    first = (await patch(api, session_id, timeoutMinutes=50)).json
    assert (first["timeoutConfig"], first["expiresAt"]) == (config(50, False, 100, 7), at(50))
    second = (await patch(api, session_id, maxDurationMinutes=45)).json
    assert (second["timeoutConfig"], second["expiresAt"]) == (config(50, False, 45, 7), at(45))
    third = (await patch(api, session_id, warningThresholdMinutes=9, autoRenew=True)).json
    assert third["timeoutConfig"] == config(50, True, 45, 9)
    assert await api.get(session_id) == third


async def test_a_patch_needs_at_least_one_field(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api)
    assert (await patch(api, session_id)).code == "VALIDATION_ERROR"


async def test_a_patch_counts_from_the_last_renewal_and_is_none_itself(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api)
    await minutes(10)
    retimed = (await patch(api, session_id, timeoutMinutes=60)).json
    assert (retimed["expiresAt"], retimed["renewalCount"]) == (at(60), 0)


async def test_turning_auto_renew_on_counts_from_the_last_activity(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api, auto=False)
    await minutes(10)
    await post(api, session_id, "messages", HELLO)
    await minutes(5)
    assert (await patch(api, session_id, autoRenew=True)).json["expiresAt"] == at(40)


async def test_turning_auto_renew_on_never_takes_back_a_renewal(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api, auto=False)
    await minutes(10)
    await post(api, session_id, "renew")
    assert (await patch(api, session_id, autoRenew=True)).json["expiresAt"] == at(40)


@pytest.mark.parametrize(
    "fields", [{"timeoutMinutes": 10}, {"maxDurationMinutes": 10}, {"timeoutMinutes": 5}]
)
async def test_a_change_under_which_the_session_would_be_expired_is_400_and_changes_nothing(
    api: Api, autojump_clock: MockClock, fields: dict[str, int]
) -> None:
    session_id = await created(api)
    await minutes(10)
    before = await api.get(session_id)
    answer = await patch(api, session_id, **fields, warningThresholdMinutes=60)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert await api.get(session_id) == before


async def test_a_shorter_deadline_is_kept_to_the_millisecond(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api)
    await minutes(10)
    await patch(api, session_id, timeoutMinutes=12)
    await trio.sleep(119.999)
    assert (await api.get(session_id))["timeRemaining"] == 1
    await trio.sleep(0.001)
    assert (await api.request("GET", f"/{session_id}")).status == 410
