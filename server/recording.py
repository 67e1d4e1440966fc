"""What came in and went out, as lines of JSON: for `vigil replay` to play again in virtual time.

The first line says what the server was. After it, in the order in which they were finished:

    {"caller": "owner", "scopes": [...]}                       the first time that an API key is seen
    {"now": ms, "order": n, "taken": ms, "done": ms, "operation": ..., "by": ..., "method": ..., "target": ...,
     "headers": {...}, "body": ..., "status": 201, "answered": {...}, "answer": ...}           a request
    {"session": id, "to": ms, "at": ms, "done": ms, "reply": ... or "error": ..., "why": ...}  an agent's turn
    {"session": id, "over": ms}                                                                the commit of its end

`now` is the instant at which the request was charged and read state, `order` its place among all by that, `taken`
the instant at which the session's actor took its command up: the answer was made from them. `done` is when it was
durable, or the answer there.

Keys and tokens are never written. What people wrote is written only with `content=True`; else a filler of the same
length stands for it, equal for equal texts, under a salt that is written nowhere.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson
import structlog

from actors.agents.base import AgentEntry
from actors.clock import ScaledClock
from actors.errors import VigilError
from actors.events import AgentError, Broadcast
from actors.lifecycle import Transition, taken_at
from actors.limits import Limit
from actors.records import Session
from server.call import Call, Reply
from server.site import Plan

log = structlog.get_logger()

FORMAT = 1
FILE_BUFFER_BYTES = 64 * 1024
KEPT_IN = ("content-type", "idempotency-key")  # of the headers that come in
KEPT_OUT = frozenset({"RateLimit", "RateLimit-Policy", "Retry-After"})
_TEXTS = frozenset({"content", "text", "url", "name"})  # what people wrote, wherever it stands
_TOKEN = b',"sessionToken":'


class RecordingError(VigilError):
    """The recording cannot begin."""


class Start(NamedTuple):
    """What the server was when the recording began."""

    version: str
    sessions: int  # that it held already: a trace cannot tell how they came to be


class Recorder:
    """Turns requests and turns into lines, and hands them to `write`, which must not wait.

    A `write` that fails ends the recording, with one line in the log; the server goes on.
    """

    def __init__(
        self, write: Callable[[bytes], object], clock: ScaledClock, *, salt: bytes, content: bool = False
    ) -> None:
        self._write: Callable[[bytes], object] | None = write
        self._clock = clock
        self._salt = salt
        self._content = content
        self._seen: set[str] = set()
        self._settled: dict[str, dict[int, int]] = {}  # by session and take-up: when it was durable

    def begin(self, plan: Plan, start: Start) -> None:
        """The first line."""
        self._line(
            {
                "trace": FORMAT,
                "version": start.version,
                "startedAt": self._clock.now(),
                "timeScale": self._clock.scale,
                "content": self._content,
                "sessions": start.sessions,
                "settings": _settings(plan),
                "agents": [_agent(entry) for entry in plan.agents.values()],
            }
        )

    def answered(self, call: Call, operation: str, reply: Reply | None) -> None:
        """One request, once its answer is whole (a stream: once it has begun) or its client has gone: status 0."""
        if self._write is None:
            return
        status, headers, answer = reply or (0, [], b"")
        request = call.request
        sent = {name: values[0] for name in KEPT_IN if (values := request.header(name))}
        query = request.query_string.decode("latin-1")
        self._line(
            {
                "now": call.now,
                "order": call.order,
                "taken": call.taken,
                "done": self._done(call),
                "operation": operation,
                "by": self._caller(call),
                "method": request.method,
                "target": f"{request.path}?{query}" if query else request.path,
                "headers": sent,
                "body": self._body(call, status),
                "status": status,
                "answered": {name: value for name, value in headers if name in KEPT_OUT},
                "answer": self._answer(answer),
            }
        )

    def settled(self, session_id: str, transition: Transition) -> None:
        """One committed transition; those that end a session or an agent's turn are recorded."""
        if not isinstance(transition.state, Session):
            self._line({"session": session_id, "over": self._clock.now()})
            self._settled.pop(session_id, None)
            return
        if transition.turn is None or transition.message is not None:
            self._settled.setdefault(session_id, {})[taken_at(transition)] = self._clock.now()
        if transition.turn is None or transition.turn[1] not in ("answered", "failed"):
            return
        event = transition.events[0]
        line = {"session": session_id, "to": transition.turn[0], "at": event.at, "done": self._clock.now()}
        if isinstance(event.data, AgentError):
            line |= {"error": event.data.code, "why": event.data.message}
        elif isinstance(event.data, Broadcast):
            line["reply"] = self._text(event.data.message.content)
            line["metadata"] = orjson.Fragment(event.data.message.metadata if self._content else "{}")
        self._line(line)

    def _done(self, call: Call) -> int:
        """When what was asked was durable; where nothing was to be, now."""
        now = self._clock.now()
        return now if call.taken is None else self._settled.get(call.session_id, {}).pop(call.taken, now)

    def _caller(self, call: Call) -> str:
        """`key NAME`, `token`, `other token`, `bad` or `none`."""
        principal = call.principal
        if principal is None:
            given = call.request.header("authorization") or call.request.header("x-api-key")
            return "bad" if given else "none"
        if principal.session_id is not None:
            return "token" if principal.session_id == call.session_id else "other token"
        if principal.id not in self._seen:
            self._seen.add(principal.id)
            self._line({"caller": principal.name, "scopes": sorted(principal.scopes)})
        return f"key {principal.name}"

    def _body(self, call: Call, status: int) -> Any:
        """JSON where it was taken; else how long it was, or with content its text."""
        raw = call.raw_body
        if not raw:
            return None
        if call.body is not None and status != HTTPStatus.BAD_REQUEST:
            value = orjson.loads(raw)
            return value if self._content else self._without_texts(value)
        return {"text": raw.decode("latin-1")} if self._content else {"bytes": len(raw)}

    def _answer(self, body: object) -> Any:
        if not isinstance(body, bytes) or not body.startswith(b"{"):
            return None
        token = body.rfind(_TOKEN)
        if token >= 0:
            body = body[:token] + b"}"
        if self._content or not _may_hold_texts(body):
            return orjson.Fragment(body)
        return self._without_texts(orjson.loads(body))

    def _without_texts(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: {} if name == "metadata" else self._filled(name, inner) for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self._without_texts(inner) for inner in value]
        return value

    def _filled(self, name: str, value: Any) -> Any:
        if name in _TEXTS and isinstance(value, str):
            text = self._text(value)
            return f"https://example.invalid/{text}" if name == "url" else text
        return self._without_texts(value)

    def _text(self, text: str) -> str:
        return text if self._content else filler(text, self._salt)

    def _line(self, value: Mapping[str, Any]) -> None:
        if self._write is None:
            return
        try:
            self._write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            self._write = None
            log.error("the recording ends here: its file cannot be written", why=error.strerror)  # noqa: TRY400


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A new file for the owner alone, written in large pieces. Raises RecordingError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        message = f"{path} exists already: a recording is never written over. Name another --record FILE"
        raise RecordingError(message) from None
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror}") from None
    file = os.fdopen(descriptor, "wb", buffering=FILE_BUFFER_BYTES)
    try:
        yield file
    finally:
        with suppress(OSError):  # a full disk has been told of, and must not stop the stop
            file.close()


