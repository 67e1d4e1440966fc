"""Messages and the pages of their history."""

import random
from collections.abc import Mapping, Sequence
from itertools import product

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.contract.sent import MANY, contents, history, send
from tests.fakes import FaultyStore
from tests.harness import START_MS, Answer, Api

# --- messages


async def test_a_message_is_answered_with_what_was_sent_and_what_it_did(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create())["sessionId"]
    await trio.sleep(1.5)
    answer = await send(api, session_id, "  hi \u2603 ", metadata={"k": [1, {"a": 2.5}]})
    assert answer.status == 201
    sent = answer.json
    assert sent == {
        "id": sent["id"],
        "content": "  hi \u2603 ",
        "authorId": "user-456",
        "createdAt": "2026-11-22T09:00:01.500Z",
        "metadata": {"k": [1, {"a": 2.5}]},
        "sessionStatus": {
            "expiresAt": "2026-11-22T09:30:01.500Z",
            "renewalCount": 1,
            "wasRenewed": True,
            "isNearExpiration": False,
        },
    }
    del sent["sessionStatus"]
    assert (await history(api, session_id))["messages"] == [sent | {"isAgent": False}]


async def test_a_message_carries_attachments_when_it_has_any(api: Api, autojump_clock: MockClock) -> None:
    session_id = (await api.create())["sessionId"]
    file = {
        "type": "image",
        "url": "https://example.com/cat.png",
        "name": "cat.png",
        "size": 3,
        "mimeType": "image/png",
    }
    assert (await send(api, session_id, attachments=[file])).json["attachments"] == [file]
    assert "attachments" not in (await send(api, session_id, attachments=[])).json
    newest, oldest = (await history(api, session_id))["messages"]
    assert oldest["attachments"] == [file]
    assert "attachments" not in newest


async def test_a_session_has_its_own_messages_only(api: Api, autojump_clock: MockClock) -> None:
    one, other = (await api.create())["sessionId"], (await api.create())["sessionId"]
    await send(api, one, "for one")
    assert (await contents(api, one), await contents(api, other)) == (["for one"], [])


async def test_a_burst_in_one_millisecond_gets_unique_increasing_timestamps(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create())["sessionId"]
    answers: list[Answer] = []

    async def burst() -> None:
        answers.append(await send(api, session_id))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(burst)
    assert {answer.status for answer in answers} == {201}
    cursors = (await history(api, session_id, "?limit=50"))["cursors"]
    assert cursors == {"before": START_MS, "after": START_MS + 49}
    assert len({answer.json["createdAt"] for answer in answers}) == 50
    assert (await api.get(session_id))["lastActivity"] == "2026-11-22T09:00:00.000Z"


async def test_a_201_is_sent_after_the_commit(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = (await api.create())["sessionId"]
    answers: list[Answer] = []

    async def one() -> None:
        answers.append(await send(api, session_id))

    async with trio.open_nursery() as nursery:
        with store.held():
            nursery.start_soon(one)
            await trio.sleep(10)
            assert answers == []
            assert await contents(api, session_id) == []
    assert (answers[0].status, await contents(api, session_id)) == (201, ["hello"])


async def test_what_cannot_be_committed_is_503_and_did_not_happen(
    api: Api, autojump_clock: MockClock
) -> None:
    store = FaultyStore()
    await api.restart(store=store)
    session_id = (await api.create())["sessionId"]
    before = await api.get(session_id)
    store.failing = True
    await trio.sleep(60)
    answers = [
        await send(api, session_id),
        await api.request("POST", f"/{session_id}/heartbeat"),
        await api.request("POST", f"/{session_id}/renew"),
        await api.request("PATCH", f"/{session_id}/timeout", {"timeoutMinutes": 60}),
        await api.request("DELETE", f"/{session_id}"),
        await api.request("POST", "", {"agentId": "silent", "userId": "u"}),
    ]
    told = {(answer.status, answer.code, answer.headers["Retry-After"]) for answer in answers}
    assert told == {(503, "STORE_UNAVAILABLE", "1")}
    store.failing = False
    assert await api.get(session_id) == before | {"timeRemaining": 29 * 60_000}
    assert await contents(api, session_id) == []
    assert (await api.request("GET", "?status=all")).json["total"] == 1


async def test_a_full_mailbox_is_503_at_once(api: Api, autojump_clock: MockClock) -> None:
    store = FaultyStore()
    await api.restart(store=store, session_limit=MANY)
    session_id = (await api.create())["sessionId"]
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await send(api, session_id)).status)

    async with trio.open_nursery() as nursery:
        with store.held():
            nursery.start_soon(one)  # is being committed
            await wait_all_tasks_blocked()
            for _ in range(64):  # wait
                nursery.start_soon(one)
            await wait_all_tasks_blocked()
            refused = await send(api, session_id)
            assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "OVERLOADED", "1")
    assert statuses == [201] * 65


