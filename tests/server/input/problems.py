"""What is wrong with a body or a query, by path."""

import json

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import BaseModel

from vigil.server.input.schemas import (
    Invalid,
    SendMessage,
    validate_body,
    validate_query,
)

OWNERS = {"agentId": "agent-123", "userId": "user-456"}


FILE = {"type": "image", "url": "https://example.com/cat.png", "name": "cat.png"}


def problems(model: type[BaseModel], body: object) -> dict[str, str]:
    """Path to message; nothing when the body is valid. The published JSON Schema must agree."""
    schema = json.dumps(model.model_json_schema()).replace(
        '$"', r'\\Z"'
    )  # JSON Schema's $, in Python's words
    published = Draft202012Validator(json.loads(schema))
    try:
        validate_body(model, body)
    except Invalid as invalid:
        if not any(rule in str(invalid) for rule in BEYOND_JSON_SCHEMA):
            assert not published.is_valid(body), "the schema lets it pass"
        return {problem["path"]: problem["message"] for problem in invalid.errors}
    published.validate(body)
    return {}


BEYOND_JSON_SCHEMA = ["bytes as compact JSON"]


def query_problems(model: type[BaseModel], *pairs: tuple[str, str]) -> dict[str, str]:
    try:
        validate_query(model, pairs)
    except Invalid as invalid:
        return {problem["path"]: problem["message"] for problem in invalid.errors}
    return {}


# -- Timeouts, in create and in update

RANGES = [("timeoutMinutes", 5, 1440), ("maxDurationMinutes", 1, 4320), ("warningThresholdMinutes", 1, 60)]


def attach(*files: object) -> dict[str, str]:
    return problems(SendMessage, {"content": "hi", "attachments": list(files)})