def filler(text: str, salt: bytes) -> str:
    """As many hexadecimal digits as `text` has characters, the same for the same text."""
    digits = blake2b(text.encode(), key=salt, digest_size=16).hexdigest()
    return (digits * (len(text) // len(digits) + 1))[: len(text)]


def _may_hold_texts(body: bytes) -> bool:
    return b'"content":' in body or (b'"metadata":' in body and b'"metadata":{}' not in body)


def _settings(plan: Plan) -> dict[str, Any]:
    rules = plan.rules
    limits = {"session": plan.session_limit, "user": plan.user_limit, "agent": plan.agent_limit}
    return {
        "limits": {name: _limit(limit) for name, limit in limits.items()},
        "defaults": rules.defaults._asdict(),
        "sessionMax": rules.session_max,
        "tombstoneMinutes": rules.tombstone_minutes,
        "tombstoneMax": rules.tombstone_max,
        "contentPolicy": plan.content_policy,
    }


def _agent(entry: AgentEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.name,
        "answers": entry.agent is not None,
        "timeouts": entry.timeouts._asdict(),
        "sessionLimit": _limit(entry.session_limit),
        "agentLimit": _limit(entry.agent_limit),
    }


def _limit(limit: Limit | None) -> list[int] | None:
    return None if limit is None else list(limit)
