"""Ollama's own chat API: a JSON object a line, of which the one that is `done` is the last."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from vigil.actors.agents.config import HttpUrl
from vigil.actors.agents.providers.grammar import Grammar, Json, inside
from vigil.actors.agents.providers.model import ModelConfig, Protocol, bearer, chat_body
from vigil.actors.core.records import FinishReason


class OllamaGrammar(Grammar):
    REASONS: ClassVar[Mapping[object, FinishReason]] = {"length": "length"}

    def _event(self, event: Json) -> None:
        self._piece(inside(event, "message").get("content"))
        if event.get("done") is True:
            self._finish = event.get("done_reason")
            self.is_done = True


class OllamaConfig(ModelConfig):
    """Parameters of the model stand in `options: {options: {...}}`, as in Ollama's own requests."""

    PROTOCOL: ClassVar[Protocol] = Protocol(
        "/api/chat", bearer, chat_body, OllamaGrammar, ("model", "messages", "stream"), is_lines=True
    )

    kind: Literal["ollama"]
    base_url: HttpUrl = "http://127.0.0.1:11434"
