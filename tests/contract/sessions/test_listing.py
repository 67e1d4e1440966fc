"""The list of sessions (spec section 1): order, filters, pages, counts."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.contract.api.test_endpoints import ENTRY_KEYS
from tests.contract.operations import END, HEARTBEAT, LIST, errors
from tests.harness import Api

HOUR_S = 3600


async def listing(api: Api, query: str = "") -> Any:
    answer = await LIST(api, query=query)
    assert answer.status == 200, answer
    return answer.json


async def ids(api: Api, query: str = "") -> list[str]:
    return [entry["sessionId"] for entry in (await listing(api, query))["sessions"]]


async def new_sessions(api: Api, number: int, **fields: Any) -> list[str]:
    return [(await api.create(**fields))["sessionId"] for _ in range(number)]


async def new_expired_session(api: Api, **fields: Any) -> str:
    """A session that lives no longer than a minute, and that minute."""
    (session_id,) = await new_sessions(api, 1, timeoutConfig={"maxDurationMinutes": 1}, **fields)
    await trio.sleep(60)
    return session_id


async def test_an_empty_service_lists_nothing(api: Api) -> None:
    assert await listing(api) == {
        "sessions": [],
        "total": 0,
        "limit": 50,
        "offset": 0,
        "stats": {"totalSessions": 0, "activeSessions": 0, "expiredSessions": 0},
    }


async def test_the_newest_come_first_and_ties_by_ascending_id(api: Api, autojump_clock: MockClock) -> None:
    oldest = await new_sessions(api, 5)
    await trio.sleep(0.001)
    newest = await new_sessions(api, 5)
    assert await ids(api) == sorted(newest) + sorted(oldest)


async def test_active_and_expired_sessions_stand_in_one_order(api: Api, autojump_clock: MockClock) -> None:
    first = await new_sessions(api, 1)
    await trio.sleep(1)
    expired = await new_expired_session(api)
    last = await new_sessions(api, 1)
    assert await ids(api, "?status=all") == [*last, expired, *first]
    await api.restart()  # which changes nothing
    assert await ids(api, "?status=all") == [*last, expired, *first]


async def test_an_entry_shows_the_session_as_it_stands(api: Api, autojump_clock: MockClock) -> None:
    created = await api.create(metadata={"secret": 1})
    await trio.sleep(60)
    await HEARTBEAT(api, created["sessionId"])
    await trio.sleep(26 * 60)
    (entry,) = (await listing(api))["sessions"]
    assert set(entry) == ENTRY_KEYS
    assert entry == {
        "sessionId": created["sessionId"],
        "agentId": "silent",
        "userId": "user-456",
        "createdAt": "2026-11-22T09:00:00.000Z",
        "expiresAt": "2026-11-22T09:31:00.000Z",
        "timeRemaining": 4 * 60_000,
        "isNearExpiration": True,
        "renewalCount": 1,
        "status": "active",
    }


async def test_an_expired_entry_has_no_time_left_and_is_near_nothing(
    api: Api, autojump_clock: MockClock
) -> None:
    expired = await new_expired_session(api)
    await trio.sleep(HOUR_S)
    (entry,) = (await listing(api, "?status=expired"))["sessions"]
    assert entry == {
        "sessionId": expired,
        "agentId": "silent",
        "userId": "user-456",
        "createdAt": "2026-11-22T09:00:00.000Z",
        "expiresAt": "2026-11-22T09:01:00.000Z",
        "timeRemaining": 0,
        "isNearExpiration": False,
        "renewalCount": 0,
        "status": "expired",
    }


async def test_each_status_lists_its_own_and_active_is_the_default(
    api: Api, autojump_clock: MockClock
) -> None:
    expired = await new_expired_session(api)
    (active,) = await new_sessions(api, 1)
    assert await ids(api) == await ids(api, "?status=active") == [active]
    assert await ids(api, "?status=expired") == [expired]
    assert await ids(api, "?status=all") == [active, expired]


# filter -> how many of: silent/ann active, silent/ann expired, silent/bob active, agent-123/ann active
FILTERS = {
    "": (1, 0, 1, 1),
    "?agentId=silent": (1, 0, 1, 0),
    "?userId=ann": (1, 0, 0, 1),
    "?agentId=silent&userId=ann": (1, 0, 0, 0),
    "?agentId=silent&userId=ann&status=all": (1, 1, 0, 0),
    "?status=expired&userId=ann": (0, 1, 0, 0),
    "?status=expired&userId=bob": (0, 0, 0, 0),
    "?agentId=nobody": (0, 0, 0, 0),
    "?userId=nobody&status=all": (0, 0, 0, 0),
    "?userId=an": (0, 0, 0, 0),
}


@pytest.mark.parametrize("query", FILTERS)
async def test_filters_narrow_sessions_and_total_and_never_the_stats(
    api: Api, autojump_clock: MockClock, query: str
) -> None:
    expired = await new_expired_session(api, userId="ann")
    made = [
        (await new_sessions(api, 1, userId="ann"))[0],
        expired,
        (await new_sessions(api, 1, userId="bob"))[0],
        (await new_sessions(api, 1, userId="ann", agentId="agent-123"))[0],
    ]
    body = await listing(api, query)
    expected = {session_id for session_id, times in zip(made, FILTERS[query], strict=True) if times}
    assert {entry["sessionId"] for entry in body["sessions"]} == expected
    assert body["total"] == len(expected)
    assert body["stats"] == {"totalSessions": 4, "activeSessions": 3, "expiredSessions": 1}


async def test_pages_follow_each_other_and_total_counts_all_of_them(api: Api) -> None:
    await new_sessions(api, 7)
    whole = await ids(api)
    pages = [await listing(api, f"?limit=3&offset={offset}") for offset in (0, 3, 6, 9)]
    assert [entry["sessionId"] for page in pages for entry in page["sessions"]] == whole
    assert [len(page["sessions"]) for page in pages] == [3, 3, 1, 0]
    assert [(page["total"], page["limit"], page["offset"]) for page in pages] == [
        (7, 3, 0),
        (7, 3, 3),
        (7, 3, 6),
        (7, 3, 9),
    ]


async def test_fifty_are_listed_unless_more_are_asked_for(api: Api) -> None:
    await new_sessions(api, 51)
    assert len(await ids(api)) == 50
    assert len(await ids(api, "?limit=1000")) == 51


async def test_ended_sessions_are_nothing_and_expired_ones_count_until_their_tombstone_goes(
    api: Api, autojump_clock: MockClock
) -> None:
    ended, kept = await new_sessions(api, 2)
    await END(api, ended)
    assert await ids(api, "?status=all") == [kept]
    assert (await listing(api))["stats"] == {"totalSessions": 1, "activeSessions": 1, "expiredSessions": 0}
    await trio.sleep(30 * 60 + 24 * HOUR_S - 0.001)
    assert (await listing(api))["stats"] == {"totalSessions": 1, "activeSessions": 0, "expiredSessions": 1}
    await trio.sleep(0.001)
    assert (await listing(api))["stats"] == {"totalSessions": 0, "activeSessions": 0, "expiredSessions": 0}
    assert await ids(api, "?status=all") == []


async def test_a_deleted_tombstone_is_nothing_either(api: Api, autojump_clock: MockClock) -> None:
    expired = await new_expired_session(api)
    await END(api, expired)
    assert (await listing(api, "?status=all"))["stats"]["totalSessions"] == 0


GOOD = ["limit=1", "limit=1000", "limit=007", "offset=0", "offset=10000", "status=active", "userId=x%2Fy"]
BAD = {
    "limit=0": "limit",
    "limit=1001": "limit",
    "limit=-1": "limit",
    "limit=": "limit",
    "limit=ten": "limit",
    "limit=1.0": "limit",
    "limit=%2B5": "limit",
    "limit=%205": "limit",
    "limit=%D9%A5": "limit",  # an Arabic five
    "limit=99999999999999999999999": "limit",
    "offset=-1": "offset",
    "offset=10001": "offset",
    "offset=1e3": "offset",
    "status=": "status",
    "status=ended": "status",
    "status=Active": "status",
    "agentId=": "agentId",
    "agentId=a%20b": "agentId",
    "userId=%00": "userId",
    "userId=" + "u" * 129: "userId",
    "before=5": "before",
    "Limit=5": "Limit",
    "status=all&status=all": "status",
}


@pytest.mark.parametrize("query", GOOD)
async def test_what_a_list_may_be_asked(api: Api, query: str) -> None:
    await listing(api, f"?{query}")


@pytest.mark.parametrize("query", BAD)
async def test_anything_else_is_400_and_says_where(api: Api, query: str) -> None:
    assert list(errors(await LIST(api, query=f"?{query}"))) == [BAD[query]]


@pytest.mark.parametrize("query", ["?userId=%ff", "?userId=%ED%A0%80"])
async def test_a_query_that_is_not_utf_8_is_400(api: Api, query: str) -> None:
    assert errors(await LIST(api, query=query))
