"""An agent behind any OpenAI-compatible chat-completions endpoint, streaming, with the history as context.

It owns what is asked; `completion` makes the answer of what comes back. Attachments are not sent.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vigil.actors.agents.completion import Completion
from vigil.actors.agents.providers.model import ModelConfig, Protocol, bearer, chat_body


class OpenAIConfig(ModelConfig):
    """`options` are more fields of the request's body (temperature, max_tokens, ...), sent as they are."""

    PROTOCOL: ClassVar[Protocol] = Protocol(
        "/chat/completions", bearer, chat_body, Completion, ("model", "messages", "stream")
    )

    kind: Literal["openai"]
    model: Annotated[str, Field(min_length=1, max_length=255)]
