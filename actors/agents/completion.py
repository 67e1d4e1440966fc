"""The answer in what a chat-completions endpoint sends: a stream of chunks, or one completion object.

It is strict about what ends or fails an answer and lenient about everything else, because servers that call themselves
compatible agree on little more. The answer is what choice 0 says until `[DONE]`, or until the end of the body after a
finish reason. A finish reason alone ends nothing: some servers repeat it with each piece. An error fails the answer
wherever it stands. What says nothing (pings, usage figures, reasoning, other choices) is passed over.
It knows neither URLs nor connections.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any, get_args

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply
from vigil.actors.agents.event_stream import BOM, EventStream, EventTooLong, ServerSentEvent
from vigil.actors.agents.remote import ANSWER_BYTES_MAX, Remote
from vigil.actors.core.errors import AgentFailed
from vigil.actors.core.records import FinishReason

_FINISH_REASONS: tuple[FinishReason, ...] = get_args(FinishReason)
Json = dict[str, Any]
_TEXT_TYPES = ("text", "output_text")  # of the parts that content may be a list of


class Completion:
    """The body of an answer, in chunks cut anywhere.

    Its first character tells whether it is one object or a stream of events: content types do not.
    """

    def __init__(self, remote: Remote, say: Callable[[str], None]) -> None:
        self._remote = remote
        self._answer = Answer(remote, say)
        self._head = b""
        self._take: Callable[[bytes], None] | None = None
        self._events = EventStream(ANSWER_BYTES_MAX)
        self._object = bytearray()

    @property
    def is_done(self) -> bool:
        return self._answer.is_done

    def feed(self, chunk: bytes) -> bool:
        """Tell whether nothing that may still come counts. Raises AgentFailed."""
        if self._take is None:
            chunk = self._head = (self._head + chunk).removeprefix(BOM).lstrip()
            if BOM.startswith(chunk):  # or there is nothing yet
                return False
            self._take = self._take_object if chunk.startswith(b"{") else self._take_events
        self._take(chunk)
        return self.is_done

    def end(self) -> Reply:
        """The whole answer, at the end of the body or when it `is_done`. Raises AgentFailed when there is none."""
        if self._object:
            self._answer.add_object(self._object.decode(errors="replace"))
        else:
            self._add_events(self._events.end())
        return self._answer.whole()

    def _take_object(self, chunk: bytes) -> None:
        self._object += chunk
        if len(self._object) >= ANSWER_BYTES_MAX:
            raise self._remote.failed("gave an answer that is too long", bytes_max=ANSWER_BYTES_MAX)

    def _take_events(self, chunk: bytes) -> None:
        self._add_events(self._events.feed(chunk))

    def _add_events(self, events: Iterable[ServerSentEvent]) -> None:
        try:
            for event in events:
                self._answer.add_event(event)
        except EventTooLong:
            raise self._remote.failed("sent a line without an end", bytes_max=ANSWER_BYTES_MAX) from None


class Answer:
    """An answer as it grows. It `is_done` once the server has said so."""

    def __init__(self, remote: Remote, say: Callable[[str], None]) -> None:
        self._remote = remote
        self._say = say
        self._pieces: list[str] = []
        self._size = 0
        self._has_deltas = False
        self._finish: object = None  # the last reason that was said
        self.is_done = False

    def add_event(self, event: ServerSentEvent) -> None:
        """Raises AgentFailed for an error and for what cannot be read: it may have been a piece of the answer."""
        if self.is_done:
            return
        if event.type == "error":
            raise self._reported(event.data)
        data = event.data.strip()
        if data == "[DONE]":
            self.is_done = True
        elif data and (event.type == "message" or data.startswith("{")):
            self._add(self._parsed(data))

    def add_object(self, text: str) -> None:
        """The answer in one object, of a server that does not stream. Raises AgentFailed."""
        value = self._parsed(text)
        self._add(value)
        if not isinstance(value.get("choices"), list):
            raise self._remote.failed("gave an answer that is no chat completion")
        self.is_done = True

    def whole(self) -> Reply:
        """Raises AgentFailed when it is not whole, or empty."""
        if not self.is_done and not self._finish:
            raise self._remote.failed("broke off in the middle of its answer", characters=self._size)
        if not self._size:
            raise self._remote.failed("gave an empty answer", finish_reason=ascii(self._finish)[:40])
        return Reply("".join(self._pieces), finish_reason=_finish_reason(self._finish))

    def _add(self, chunk: Any) -> None:
        """A chunk or a completion object; any other value says nothing."""
        if not isinstance(chunk, dict):
            return
        choice = _choice_0(chunk)
        delta, message = _object(choice, "delta"), _object(choice, "message")
        self._check_errors(chunk, choice, delta, message)
        self._has_deltas |= self._say_piece(delta.get("content"))
        if not self._has_deltas:  # after them a message is the whole once more
            self._say_piece(message.get("content"))
        reason = choice.get("finish_reason")
        self._finish = reason if reason and reason != "null" else self._finish

    def _check_errors(self, chunk: Json, *below: Json) -> None:
        """Raises AgentFailed. An empty or false `error` is none."""
        for place in (chunk, *below):
            if error := place.get("error"):
                raise self._reported(error)
        if "error" in (chunk.get("object"), chunk.get("type"), below[0].get("finish_reason")):
            raise self._reported(chunk)

    def _say_piece(self, content: object) -> bool:
        """Whether there was one. Raises AgentFailed."""
        try:
            text = _text(content)
            text.encode()  # halves of characters cannot be kept
        except (ValueError, RecursionError):
            raise self._remote.failed("gave content that is no text") from None
        self._size += len(text)
        if self._size > ANSWER_CHARACTERS_MAX:
            raise self._remote.failed("gave an answer that is too long", characters_max=ANSWER_CHARACTERS_MAX)
        if text:
            self._pieces.append(text)
            self._say(text)
        return bool(text)

    def _parsed(self, text: str) -> Any:
        """Parse leniently: only content is read. Raises AgentFailed."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._remote.failed("gave an answer that is not JSON", error=str(error)[:200]) from None

    def _reported(self, error: object) -> AgentFailed:
        return self._remote.failed("reported an error", said=self._remote.excerpt(json.dumps(error)))


def _choice_0(chunk: Json) -> Json:
    """The choice whose index is 0; one that has none goes by its place. {} where there is none."""
    choices = chunk.get("choices")
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            index = choice.get("index")
            if (place if index is None else index) in (0, "0"):
                return choice
    return {}


def _object(holder: Json, name: str) -> Json:
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def _text(content: object) -> str:
    """The text of a string, a typed part, or a list of them; other parts have none. Raises ValueError."""
    if isinstance(content, list):
        return "".join(map(_text, content))
    if isinstance(content, dict):
        return _text(content.get("text")) if content.get("type", "text") in _TEXT_TYPES else ""
    if isinstance(content, str):
        return content
    if content:
        raise ValueError("neither text nor parts")
    return ""


def _finish_reason(said: object) -> FinishReason:
    """What is none of ours is a stop: the body has ended as it should."""
    return next((reason for reason in _FINISH_REASONS if reason == said), "stop")
