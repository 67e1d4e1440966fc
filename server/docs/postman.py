"""The Postman collection (format v2.1), made from the route table: `python -m vigil.server.docs.postman > FILE`.

Two requests stand in it as the seed prints them; the others are the documentation's examples. Run from top to
bottom it works: create keeps the new session's id, and what ends sessions comes last.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vigil.server.api.routes import ROUTES, Route
from vigil.server.docs import openapi

Json = dict[str, Any]

_SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"

_VARIABLES = (
    ("base_url", "http://localhost:3000", "Where Vigil listens."),
    ("token", "", "An API key, or the token of one session."),
    ("agent_id", "agent-123", "An agent of the catalogue."),
    ("user_id", "user-456", "Your own id for the user."),
    ("session_id", "", "Set by Create Session Request."),
    (
        "session_token",
        "",
        "Set by Create Session Request. As `token` it opens that session and nothing else.",
    ),
    ("message_id", "", "Set by Send Message Request."),
)

_KEEP_THE_MESSAGE = ("pm.collectionVariables.set('message_id', pm.response.json().id);",)
_KEEP_THE_SESSION = (
    "pm.test('the session is created', () => pm.response.to.have.status(201));",
    "pm.collectionVariables.set('session_id', pm.response.json().sessionId);",
    "pm.collectionVariables.set('session_token', pm.response.json().sessionToken);",
)


class Given(NamedTuple):
    """A request's name and body as the seed prints them."""

    name: str
    body: str


_SEED: Mapping[str, Given] = {
    "createSession": Given(
        "Create Session Request",
        """\
{
  "agentId": "{{agent_id}}",
  "userId": "{{user_id}}",
  "timeoutConfig": {
    "timeoutMinutes": 30,
    "autoRenew": true,
    "maxDurationMinutes": 180,
    "warningThresholdMinutes": 5
  }
}""",
    ),
    "sendMessage": Given(
        "Send Message Request",
        """\
{
  "content": "This is a test message"
}""",
    ),
}


def collection(routes: Sequence[Route]) -> Json:
    """The whole collection, a request for each route that Postman's format can hold: WebSockets it cannot."""
    document = openapi.document(routes)
    rows = [route for route in routes if not route.is_websocket]
    rows.sort(key=lambda route: route.method == "DELETE")
    return {
        "info": {
            "name": document["info"]["title"],
            "description": document["info"]["description"],
            "schema": _SCHEMA,
        },
        "variable": [
            {"key": key, "value": value, "type": "string", "description": description}
            for key, value, description in _VARIABLES
        ],
        "item": [_item(route, document["paths"][route.path][route.method.lower()]) for route in rows],
    }


def _item(route: Route, operation: Json) -> Json:
    given = _SEED.get(route.name)
    item: Json = {"name": given.name if given else route.summary}
    if route.subject == "new session":
        script = {"type": "text/javascript", "exec": list(_KEEP_THE_SESSION)}
        item["event"] = [{"listen": "test", "script": script}]
    elif route.name == "sendMessage":
        script = {"type": "text/javascript", "exec": list(_KEEP_THE_MESSAGE)}
        item["event"] = [{"listen": "test", "script": script}]
    item["request"] = _request(route, operation)
    return item


def _request(route: Route, operation: Json) -> Json:
    body = _body(route, operation)
    request: Json = {
        "method": route.method,
        "header": list(_headers(route, has_body=body is not None)),
        "url": _url(route, operation),
        "description": route.description,
    }
    if body is not None:
        request["body"] = {"mode": "raw", "raw": body, "options": {"raw": {"language": "json"}}}
    return request


def _headers(route: Route, *, has_body: bool) -> Iterable[Json]:
    if has_body:
        yield {"key": "Content-Type", "value": "application/json"}
    if route.subject != "anybody":
        yield {"key": "Authorization", "value": "Bearer {{token}}"}


def _body(route: Route, operation: Json) -> str | None:
    """None where nothing needs to be sent."""
    if route.name in _SEED:
        return _SEED[route.name].body
    if not operation.get("requestBody", {}).get("required"):
        return None
    return json.dumps(operation["requestBody"]["content"]["application/json"]["example"], indent=2)


def _url(route: Route, operation: Json) -> Json:
    path = route.path.replace("{sessionId}", "{{session_id}}").replace("{messageId}", "{{message_id}}")
    url: Json = {
        "raw": "{{base_url}}" + path,
        "host": ["{{base_url}}"],
        "path": path.removeprefix("/").split("/"),
    }
    query = [
        _query_entry(parameter) for parameter in operation["parameters"] if parameter.get("in") == "query"
    ]
    return {**url, "query": query} if query else url


def _query_entry(parameter: Json) -> Json:
    """Off until somebody ticks it."""
    schema = parameter["schema"]
    value = schema["default"] if "default" in schema else schema["examples"][0]
    return {
        "key": parameter["name"],
        "value": str(value),
        "description": parameter["description"],
        "disabled": True,
    }


if __name__ == "__main__":
    print(json.dumps(collection(ROUTES), indent=2))
