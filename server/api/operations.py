"""The API as plain functions from a call to the body of its answer. No web framework in it.

When one is called, the caller has been let in and the request is charged and valid (see `gateway`). It gives a
`results.Result`: the body; or a command for the actors, with how its outcome becomes the body; or, where it waits more
than once, a coroutine.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Protocol

import orjson

from vigil.actors.callbacks import Callback, await_callback
from vigil.actors.core.commands import Command, Heartbeat, Renew, Retime, Send, Transition
from vigil.actors.core.errors import Overloaded, TurnInProgress
from vigil.actors.hub.hub import Subscription
from vigil.actors.runtime.creation import Wanted
from vigil.actors.runtime.mailbox import IdempotencyKey
from vigil.server.api import answers, replies
from vigil.server.api.call import Applied, Call
from vigil.server.api.results import Deferred, Streaming
from vigil.server.input.content_policy import violations
from vigil.server.input.schemas import (
    CreateSession,
    EventsQuery,
    Invalid,
    ListSessionsQuery,
    MessagesQuery,
    SendMessage,
)


class Tell(Protocol):
    """Tells an actor, or the directory, a command."""

    def __call__(self, then: Callback[Transition], saving: IdempotencyKey | None = None) -> None: ...


_HEARTBEAT = Heartbeat()
_RENEW = Renew()
_UNBUFFERED = (("X-Accel-Buffering", "no"),)  # nginx would hold a stream back


def create_session(call: Call) -> Deferred | Streaming:
    body: CreateSession = call.body
    directory = call.directory
    wanted = Wanted(
        directory.agent(body.agent_id), body.user_id, body.metadata_json, body.timeout_config.patch()
    )
    tell: Tell = partial(directory.begin, wanted, call.now)
    if call.idempotency_key is None:
        return Deferred(tell, partial(_created_with_token, call))
    return _created_once(call, tell)


async def _created_once(call: Call, tell: Tell) -> bytes:
    answer = await _once(call, call.caller.id, tell, partial(_created, call))
    return _with_token(call, answer, orjson.loads(answer)["sessionId"])


def _created_with_token(call: Call, transition: Transition) -> bytes:
    return _with_token(call, _created(call, transition), transition.session.id)


def _created(call: Call, transition: Transition) -> bytes:
    _taken(call, transition)
    return answers.encode(answers.created_session(transition.session))


def _with_token(call: Call, answer: bytes, session_id: str) -> bytes:
    """A token is kept nowhere."""
    return b'%b,"sessionToken":"%b"}' % (answer[:-1], call.site.auth.mint(session_id).encode())


async def list_sessions(call: Call) -> bytes:
    query: ListSessionsQuery = call.query
    await call.site.traffic.long_answers.wait()
    listing = call.directory.page(
        query.agent_id, query.user_id, query.status, offset=query.offset, limit=query.limit
    )
    body = answers.encode(answers.session_list(listing, call.now, query.limit, query.offset))
    call.site.traffic.long_answers.spend(len(body))
    return body


async def health(call: Call) -> bytes:
    body = await call.site.health.check()
    call.status = 503 if body["status"] == "unhealthy" else 200
    return answers.encode(body)


def get_session(call: Call) -> bytes:
    return answers.session_at(call.session, call.now)


async def end_session(call: Call) -> bytes:
    await call.directory.end(call.session_id)
    return answers.encode({"success": True, "message": f"Session {call.session_id} deleted successfully"})


def send_message(call: Call) -> Deferred | Streaming:
    body: SendMessage = call.body
    _check_content(call, body)
    directory = call.directory
    command = Send(directory.new_id(), body.content, body.metadata_json, body.attachments_json, "")
    wants_turn = directory.turns.wants(call.session.agent_id)
    tell: Tell = partial(_send_with_turn, call, command) if wants_turn else partial(call.live.tell, command)
    minds = wants_turn and body.when_busy != "enqueue"
    if call.idempotency_key is None and body.transport == "websocket" and not minds:
        return Deferred(tell, partial(_sent, call))
    ready = partial(directory.turns.until_quiet, call.live) if minds else None
    send = partial(_once, call, call.session_id, tell, partial(_sent, call), ready)
    if body.transport == "sse":
        call.media_type = "text/event-stream"
        call.headers = _UNBUFFERED
        return replies.streamed(call, send, wants_reply=wants_turn)
    return replies.whole(call, send) if body.transport == "http" and wants_turn else send()


def _send_with_turn(
    call: Call, command: Send, then: Callback[Transition], saving: IdempotencyKey | None = None
) -> None:
    """Tell the actor, with room for the agent's turn claimed until it is known what became of the message."""
    turns, when_busy = call.directory.turns, call.body.when_busy
    running = turns.first_owed(call.session_id) if when_busy == "reject" else None
    if running is not None:
        return then(TurnInProgress(running))
    interrupts = when_busy == "interrupt"
    try:
        claim = turns.claim(call.session_id, interrupts=interrupts)
    except Overloaded as full:
        return then(full)

    def release(outcome: Transition | Exception) -> None:
        claim.release()
        then(outcome)

    first = turns.interruption(call.live) if interrupts else ()
    command = command._replace(turn=claim.state)
    return call.live.tell(command, release, saving, always=bool(first), first=first)


