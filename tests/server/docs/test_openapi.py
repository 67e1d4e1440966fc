"""The OpenAPI document: whole, valid, and true to the route table and the table of failures."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

from tests.harness import OWNER, START_MS, Api, running_api
from tests.server.api.test_wire_events import EVENTS
from vigil.actors.core.events import Event, EventData
from vigil.actors.hub.hub import Chunk, Notice, Resync
from vigil.server.api.errors import FAILURES, failure_of
from vigil.server.api.routes import ROUTES, Route
from vigil.server.api.wire_events import frame
from vigil.server.docs import examples, openapi

DOCUMENT = json.loads(json.dumps(openapi.document(ROUTES)))
RESPONSES = DOCUMENT["components"]["responses"]
HTTP_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
SESSION_ROUTES = [route for route in ROUTES if route.subject == "session"]


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def named(name: str) -> Route:
    return next(route for route in ROUTES if route.name == name)


def resolved(node: Mapping[str, Any]) -> Any:
    found: Any = node
    while "$ref" in found:
        path = found["$ref"].removeprefix("#/").split("/")
        found = DOCUMENT
        for step in path:
            found = found[step]
    return found


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document, examples aside: what is in them is nobody's schema."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in ("example", "examples", "default"):
                yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """References in the schema are to the document's components."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def media_types() -> Iterator[tuple[str, dict[str, Any]]]:
    for node in nodes(DOCUMENT):
        if any("/" in name for name in node.get("content", ())):
            yield from node["content"].items()


def codes(route: Route, status: int) -> list[str]:
    """The codes that an operation lists with a status; nothing when it does not list the status."""
    response = resolved(operation(route)["responses"].get(str(status), {}))
    shown = response.get("content", {}).get("application/json", {}).get("examples", {})
    found = list(dict.fromkeys(entry["value"]["code"] for entry in shown.values()))
    assert all(f"`{code}`" in response["description"] for code in found)
    return found


def statuses(route: Route) -> set[int]:
    return {int(status) for status in operation(route)["responses"]}


def test_each_route_is_one_operation_and_nothing_else_is() -> None:
    described = {
        (path, method)
        for path, methods in DOCUMENT["paths"].items()
        for method in methods.keys() & HTTP_METHODS
    }
    assert described == {(route.path, route.method.lower()) for route in ROUTES}


def test_operation_ids_are_unique_and_every_tag_is_explained() -> None:
    ids = [operation(route)["operationId"] for route in ROUTES]
    assert len(set(ids)) == len(ids)
    assert {route.tag for route in ROUTES} == {tag["name"] for tag in DOCUMENT["tags"]}


def test_every_operation_says_what_it_does() -> None:
    for route in ROUTES:
        assert operation(route)["summary"]
        assert operation(route)["description"].endswith(".")


def test_every_reference_leads_somewhere_and_every_shared_part_is_used() -> None:
    """All but two: what routing itself answers belongs to no operation."""
    references = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    for reference in references:
        assert resolved({"$ref": reference})
    shared = {
        f"#/components/{kind}/{name}" for kind, parts in DOCUMENT["components"].items() for name in parts
    }
    unused = {name for name in shared - references if "securitySchemes" not in name}
    assert unused == {"#/components/responses/RouteNotFound", "#/components/responses/MethodNotAllowed"}


def test_no_schema_stands_in_the_document_twice() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert len({json.dumps(schema, sort_keys=True) for schema in schemas.values()}) == len(schemas)
    assert not any(re.search("[^A-Za-z0-9]", name) for name in schemas)


def test_every_schema_is_valid_json_schema() -> None:
    for node in nodes(DOCUMENT):
        if "schema" in node:
            Draft202012Validator.check_schema(node["schema"])
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_example_is_valid_against_its_schema() -> None:
    checked = 0
    for _, content in media_types():
        given = [entry["value"] for entry in content.get("examples", {}).values()]
        given += [content["example"]] if "example" in content else []
        for example in given:
            validator(content["schema"]).validate(example)
            checked += 1
    for node in nodes(DOCUMENT):
        for example in node.get("examples", []) if "content" not in node else []:
            if isinstance(node["examples"], list):
                validator(node).validate(example)
                checked += 1
    assert checked > 50


