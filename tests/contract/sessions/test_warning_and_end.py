"""The warning, the expiry, and what is left of a session (spec section 3)."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contract.lives import HELLO, at, created, minutes, patch, post
from tests.fakes import FaultyStore
from tests.harness import OWNER, Api
from vigil.actors.runtime.creation import Rules

ON_A_SESSION = (
    ("GET", "", None),
    ("POST", "/messages", HELLO),
    ("GET", "/messages", None),
    ("POST", "/renew", None),
    ("PATCH", "/timeout", {"timeoutMinutes": 60}),
    ("POST", "/heartbeat", None),
)


async def delete(api: Api, session_id: str) -> int:
    return (await api.request("DELETE", f"/{session_id}")).status


async def listed(api: Api, status: str) -> list[tuple[str, str]]:
    answer = await api.request("GET", f"?status={status}")
    return [(entry["sessionId"], entry["status"]) for entry in answer.json["sessions"]]


async def expiring_soon(api: Api) -> int:
    return int((await api.request("GET", "/health")).json["expiringSoon"])


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