def _sent(call: Call, transition: Transition) -> bytes:
    # the message's own instant, so that a repeat with its key gets the same bytes
    return answers.encode(answers.sent_message(transition, _taken(call, transition)))


async def cancel_turn(call: Call) -> bytes:
    state, done = await call.directory.turns.cancel_turn(call.live, call.message_id)
    if done is not None:
        _taken(call, done)
    else:
        call.directory.find(call.session_id)  # it may have gone while its store was asked
    return answers.encode({"messageId": call.message_id, "status": state or "none"})


async def get_messages(call: Call) -> bytes:
    query: MessagesQuery = call.query
    await call.site.traffic.long_answers.wait()
    page = await call.directory.store.history(call.session.key, query.before, query.after, query.limit)
    call.directory.find(call.session_id)  # its messages may have gone while they were read
    body = answers.encode(answers.history(page, query.before, query.after))
    call.site.traffic.long_answers.spend(len(body))
    return body


def not_a_websocket(_call: Call) -> bytes:
    """What the events' path answers to plain HTTP."""
    raise Invalid([{"path": "", "message": "must be a WebSocket handshake: events come over a WebSocket"}])


def listen(call: Call) -> Subscription:
    """Subscribe to the session's events. Whoever gets it hands it back to the hub."""
    query: EventsQuery = call.query
    session = call.live.session
    return call.directory.hub.subscribe(session.id, query.last_event_id, session.event_id, call.now)


def renew_session(call: Call) -> Deferred:
    return _deferred(call, _RENEW)


def update_timeout(call: Call) -> Deferred:
    return _deferred(call, Retime(call.body.patch()))


def heartbeat(call: Call) -> Deferred:
    return _deferred(call, _HEARTBEAT)


def _deferred(call: Call, command: Command) -> Deferred:
    return Deferred(partial(call.live.tell, command), partial(_session_after, call))


def _session_after(call: Call, transition: Transition) -> bytes:
    return answers.encode(answers.session(transition.session, _taken(call, transition)))


def _taken(call: Call, transition: Transition) -> int:
    """Note of whom and when a command was taken up. Gives the instant, as of which it is answered."""
    call.taken = Applied.of(transition)
    return call.taken.at


def _check_content(call: Call, body: SendMessage) -> None:
    if not call.site.content_policy:
        return
    if errors := violations(body.content, body.attachment_names):
        raise Invalid(errors)


async def _once(
    call: Call,
    scope: str,
    tell: Tell,
    encode: Callable[[Transition], bytes],
    ready: Callable[[], Awaitable[None]] | None = None,
) -> bytes:
    """Do it, when it is `ready`; unless this idempotency key says that it is done: then give that answer again."""
    key = call.idempotency_key
    if key is None:
        if ready is not None:
            await ready()
        return encode(await await_callback(tell))
    digest = sha256(call.raw_body).digest()
    keys = call.directory.keys
    with keys.claim(scope, key):
        saved = await keys.saved(scope, key, digest)
        if saved is not None:
            return saved
        if ready is not None:
            await ready()
        saving = IdempotencyKey(scope, key, digest, encode)
        return encode(await await_callback(lambda then: tell(then, saving)))
