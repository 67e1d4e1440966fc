"""An agent that is somebody's own program: the turn is posted to a URL, signed, and the answer comes back.

The receiver proves that a request is ours, and new, by `Vigil-Signature`: `v1=` and the hex HMAC-SHA256, under
the shared secret, of the `Vigil-Timestamp` header (seconds since the epoch), a full stop, and the body as it
came. A request may come twice; `Idempotency-Key`, the message's id, tells.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal, get_args

import httpx
import orjson
from pydantic import Field

from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply, Turn
from vigil.actors.agents.config import HttpUrl, Outside, RemoteConfig, SecretVariable
from vigil.actors.agents.remote import NOT_SENT, Remote, read_object
from vigil.actors.core.records import FinishReason, Message

METADATA_BYTES_MAX = 16_384
METADATA_LEVELS_MAX = 5
_FIELDS = {"content", "metadata", "finishReason", "error"}
_EPOCH = datetime(1970, 1, 1)  # UTC; the Z is written by hand


class WebhookConfig(RemoteConfig):
    """With `history_messages` the body has `history`, so many messages at most, oldest first."""

    kind: Literal["webhook"]
    url: HttpUrl
    secret_env: SecretVariable
    history_messages: Annotated[int, Field(ge=0, le=1000)] = 0

    def agent(self, outside: Outside) -> "WebhookAgent":
        return WebhookAgent(self, outside.environ[self.secret_env], outside.wall)

    def summary(self) -> str:
        return f"posts to {self.url.partition('?')[0]}, secret from {self.secret_env}"


class WebhookAgent:
    def __init__(self, config: WebhookConfig, secret: str, wall: Callable[[], int]) -> None:
        """`wall` tells real time in milliseconds, for the receiver's clock to compare."""
        self._history_messages = config.history_messages
        self._secret = secret
        self._wall = wall
        self._remote = Remote(
            config,
            config.url,
            secret=secret,
            resend_after=(*NOT_SENT, httpx.NetworkError, httpx.RemoteProtocolError),
        )

    async def reply(self, turn: Turn) -> Reply:
        earlier = await turn.history(self._history_messages) if self._history_messages else None
        body = orjson.dumps(_asked(turn, earlier))
        headers = partial(self._headers, turn.message.id, body)
        reply = _answered(self._remote, await self._remote.ask(body, headers, self._read, turn.message.id))
        turn.say(reply.content)
        return reply

    async def close(self) -> None:
        await self._remote.close()

    async def _read(self, response: httpx.Response) -> dict[str, Any]:
        return await read_object(self._remote, response)

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        timestamp = str(self._wall() // 1000)
        return {
            "Idempotency-Key": message_id,
            "Vigil-Timestamp": timestamp,
            "Vigil-Signature": f"v1={signature(self._secret, timestamp, body)}",
        }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Hex HMAC-SHA256 of `timestamp.body`, as the receiver has to compute it too."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def metadata_text(value: object) -> str:
    """A metadata object as compact JSON (spec section 2). Raises ValueError saying what is not allowed."""
    if not isinstance(value, dict):
        raise ValueError("metadata is not an object")  # noqa: TRY004  one error for all that is wrong
    for level, item in _below(value, 1):
        if item is None:
            raise ValueError("metadata has a null")
        if level > METADATA_LEVELS_MAX:
            raise ValueError(f"metadata is deeper than {METADATA_LEVELS_MAX} levels")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text.encode()) > METADATA_BYTES_MAX:
        raise ValueError(f"metadata is longer than {METADATA_BYTES_MAX} bytes")
    return text


def _below(container: dict[str, Any] | list[Any], level: int) -> Iterator[tuple[int, Any]]:
    """Every value inside, with the level of the arrays and objects (the outermost is 1), scalars at 0."""
    for item in container.values() if isinstance(container, dict) else container:
        if isinstance(item, dict | list):
            yield level + 1, item
            yield from _below(item, level + 1)
        else:
            yield 0, item


def _asked(turn: Turn, earlier: Sequence[Message] | None) -> dict[str, Any]:
    session = turn.session
    asked: dict[str, Any] = {
        "sessionId": session.id,
        "agentId": session.agent_id,
        "userId": session.user_id,
        "message": _message(turn.message),
    }
    if earlier is not None:
        asked["history"] = [
            {
                **_message(message),
                "authorId": message.author_id,
                "isAgent": message.is_agent,
                **({"finishReason": message.finish_reason} if message.finish_reason else {}),
            }
            for message in reversed(earlier)
        ]
    return asked


def _message(message: Message) -> dict[str, Any]:
    created_at = _EPOCH + timedelta(milliseconds=message.created_at)
    return {
        "id": message.id,
        "content": message.content,
        "createdAt": f"{created_at.isoformat(timespec='milliseconds')}Z",
        "metadata": orjson.Fragment(message.metadata),
        "attachments": orjson.Fragment(message.attachments or "[]"),
    }


def _answered(remote: Remote, answer: Mapping[str, Any]) -> Reply:
    if error := answer.get("error"):  # an empty or false one is none
        raise remote.failed("reported an error", said=remote.excerpt(json.dumps(error)))
    content = answer.get("content")
    if not isinstance(content, str) or not answer.keys() <= _FIELDS:
        raise remote.failed(
            "gave an answer that is not {content, metadata, finishReason}", fields=sorted(answer)[:10]
        )
    if not 0 < len(content) <= ANSWER_CHARACTERS_MAX:
        raise remote.failed("gave an empty answer" if not content else "gave an answer that is too long")
    finish_reason = answer.get("finishReason", "stop")
    if finish_reason not in get_args(FinishReason):
        raise remote.failed("gave a finishReason that is none", finish_reason=ascii(finish_reason)[:40])
    try:
        return Reply(content, metadata_text(answer.get("metadata", {})), finish_reason)
    except ValueError as error:
        raise remote.failed("gave metadata that is not allowed", error=str(error)) from None
