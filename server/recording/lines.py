"""The lines of a recording, made of what `server.recording.recorder` notes. As a process: notes in, lines out.

The first line says what the server was. After it, in the order in which they were finished:

    {"caller": "owner", "scopes": [...]}                       the first time that an API key is seen
    {"now": ms, "order": n, "taken": ms, "event": n, "done": ms, "operation": ..., "by": ..., "method": ...,
     "target": ..., "headers": {...}, "body": ..., "status": 201, "answered": {...}, "answer": ...}       a request
    {"session": id, "to": ms, "at": ms, "event": n, "done": ms, "reply": ..., "finishReason": ...}        a turn
    {"session": id, "to": ms, "at": ms, "event": n, "done": ms, "error": ..., "why": ...}     a turn that has failed
    {"session": id, "to": ms, "begun": ms}                  the commit of the beginning of a turn that had waited
    {"session": id, "over": ms}                                                       the commit of its end

`now` is the instant at which the request was charged and read state, `order` its place among all by that, `taken`
the instant at which the session's actor took its command up: the answer was made from them. `event` is the id of the
session's newest event after it, which gives the order of commands of one batch. `done` is when it was durable, or
the answer there.

Keys and tokens are never written. What people wrote is written only with `content=True`; else a filler of the same
length stands for it, equal for equal texts, under a salt that is written nowhere.
"""

import marshal
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from http import HTTPStatus
from typing import IO, Any, NamedTuple

import orjson

KEPT_OUT = frozenset({"RateLimit", "RateLimit-Policy", "Retry-After"})
_TEXTS = frozenset({"content", "text", "url", "name"})  # what people wrote, wherever it stands
_TOKEN = b',"sessionToken":'


class RequestNote(NamedTuple):
    """What is noted of a request, in this order."""

    now: int
    order: int
    taken: int | None
    event_id: int | None
    done: int
    operation: str
    caller: tuple[str, str, list[str], str | None] | None  # id, name, scopes and, of a token, its session
    is_bad: bool  # there were credentials, and nobody knows them
    session_id: str
    method: str
    path: str
    query: bytes
    content_type: Sequence[str]
    idempotency_key: Sequence[str]
    body: bytes
    was_taken: bool
    status: int
    headers: Sequence[tuple[str, str]]
    answer: bytes


class Lines:
    """Turns notes into lines, each with its line feed; a key's first request gives one more."""

    def __init__(self, *, salt: bytes, content: bool = False) -> None:
        self._salt = salt
        self._content = content
        self._seen: set[str] = set()
        self._makers: Mapping[str, Callable[..., Iterator[bytes]]] = {
            "begin": self._begin,
            "request": self._request,
            "turn": self._turn,
            "begun": self._begun,
            "over": self._over,
        }

    def of(self, note: Sequence[Any]) -> Iterator[bytes]:
        kind, *rest = note
        return self._makers[kind](*rest)

    def _begin(self, first: bytes) -> Iterator[bytes]:
        yield first + b"\n"

    def _over(self, session_id: str, now: int) -> Iterator[bytes]:
        yield _line({"session": session_id, "over": now})

    def _begun(self, session_id: str, to: int, now: int) -> Iterator[bytes]:
        yield _line({"session": session_id, "to": to, "begun": now})

    def _turn(
        self,
        session_id: str,
        to: int,
        at: int,
        event_id: int,
        done: int,
        reply: str | None,
        more: str,
        why: str,
    ) -> Iterator[bytes]:
        line: dict[str, Any] = {"session": session_id, "to": to, "at": at, "event": event_id, "done": done}
        if reply is None:
            yield _line(line | {"error": more, "why": why})
        else:
            metadata = orjson.Fragment(more if self._content else "{}")
            yield _line(line | {"reply": self._text(reply), "metadata": metadata, "finishReason": why})

    def _request(self, *noted: Any) -> Iterator[bytes]:
        note = RequestNote._make(noted)
        caller = note.caller
        if caller is not None and caller[3] is None and caller[0] not in self._seen:
            self._seen.add(caller[0])
            yield _line({"caller": caller[1], "scopes": caller[2]})
        query = note.query.decode("latin-1")
        kept = {"content-type": note.content_type, "idempotency-key": note.idempotency_key}
        yield _line(
            {
                "now": note.now,
                "order": note.order,
                "taken": note.taken,
                "event": note.event_id,
                "done": note.done,
                "operation": note.operation,
                "by": _by(note),
                "method": note.method,
                "target": f"{note.path}?{query}" if query else note.path,
                "headers": {name: values[0] for name, values in kept.items() if values},
                "body": self._body(note),
                "status": note.status,
                "answered": {name: value for name, value in note.headers if name in KEPT_OUT},
                "answer": self._answer(note.answer),
            }
        )

    def _body(self, note: RequestNote) -> Any:
        """JSON where it was taken; else how long it was, or with content its text."""
        raw = note.body
        if not raw:
            return None
        if note.was_taken and note.status != HTTPStatus.BAD_REQUEST:
            value = orjson.loads(raw)
            return value if self._content else self._without_texts(value)
        return {"text": raw.decode("latin-1")} if self._content else {"bytes": len(raw)}

    def _answer(self, body: bytes) -> Any:
        if not body.startswith(b"{"):
            return None
        token = body.rfind(_TOKEN)
        if token >= 0:
            body = body[:token] + b"}"
        return orjson.Fragment(body) if self._content else self._without_texts(orjson.loads(body))

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


def filler(text: str, salt: bytes) -> str:
    """As many hexadecimal digits as `text` has characters, the same for the same text."""
    digits = blake2b(text.encode(), key=salt, digest_size=16).hexdigest()
    return (digits * (len(text) // len(digits) + 1))[: len(text)]


def write(notes: IO[bytes], lines: Lines, out: IO[bytes]) -> None:
    """Make lines of batches of notes until there are no more. Raises OSError when `out` takes no more."""
    while True:
        try:
            batch = marshal.load(notes)  # noqa: S302  from the server itself, through a pipe
        except EOFError:  # also when the server was killed in the middle of a batch
            return
        out.write(b"".join([line for note in batch for line in lines.of(note)]))
        out.flush()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGHUP):  # they are the server's: it says when there is no more
        signal.signal(number, signal.SIG_IGN)
    lines = Lines(salt=os.urandom(16), content="--content" in sys.argv[1:])
    try:
        write(sys.stdin.buffer, lines, sys.stdout.buffer)
    except OSError as error:
        print(f"vigil: the recording cannot be written: {error.strerror}", file=sys.stderr)
        os._exit(1)  # and not through a last flush, which would fail again
    return 0


def _by(note: RequestNote) -> str:
    """`key NAME`, `token`, `other token`, `bad` or `none`."""
    if note.caller is None:
        return "bad" if note.is_bad else "none"
    _, name, _, session_id = note.caller
    if session_id is None:
        return f"key {name}"
    return "token" if session_id == note.session_id else "other token"


def _line(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.exit(main())
