"""OpenAI's responses API: typed events, of which `response.completed` or `response.incomplete` is the last."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from vigil.actors.agents.config import HttpUrl
from vigil.actors.agents.conversation import Chat
from vigil.actors.agents.providers.grammar import Grammar, Json, inside, items
from vigil.actors.agents.providers.model import ModelConfig, Protocol, bearer, optional
from vigil.actors.core.records import FinishReason

_PIECES = ("response.output_text.delta", "response.refusal.delta")
_ENDS = ("response.completed", "response.incomplete")


class ResponsesGrammar(Grammar):
    """A refusal is what the model says instead of an answer, so it is text, cut by a filter."""

    REASONS: ClassVar[Mapping[object, FinishReason]] = {
        "max_output_tokens": "length",
        "max_tokens": "length",
        "content_filter": "content_filter",
        "refusal": "content_filter",
    }

    def _event(self, event: Json) -> None:
        kind = event.get("type")
        if kind in _PIECES:
            self._piece(event.get("delta"))
            self._finish = "refusal" if kind == "response.refusal.delta" else self._finish
        elif kind in _ENDS:
            response = inside(event, "response")
            self._end(response, response.get("status") or kind.removeprefix("response."))
        elif kind in ("response.failed", "response.cancelled"):
            raise self.reported(event)
        elif event.get("object") == "response":  # of a server that does not stream
            self._end(event, event.get("status"))

    def _end(self, response: Json, status: object) -> None:
        """Raises AgentFailed for an error, and for a state that is no end."""
        if response.get("error") or status not in ("completed", "incomplete"):
            raise self.reported(response)
        if not self._size:  # nothing was streamed: the whole is here
            for item in items(response, "output"):
                for part in items(item, "content"):
                    self._part(part)
        self._finish = inside(response, "incomplete_details").get("reason") or self._finish
        self.is_done = True

    def _part(self, part: Json) -> None:
        if part.get("type") == "output_text":
            self._piece(part.get("text"))
        elif part.get("type") == "refusal":
            self._piece(part.get("refusal"))
            self._finish = "refusal"


def _body(config: "ResponsesConfig", said: Chat) -> dict[str, Any]:
    return {
        "model": config.model,
        "input": said,
        "stream": True,
        "store": False,
        **optional("instructions", config.system_prompt),
    }


class ResponsesConfig(ModelConfig):
    """Nothing is stored at the provider: the session's history is sent each time."""

    PROTOCOL: ClassVar[Protocol] = Protocol(
        "/responses", bearer, _body, ResponsesGrammar, ("model", "input", "stream", "store", "instructions")
    )

    kind: Literal["openai-responses"]
    base_url: HttpUrl = "https://api.openai.com/v1"
