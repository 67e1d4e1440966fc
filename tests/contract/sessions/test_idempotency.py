"""Spec section 4, idempotency keys: what is done with one is done once."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import FaultyStore
from tests.harness import OWNER, START_MS, Answer, Api
from vigil.actors.core.quotas import Limit

CREATE = {"agentId": "silent", "userId": "user-456"}
DAY_S = 24 * 60 * 60
OTHER = "other-key-0123456789"
MANY = Limit(100_000, 60)


async def create(api: Api, key: str | None = "k-1", credential: str = OWNER, **fields: Any) -> Answer:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.request("POST", "", CREATE | fields, credential=credential, headers=headers)


async def send(api: Api, session_id: str, content: str = "hello", key: str = "k-1") -> Answer:
    headers = {"Idempotency-Key": key}
    return await api.request("POST", f"/{session_id}/messages", {"content": content}, headers=headers)


async def new_session(api: Api, **config: Any) -> str:
    return str((await api.create(timeoutConfig=config))["sessionId"])


async def long_session(api: Api) -> str:
    return await new_session(api, timeoutMinutes=1440, maxDurationMinutes=4320, autoRenew=False)


async def sent(api: Api, session_id: str) -> int:
    return len((await api.request("GET", f"/{session_id}/messages")).json["messages"])


async def total(api: Api) -> int:
    return int((await api.request("GET", "?status=all")).json["total"])


# --- the same key with the same body


async def test_a_repeated_create_gives_the_same_201_token_and_all(
    api: Api, autojump_clock: MockClock
) -> None:
    first = await create(api)
    await trio.sleep(60)
    await api.request("POST", f"/{first.json['sessionId']}/renew")
    again = await create(api)
    assert (first.status, again.status) == (201, 201)
    assert again.content == first.content
    assert again.json["sessionToken"]
    assert await total(api) == 1


async def test_a_repeated_send_gives_the_same_201_and_stores_nothing(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await new_session(api)
    first = await send(api, session_id)
    await trio.sleep(60)
    again = await send(api, session_id)
    assert (first.status, again.status) == (201, 201)
    assert again.content == first.content
    assert await sent(api, session_id) == 1


async def test_a_repeat_is_the_same_even_when_the_commit_took_long(
    api: Api, autojump_clock: MockClock
) -> None:
    """The warning comes between the message's instant and the end of its commit."""
    store = FaultyStore()
    await api.restart(store=store)
    session_id = await new_session(api, timeoutMinutes=5, warningThresholdMinutes=1, autoRenew=False)
    await trio.sleep(239)
    store.delay_s = 2
    first = await send(api, session_id)
    assert first.json["sessionStatus"]["isNearExpiration"] is False
    assert (await send(api, session_id)).content == first.content


async def test_without_a_key_the_same_request_is_done_twice(api: Api, autojump_clock: MockClock) -> None:
    assert (await create(api, key=None)).json["sessionId"] != (await create(api, key=None)).json["sessionId"]
    assert await total(api) == 2


