"""A request step as what goes over the wire, and what comes back as JSON values.

The table is a client's view of the API, written from the contract and not from the server's own table, so that a
server that changes its mind is noticed.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from vigil.scenarios.language.paths import fill
from vigil.scenarios.language.script import Step

BASE = "/api/messaging/sessions"


class Form(NamedTuple):
    """How a verb is asked; `sends` says where its fields go."""

    method: str
    path: str
    success: int
    sends: str = "nothing"  # or "body", "query"


FORMS: Mapping[str, Form] = {
    "create": Form("POST", BASE, 201, "body"),
    "list": Form("GET", BASE, 200, "query"),
    "health": Form("GET", f"{BASE}/health", 200),
    "get": Form("GET", f"{BASE}/{{}}", 200),
    "end": Form("DELETE", f"{BASE}/{{}}", 200),
    "send": Form("POST", f"{BASE}/{{}}/messages", 201, "body"),
    "history": Form("GET", f"{BASE}/{{}}/messages", 200, "query"),
    "stop": Form("POST", f"{BASE}/{{}}/messages/{{message}}/cancel", 200),
    "renew": Form("POST", f"{BASE}/{{}}/renew", 200),
    "heartbeat": Form("POST", f"{BASE}/{{}}/heartbeat", 200),
    "retime": Form("PATCH", f"{BASE}/{{}}/timeout", 200, "body"),
    "listen": Form("GET", f"{BASE}/{{}}/events", 101, "query"),
}


class Wire(NamedTuple):
    method: str
    target: str
    headers: list[tuple[str, str]]
    content: bytes
    shown: Any  # the body as a JSON value, or as text when it is none; None without one


def compose(
    step: Step, session_id: str, message_id: str, credential: str | None, names: Mapping[str, Any]
) -> Wire:
    """The request of a step; `message_id` is of the message sent last. Raises NoValue when a `${...}` in it stands for
    nothing.
    """
    form = FORMS[step.verb]
    fields = fill(_fields(step), names)
    raw = fill(step.raw.model_dump(exclude_unset=True), names) if step.raw else {}
    content = _content(fields, form, raw)
    headers = _headers(step, credential, content, raw, names)
    path = raw.get("path") or form.path.format(session_id, message=fields.get("message", message_id))
    query = raw.get("query", urlencode(_as_query(fields)) if form.sends == "query" else "")
    target = f"{path}?{query}" if query else path
    return Wire(raw.get("method") or form.method, target, headers, content, _shown(content))


def body_of(headers: Mapping[str, str], content: bytes) -> Any:
    """An answer's body: a JSON value, `{"events": [...]}` for a stream (not its comments), else text; None if empty."""
    text = content.decode("utf-8", "replace")
    if headers.get("content-type", "").startswith("text/event-stream"):
        blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
        return {"events": [_event(block) for block in blocks]}
    return _shown(content)


def _fields(step: Step) -> dict[str, Any]:
    given: dict[str, Any] = step.action.model_dump(by_alias=True, exclude_unset=True)
    if step.verb == "create":
        given = {"agentId": step.action.agent_id, "userId": step.action.user_id} | given
    return {name: value for name, value in given.items() if name not in {"session", "idempotencyKey"}}


def _content(fields: Mapping[str, Any], form: Form, raw: Mapping[str, Any]) -> bytes:
    if "json_" in raw:
        return _dumps(raw["json_"])
    if raw.get("body") is not None:
        times: int = raw.get("repeat", 1)
        return (str(raw["body"]) * times).encode("utf-8", "surrogatepass")
    return _dumps(fields) if form.sends == "body" else b""


def _dumps(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _headers(
    step: Step, credential: str | None, content: bytes, raw: Mapping[str, Any], names: Mapping[str, Any]
) -> list[tuple[str, str]]:
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    if content:
        headers["content-type"] = "application/json"
    if key := getattr(step.action, "idempotency_key", None):
        headers["idempotency-key"] = fill(key, names)
    headers |= {name.lower(): value for name, value in raw.get("headers", {}).items()}
    return [(name, value) for name, value in headers.items() if value is not None]


def _as_query(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


def _shown(content: bytes) -> Any:
    if not content:
        return None
    try:
        value = json.loads(content)
        json.dumps(
            value, ensure_ascii=False, allow_nan=False
        ).encode()  # half a surrogate pair cannot be written
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")
    return value


def _event(block: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
    return {"event": fields.get("event", ""), "data": _shown(fields.get("data", "").encode())}
