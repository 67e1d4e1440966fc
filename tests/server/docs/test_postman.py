"""The Postman collection: the committed file is what the route table gives, and its requests work."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from tests import ROOT
from tests.harness import OWNER, Answer, Api, running_api
from vigil.server.api.routes import ROUTES
from vigil.server.docs.postman import collection

FILE = ROOT / "docs" / "vigil.postman_collection.json"
COLLECTION: dict[str, Any] = json.loads(FILE.read_text())
ITEMS: dict[str, dict[str, Any]] = {item["name"]: item["request"] for item in COLLECTION["item"]}


def test_the_committed_file_is_what_the_route_table_gives() -> None:
    """Out of date? Run: python -m vigil.server.docs.postman > docs/vigil.postman_collection.json"""
    assert collection(ROUTES) == COLLECTION


def test_every_route_but_websockets_is_a_request() -> None:
    asked = [(request["method"], request["url"]["raw"]) for request in ITEMS.values()]
    rows = [route for route in ROUTES if not route.is_websocket]
    paths = [
        route.path.replace("{sessionId}", "{{session_id}}").replace("{messageId}", "{{message_id}}")
        for route in rows
    ]
    assert sorted(asked) == sorted(
        (route.method, "{{base_url}}" + path) for route, path in zip(rows, paths, strict=True)
    )


def test_create_is_the_seeds_request() -> None:
    request = ITEMS["Create Session Request"]
    assert request["method"] == "POST"
    assert request["url"]["raw"] == "{{base_url}}/api/messaging/sessions"
    assert request["header"] == HEADERS
    assert (request["body"]["mode"], request["body"]["options"]["raw"]["language"]) == ("raw", "json")
    assert request["body"]["raw"].splitlines() == [
        "{",
        '  "agentId": "{{agent_id}}",',
        '  "userId": "{{user_id}}",',
        '  "timeoutConfig": {',
        '    "timeoutMinutes": 30,',
        '    "autoRenew": true,',
        '    "maxDurationMinutes": 180,',
        '    "warningThresholdMinutes": 5',
        "  }",
        "}",
    ]


def test_send_is_the_seeds_request() -> None:
    request = ITEMS["Send Message Request"]
    assert request["method"] == "POST"
    assert request["url"]["raw"] == "{{base_url}}/api/messaging/sessions/{{session_id}}/messages"
    assert request["header"] == HEADERS
    assert request["body"]["raw"] == '{\n  "content": "This is a test message"\n}'


HEADERS = [
    {"key": "Content-Type", "value": "application/json"},
    {"key": "Authorization", "value": "Bearer {{token}}"},
]


def test_it_says_where_every_variable_comes_from() -> None:
    known = {variable["key"] for variable in COLLECTION["variable"]}
    assert {"base_url", "token", "agent_id", "user_id", "session_id", "message_id"} <= known
    assert set(re.findall(r"{{(\w+)}}", json.dumps(COLLECTION["item"]))) <= known


def test_it_has_the_form_of_a_v2_1_collection() -> None:
    assert COLLECTION["info"]["schema"].endswith("/v2.1.0/collection.json")
    for request in ITEMS.values():
        url = request["url"]
        assert url["raw"] == "/".join([*url["host"], *url["path"]])
        assert all(entry.keys() <= {"key", "value", "description", "disabled"} for entry in parts(request))


def parts(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from request["header"]
    yield from request["url"].get("query", [])


async def test_its_requests_work_from_top_to_bottom() -> None:
    """With the queries that are ticked, and once more with all of them."""
    async with running_api() as api:
        variables = {variable["key"]: variable["value"] for variable in COLLECTION["variable"]}
        variables.update(base_url="", token=OWNER)
        for item in COLLECTION["item"]:
            answer = await replay(api, item["request"], variables, all_queries=False)
            assert answer.status in (200, 201), (item["name"], answer)
            if "event" in item:
                kept = {"session_id": "sessionId", "message_id": "id"}
                variables |= {
                    name: answer.json[field] for name, field in kept.items() if field in answer.json
                }
            if item["request"]["method"] == "GET":
                answer = await replay(api, item["request"], variables, all_queries=True)
                assert answer.status == 200, (item["name"], answer)


async def replay(
    api: Api, request: Mapping[str, Any], variables: Mapping[str, str], *, all_queries: bool
) -> Answer:
    def filled(text: str) -> str:
        return re.sub(r"{{(\w+)}}", lambda match: variables[match[1]], text)

    query = [(entry["key"], entry["value"]) for entry in request["url"].get("query", []) if all_queries]
    target = filled(request["url"]["raw"]) + ("?" + urlencode(query) if query else "")
    return await api.request(
        request["method"],
        "/" + target,
        credential=None,
        headers=[(header["key"], filled(header["value"])) for header in request["header"]],
        content=filled(request["body"]["raw"]).encode() if "body" in request else None,
    )