def test_every_json_body_has_an_example() -> None:
    bare = [
        content
        for media, content in media_types()
        if media == "application/json" and not (content.keys() & {"example", "examples"})
    ]
    assert bare == [{"schema": {"type": "object", "additionalProperties": True}}]  # this document itself


def test_bodies_are_needed_where_the_table_names_one_that_is_not_empty() -> None:
    taken = {route.name: operation(route).get("requestBody", {}).get("required") for route in ROUTES}
    assert {name for name, needed in taken.items() if needed} == {
        "createSession",
        "sendMessage",
        "updateTimeout",
    }
    assert {name for name, needed in taken.items() if needed is False} == {
        "renewSession",
        "heartbeat",
        "cancelTurn",
    }


def test_the_seeds_query_parameters_are_there_with_their_ranges() -> None:
    parameters = {
        entry["name"]: entry["schema"]
        for entry in map(resolved, operation(named("listSessions"))["parameters"])
    }
    assert {"agentId", "userId", "status", "limit", "offset"} <= parameters.keys()
    assert parameters["status"]["enum"] == ["active", "expired", "all"]
    assert (parameters["limit"]["minimum"], parameters["limit"]["maximum"]) == (1, 1000)
    assert parameters["limit"]["default"] == 50


@pytest.mark.parametrize("route", SESSION_ROUTES, ids=lambda route: route.name)
def test_every_route_of_a_session_takes_its_id(route: Route) -> None:
    names = {
        (entry["name"], entry["in"], entry.get("required"))
        for entry in map(resolved, operation(route)["parameters"])
    }
    assert ("sessionId", "path", True) in names


def test_an_idempotency_key_is_taken_where_the_table_says_so() -> None:
    taking = {
        route.name
        for route in ROUTES
        if "Idempotency-Key" in {entry["name"] for entry in map(resolved, operation(route)["parameters"])}
    }
    assert taking == {route.name for route in ROUTES if route.idempotent}


def test_what_needs_no_key_says_so_and_the_rest_takes_both_headers_with_its_scope() -> None:
    for route in ROUTES:
        security = operation(route)["security"]
        if route.subject == "anybody":
            assert security == []
        else:
            assert security == [{"bearer": [route.scope]}, {"apiKey": [route.scope]}]


# -- errors


def test_every_kind_of_failure_is_told_somewhere() -> None:
    """A new row of FAILURES needs an example and a rule for who gives it."""
    shown = {type(error) for error in examples.ERRORS}
    assert shown == {*FAILURES, examples.InternalError}
    told = {code for response in RESPONSES.values() for code in all_codes(response)}
    assert told == {failure_of(error).code for error in examples.ERRORS}


def all_codes(response: dict[str, Any]) -> set[str]:
    return {entry["value"]["code"] for entry in response["content"]["application/json"]["examples"].values()}


def test_what_an_operation_raises_by_itself_stands_with_it() -> None:
    assert codes(named("renewSession"), 422) == ["SESSION_RENEWAL_FAILED"]
    assert codes(named("sendMessage"), 422) == ["IDEMPOTENCY_KEY_REUSED"]
    assert codes(named("sendMessage"), 502) == ["AGENT_FAILED"]
    assert codes(named("sendMessage"), 504) == ["AGENT_TIMEOUT"]
    assert codes(named("createSession"), 404) == ["AGENT_NOT_FOUND"]
    assert codes(named("readyz"), 503) == ["OVERLOADED"]
    assert codes(named("sendMessage"), 503) == ["OVERLOADED", "STORE_UNAVAILABLE"]


def test_which_statuses_an_operation_lists_follows_from_its_row() -> None:
    assert statuses(named("createSession")) == {201, 400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503}
    assert statuses(named("listSessions")) == {200, 400, 401, 403, 500}
    assert statuses(named("getSession")) == {200, 400, 401, 403, 404, 410, 429, 500}
    assert statuses(named("endSession")) == {200, 400, 401, 403, 404, 429, 500, 503}
    assert statuses(named("heartbeat")) == {200, 400, 401, 403, 404, 410, 413, 429, 500, 503}
    assert statuses(named("livez")) == {200, 500}


