"""Waiting for an agent's reply: whole (`transport: http`) or as it is made (`transport: sse`), spec section 4.

Both listen to the session's own events, so a client that goes away takes nothing with it: the turn goes on and
its answer is stored.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import orjson
import trio

from vigil.actors.core.errors import AgentCancelled, AgentFailed, AgentTimedOut, Overloaded, VigilError
from vigil.actors.core.events import AgentError, Broadcast, Ended, Expired
from vigil.actors.core.lifecycle import AGENT_CANCELLED
from vigil.actors.core.records import Message
from vigil.actors.hub.hub import Chunk, News, Notice, Resync, Subscription
from vigil.server.api import answers
from vigil.server.api.call import Call
from vigil.server.api.errors import error_body
from vigil.server.api.wire_time import epoch_ms

_FAILURES: dict[str, type[AgentFailed]] = {
    kind.code: kind for kind in (AgentFailed, AgentTimedOut, AgentCancelled)
}


_CANCELLED = (AgentCancelled.code, AGENT_CANCELLED)
_UNANSWERED = (AgentFailed.code, "The agent did not answer this message")


SILENCE_S = 15.0  # a proxy gives up on a stream in which nothing comes
_COMMENT = b":\n\n"


class _Asked(NamedTuple):
    """A message that was sent and wants its reply: the 201's body, and how the message is known."""

    sent: bytes
    id: str
    created_at: int
    is_over: bool  # its turn, before anybody listened: a repeated request asks for the reply


class _Listening(NamedTuple):
    """To a session, since before the message was sent. Each message that is accepted after `since` is heard of."""

    subscription: Subscription
    since: int


class Stream:
    """The frames of a `text/event-stream`, made as the reply comes. Whoever is given one closes it, read or not."""

    def __init__(self, call: Call, subscription: Subscription, frames: AsyncGenerator[bytes, None]) -> None:
        self._call = call
        self._subscription = subscription
        self._frames = frames

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._frames)

    async def aclose(self) -> None:
        _unsubscribe(self._call, self._subscription)
        await self._frames.aclose()


async def whole(call: Call, send: Callable[[], Awaitable[bytes]]) -> bytes:
    """Send, wait for the reply, and give the 201's body with `agentResponse`.

    Raises AgentFailed or AgentTimedOut when there will be none, and the session's end when that comes first.
    """
    subscription, since = _listen(call)
    try:
        asked = _asked(call, await send(), since)
        subscription.wants = partial(_is_about, asked)
        reply = await _reply(call, asked, subscription)
    finally:
        _unsubscribe(call, subscription)
    return asked.sent[:-1] + b',"agentResponse":' + answers.encode(answers.agent_response(reply)) + b"}"


async def streamed(call: Call, send: Callable[[], Awaitable[bytes]], *, wants_reply: bool) -> Stream:
    """Send, and give the frames of a `text/event-stream`: the message, pieces of the reply, the whole or an error.

    What is wrong with the send itself is raised before there is a stream.
    """
    subscription, since = _listen(call)
    try:
        asked = _asked(call, await send(), since)
        subscription.wants = partial(_is_about, asked)
    except BaseException:
        _unsubscribe(call, subscription)
        raise
    return Stream(call, subscription, _frames(call, asked, subscription, wants_reply=wants_reply))


async def _frames(
    call: Call, asked: _Asked, subscription: Subscription, *, wants_reply: bool
) -> AsyncGenerator[bytes, None]:
    try:
        yield _frame("userMessage", asked.sent)
        if not wants_reply:
            return
        # However slowly the client takes the first frame: what was said meanwhile is in the subscription.
        reply = await _reply_at_hand(call, asked) if asked.is_over else None
        while reply is None:
            notice = None
            with trio.move_on_after(SILENCE_S):
                notice = await _next(call, subscription)
            if notice is None:
                yield _COMMENT
                continue
            if isinstance(notice.news, Chunk) and notice.news.message_id == asked.id:
                piece = {"messageId": asked.id, "text": notice.news.text}
                yield _frame("chunk", answers.encode(piece))
            reply = await _reply_in(call, asked, notice)
        yield _frame("agentResponse", answers.encode(answers.agent_response(reply)))
    except VigilError as error:
        yield _frame("error", answers.encode(error_body(error, call.request_id)))


