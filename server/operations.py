"""The API as plain async functions from a call to the body of its answer. No web framework in it.

When one is called, the caller has been let in and the request is charged and valid (see `gateway`).
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256

import orjson

from actors.hub import Subscription
from actors.lifecycle import Heartbeat, Renew, Retime, Send, Transition, taken_at
from actors.mailbox import Saving
from server import answers, replies
from server.call import Body, Call
from server.content_policy import violations
from server.schemas import (
    CreateSession,
    EventsQuery,
    Invalid,
    ListSessionsQuery,
    MessagesQuery,
    SendMessage,
)


async def create_session(call: Call) -> bytes:
    body: CreateSession = call.body

    def encode(transition: Transition) -> bytes:
        call.taken = transition.session.created_at
        return answers.encode(answers.created_session(transition.session))

    async def create(saving: Saving | None) -> Transition:
        return await call.directory.create(
            body.agent_id, body.user_id, body.metadata_json, body.timeout_config.patch(), saving, call.now
        )

    answer = await _once(call, call.caller.id, create, encode)
    token = call.site.auth.mint(orjson.loads(answer)["sessionId"])
    return answer[:-1] + b',"sessionToken":' + answers.encode(token) + b"}"


async def list_sessions(call: Call) -> bytes:
    query: ListSessionsQuery = call.query
    listing = call.directory.page(
        query.agent_id, query.user_id, query.status, offset=query.offset, limit=query.limit
    )
    now = call.now
    return answers.encode(answers.session_list(listing, now, query.limit, query.offset))


async def health(call: Call) -> bytes:
    body = await call.site.health.check()
    call.status = 503 if body["status"] == "unhealthy" else 200
    return answers.encode(body)


async def get_session(call: Call) -> bytes:
    return answers.session_at(call.live.session, call.now)


async def end_session(call: Call) -> bytes:
    await call.directory.end(call.session_id)
    return answers.encode({"success": True, "message": f"Session {call.session_id} deleted successfully"})


async def send_message(call: Call) -> Body:
    body: SendMessage = call.body
    _check_content(call, body)
    directory = call.directory
    actor = directory.find(call.session_id)  # it may have gone while the body arrived
    wants_turn = directory.turns.wants(actor.session.agent_id)

    def encode(transition: Transition) -> bytes:
        # the message's own instant, so that a repeat with its key gets the same bytes
        call.taken = taken_at(transition)
        return answers.encode(answers.sent_message(transition, call.taken))

    async def send(saving: Saving | None) -> Transition:
        command = Send(directory.new_id(), body.content, body.metadata_json, body.attachments_json, "")
        if not wants_turn:
            return await actor.ask(command, saving)
        with directory.turns.claim(call.session_id) as turn:
            return await actor.ask(command._replace(turn=turn), saving)

    async def send_once() -> bytes:
        return await _once(call, call.session_id, send, encode)

    if body.transport == "sse":
        call.media_type = "text/event-stream"
        return await replies.streamed(call, send_once, wants_reply=wants_turn)
    if body.transport == "http" and wants_turn:
        return await replies.whole(call, send_once)
    return await send_once()


async def get_messages(call: Call) -> bytes:
    query: MessagesQuery = call.query
    key = call.live.session.key
    page = await call.directory.store.history(key, query.before, query.after, query.limit)
    call.directory.find(call.session_id)  # its messages may have gone while they were read
    return answers.encode(answers.history(page, query.before, query.after))


async def not_a_websocket(_call: Call) -> bytes:
    """What the events' path answers to plain HTTP."""
    raise Invalid([{"path": "", "message": "must be a WebSocket handshake: events come over a WebSocket"}])


def listen(call: Call) -> Subscription:
    """Hear of the session's events. Whoever gets it hands it back to the hub."""
    query: EventsQuery = call.query
    session = call.live.session
    return call.directory.hub.subscribe(session.id, query.last_event_id, session.event_id, call.now)


async def renew_session(call: Call) -> bytes:
    return _session_after(call, await call.live.ask(Renew()))


async def update_timeout(call: Call) -> bytes:
    return _session_after(call, await call.live.ask(Retime(call.body.patch())))


async def heartbeat(call: Call) -> bytes:
    return _session_after(call, await call.live.ask(Heartbeat()))


def _session_after(call: Call, transition: Transition) -> bytes:
    call.taken = taken_at(transition)
    return answers.encode(answers.session(transition.session, call.taken))


def _check_content(call: Call, body: SendMessage) -> None:
    if not call.site.content_policy:
        return
    if errors := violations(body.content, body.attachment_names):
        raise Invalid(errors)


async def _once(
    call: Call,
    scope: str,
    ask: Callable[[Saving | None], Awaitable[Transition]],
    encode: Callable[[Transition], bytes],
) -> bytes:
    """Do it, unless this idempotency key says that it is done: then give that answer again."""
    key = call.idempotency_key
    if key is None:
        return encode(await ask(None))
    digest = sha256(call.raw_body).digest()
    keys = call.directory.keys
    with keys.claim(scope, key):
        saved = await keys.saved(scope, key, digest)
        if saved is not None:
            return saved
        return encode(await ask(Saving(scope, key, digest, encode)))
