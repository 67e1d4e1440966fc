"""The API's operations as values: what to send, and how long to wait. Nothing here sends anything."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from vigil_client.models import Attachment

BASE = "/api/messaging/sessions"


@dataclass(frozen=True)
class Call:
    """One request. `token` opens its session; without it the client's API key is used."""

    method: str
    path: str
    token: str | None = field(default=None, repr=False)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    waits_for_agent: bool = False
    streams: bool = False
    good_statuses: frozenset[int] = frozenset()  # beside 200 to 299

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None, named as the API names them."""
    return {_camel(name): value for name, value in values.items() if value is not None}


def body_of(fields: Mapping[str, Any]) -> bytes:
    """Compact JSON. A ValueError for what is none, before anything is sent."""
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def posted(path: str, fields: Mapping[str, Any], **rest: Any) -> Call:
    return _with_body("POST", path, fields, **rest)


def patched(path: str, fields: Mapping[str, Any], **rest: Any) -> Call:
    return _with_body("PATCH", path, fields, **rest)


def session_path(session_id: str, *rest: str) -> str:
    return "/".join([BASE, *(quote(part, safe="") for part in (session_id, *rest))])


def idempotency(key: str | None) -> dict[str, str]:
    """The header that makes a retry safe, with a key of our own unless the caller has one."""
    return {"Idempotency-Key": key or str(uuid4())}


def files(attachments: Sequence[Attachment | Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """Attachments as the API takes them; None for none."""
    return [_file(one) for one in attachments] or None


def _file(attachment: Attachment | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(attachment, Attachment):
        return attachment.model_dump(by_alias=True, exclude_none=True)
    return attachment


def _with_body(method: str, path: str, fields: Mapping[str, Any], **rest: Any) -> Call:
    headers = {"Content-Type": "application/json", **rest.pop("headers", {})}
    return Call(method, path, body=body_of(fields), headers=headers, **rest)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
