"""What the grammars of all providers have in common: a body in chunks, read as events, lines or one object.

A grammar is strict about what ends or fails an answer and lenient about all else: an error fails it wherever it
stands, what is no JSON may have been a piece of it, and what says nothing is passed over.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply
from vigil.actors.agents.event_stream import BOM, EventStream, EventTooLong, ServerSentEvent
from vigil.actors.agents.remote import ANSWER_BYTES_MAX, Remote
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.records import FinishReason

Json = dict[str, Any]


class Grammar:
    """An answer as it grows. A provider says what its `_event` means, and which words end an answer early."""

    REASONS: ClassVar[Mapping[object, FinishReason]] = {}
    JSON_STARTS: ClassVar[str] = "{["  # the first characters of a body that is no stream
    DONE_ENDS: ClassVar[bool] = False  # gateways add `[DONE]` to protocols that have no such thing

    def __init__(self, remote: Remote, say: Callable[[str], None]) -> None:
        self._remote = remote
        self._say = say
        self._pieces: list[str] = []
        self._size = 0
        self._finish: object = None  # the last reason that was said
        self._may_end = False  # the body may end here, though nothing said that it is done
        self.is_done = False

    def add(self, event: ServerSentEvent) -> None:
        """Raises AgentFailed for an error, and for what cannot be read."""
        if self.is_done:
            return
        if event.type == "error":
            raise self.reported(event.data)
        data = event.data.strip()
        if data == "[DONE]":
            self.is_done = self.DONE_ENDS
        elif data and (event.type == "message" or data[0] in self.JSON_STARTS):
            self.add_text(data)  # words in an event of another type are pings

    def add_text(self, text: str) -> None:
        """One JSON value. Raises AgentFailed."""
        value = self._parsed(text)
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                continue
            if one.get("error") or one.get("type") == "error":  # an empty or false error is none
                raise self.reported(one)
            self._event(one)

    def add_object(self, text: str) -> None:
        """The whole body as one JSON value, of a server that does not stream. Raises AgentFailed."""
        self.add_text(text)

    def whole(self) -> Reply:
        """Raises AgentFailed when it is not whole, or empty."""
        if not self.is_done and not self._may_end:
            raise self._remote.failed("broke off in the middle of its answer", characters=self._size)
        if not self._size:
            raise self._remote.failed("gave an empty answer", finish_reason=ascii(self._finish)[:40])
        said = self._finish
        reason = self.REASONS.get(said, "stop") if isinstance(said, str) else "stop"
        return Reply("".join(self._pieces), finish_reason=reason)

    def reported(self, error: object) -> AgentFailed:
        return self._remote.failed("reported an error", said=self._remote.excerpt(json.dumps(error)))

    def _parsed(self, text: str) -> Any:
        """Parse leniently: only content is read. Raises AgentFailed."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._remote.failed("gave an answer that is not JSON", error=str(error)[:200]) from None

    def _event(self, event: Json) -> None:
        raise NotImplementedError

    def _piece(self, text: object) -> None:
        """Raises AgentFailed when it is no text, or too much."""
        if not text:
            return
        try:
            assert isinstance(text, str)
            text.encode()  # halves of characters cannot be kept
        except (AssertionError, ValueError):
            raise self._no_text() from None
        self._size += len(text)
        if self._size > ANSWER_CHARACTERS_MAX:
            raise self._remote.failed("gave an answer that is too long", characters_max=ANSWER_CHARACTERS_MAX)
        self._pieces.append(text)
        self._say(text)

    def _no_text(self) -> AgentFailed:
        return self._remote.failed("gave content that is no text")


class Body:
    """A body in chunks cut anywhere. Its first character tells how it is framed: content types do not.

    With `is_lines` what begins with a brace is an object a line, else it is one object.
    """

    def __init__(self, remote: Remote, grammar: Grammar, *, is_lines: bool = False) -> None:
        self._remote = remote
        self._grammar = grammar
        self._is_lines = is_lines
        self._head = b""
        self._take: Callable[[bytes], None] | None = None
        self._events = EventStream(ANSWER_BYTES_MAX)
        self._text = bytearray()

    @property
    def is_done(self) -> bool:
        return self._grammar.is_done

    def feed(self, chunk: bytes) -> bool:
        """Tell whether nothing that may still come counts. Raises AgentFailed."""
        if self._take is None:
            chunk = self._head = (self._head + chunk).removeprefix(BOM).lstrip()
            if BOM.startswith(chunk):  # or there is nothing yet
                return False
            is_json = chr(chunk[0]) in self._grammar.JSON_STARTS
            self._take = self._take_text if is_json else self._take_events
        self._take(chunk)
        return self.is_done

    def end(self) -> Reply:
        """The whole answer. Raises AgentFailed when there is none."""
        if self._text.strip() and not self.is_done:
            self._grammar.add_object(self._text.decode(errors="replace"))
        self._add(self._events.end())
        return self._grammar.whole()

    def _take_text(self, chunk: bytes) -> None:
        self._text += chunk
        if len(self._text) >= ANSWER_BYTES_MAX:
            raise self._remote.failed("gave an answer that is too long", bytes_max=ANSWER_BYTES_MAX)
        if self._is_lines and b"\n" in chunk:
            *lines, rest = self._text.splitlines(keepends=True)
            if rest.endswith(b"\n"):
                lines, rest = [*lines, rest], bytearray()
            self._text = bytearray(rest)
            for line in lines:
                if line.strip() and not self.is_done:
                    self._grammar.add_text(line.decode(errors="replace"))

    def _take_events(self, chunk: bytes) -> None:
        self._add(self._events.feed(chunk))

    def _add(self, events: Iterable[ServerSentEvent]) -> None:
        try:
            for event in events:
                self._grammar.add(event)
        except EventTooLong:
            raise self._remote.failed("sent a line without an end", bytes_max=ANSWER_BYTES_MAX) from None


def inside(holder: object, *names: str) -> Json:
    """The object at a path of names; {} where there is none."""
    for name in names:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder if isinstance(holder, dict) else {}


def items(holder: Json, name: str) -> list[Json]:
    """The objects in the list of that name."""
    value = holder.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
