"""The answer in what a chat-completions endpoint sends: a stream of chunks, or one completion object.

It is strict about what ends or fails an answer and lenient about everything else, because servers that call themselves
compatible agree on little more. The answer is what choice 0 says until `[DONE]`, or until the end of the body after a
finish reason. A finish reason alone ends nothing: some servers repeat it with each piece. An error fails the answer
wherever it stands. What says nothing (pings, usage figures, reasoning, other choices) is passed over.
It knows neither URLs nor connections.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from vigil.actors.agents.providers.grammar import Grammar, Json
from vigil.actors.core.records import FinishReason

_TEXT_TYPES = ("text", "output_text")  # of the parts that content may be a list of


class Completion(Grammar):
    """An answer as it grows. It `is_done` once the server has said so."""

    REASONS: ClassVar[Mapping[object, FinishReason]] = {
        "length": "length",
        "content_filter": "content_filter",
    }
    JSON_STARTS: ClassVar[str] = "{"
    DONE_ENDS: ClassVar[bool] = True

    _has_deltas = False

    def add_text(self, text: str) -> None:
        """A chunk or a completion object; any other value says nothing. Raises AgentFailed."""
        self._add(self._parsed(text))

    def add_object(self, text: str) -> None:
        """The answer in one object, of a server that does not stream. Raises AgentFailed."""
        value = self._parsed(text)
        self._add(value)
        if not isinstance(value.get("choices"), list):
            raise self._remote.failed("gave an answer that is no chat completion")
        self.is_done = True

    def _add(self, chunk: Any) -> None:
        if not isinstance(chunk, dict):
            return
        choice = _choice_0(chunk)
        delta, message = _object(choice, "delta"), _object(choice, "message")
        self._check_errors(chunk, choice, delta, message)
        self._has_deltas |= self._say_piece(delta.get("content"))
        if not self._has_deltas:  # after them a message is the whole once more
            self._say_piece(message.get("content"))
        reason = choice.get("finish_reason")
        if reason and reason != "null":
            self._finish, self._may_end = reason, True

    def _check_errors(self, chunk: Json, *below: Json) -> None:
        """Raises AgentFailed. An empty or false `error` is none."""
        for place in (chunk, *below):
            if error := place.get("error"):
                raise self.reported(error)
        if "error" in (chunk.get("object"), chunk.get("type"), below[0].get("finish_reason")):
            raise self.reported(chunk)

    def _say_piece(self, content: object) -> bool:
        """Whether there was one. Raises AgentFailed."""
        try:
            text = _text(content)
        except (ValueError, RecursionError):
            raise self._no_text() from None
        self._piece(text)
        return bool(text)


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