async def test_another_key_is_another_request(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    await send(api, session_id, key="k-1")
    await send(api, session_id, key="k-2")
    assert await sent(api, session_id) == 2


async def test_a_repeat_is_no_activity(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    await send(api, session_id)
    before = await api.get(session_id)
    await trio.sleep(60)
    await send(api, session_id)
    assert await api.get(session_id) == before | {"timeRemaining": 29 * 60_000}


async def test_a_repeat_counts_for_the_limits(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    rates = [(await send(api, session_id)).headers["RateLimit"] for _ in range(2)]
    assert rates == [
        f'"session";r={59 - n};t=60, "user";r={998 - n};t=3600, "agent";r={4998 - n};t=3600' for n in (0, 1)
    ]
    assert (await create(api)).headers["RateLimit"].startswith('"user";r=996;')
    assert (await create(api)).headers["RateLimit"].startswith('"user";r=995;')


async def test_keys_survive_a_crash(api: Api, autojump_clock: MockClock) -> None:
    first = await create(api)
    session_id = first.json["sessionId"]
    message = await send(api, session_id)
    await api.restart(crash=True)
    assert (await create(api)).content == first.content
    assert (await send(api, session_id)).content == message.content
    assert (await total(api), await sent(api, session_id)) == (1, 1)


# --- another body, another owner


async def test_another_body_is_422_and_does_nothing(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await create(api)).json["sessionId"]
    await send(api, session_id)
    for answer in (await create(api, userId="somebody"), await send(api, session_id, "other")):
        assert (answer.status, answer.code) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (await total(api), await sent(api, session_id)) == (1, 1)


async def test_the_raw_body_counts_not_what_it_means(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    statuses = [
        (await api.request("POST", f"/{session_id}/messages", headers=headers, content=body)).status
        for body in (b'{"content": "a"}', b'{"content":"a"}')
    ]
    assert statuses == [201, 422]


async def test_keys_for_send_are_per_session(api: Api, autojump_clock: MockClock) -> None:
    one, other = await new_session(api), await new_session(api)
    assert (await send(api, one, "for one")).status == 201
    assert (await send(api, other, "for other")).status == 201


async def test_keys_for_create_are_per_api_key_and_apart_from_those_for_send(
    api: Api, autojump_clock: MockClock
) -> None:
    mine, theirs = await create(api), await create(api, credential=OTHER)
    assert mine.json["sessionId"] != theirs.json["sessionId"]
    assert (await send(api, mine.json["sessionId"])).status == 201
    assert (await create(api, credential=OTHER)).content == theirs.content


# --- how long


async def test_a_key_of_send_lasts_24_hours(api: Api, autojump_clock: MockClock) -> None:
    session_id = await long_session(api)
    first = await send(api, session_id)
    await api.request("POST", f"/{session_id}/heartbeat")
    await trio.sleep(DAY_S / 2)
    await api.request("POST", f"/{session_id}/renew")
    await trio.sleep(DAY_S / 2 - 0.001)
    assert (await send(api, session_id)).content == first.content
    await trio.sleep(0.001)
    again = await send(api, session_id)
    assert (again.status, again.json["id"] == first.json["id"]) == (201, False)
    assert (await send(api, session_id)).content == again.content
    assert await sent(api, session_id) == 2


async def test_a_key_of_create_lasts_24_hours(api: Api, autojump_clock: MockClock) -> None:
    config = {"timeoutMinutes": 1440, "maxDurationMinutes": 4320}
    first = await create(api, timeoutConfig=config)
    await trio.sleep(DAY_S / 2)
    await api.request("POST", f"/{first.json['sessionId']}/renew")
    await trio.sleep(DAY_S / 2 - 0.001)
    assert (await create(api, timeoutConfig=config)).content == first.content
    await trio.sleep(0.001)
    assert (await create(api, timeoutConfig=config)).json["sessionId"] != first.json["sessionId"]


@pytest.mark.parametrize("ends_by", ["DELETE", "expiry"])
async def test_a_key_lasts_no_longer_than_its_session(
    api: Api, autojump_clock: MockClock, ends_by: str
) -> None:
    first = (await create(api)).json["sessionId"]
    if ends_by == "DELETE":
        await api.request("DELETE", f"/{first}")
    else:
        await trio.sleep(31 * 60)
    again = await create(api, userId="another-body-is-fine-too")
    assert (again.status, again.json["sessionId"] == first) == (201, False)
    assert (await send(api, first)).status == (404 if ends_by == "DELETE" else 410)


# --- in flight


async def race(store: FaultyStore, *asks: Callable[[], Awaitable[Answer]]) -> list[Answer]:
    """All of them in this order while commits are held up. Those that were answered meanwhile come first."""
    answers: list[Answer] = []

    async def one(ask: Callable[[], Awaitable[Answer]]) -> None:
        answers.append(await ask())

    async with trio.open_nursery() as nursery:
        with store.held():
            for ask in asks:
                nursery.start_soon(one, ask)
                await wait_all_tasks_blocked()
    return answers


async def test_a_key_is_in_flight_until_its_commit(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = await new_session(api)
    for ask, other in (
        (partial(create, api), partial(create, api, userId="another")),
        (partial(send, api, session_id), partial(send, api, session_id, "another")),
    ):
        repeat, another, first = await race(store, ask, ask, other)
        assert [first.status, repeat.status, another.status] == [201, 409, 409]
        assert (repeat.code, another.code) == ("IDEMPOTENCY_CONFLICT", "IDEMPOTENCY_CONFLICT")
        assert "RateLimit" in repeat.headers
        assert (await ask()).content == first.content
    assert (await total(api), await sent(api, session_id)) == (2, 1)


async def test_a_failure_frees_the_key(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = await new_session(api)
    store.failing = True
    assert [(await create(api)).status, (await send(api, session_id)).status] == [503, 503]
    store.failing = False
    assert [(await create(api)).status, (await send(api, session_id)).status] == [201, 201]
    assert (await total(api), await sent(api, session_id)) == (2, 1)


async def test_a_refused_request_leaves_its_key_free_for_another_body(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await new_session(api)
    assert (await send(api, session_id, "")).status == 400
    assert (await send(api, session_id, "better")).status == 201
    assert (await create(api, agentId="nobody")).status == 404
    assert (await create(api)).status == 201


async def test_a_repeat_is_answered_at_the_session_cap_too(api: Api, autojump_clock: MockClock) -> None:
    await api.restart(rules=api.plan.rules._replace(session_max=1))
    first = await create(api)
    assert (await create(api)).content == first.content
    refused = await create(api, key="k-2")
    assert (refused.status, refused.code) == (503, "OVERLOADED")
    assert int(refused.headers["Retry-After"]) > 0
    await api.request("DELETE", f"/{first.json['sessionId']}")
    assert (await create(api, key="k-2")).status == 201


# --- the key itself


@pytest.mark.parametrize("key", ["k", "~" * 255, "!"])
async def test_a_key_is_1_to_255_visible_ascii_characters(
    api: Api, autojump_clock: MockClock, key: str
) -> None:
    assert (await create(api, key=key)).status == 201


@pytest.mark.parametrize("key", ["", "~" * 256, "a b", "\u00e9", "a\tb"])
async def test_any_other_key_is_400(api: Api, autojump_clock: MockClock, key: str) -> None:
    answer = await create(api, key=key)
    assert (answer.status, answer.code) == (400, "VALIDATION_ERROR")
    assert await total(api) == 0


async def test_other_operations_ignore_a_key(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    headers = {"Idempotency-Key": "k-1"}
    counts = [
        (await api.request("POST", f"/{session_id}/renew", headers=headers)).json["renewalCount"]
        for _ in "ab"
    ]
    assert (counts, api.now) == ([1, 2], START_MS)
