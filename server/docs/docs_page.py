"""The OpenAPI document as one page for people: no other file, no network, in light and dark, on a phone.

What is shown is taken from the document alone; how it looks is in `docs_page.html`.
"""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from vigil.server.docs import pages
from vigil.server.docs.pages import Page

Json = dict[str, Any]


_ORIGIN = "http://localhost:3000"  # the page's script puts the server's own in its place
_STATUS_OF = {status.phrase: str(status.value) for status in HTTPStatus}
_EVERYWHERE = ("requestId",)  # parameters of all operations
_UNBOUNDED = 2**63 - 1  # a maximum that nobody needs to read
_RANGES = (("minimum", "maximum", ""), ("minLength", "maxLength", " characters"))


class Field(NamedTuple):
    """A parameter, or a field of a body: `name` may lead inwards, as in `timeoutConfig.autoRenew`."""

    name: str
    place: str
    kind: str
    required: bool
    description: str


class Answer(NamedTuple):
    status: str
    phrase: str
    media_types: Sequence[str]
    description: str
    example: str  # "" for none


class Failure(NamedTuple):
    """One kind of error: its text, with the whole body as an example."""

    status: str
    code: str
    message: str
    example: str


class Operation(NamedTuple):
    id: str
    method: str
    path: str
    summary: str
    description: str
    access: str
    parameters: Sequence[Field]
    fields: Sequence[Field]  # of the body
    body: str  # an example, "" where none is needed
    answers: Sequence[Answer]
    failures: Sequence[Failure]
    command: str  # in a shell, or in a browser for a WebSocket


class Group(NamedTuple):
    name: str
    description: str
    operations: Sequence[Operation]


def page(document: Json) -> Page:
    """Render the document, and allow the page what stands in it and nothing else."""
    html = pages.render(
        "server/docs/docs_page.html",
        info=document["info"],
        groups=_groups(document),
        failures=_all_failures(document),
        common=[_parameter(document["components"]["parameters"][name]) for name in _EVERYWHERE],
        headers=document["components"]["headers"],
    )
    return pages.with_policy(html)


# --- what there is to show


def _groups(document: Json) -> list[Group]:
    operations = [
        (operation["tags"][0], _operation(document, method, path, operation))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return [
        Group(tag["name"], tag["description"], [shown for name, shown in operations if name == tag["name"]])
        for tag in document["tags"]
    ]


def _operation(document: Json, method: str, path: str, operation: Json) -> Operation:
    content = _first(operation.get("requestBody", {}).get("content", {}))
    is_needed = operation.get("requestBody", {}).get("required", False)
    responses = [(status, _resolved(document, entry)) for status, entry in operation["responses"].items()]
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation["description"],
        access=_access(path, operation),
        parameters=[_parameter(entry) for entry in _own_parameters(document, operation)],
        fields=list(_fields(document, content["schema"])) if content else [],
        body=_pretty(content["example"]) if is_needed else "",
        answers=[_answer(document, status, entry) for status, entry in responses if not _is_error(entry)],
        failures=[failure for status, entry in responses for failure in _failures(status, entry)],
        command=_command(
            method.upper(), path, operation, content["example"] if is_needed else None, _base(document)
        ),
    )


def _own_parameters(document: Json, operation: Json) -> list[Json]:
    """Without those that every operation has: they are described once."""
    common = [document["components"]["parameters"][name] for name in _EVERYWHERE]
    parameters = [_resolved(document, entry) for entry in operation["parameters"]]
    return [parameter for parameter in parameters if parameter not in common]


def _access(path: str, operation: Json) -> str:
    if not operation["security"]:
        return "No key needed"
    scopes = " and ".join(f"`{scope}`" for scope in operation["security"][0]["bearer"])
    token = ", or the session's own token" if "{sessionId}" in path else ""
    return f"API key with {scopes}{token}"


