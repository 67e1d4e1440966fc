"""Gemini's streamGenerateContent with alt=sse: whole answers to be put together, and no word for the end.

So the answer is whole when the body ends as HTTP says, after a finish reason. A reason alone ends nothing.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from vigil.actors.agents.config import HttpUrl
from vigil.actors.agents.conversation import Chat
from vigil.actors.agents.providers.grammar import Grammar, Json, inside, items
from vigil.actors.agents.providers.model import ModelConfig, Protocol, optional
from vigil.actors.core.records import FinishReason


class GeminiGrammar(Grammar):
    REASONS: ClassVar[Mapping[object, FinishReason]] = {
        "MAX_TOKENS": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "IMAGE_SAFETY": "content_filter",
    }

    def _event(self, event: Json) -> None:
        if why := inside(event, "promptFeedback").get("blockReason"):
            raise self._remote.failed("refused the message", reason=ascii(why)[:40])
        for candidate in items(event, "candidates"):
            if candidate.get("index", 0) not in (0, None):
                continue
            for part in items(inside(candidate, "content"), "parts"):
                if not part.get("thought"):
                    self._piece(part.get("text"))
            self._finish = candidate.get("finishReason") or self._finish
            self._may_end = bool(self._finish)


def _body(config: "GeminiConfig", said: Chat) -> dict[str, Any]:
    roles = {"user": "user", "assistant": "model"}
    contents = [{"role": roles[one["role"]], "parts": [{"text": one["content"]}]} for one in said]
    prompt = {"parts": [{"text": config.system_prompt}]} if config.system_prompt else None
    return {"contents": contents, **optional("systemInstruction", prompt)}


class GeminiConfig(ModelConfig):
    PROTOCOL: ClassVar[Protocol] = Protocol(
        "/models/{model}:streamGenerateContent?alt=sse",
        lambda key: {"X-Goog-Api-Key": key},
        _body,
        GeminiGrammar,
        ("contents", "systemInstruction"),
    )

    kind: Literal["gemini"]
    base_url: HttpUrl = "https://generativelanguage.googleapis.com/v1beta"