# --- history


async def test_walking_by_before_and_by_after_loses_and_repeats_nothing(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await of_numbers(api, 250)
    for size, backwards in product((1, 49, 50, 83, 84, 99, 100), (True, False)):
        assert await walk(api, session_id, size, backwards=backwards) == list(range(250)), size


async def of_numbers(api: Api, size: int) -> str:
    """A session whose messages are 0, 1, 2 ..., some of them sent in the same millisecond."""
    await api.restart(session_limit=MANY)
    session_id = str((await api.create(timeoutConfig={"autoRenew": False}))["sessionId"])
    for n in range(size):
        assert (await send(api, session_id, str(n))).status == 201
        await trio.sleep((n % 3) / 1000)
    return session_id


async def walk(api: Api, session_id: str, size: int, *, backwards: bool) -> list[int]:
    """All messages page by page, oldest first. Looks at every page's order, size and `hasMore` on the way."""
    seen: list[int] = []
    query = "" if backwards else "&after=0"
    while True:
        page = await history(api, session_id, f"?limit={size}{query}")
        numbers = [int(message["content"]) for message in page["messages"]]
        assert numbers == sorted(numbers, reverse=True), "newest first"
        seen += numbers if backwards else numbers[::-1]
        assert page["hasMore"] is (len(seen) < 250)
        if not page["hasMore"]:
            return sorted(seen)
        assert len(numbers) == size
        way = "before" if backwards else "after"
        query = f"&{way}={page['cursors'][way]}"


async def test_every_page_is_what_the_rules_say(api: Api, autojump_clock: MockClock) -> None:
    """Against counting it out, for cursors on, between and beyond the messages."""
    session_id = await of_numbers(api, 20)
    everything = [
        (message["content"], stamp)
        for message, stamp in zip(
            (await history(api, session_id))["messages"][::-1], await stamps(api, session_id), strict=True
        )
    ]
    instants = [0, *(at + d for _, at in everything for d in (-1, 0, 1)), START_MS * 2]
    pick = random.Random(7)
    for _ in range(150):
        limit, before, after = (
            pick.choice([1, 2, 5, 19, 20, 21]),
            *(pick.choice([None, *instants]) for _ in "ba"),
        )
        query = "".join(f"&{k}={v}" for k, v in (("before", before), ("after", after)) if v is not None)
        page = await history(api, session_id, f"?limit={limit}{query}")
        told = [message["content"] for message in page["messages"]], page["hasMore"], page["cursors"]
        assert told == expected(everything, limit, before, after), query


async def stamps(api: Api, session_id: str) -> list[int]:
    """Each message's `createdAt` in epoch milliseconds, oldest first."""
    found: list[int] = []
    while True:
        page = await history(api, session_id, f"?limit=1&after={found[-1] if found else 0}")
        found += [page["cursors"]["after"]]
        if not page["hasMore"]:
            return found


def expected(
    everything: Sequence[tuple[str, int]], limit: int, before: int | None, after: int | None
) -> tuple[list[str], bool, Mapping[str, int]]:
    inside = [
        one for one in everything if (after is None or one[1] > after) and (before is None or one[1] < before)
    ]
    page = inside[:limit] if after is not None and before is None else inside[-limit:]
    cursors = {"before": page[0][1] if page else before or 0, "after": page[-1][1] if page else after or 0}
    return [content for content, _ in page[::-1]], len(inside) > limit, cursors


async def test_the_cursors_of_an_empty_page_echo_what_was_asked_or_are_0(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = (await api.create())["sessionId"]
    nothing = {"messages": [], "hasMore": False}
    for query, before, after in (
        ("", 0, 0),
        ("?before=5", 5, 0),
        ("?after=7", 0, 7),
        ("?before=5&after=7", 5, 7),
    ):
        assert await history(api, session_id, query) == nothing | {
            "cursors": {"before": before, "after": after}
        }


async def test_a_page_has_50_messages_unless_asked(api: Api, autojump_clock: MockClock) -> None:
    session_id = await of_numbers(api, 51)
    page = await history(api, session_id)
    assert (len(page["messages"]), page["hasMore"]) == (50, True)