def _answer(document: Json, status: str, response: Json) -> Answer:
    content = response.get("content", {})
    media = _first(content)
    schema = _resolved(document, media.get("schema", {}))
    example = _pretty(media["example"]) if "example" in media else ""
    phrase = HTTPStatus(int(status)).phrase
    return Answer(status, phrase, list(content), schema.get("description", ""), example)


def _is_error(response: Json) -> bool:
    return "examples" in _first(response.get("content", {}))


def _failures(status: str, response: Json) -> Iterator[Failure]:
    for example in _first(response.get("content", {})).get("examples", {}).values():
        body = example["value"]
        yield Failure(status, body["code"], body["message"], _pretty(body))


def _all_failures(document: Json) -> list[Failure]:
    """One of each, by status: the same error stands in several responses."""
    found = {
        failure.message: failure
        for response in document["components"]["responses"].values()
        for failure in _failures(_STATUS_OF[response["description"].partition(":")[0]], response)
    }
    return sorted(found.values(), key=lambda failure: (failure.status, failure.code))


def _base(document: Json) -> str:
    """What every URL begins with."""
    return _ORIGIN + str(document["servers"][0]["url"]).removesuffix("/")


def _command(method: str, path: str, operation: Json, body: object, base: str) -> str:
    if "101" in operation["responses"]:
        address = f"ws{base.removeprefix('http')}{path.replace('{sessionId}', '${SESSION_ID}')}"
        return f"new WebSocket(`{address}`, ['vigil.v1', `bearer.${{TOKEN}}`])"
    verb = "" if method == "GET" else f"-X {method} "
    parts = [
        f'curl {verb}"{base}{path.replace("{sessionId}", "$SESSION_ID").replace("{messageId}", "$MESSAGE_ID")}"'
    ]
    if operation["security"]:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if body is not None:
        parts += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json.dumps(body))}"]
    return " \\\n  ".join(parts)


# --- schemas in words


def _parameter(parameter: Json) -> Field:
    kind = _kind(parameter["schema"])
    return Field(
        parameter["name"], parameter["in"], kind, parameter.get("required", False), parameter["description"]
    )


def _fields(document: Json, schema: Json, prefix: str = "") -> Iterator[Field]:
    """The fields of an object, and after each those inside it."""
    whole = _resolved(document, schema)
    for name, value in whole.get("properties", {}).items():
        inside, path = _inside(document, value), f"{prefix}{name}"
        required = name in whole.get("required", ())
        description = value.get("description") or inside.get("description", "")
        yield Field(path, "body", _kind(_resolved(document, value)), required, description)
        yield from _fields(document, inside, f"{path}[]." if "items" in value else f"{path}.")


def _inside(document: Json, schema: Json) -> Json:
    return _resolved(document, schema.get("items", schema))


def _kind(schema: Json) -> str:
    """`integer, 1 to 100, default 50`."""
    words = [" or ".join(map(str, schema["enum"])) if "enum" in schema else _type(schema)]
    words += [_range(schema[low], schema.get(high), unit) for low, high, unit in _RANGES if low in schema]
    if "default" in schema and not isinstance(schema["default"], dict | list):
        words.append(f"default {schema['default']}")
    return ", ".join(words)


def _type(schema: Json) -> str:
    kind = schema.get("type") or " or ".join(dict.fromkeys(_type(entry) for entry in schema["anyOf"]))
    return str(schema.get("format", kind))


def _range(low: int, high: int | None, unit: str) -> str:
    return f"{low} to {high}{unit}" if high is not None and high < _UNBOUNDED else f"{low}{unit} or more"


def _resolved(document: Json, node: Json) -> Json:
    """What a reference refers to; anything else as it is."""
    if "$ref" not in node:
        return node
    found: Any = document
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return {**found, **{key: value for key, value in node.items() if key != "$ref"}}


def _first(mapping: Mapping[str, Json]) -> Json:
    return next(iter(mapping.values()), {})


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