def test_an_unhealthy_answer_is_still_a_health_body() -> None:
    responses = operation(named("getHealth"))["responses"]
    healthy, unhealthy = (responses[status]["content"]["application/json"] for status in ("200", "503"))
    assert healthy["schema"] == unhealthy["schema"]
    assert (healthy["example"]["status"], unhealthy["example"]["status"]) == ("healthy", "unhealthy")


def test_headers_stand_where_they_are_sent() -> None:
    for route in ROUTES:
        for status, response in operation(route)["responses"].items():
            headers = resolved(response)["headers"].keys()
            assert {"X-Request-Id", "Cache-Control"} <= headers
            assert ("WWW-Authenticate" in headers) == (status in ("401", "403"))
            limited = status == "429" or (status == "503" and route.other_status != 503)
            assert ("Retry-After" in headers) == limited, (route.name, status)
    assert "Allow" in RESPONSES["MethodNotAllowed"]["headers"]


def test_rate_limit_headers_stand_with_counted_answers_only() -> None:
    def counted(name: str) -> set[str]:
        answers = operation(named(name))["responses"].items()
        return {status for status, response in answers if "RateLimit" in resolved(response)["headers"]}

    assert counted("createSession") == {"201", "409", "422", "429", "500", "503"}
    assert counted("getSession") == {"200", "400", "429", "500"}
    assert counted("listSessions") == set()


def test_create_links_to_every_operation_of_the_session_that_it_made() -> None:
    links = operation(named("createSession"))["responses"]["201"]["links"]
    assert {link["operationId"] for link in links.values()} == {
        openapi.operation_id(route) for route in SESSION_ROUTES if "{messageId}" not in route.path
    }
    assert {link["parameters"]["sessionId"] for link in links.values()} == {"$response.body#/sessionId"}


# -- events


@pytest.mark.parametrize(("data", "kind", "told"), EVENTS, ids=[kind for _, kind, _ in EVENTS])
def test_every_event_is_described_as_it_is_told(data: EventData, kind: str, told: dict[str, Any]) -> None:
    sent = json.loads(frame(Notice(Event(7, "s-1", START_MS, data))))
    assert (sent["type"], sent["data"]) == (kind, told)
    validator({"$ref": "#/components/schemas/Event"}).validate(sent)


def test_what_is_no_committed_change_is_described_too() -> None:
    for notice in (Notice(Chunk("s-1", START_MS, "m-1", "he")), Notice(Resync(7, "s-1", START_MS))):
        validator({"$ref": "#/components/schemas/Event"}).validate(json.loads(frame(notice)))


# -- served


async def test_the_document_is_served_without_a_key() -> None:
    async with running_api() as api:
        answer = await api.request("GET", "//openapi.json", credential=None)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == DOCUMENT


async def test_real_answers_match_their_schemas() -> None:
    async with running_api() as api:
        session = await api.create(agentId="agent-123", metadata={"a": [1, {"b": True}]})
        for route, body in (
            ("listSessions", None),
            ("getHealth", None),
            ("getSession", None),
            ("sendMessage", {"content": "Hello", "attachments": [ATTACHMENT]}),
            ("getMessages", None),
            ("renewSession", None),
            ("updateTimeout", {"timeoutMinutes": 60}),
            ("heartbeat", None),
            ("endSession", None),
        ):
            await matches(api, named(route), session["sessionId"], body)


ATTACHMENT = {"type": "image", "url": "https://example.com/cat.png", "name": "cat.png", "size": 1}


async def matches(api: Api, route: Route, session_id: str, body: object) -> None:
    target = "/" + route.path.replace("{sessionId}", session_id)
    answer = await api.request(route.method, target, body, credential=OWNER)
    assert answer.status == route.status, (route.name, answer)
    content = operation(route)["responses"][str(route.status)]["content"]["application/json"]
    validator(content["schema"]).validate(answer.json)
