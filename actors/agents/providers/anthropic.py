"""Anthropic's messages API: a message of content blocks, streamed, that ends with `message_stop` and not before."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from vigil.actors.agents.config import HttpUrl
from vigil.actors.agents.conversation import Chat
from vigil.actors.agents.providers.grammar import Grammar, Json, inside, items
from vigil.actors.agents.providers.model import ModelConfig, Protocol, optional
from vigil.actors.core.records import FinishReason

VERSION = "2023-06-01"


class AnthropicGrammar(Grammar):
    """Thinking and calls of tools are blocks of their own kinds, and no text."""

    REASONS: ClassVar[Mapping[object, FinishReason]] = {
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "refusal": "content_filter",
    }

    def _event(self, event: Json) -> None:
        kind = event.get("type")
        if kind == "content_block_start":
            self._block(inside(event, "content_block"))
        elif kind == "content_block_delta":
            delta = inside(event, "delta")
            if delta.get("type") == "text_delta":
                self._piece(delta.get("text"))
        elif kind == "message_delta":
            self._finish = inside(event, "delta").get("stop_reason") or self._finish
        elif kind == "message_stop":
            self.is_done = True
        elif kind == "message":  # of a server that does not stream
            for block in items(event, "content"):
                self._block(block)
            self._finish = event.get("stop_reason")
            self.is_done = True

    def _block(self, block: Json) -> None:
        if block.get("type") == "text":
            self._piece(block.get("text"))


def _body(config: "AnthropicConfig", said: Chat) -> dict[str, Any]:
    return {
        "model": config.model,
        "max_tokens": config.max_tokens,
        "messages": said,
        "stream": True,
        **optional("system", config.system_prompt),
    }


class AnthropicConfig(ModelConfig):
    """The API wants `max_tokens`: how long an answer may get before it is cut."""

    PROTOCOL: ClassVar[Protocol] = Protocol(
        "/v1/messages",
        lambda key: {"X-Api-Key": key, "Anthropic-Version": VERSION},
        _body,
        AnthropicGrammar,
        ("model", "max_tokens", "messages", "stream", "system"),
    )

    kind: Literal["anthropic"]
    base_url: HttpUrl = "https://api.anthropic.com"
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
