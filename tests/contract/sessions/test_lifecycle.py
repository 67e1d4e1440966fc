"""Spec section 3 as a client sees it."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore
from tests.harness import OWNER, START_MS, Answer, Api
from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.records import TimeoutConfig, TimeoutPatch
from vigil.actors.runtime.creation import Rules
from vigil.server.api.wire_time import iso

MIN = 60_000
HELLO = {"content": "hello"}
SIGNS_OF_LIFE = (("messages", HELLO), ("heartbeat", None))
ON_A_SESSION = (
    ("GET", "", None),
    ("POST", "/messages", HELLO),
    ("GET", "/messages", None),
    ("POST", "/renew", None),
    ("PATCH", "/timeout", {"timeoutMinutes": 60}),
    ("POST", "/heartbeat", None),
)


def at(minutes: float) -> str:
    """So many minutes after the test began, as it is written on the wire."""
    return iso(START_MS + int(minutes * MIN))


async def minutes(count: float) -> None:
    await trio.sleep(count * 60)


def config(timeout: int = 30, auto: bool = True, most: int = 180, warn: int = 5) -> dict[str, Any]:
    return {
        "timeoutMinutes": timeout,
        "autoRenew": auto,
        "maxDurationMinutes": most,
        "warningThresholdMinutes": warn,
    }


async def created(api: Api, **fields: Any) -> str:
    """The id of a new session with this timeout config."""
    return str((await api.create(timeoutConfig=config(**fields)))["sessionId"])


async def post(api: Api, session_id: str, what: str, body: object = None) -> Answer:
    return await api.request("POST", f"/{session_id}/{what}", body)


async def patch(api: Api, session_id: str, **fields: Any) -> Answer:
    return await api.request("PATCH", f"/{session_id}/timeout", fields)


async def delete(api: Api, session_id: str) -> int:
    return (await api.request("DELETE", f"/{session_id}")).status


async def listed(api: Api, status: str) -> list[tuple[str, str]]:
    answer = await api.request("GET", f"?status={status}")
    return [(entry["sessionId"], entry["status"]) for entry in answer.json["sessions"]]


async def expiring_soon(api: Api) -> int:
    return int((await api.request("GET", "/health")).json["expiringSoon"])


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


# --- the warning


async def test_near_expiration_is_more_than_nothing_and_at_most_the_threshold(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api, auto=False)
    await trio.sleep(25 * 60 - 0.001)
    assert (await api.get(session_id))["isNearExpiration"] is False
    assert await expiring_soon(api) == 0
    await trio.sleep(0.001)
    assert (await api.get(session_id))["isNearExpiration"] is True
    assert await expiring_soon(api) == 1
    assert (await api.request("GET")).json["sessions"][0]["isNearExpiration"] is True
    told = (await post(api, session_id, "messages", HELLO)).json["sessionStatus"]
    assert told["isNearExpiration"] is True
    await minutes(5)
    assert await expiring_soon(api) == 0
    assert (await api.request("GET", "?status=expired")).json["sessions"][0]["isNearExpiration"] is False


async def test_a_renewal_takes_a_session_out_of_its_warning_and_arms_the_next(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api)
    await minutes(26)
    assert await expiring_soon(api) == 1
    assert (await post(api, session_id, "renew")).json["isNearExpiration"] is False
    assert await expiring_soon(api) == 0
    await minutes(25)
    assert await expiring_soon(api) == 1


async def test_a_patch_moves_the_warning(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api)
    await minutes(10)
    assert (await patch(api, session_id, warningThresholdMinutes=20)).json["isNearExpiration"] is True
    assert await expiring_soon(api) == 1
    assert (await patch(api, session_id, warningThresholdMinutes=19)).json["isNearExpiration"] is False
    assert await expiring_soon(api) == 0
    await minutes(1)
    assert await expiring_soon(api) == 1
    await patch(api, session_id, timeoutMinutes=60)
    assert await expiring_soon(api) == 0


async def test_a_threshold_above_the_timeout_is_allowed_and_warns_from_the_beginning(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await created(api, timeout=5, warn=60)
    assert (await api.get(session_id))["isNearExpiration"] is True
    assert await expiring_soon(api) == 1
    await delete(api, session_id)
    assert await expiring_soon(api) == 0


# --- the end


@pytest.mark.parametrize(("method", "path", "body"), ON_A_SESSION)
async def test_every_operation_on_an_expired_session_is_410_every_time(
    api: Api, autojump_clock: MockClock, method: str, path: str, body: object
) -> None:
    session_id = await created(api)
    await minutes(10)
    await post(api, session_id, "heartbeat")
    await minutes(90)
    for _ in range(3):
        answer = await api.request(method, f"/{session_id}{path}", body)
        assert (answer.status, answer.code) == (410, "SESSION_EXPIRED")
        assert answer.json["details"] == {
            "sessionId": session_id,
            "expiresAt": at(40),
            "reason": "inactivity",
            "lastActivity": at(10),
            "renewalCount": 1,
        }


async def test_a_tombstone_is_kept_for_its_time_counted_from_the_expiry(
    api: Api, autojump_clock: MockClock
) -> None:
    await api.restart(rules=Rules(tombstone_minutes=20))
    session_id = await created(api)
    await trio.sleep(50 * 60 - 0.001)
    assert (await api.request("GET", f"/{session_id}")).status == 410
    assert await listed(api, "expired") == [(session_id, "expired")]
    await trio.sleep(0.001)
    assert (await api.request("GET", f"/{session_id}")).status == 404
    assert await listed(api, "all") == []
    assert await delete(api, session_id) == 404


async def test_only_so_many_tombstones_are_kept_and_the_oldest_expiry_is_forgotten_first(
    api: Api, autojump_clock: MockClock
) -> None:
    await api.restart(rules=Rules(tombstone_max=2))
    first, second, third = [await created(api, timeout=timeout) for timeout in (20, 10, 30)]
    await minutes(40)
    statuses = [(await api.request("GET", f"/{one}")).status for one in (first, second, third)]
    assert statuses == [410, 404, 410]
    assert await listed(api, "expired") == sorted([(first, "expired"), (third, "expired")])


async def test_deleting_an_expired_session_removes_its_tombstone(api: Api, autojump_clock: MockClock) -> None:
    session_id = await created(api)
    await minutes(30)
    assert await delete(api, session_id) == 200
    assert (await api.request("GET", f"/{session_id}")).status == 404
    assert await delete(api, session_id) == 404
    assert await listed(api, "all") == []
    await api.restart(crash=True)
    assert (await api.request("GET", f"/{session_id}")).status == 404


@pytest.mark.parametrize(("method", "path", "body"), [*ON_A_SESSION, ("DELETE", "", None)])
async def test_after_delete_the_id_is_unknown_at_once(
    api: Api, autojump_clock: MockClock, method: str, path: str, body: object
) -> None:
    session_id = await created(api)
    assert await delete(api, session_id) == 200
    answer = await api.request(method, f"/{session_id}{path}", body)
    assert (answer.status, answer.code) == (404, "SESSION_NOT_FOUND")
    assert await listed(api, "all") == []


async def test_lists_tell_the_living_from_the_expired(api: Api, autojump_clock: MockClock) -> None:
    short, long = await created(api, timeout=5), await created(api, timeout=50)
    await delete(api, await created(api))
    await minutes(5)
    await wait_all_tasks_blocked()
    assert await listed(api, "active") == [(long, "active")]
    assert await listed(api, "expired") == [(short, "expired")]
    assert sorted(await listed(api, "all")) == sorted([(short, "expired"), (long, "active")])
    stats = (await api.request("GET")).json["stats"]
    assert stats == {"totalSessions": 2, "activeSessions": 1, "expiredSessions": 1}


async def test_messages_go_with_their_session_at_the_end_and_at_expiry(
    api: Api, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    ended, expired = await created(api, timeout=60), await created(api, timeout=5)
    for session_id in (ended, expired):
        await post(api, session_id, "messages", {"content": "the secret"})
    keys = [actor.session.key for actor in api.site.directory.actors()]
    assert [len((await store.history(key, None, None, 50)).messages) for key in keys] == [1, 1]
    await delete(api, ended)
    await minutes(5)
    await wait_all_tasks_blocked()
    assert [len((await store.history(key, None, None, 50)).messages) for key in keys] == [0, 0]
    assert (await api.request("GET", f"/{ended}/messages")).status == 404
    assert (await api.request("GET", f"/{expired}/messages")).status == 410
    everything = await store.start(api.plan.clock.anchor)
    assert len(everything.tombstones) == 1
    assert "the secret" not in repr(everything)


async def test_a_read_that_was_under_way_when_its_session_ended_finds_no_empty_history(
    api: Api, autojump_clock: MockClock
) -> None:
    """It is answered as if it had come after the end: 200 without the messages would be a lie."""
    store = FaultyStore()
    await api.restart(store=store)
    session_id = await created(api)
    await post(api, session_id, "messages", HELLO)
    statuses = []

    async def read() -> None:
        statuses.append((await api.request("GET", f"/{session_id}/messages")).status)

    async with trio.open_nursery() as nursery:
        with store.held_reads():
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await delete(api, session_id)
    assert statuses == [404]


async def test_a_command_that_is_taken_up_after_the_expiry_is_410_and_stays_charged(
    api: Api, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = await created(api)
    answers = []

    async def send() -> None:
        answers.append(
            await api.request("POST", f"/{session_id}/messages", HELLO, headers={"Idempotency-Key": "k"})
        )

    async with trio.open_nursery() as nursery:
        with store.held_reads():
            await trio.sleep(30 * 60 - 0.001)
            nursery.start_soon(send)
            await trio.sleep(0.001)
    assert (answers[0].status, answers[0].code) == (410, "SESSION_EXPIRED")
    assert '"session";r=59;t=60' in answers[0].headers["RateLimit"]


async def test_an_expiry_that_cannot_be_committed_is_410_all_the_same(
    api: Api, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = await created(api)
    await minutes(29)
    store.failing = True
    await minutes(2)
    for method, path, body in ON_A_SESSION:
        answer = await api.request(method, f"/{session_id}{path}", body)
        assert (answer.status, answer.json["details"]["expiresAt"]) == (410, at(30))
    store.failing = False
    await trio.sleep(1)
    await wait_all_tasks_blocked()
    assert await listed(api, "expired") == [(session_id, "expired")]


async def test_a_session_token_reads_410_and_then_404_of_its_own_session(
    api: Api, autojump_clock: MockClock
) -> None:
    made = await api.create()
    path = f"/{made['sessionId']}"
    await minutes(30)
    assert (await api.request("GET", path, credential=made["sessionToken"])).status == 410
    await minutes(1440)
    assert (await api.request("GET", path, credential=made["sessionToken"])).status == 404
    assert (await api.request("GET", path, credential=OWNER)).status == 404
