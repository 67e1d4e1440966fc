"""An agent behind a provider's own protocol: its fields in agents.yaml, and a turn from request to reply.

It knows no provider: a `Protocol` says what is asked, and which grammar reads the answer.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, NamedTuple

import httpx
from pydantic import Field, field_validator

from vigil.actors.agents.base import Reply, Turn
from vigil.actors.agents.config import HttpUrl, Outside, RemoteConfig, SecretVariable
from vigil.actors.agents.conversation import Chat, chat, with_system
from vigil.actors.agents.providers.grammar import Body, Grammar
from vigil.actors.agents.remote import Remote, read_chunks


class Protocol(NamedTuple):
    """`path` may name {model}; `body` gets the conversation without the system prompt."""

    path: str
    headers: Callable[[str], Mapping[str, str]]  # from the key
    body: Callable[[Any, Chat], dict[str, Any]]
    grammar: type[Grammar]
    ours: tuple[str, ...]  # fields of the body that options must not have
    is_lines: bool = False


class ModelConfig(RemoteConfig):
    """`options` are more fields of the request's body, sent as they are."""

    PROTOCOL: ClassVar[Protocol]

    base_url: HttpUrl
    model: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s?#]+$")]
    api_key_env: SecretVariable | None = None
    system_prompt: Annotated[str | None, Field(min_length=1, max_length=100_000)] = None
    history_messages: Annotated[int, Field(ge=0, le=1000)] = 20
    history_characters: Annotated[int, Field(ge=0, le=1_000_000)] = 16_000
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("base_url")
    @classmethod
    def _bare(cls, value: str) -> str:
        if "?" in value:
            raise ValueError(f"must have no ?query: {cls.PROTOCOL.path} is put after it")
        return value

    @field_validator("options")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := [name for name in cls.PROTOCOL.ours if name in value]:
            raise ValueError(f"must not have {', '.join(taken)}: Vigil sets that itself")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("must be plain JSON values: put dates in quotes") from None
        return value

    def agent(self, outside: Outside) -> "ModelAgent":
        return ModelAgent(self, outside.environ[self.api_key_env] if self.api_key_env else None)

    def summary(self) -> str:
        key = f"key from {self.api_key_env}" if self.api_key_env else "no key"
        return f"{self.model} at {self.base_url}, {key}"


class ModelAgent:
    def __init__(self, config: ModelConfig, key: str | None) -> None:
        protocol = config.PROTOCOL
        self.kind = config.kind
        self._config = config
        self._remote = Remote(
            config,
            config.base_url.rstrip("/") + protocol.path.format(model=config.model),
            secret=key,
            headers=protocol.headers(key) if key else None,
        )

    async def reply(self, turn: Turn) -> Reply:
        config = self._config
        earlier = await turn.history(config.history_messages) if config.history_messages else ()
        said = chat(turn.message, earlier, config.history_characters)
        body = {**config.options, **config.PROTOCOL.body(config, said)}
        read = partial(self._read, turn.say)
        return await self._remote.ask(json.dumps(body).encode(), dict, read, turn.message.id)

    async def close(self) -> None:
        await self._remote.close()

    async def _read(self, say: Callable[[str], None], response: httpx.Response) -> Reply:
        protocol = self._config.PROTOCOL
        body = Body(self._remote, protocol.grammar(self._remote, say), is_lines=protocol.is_lines)
        try:
            await read_chunks(response, body.feed)
        except httpx.TransportError:
            if not body.is_done:
                raise
        return body.end()


def chat_body(config: Any, said: Chat) -> dict[str, Any]:
    """A conversation whose first message is the system prompt, to be streamed."""
    return {"model": config.model, "messages": with_system(config.system_prompt, said), "stream": True}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def optional(name: str, value: object) -> dict[str, Any]:
    """A field of a body, if there is something to say in it."""
    return {name: value} if value else {}