async def _reply(call: Call, asked: _Asked, subscription: Subscription) -> Message:
    reply = await _reply_at_hand(call, asked) if asked.is_over else None
    while reply is None:
        reply = await _reply_in(call, asked, await _next(call, subscription))
    return reply


async def _reply_at_hand(call: Call, asked: _Asked) -> Message | None:
    """The reply of a turn that is over, as a repeated request finds it; None while the turn is to come."""
    if call.directory.turns.owes(call.session_id, asked.created_at):
        return None
    key = call.directory.find(call.session_id).session.key
    reply = await call.directory.store.reply_to(key, asked.created_at)
    if reply is None:
        is_cancelled = await call.directory.store.turn(key, asked.id) == "cancelled"
        await _raise_failure(call, asked, *(_CANCELLED if is_cancelled else _UNANSWERED))
    return reply


async def _next(call: Call, subscription: Subscription) -> Notice:
    async for notice in subscription:
        return notice
    call.directory.find(call.session_id)  # raises when the session is over or broken
    raise Overloaded("The stream was read too slowly: read the answer in the history")


async def _reply_in(call: Call, asked: _Asked, notice: Notice) -> Message | None:
    """The reply, if this is it. Raises what this says of why there will be none."""
    if isinstance(notice.news, Resync):
        return await _reply_at_hand(call, asked)
    data: Any = getattr(notice.news, "data", None)
    if isinstance(data, Broadcast) and data.message.reply_to == asked.created_at:
        return data.message
    if isinstance(data, AgentError) and data.message_id == asked.id:
        await _raise_failure(call, asked, data.code, data.message)
    if isinstance(data, Expired | Ended):
        call.directory.find(call.session_id)  # raises: the session is over
    return None


async def _raise_failure(call: Call, asked: _Asked, code: str, message: str) -> None:
    failure = _FAILURES[code](message)
    key = call.directory.find(call.session_id).session.key
    at = asked.created_at
    kept = (await call.directory.store.history(key, at + 1, at - 1, 1)).messages
    call.directory.find(call.session_id)  # raises when the session has gone meanwhile
    failure.question = kept[0] if kept else None
    raise failure


def _listen(call: Call) -> _Listening:
    session = call.directory.find(call.session_id).session  # it may be over by now: then this raises
    subscription = call.directory.hub.subscribe(session.id, None, session.event_id, call.now)
    subscription.wants = partial(_may_concern, session.last_message_at)
    return _Listening(subscription, session.last_message_at)


def _may_concern(since: int, news: News) -> bool:
    """Whether it may be about the answer to a message that is accepted after `since`. What other people say is not, and
    sixty long messages at once are more than a listener may leave unread.
    """
    data = getattr(news, "data", None)
    return data.message.reply_to > since if isinstance(data, Broadcast) else True


def _is_about(asked: _Asked, news: News) -> bool:
    """Whether it is about this message's answer, or the end of all answers."""
    data = getattr(news, "data", None)
    if isinstance(data, Broadcast):
        return data.message.reply_to == asked.created_at
    if isinstance(data, AgentError):
        return data.message_id == asked.id
    return not isinstance(news, Chunk) or news.message_id == asked.id


def _unsubscribe(call: Call, subscription: Subscription) -> None:
    call.directory.hub.unsubscribe(call.session_id, subscription)


def _asked(call: Call, sent: bytes, since: int) -> _Asked:
    body = orjson.loads(sent)
    at = epoch_ms(body["createdAt"])
    is_over = at <= since and not call.directory.turns.owes(call.session_id, at)
    return _Asked(sent, body["id"], at, is_over)


def _frame(event: str, data: bytes) -> bytes:
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
