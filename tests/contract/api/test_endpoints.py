"""Spec section 1 as a client sees it: the operations, their bodies to the last key, what every answer carries."""

import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.contract.faults import FailingStore
from tests.contract.logs import captured_logs
from tests.contract.operations import (
    CREATE,
    END,
    GET,
    HEALTH,
    HEARTBEAT,
    HISTORY,
    LIST,
    NOWHERE,
    ON_SESSION,
    OPERATIONS,
    RENEW,
    RETIME,
    SEND,
    Operation,
    errors,
    subject,
)
from tests.harness import Answer, Api, only

EVERY = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FILE = {"type": "image", "url": "https://example.com/cat.png", "name": "cat.png"}

# from the seed, and the fields that the spec adds to it
CONFIG_KEYS = {"timeoutMinutes", "autoRenew", "maxDurationMinutes", "warningThresholdMinutes"}
ENTRY_KEYS = {
    "sessionId",
    "agentId",
    "userId",
    "createdAt",
    "expiresAt",
    "timeRemaining",
    "isNearExpiration",
    "renewalCount",
    "status",
}
SESSION_KEYS = ENTRY_KEYS | {"lastActivity", "timeoutConfig", "metadata", "maxExpiresAt"}
CREATED_KEYS = SESSION_KEYS - {"lastActivity", "timeRemaining", "isNearExpiration"} | {
    "channelId",
    "sessionToken",
}
SENT_KEYS = {"id", "content", "authorId", "createdAt", "metadata", "sessionStatus"}
MESSAGE_KEYS = {"id", "content", "authorId", "isAgent", "createdAt", "metadata"}
BODY_KEYS = {
    CREATE: CREATED_KEYS,
    LIST: {"sessions", "total", "limit", "offset", "stats"},
    HEALTH: {"status", "activeSessions", "timestamp", "expiringSoon", "invalidSessions", "uptime"},
    GET: SESSION_KEYS,
    END: {"success", "message"},
    SEND: SENT_KEYS,
    HISTORY: {"messages", "hasMore", "cursors"},
    RENEW: SESSION_KEYS,
    RETIME: SESSION_KEYS,
    HEARTBEAT: SESSION_KEYS,
}


@EVERY
async def test_each_operation_answers_with_its_status_and_exactly_its_keys(
    api: Api, operation: Operation
) -> None:
    answer = await operation(api, await subject(api, operation))
    assert answer.status == operation.status
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) == BODY_KEYS[operation]


async def test_a_new_session_is_told_whole(api: Api, autojump_clock: MockClock) -> None:
    created = await api.create(metadata={"source": "web"})
    assert all(UUID.fullmatch(created[name]) for name in ("sessionId", "channelId"))
    assert created["sessionToken"].startswith(f"{created['sessionId']}.")
    told = {name: created[name] for name in CREATED_KEYS - {"sessionId", "channelId", "sessionToken"}}
    assert told == {
        "agentId": "silent",
        "userId": "user-456",
        "createdAt": "2026-11-22T09:00:00.000Z",
        "expiresAt": "2026-11-22T09:30:00.000Z",
        "maxExpiresAt": "2026-11-22T12:00:00.000Z",
        "timeoutConfig": {
            "timeoutMinutes": 30,
            "autoRenew": True,
            "maxDurationMinutes": 180,
            "warningThresholdMinutes": 5,
        },
        "renewalCount": 0,
        "metadata": {"source": "web"},
        "status": "active",
    }


async def test_get_tells_the_session_with_its_time_remaining_in_milliseconds(
    api: Api, autojump_clock: MockClock
) -> None:
    created = await api.create(metadata={"source": "web"})
    await trio.sleep(25 * 60 + 0.5)
    shared = {name: value for name, value in created.items() if name not in ("channelId", "sessionToken")}
    assert await api.get(created["sessionId"]) == {
        **shared,
        "lastActivity": "2026-11-22T09:00:00.000Z",
        "timeRemaining": 299_500,
        "isNearExpiration": True,
    }


@pytest.mark.parametrize("operation", [RENEW, HEARTBEAT, RETIME], ids=lambda operation: str(operation.name))
async def test_what_changes_a_session_answers_with_the_session_as_get_shows_it(
    api: Api, autojump_clock: MockClock, operation: Operation
) -> None:
    session_id = await subject(api, operation)
    await trio.sleep(60)
    assert (await operation(api, session_id)).json == await api.get(session_id)


async def test_ending_a_session_says_so_in_the_words_of_the_seed(api: Api) -> None:
    session_id = await subject(api, END)
    ended = await END(api, session_id)
    assert ended.json == {"success": True, "message": f"Session {session_id} deleted successfully"}
    assert (await GET(api, session_id)).status == 404


