"""The fields of requests as seen from outside (spec section 2): that each rule is wired in, and where it bites.

The deep tables of each rule are in tests/server.
"""

import json
from typing import Any

import pytest

from tests.contract.operations import CREATE, HISTORY, NEW_SESSION, NOWHERE, RETIME, SEND, errors, subject
from tests.harness import Api

FILE = {"type": "image", "url": "https://example.com/cat.png", "name": "cat.png"}


def nested(levels: int, innermost: Any) -> Any:
    """`innermost` inside so many objects."""
    for _ in range(levels):
        innermost = {"a": innermost}
    return innermost


def of_size(size: int) -> dict[str, str]:
    """Metadata of so many bytes as compact JSON, two of them in each character."""
    return {"a": "é" * ((size - 8) // 2) + "x" * (size % 2)}


# --- who

GOOD_IDS = ["u", "agent-123", "x" * 128, "é" * 128, "a/b?c#d", "0b5c3f0e-7d1a-4c55-8a52-6f1f3c6f7a01", "<b>"]
BAD_IDS = [
    "",
    "x" * 129,
    "two words",
    "tab\t",
    "line\n",
    "nbsp\u00a0",
    "nul\0",
    "del\x7f",
    "c1\x85",
    5,
    None,
    True,
    [],
]


@pytest.mark.parametrize("user_id", GOOD_IDS)
async def test_a_user_id_is_1_to_128_characters_without_whitespace(api: Api, user_id: str) -> None:
    session_id = (await api.create(userId=user_id))["sessionId"]
    assert (await api.get(session_id))["userId"] == user_id


@pytest.mark.parametrize("field", ["userId", "agentId"])
@pytest.mark.parametrize("value", BAD_IDS, ids=repr)
async def test_any_other_user_or_agent_id_is_400(api: Api, field: str, value: object) -> None:
    assert list(errors(await CREATE(api, body={**NEW_SESSION, field: value}))) == [field]


@pytest.mark.parametrize("field", ["userId", "agentId"])
async def test_user_and_agent_are_required(api: Api, field: str) -> None:
    body = {name: value for name, value in NEW_SESSION.items() if name != field}
    assert errors(await CREATE(api, body=body)) == {field: "is required"}


@pytest.mark.parametrize("agent_id", ["nobody", "Silent", NOWHERE])
async def test_an_agent_that_is_not_in_the_catalogue_is_404(api: Api, agent_id: str) -> None:
    answer = await CREATE(api, body={**NEW_SESSION, "agentId": agent_id})
    assert (answer.status, answer.code) == (404, "AGENT_NOT_FOUND")


# --- unknown fields

UNKNOWN = (
    (CREATE, {**NEW_SESSION, "colour": 1}, "colour"),
    (CREATE, {**NEW_SESSION, "agent_id": "silent"}, "agent_id"),
    (CREATE, {**NEW_SESSION, "timeoutConfig": {"timeout": 5}}, "timeoutConfig.timeout"),
    (SEND, {"content": "Hello", "text": "Hello"}, "text"),
    (SEND, {"content": "Hello", "attachments": [{**FILE, "id": 1}]}, "attachments[0].id"),
    (RETIME, {"timeoutMinutes": 30, "timeoutConfig": {}}, "timeoutConfig"),
)


@pytest.mark.parametrize(("operation", "body", "path"), UNKNOWN, ids=lambda value: str(value)[:40])
async def test_an_unknown_field_is_400_and_named(api: Api, operation: Any, body: object, path: str) -> None:
    answer = await operation(api, await subject(api, operation), body=body)
    assert errors(answer) == {path: "is not known here"}


async def test_everything_that_is_wrong_is_told_at_once(api: Api) -> None:
    body = {"userId": "", "metadata": {"a": None}, "timeoutConfig": {"timeoutMinutes": 1}, "x": 1}
    assert set(errors(await CREATE(api, body=body))) == {
        "agentId",
        "userId",
        "metadata.a",
        "timeoutConfig.timeoutMinutes",
        "x",
    }


# --- metadata, of sessions and messages alike

GOOD_METADATA: tuple[dict[str, Any], ...] = (
    {},
    {"string": "x", "number": 1.5, "boolean": False, "object": {}, "array": [1, "a", True, {}]},
    nested(5, 1),
    nested(4, [1]),
    of_size(16_384),
)
BAD_METADATA: tuple[tuple[Any, str], ...] = (
    ([], "metadata"),
    ("x", "metadata"),
    (None, "metadata"),
    ({"a": None}, "metadata.a"),
    ({"a": [1, None]}, "metadata.a[1]"),
    (nested(6, 1), "metadata.a.a.a.a.a"),
    (nested(5, [1]), "metadata.a.a.a.a.a"),
    (of_size(16_385), "metadata"),
)


@pytest.mark.parametrize("metadata", GOOD_METADATA, ids=lambda value: str(value)[:40])
async def test_metadata_is_an_object_of_json_values_that_comes_back_as_it_came(
    api: Api, metadata: dict[str, Any]
) -> None:
    session_id = (await api.create(metadata=metadata))["sessionId"]
    assert (await api.get(session_id))["metadata"] == metadata
    assert (await SEND(api, session_id, body={"content": "x", "metadata": metadata})).status == 201
    assert (await HISTORY(api, session_id)).json["messages"][0]["metadata"] == metadata


@pytest.mark.parametrize(("metadata", "path"), BAD_METADATA, ids=lambda value: str(value)[:40])
async def test_other_metadata_is_400(api: Api, metadata: object, path: str) -> None:
    session_id = (await api.create())["sessionId"]
    told = errors(await CREATE(api, body={**NEW_SESSION, "metadata": metadata}))
    assert list(told) == [path]
    assert errors(await SEND(api, session_id, body={"content": "x", "metadata": metadata})) == told


async def test_the_size_of_metadata_is_that_of_its_compact_form(api: Api) -> None:
    spread_out = json.dumps(
        {**NEW_SESSION, "metadata": of_size(16_384)}, indent=8, ensure_ascii=True
    ).encode()
    assert len(spread_out) > 3 * 16_384 - 100
    answer = await CREATE(api, content=spread_out, headers={"Content-Type": "application/json"})
    assert answer.status == 201


async def test_metadata_never_overwrites_a_field_of_the_servers(api: Api) -> None:
    names = ("sessionId", "userId", "agentId", "status", "id", "content", "authorId", "isAgent", "createdAt")
    mine = dict.fromkeys(names, "mine")
    created = await api.create(metadata=mine)
    sent = (await SEND(api, created["sessionId"], body={"content": "x", "metadata": mine})).json
    stored = (await HISTORY(api, created["sessionId"])).json["messages"][0]
    for body in (created, await api.get(created["sessionId"]), sent, stored):
        assert body.pop("metadata") == mine
        assert "mine" not in body.values()


# --- content


@pytest.mark.parametrize(
    "content", ["x", " x ", "😀" * 10_000, "a < b && c > d", "List<String>", "print('#!')", "a\tb\r\nc"]
)
async def test_content_is_1_to_10_000_code_points_and_comes_back_as_it_came(api: Api, content: str) -> None:
    session_id = (await api.create())["sessionId"]
    sent = await SEND(api, session_id, body={"content": content})
    assert (sent.status, sent.json["content"]) == (201, content)


@pytest.mark.parametrize(
    "content", ["", " ", "\n\t\u2003", "x" * 10_001, 5, None, ["x"]], ids=lambda x: repr(x)[:9]
)
async def test_other_content_is_400(api: Api, content: object) -> None:
    session_id = (await api.create())["sessionId"]
    assert list(errors(await SEND(api, session_id, body={"content": content}))) == ["content"]


async def test_content_is_required(api: Api) -> None:
    session_id = (await api.create())["sessionId"]
    assert errors(await SEND(api, session_id, body={"metadata": {}})) == {"content": "is required"}


@pytest.mark.parametrize("transport", ["", "smtp", "HTTP", 1, None], ids=repr)
async def test_an_unknown_transport_is_400(api: Api, transport: object) -> None:
    session_id = (await api.create())["sessionId"]
    answer = await SEND(api, session_id, body={"content": "x", "transport": transport})
    assert list(errors(answer)) == ["transport"]


PROHIBITED = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "<iframe src=//example.com></iframe>",
    "<svg><script>1</script></svg>",
    "#!/bin/sh\nrm -rf /",
    "a\0b",
    "a\x1bb",
)


@pytest.mark.parametrize("content", PROHIBITED)
async def test_prohibited_content_is_400_and_nothing_is_stored(api: Api, content: str) -> None:
    session_id = (await api.create())["sessionId"]
    assert set(errors(await SEND(api, session_id, body={"content": content}))) == {"content"}
    assert (await HISTORY(api, session_id)).json["messages"] == []


@pytest.mark.parametrize("content", PROHIBITED)
async def test_with_the_policy_off_all_content_passes(api: Api, content: str) -> None:
    await api.restart(content_policy=False)
    session_id = (await api.create())["sessionId"]
    files = [{**FILE, "name": "run.exe"}]
    sent = await SEND(api, session_id, body={"content": content, "attachments": files})
    assert (sent.status, sent.json["content"]) == (201, content)


# --- attachments

GOOD_FILES = (
    {"size": 0},
    {"size": 5.0},
    {"mimeType": "image/png"},
    {"type": "x" * 64, "name": "n" * 255},
    {"url": "http://example.com/" + "x" * 2029},
    {"url": "data:image/png;base64,AA=="},
    {"url": "data:text/plain," + "x" * 65_520},
    {"name": "exe"},
    {"name": "setup.exe.txt"},
)
BAD_FILES = (
    ({"size": -1}, "size"),
    ({"size": 1.5}, "size"),
    ({"mimeType": 5}, "mimeType"),
    ({"type": "x" * 65}, "type"),
    ({"name": "n" * 256}, "name"),
    ({"url": "http://example.com/" + "x" * 2030}, "url"),
    ({"url": "ftp://example.com/x"}, "url"),
    ({"url": "javascript:alert(1)"}, "url"),
    ({"url": "data:image/svg+xml,<svg/>"}, "url"),
    ({"url": "data:text/html,x"}, "url"),
    ({"url": "data:text/plain," + "x" * 65_521}, "url"),
    ({"url": None}, "url"),
    ({"name": "setup.EXE"}, "name"),
    ({"name": "setup.tar.sh"}, "name"),
)


@pytest.mark.parametrize("change", GOOD_FILES, ids=lambda value: str(value)[:40])
async def test_attachments_may_be(api: Api, change: dict[str, Any]) -> None:
    session_id = (await api.create())["sessionId"]
    sent = await SEND(api, session_id, body={"content": "x", "attachments": [{**FILE, **change}]})
    assert (sent.status, sent.json["attachments"]) == (201, [{**FILE, **change}])


@pytest.mark.parametrize(("change", "field"), BAD_FILES, ids=lambda value: str(value)[:40])
async def test_attachments_may_not_be(api: Api, change: dict[str, Any], field: str) -> None:
    session_id = (await api.create())["sessionId"]
    answer = await SEND(api, session_id, body={"content": "x", "attachments": [FILE, {**FILE, **change}]})
    assert list(errors(answer)) == [f"attachments[1].{field}"]


@pytest.mark.parametrize("field", ["type", "url", "name"])
async def test_an_attachment_has_a_type_a_url_and_a_name(api: Api, field: str) -> None:
    session_id = (await api.create())["sessionId"]
    file = {name: value for name, value in FILE.items() if name != field}
    answer = await SEND(api, session_id, body={"content": "x", "attachments": [file]})
    assert errors(answer) == {f"attachments[0].{field}": "is required"}


async def test_ten_attachments_are_the_most(api: Api) -> None:
    session_id = (await api.create())["sessionId"]
    assert (await SEND(api, session_id, body={"content": "x", "attachments": [FILE] * 10})).status == 201
    answer = await SEND(api, session_id, body={"content": "x", "attachments": [FILE] * 11})
    assert list(errors(answer)) == ["attachments"]


# --- timeouts, at creation and in PATCH alike

GOOD_TIMEOUTS = (
    {"timeoutMinutes": 5},
    {"timeoutMinutes": 1440},
    {"timeoutMinutes": 5.0},
    {"maxDurationMinutes": 1},
    {"maxDurationMinutes": 4320},
    {"warningThresholdMinutes": 1},
    {"warningThresholdMinutes": 60},
    {"autoRenew": False},
    {"timeoutMinutes": 60, "maxDurationMinutes": 5},
    {"timeoutMinutes": 5, "warningThresholdMinutes": 60},
)
BAD_TIMEOUTS: tuple[tuple[str, object], ...] = (
    ("timeoutMinutes", 4),
    ("timeoutMinutes", 1441),
    ("timeoutMinutes", 5.5),
    ("timeoutMinutes", "5"),
    ("timeoutMinutes", None),
    ("timeoutMinutes", True),
    ("timeoutMinutes", 10**30),
    ("maxDurationMinutes", 0),
    ("maxDurationMinutes", 4321),
    ("warningThresholdMinutes", 0),
    ("warningThresholdMinutes", 61),
    ("autoRenew", "true"),
    ("autoRenew", 1),
    ("autoRenew", None),
)


@pytest.mark.parametrize("config", GOOD_TIMEOUTS, ids=str)
async def test_timeouts_in_range_are_taken_as_they_are(api: Api, config: dict[str, Any]) -> None:
    created = await api.create(timeoutConfig=config)
    answer = await RETIME(api, (await api.create())["sessionId"], body=config)
    for body in (created, answer.json):
        assert body["timeoutConfig"].items() >= config.items()
        assert all(type(body["timeoutConfig"][name]) is not float for name in config)


@pytest.mark.parametrize(("field", "value"), BAD_TIMEOUTS, ids=str)
async def test_other_timeouts_are_400_and_never_clamped(api: Api, field: str, value: object) -> None:
    session_id = (await api.create())["sessionId"]
    created = await CREATE(api, body={**NEW_SESSION, "timeoutConfig": {field: value}})
    assert list(errors(created)) == [f"timeoutConfig.{field}"]
    assert list(errors(await RETIME(api, session_id, body={field: value}))) == [field]
    assert (await api.get(session_id))["timeoutConfig"]["timeoutMinutes"] == 30


async def test_a_timeout_change_needs_at_least_one_field_and_a_new_session_none(api: Api) -> None:
    session_id = (await api.create(timeoutConfig={}))["sessionId"]
    assert list(errors(await RETIME(api, session_id, body={}))) == [""]


# --- the query of get messages

GOOD_PAGES = [
    "",
    "?limit=1",
    "?limit=100",
    "?before=0",
    f"?before={2**63 - 1}&after=0",
    "?after=1795338000000",
]
BAD_PAGES = {
    "?limit=0": "limit",
    "?limit=101": "limit",
    "?limit=1.5": "limit",
    "?before=-1": "before",
    "?before=2026-11-22T09:00:00.000Z": "before",
    "?before=": "before",
    f"?before={2**63}": "before",
    "?after=1e3": "after",
    "?after=%D9%A1": "after",
    "?offset=0": "offset",
    "?after=1&after=1": "after",
}


@pytest.mark.parametrize("query", GOOD_PAGES)
async def test_which_pages_of_history_may_be_asked_for(api: Api, query: str) -> None:
    assert (await HISTORY(api, await subject(api, HISTORY), query)).status == 200


@pytest.mark.parametrize("query", BAD_PAGES)
async def test_which_pages_may_not(api: Api, query: str) -> None:
    answer = await HISTORY(api, await subject(api, HISTORY), query)
    assert list(errors(answer)) == [BAD_PAGES[query]]
