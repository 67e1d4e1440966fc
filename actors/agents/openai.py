"""An agent behind any OpenAI-compatible chat-completions endpoint, streaming, with the history as context.

It owns the protocol: what is sent, and how the answer is put together from server-sent events or, from servers
that ignore `stream`, from one completion object. Attachments are not sent.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, Field, ValidationError, field_validator

from actors.agents.base import ANSWER_CHARACTERS_MAX, Reply, Turn
from actors.agents.config import HttpUrl, Outside, RemoteConfig, SecretVariable
from actors.agents.remote import Remote, json_object, read_chunks, read_object
from actors.records import Message

LINE_BYTES_MAX = 256 * 1024  # one event of a stream, which is a word or two
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
        content = await self._remote.ask(json.dumps(body).encode(), dict, read, turn.message.id)
        if not content:
            raise self._remote.failed("gave an empty answer")
        return Reply(content)

    async def close(self) -> None:
        await self._remote.close()

    async def _read(self, say: Callable[[str], None], response: httpx.Response) -> str:
        answer = Answer(self._remote, say)
        if response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
            stream = EventStream(self._remote)

            def take(chunk: bytes) -> bool:
                for data in stream.feed(chunk):
                    answer.add_event(data)
                return answer.is_whole

            try:
                await read_chunks(response, take)
            except httpx.TransportError:
                if not answer.is_whole:
                    raise
        else:
            answer.add_completion(await read_object(self._remote, response))
        return answer.whole()


class EventStream:
    """The data of server-sent events, from chunks cut anywhere. A line has a limit, their number has none."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._line = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the chunk completes, one `data:` line each. Raises AgentFailed when a line is too long."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line, self._line = self._line + end, bytearray()
            if line.startswith(b"data:"):
                yield bytes(line[5:].strip())
        self._line += rest
        if len(self._line) > LINE_BYTES_MAX:
            raise self._remote.failed("sent a line without an end", bytes_max=LINE_BYTES_MAX)


class _Part(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    """In a stream it has a `delta`, in a completion object a `message`."""

    delta: _Part | None = None
    message: _Part | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        part = self.delta or self.message
        return (part and part.content) or ""


class _Completion(BaseModel):
    """What Vigil reads of a chunk or a completion object; the rest may be anything."""

    choices: list[_Choice]


class Answer:
    """An answer as it grows. It is whole once the server has said so, by a finish reason or by [DONE]."""

    def __init__(self, remote: Remote, say: Callable[[str], None]) -> None:
        self._remote = remote
        self._say = say
        self._pieces: list[str] = []
        self._size = 0
        self.is_whole = False

    def add_event(self, data: bytes) -> None:
        """Raises AgentFailed for what is no chunk, and when the answer grows too long."""
        if self.is_whole or not data:
            return
        if data == b"[DONE]":
            self.is_whole = True
        else:
            self._add(json_object(self._remote, data))

    def add_completion(self, completion: dict[str, Any]) -> None:
        """The answer in one object, of a server that does not stream."""
        self._add(completion)
        self.is_whole = True

    def whole(self) -> str:
        if not self.is_whole:
            raise self._remote.failed("broke off in the middle of its answer", characters=self._size)
        return "".join(self._pieces)

    def _add(self, value: dict[str, Any]) -> None:
        if error := value.get("error"):
            raise self._remote.failed("reported an error", said=self._remote.excerpt(json.dumps(error)))
        try:
            choices = _Completion.model_validate(value).choices
        except ValidationError:
            raise self._remote.failed("gave an answer that is no chat completion") from None
        for choice in choices[:1]:  # none come with usage figures
            self._say_piece(choice.text)
            self.is_whole = bool(choice.finish_reason)

    def _say_piece(self, text: str) -> None:
        self._size += len(text)
        if self._size > ANSWER_CHARACTERS_MAX:
            raise self._remote.failed("gave an answer that is too long", characters_max=ANSWER_CHARACTERS_MAX)
        if text:
            self._pieces.append(text)
            self._say(text)


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