async def test_a_sent_message_and_its_session_status(api: Api, autojump_clock: MockClock) -> None:
    session_id = await subject(api, SEND)
    await trio.sleep(1)
    sent = (await SEND(api, session_id, body={"content": "Hello", "metadata": {"a": 1}})).json
    assert UUID.fullmatch(sent.pop("id"))
    assert sent == {
        "content": "Hello",
        "authorId": "user-456",
        "createdAt": "2026-11-22T09:00:01.000Z",
        "metadata": {"a": 1},
        "sessionStatus": {
            "expiresAt": "2026-11-22T09:30:01.000Z",
            "renewalCount": 1,
            "wasRenewed": True,
            "isNearExpiration": False,
        },
    }


async def test_messages_carry_attachments_when_they_have_any(api: Api) -> None:
    session_id = await subject(api, SEND)
    files = [FILE, {**FILE, "size": 48_213, "mimeType": "image/png"}]
    with_files = (await SEND(api, session_id, body={"content": "Look", "attachments": files})).json
    without = (await SEND(api, session_id, body={"content": "Gone", "attachments": []})).json
    assert set(with_files) == SENT_KEYS | {"attachments"}
    assert set(without) == SENT_KEYS
    second, first = (await HISTORY(api, session_id)).json["messages"]
    assert with_files["attachments"] == first["attachments"] == files
    assert (set(first), set(second)) == (MESSAGE_KEYS | {"attachments"}, MESSAGE_KEYS)


async def test_the_history_tells_each_message_and_the_cursors(api: Api, autojump_clock: MockClock) -> None:
    session_id = await subject(api, SEND)
    sent = (await SEND(api, session_id)).json
    history = (await HISTORY(api, session_id)).json
    del sent["sessionStatus"]
    assert history == {
        "messages": [{**sent, "isAgent": False}],
        "hasMore": False,
        "cursors": {"before": api.now, "after": api.now},
    }


async def test_health_is_the_seeds_body(api: Api, autojump_clock: MockClock) -> None:
    await api.create()
    await trio.sleep(26 * 60)
    await api.create()
    assert (await HEALTH(api)).json == {
        "status": "healthy",
        "activeSessions": 2,
        "timestamp": "2026-11-22T09:26:00.000Z",
        "expiringSoon": 1,
        "invalidSessions": 0,
        "uptime": 1560,
    }


async def test_health_is_503_when_the_service_is_unhealthy(api: Api) -> None:
    store = FailingStore()
    await api.restart(store=store)
    store.broken = True
    answer = await HEALTH(api)
    assert (answer.status, answer.json["status"]) == (503, "unhealthy")
    assert set(answer.json) == BODY_KEYS[HEALTH]
    store.broken = False


# --- outside the base path


@pytest.mark.parametrize("path", ["//livez", "//readyz"])
async def test_liveness_and_readiness_need_no_credentials_and_tell_no_detail(api: Api, path: str) -> None:
    answer = await api.request("GET", path, credential=None)
    assert (answer.status, answer.json) == (200, {"status": "ok"})


async def test_a_server_that_stops_is_alive_but_not_ready(api: Api) -> None:
    api.site.ready = False
    assert (await api.request("GET", "//readyz", credential=None)).status == 503
    assert (await api.request("GET", "//livez", credential=None)).status == 200


async def test_metrics_are_prometheus_text_for_the_health_scope(api: Api) -> None:
    await api.create()
    answer = await api.request("GET", "//metrics", credential=only("sessions:health"))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'vigil_sessions{state="active"} 1.0\n' in answer.content
    assert (await api.request("GET", "//metrics", credential=None)).status == 401
    assert (await api.request("GET", "//metrics", credential=only("sessions:read"))).status == 403


# --- methods and paths

HEADS = ["", "/health", "/{}", "/{}/messages", f"/{NOWHERE}", "?limit=0", "//livez", "//metrics", "//nothing"]


@pytest.mark.parametrize("path", HEADS)
async def test_head_follows_get(api: Api, autojump_clock: MockClock, path: str) -> None:
    target = path.format((await api.create())["sessionId"])
    got, headed = [
        await api.request(method, target, headers={"X-Request-Id": "same"}) for method in ("GET", "HEAD")
    ]
    assert headed.status == got.status
    # the second request leaves one request less, and is itself in the metrics
    assert _without(headed, "ratelimit", "content-length") == _without(got, "ratelimit", "content-length")
    assert headed.headers.keys() == got.headers.keys()


def _without(answer: Answer, *names: str) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in names}


ALLOWED = {
    "": "GET, HEAD, POST",
    "/health": "GET, HEAD",
    "/{}": "DELETE, GET, HEAD",
    "/{}/messages": "GET, HEAD, POST",
    "/{}/renew": "POST",
    "/{}/timeout": "PATCH",
    "/{}/heartbeat": "POST",
    "//livez": "GET, HEAD",
    "//readyz": "GET, HEAD",
    "//metrics": "GET, HEAD",
}


