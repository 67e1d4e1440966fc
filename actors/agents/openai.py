"""An agent behind any OpenAI-compatible chat-completions endpoint, streaming, with the history as context.

It owns what is asked; `completion` makes the answer of what comes back. Attachments are not sent.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Literal

import httpx
from pydantic import Field, field_validator

from vigil.actors.agents.base import Reply, Turn
from vigil.actors.agents.completion import Completion
from vigil.actors.agents.config import HttpUrl, Outside, RemoteConfig, SecretVariable
from vigil.actors.agents.remote import Remote, read_chunks
from vigil.actors.core.records import Message

_OURS = ("model", "messages", "stream")


class OpenAIConfig(RemoteConfig):
    """`options` are more fields of the request's body (temperature, max_tokens, ...), sent as they are."""

    kind: Literal["openai"]
    base_url: HttpUrl
    model: Annotated[str, Field(min_length=1, max_length=255)]
    api_key_env: SecretVariable | None = None
    system_prompt: Annotated[str | None, Field(min_length=1, max_length=100_000)] = None
    history_messages: Annotated[int, Field(ge=0, le=1000)] = 20
    history_characters: Annotated[int, Field(ge=0, le=1_000_000)] = 16_000
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _bare(cls, value: str) -> str:
        if "?" in value:
            raise ValueError("must have no ?query: /chat/completions is put after it")
        return value

    @field_validator("options")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := [name for name in _OURS if name in value]:
            raise ValueError(f"must not have {', '.join(taken)}: Vigil sets that itself")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("must be plain JSON values: put dates in quotes") from None
        return value

    def agent(self, outside: Outside) -> "OpenAIAgent":
        return OpenAIAgent(self, outside.environ[self.api_key_env] if self.api_key_env else None)

    def summary(self) -> str:
        key = f"key from {self.api_key_env}" if self.api_key_env else "no key"
        return f"{self.model} at {self.base_url}, {key}"


class OpenAIAgent:
    def __init__(self, config: OpenAIConfig, key: str | None) -> None:
        self._config = config
        self._remote = Remote(
            config,
            f"{config.base_url.rstrip('/')}/chat/completions",
            secret=key,
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )

    async def reply(self, turn: Turn) -> Reply:
        config = self._config
        earlier = await turn.history(config.history_messages) if config.history_messages else ()
        body = {
            **config.options,
            "model": config.model,
            "messages": chat(turn.message, earlier, config.system_prompt, config.history_characters),
            "stream": True,
        }
        read = partial(self._read, turn.say)
        return await self._remote.ask(json.dumps(body).encode(), dict, read, turn.message.id)

    async def close(self) -> None:
        await self._remote.close()

    async def _read(self, say: Callable[[str], None], response: httpx.Response) -> Reply:
        completion = Completion(self._remote, say)
        try:
            await read_chunks(response, completion.feed)
        except httpx.TransportError:
            if not completion.is_done:
                raise
        return completion.end()


def chat(
    message: Message, earlier: Iterable[Message], system_prompt: str | None, characters_max: int
) -> list[dict[str, str]]:
    """The conversation as the protocol wants it, from `earlier` messages newest first.

    Of those the newest are kept that have `characters_max` together. Neighbours of one author become one message
    and the first is the user's, because many models' templates refuse anything else.
    """
    kept = [message, *_newest(earlier, characters_max)]
    turns = [
        {"role": role, "content": "\n\n".join(one.content for one in together)}
        for role, together in groupby(reversed(kept), key=_role)
    ]
    if turns[0]["role"] == "assistant":
        del turns[0]
    return [{"role": "system", "content": system_prompt}, *turns] if system_prompt else turns


def _newest(earlier: Iterable[Message], characters_max: int) -> Iterator[Message]:
    for message in earlier:
        characters_max -= len(message.content)
        if characters_max < 0:
            return
        yield message


def _role(message: Message) -> str:
    return "assistant" if message.is_agent else "user"