@pytest.mark.parametrize("path", ALLOWED)
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_any_other_method_is_405_and_told_what_is_allowed(api: Api, path: str, method: str) -> None:
    if method in ALLOWED[path]:
        return
    answer = await api.request(method, path.format(NOWHERE), credential=None)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == ALLOWED[path]


@pytest.mark.parametrize("path", [*ALLOWED, "//", "//api", "//api/messaging", "//docs/nothing"])
async def test_a_trailing_slash_or_an_unknown_path_is_404(api: Api, path: str) -> None:
    there = path in ALLOWED
    target = path.format((await api.create())["sessionId"]) + "/" * there
    for method in ("GET", "POST"):
        answer = await api.request(method, target, credential=None)
        assert (answer.status, answer.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "wrong_id", ["session-789", "1", "%ff", "%ED%A0%80", "%00", "NULL", "%0d%0aX: y", NOWHERE]
)
@pytest.mark.parametrize("operation", ON_SESSION, ids=lambda operation: str(operation.name))
async def test_an_id_that_is_no_uuid_is_404_like_any_unknown_one(
    api: Api, operation: Operation, wrong_id: str
) -> None:
    answer = await operation(api, wrong_id)
    assert (answer.status, answer.code) == (404, "SESSION_NOT_FOUND")


@EVERY
async def test_unknown_and_repeated_query_names_are_400_and_named(api: Api, operation: Operation) -> None:
    session_id = await subject(api, operation)
    assert errors(await operation(api, session_id, "?colour=red")) == {"colour": "is not known here"}
    told = errors(await operation(api, session_id, "?limit=5&limit=6&other="))
    assert told["limit"]
    assert told["other"] == "is not known here"


# --- what every answer carries


async def _answers(api: Api, **more: Any) -> dict[int, Answer]:
    """One answer of each kind, by status."""
    session_id = (await api.create())["sessionId"]
    every = [
        await GET(api, session_id, **more),
        await CREATE(api, **more),
        await LIST(api, query="?limit=0", **more),
        await LIST(api, credential=None, **more),
        await LIST(api, credential=only("sessions:write"), **more),
        await api.request("GET", "//nothing", **more),
        await api.request("PUT", "", **more),
        await CREATE(api, content=b"x" * 262_145, **more),
        await CREATE(api, content=b"x", **more),
    ]
    api.site.health.check = None  # type: ignore[assignment,method-assign]  # a bug
    every.append(await HEALTH(api, **more))
    assert [answer.status for answer in every] == [200, 201, 400, 401, 403, 404, 405, 413, 415, 500]
    return {answer.status: answer for answer in every}


async def test_every_answer_forbids_storing_it(api: Api) -> None:
    for answer in (await _answers(api)).values():
        assert answer.headers.get_list("Cache-Control") == ["no-store"]


async def test_every_answer_carries_the_request_id_that_came(api: Api) -> None:
    for answer in (await _answers(api, headers={"X-Request-Id": "night-shift/7!"})).values():
        assert answer.headers.get_list("X-Request-Id") == ["night-shift/7!"]


async def test_an_answer_to_a_request_without_an_id_carries_a_new_one(api: Api) -> None:
    answers = (await _answers(api)).values()
    ids = [request_id for answer in answers for request_id in answer.headers.get_list("X-Request-Id")]
    assert all(map(UUID.fullmatch, ids))
    assert len(set(ids)) == len(answers)


@pytest.mark.parametrize("given", ["a", "!", "~" * 128])
async def test_a_request_id_of_1_to_128_visible_ascii_characters_is_taken(api: Api, given: str) -> None:
    assert (await LIST(api, headers={"X-Request-Id": given})).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "caf\xe9", "tab\there"])
async def test_any_other_request_id_is_replaced(api: Api, given: str) -> None:
    answer = await LIST(api, headers={"X-Request-Id": given})
    assert UUID.fullmatch(answer.headers["X-Request-Id"])


async def test_of_two_request_ids_none_is_taken(api: Api) -> None:
    answer = await LIST(api, headers=[("X-Request-Id", "one"), ("X-Request-Id", "two")])
    assert UUID.fullmatch(answer.headers["X-Request-Id"])


async def test_the_request_id_is_in_the_log_line_and_in_the_details_of_a_500(api: Api) -> None:
    api.site.health.check = None  # type: ignore[assignment,method-assign]  # a bug
    with captured_logs() as lines:
        answer = await HEALTH(api, headers={"X-Request-Id": "night-shift/7!"})
    assert answer.json["details"] == {"requestId": "night-shift/7!"}
    assert {line["request_id"] for line in lines} == {"night-shift/7!"}
    assert [line["status"] for line in lines if line["event"] == "request"] == [500]
