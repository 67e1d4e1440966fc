"""Sessions, messages and counts as the JSON of spec section 1. Pure: records in, bodies out."""

from functools import lru_cache
from typing import Any

import orjson

from vigil.actors.core.commands import Transition
from vigil.actors.core.expiry import expires_at, is_near_expiration, max_expires_at, warn_at
from vigil.actors.core.records import Message, Session, TimeoutConfig, Tombstone
from vigil.actors.runtime.registry import Listing
from vigil.actors.stores.base import Page
from vigil.server.api.wire_time import iso
from vigil.server.input.schemas import (
    AgentResponseBody,
    HistoryBody,
    ListedSessionBody,
    MessageBody,
    SentMessageBody,
    SessionListBody,
)


def encode(body: Any) -> bytes:
    """Compact JSON."""
    return orjson.dumps(body)


@lru_cache(maxsize=4096)
def timeout_config(config: TimeoutConfig) -> orjson.Fragment:
    """A `TimeoutConfigBody`. Few sessions have one that no other has."""
    return orjson.Fragment(
        encode(
            {
                "timeoutMinutes": config.timeout_minutes,
                "autoRenew": config.auto_renew,
                "maxDurationMinutes": config.max_duration_minutes,
                "warningThresholdMinutes": config.warning_threshold_minutes,
            }
        )
    )


def session(session: Session, now: int) -> dict[str, Any]:
    """The full session object, a `SessionBody`, as it stands at `now`."""
    ends = expires_at(session)
    return {
        "sessionId": session.id,
        "agentId": session.agent_id,
        "userId": session.user_id,
        "createdAt": iso(session.created_at),
        "lastActivity": iso(session.last_activity),
        "expiresAt": iso(ends),
        "timeRemaining": max(0, ends - now),
        "isNearExpiration": is_near_expiration(session, now),
        "timeoutConfig": timeout_config(session.config),
        "renewalCount": session.renewal_count,
        "metadata": orjson.Fragment(session.metadata),
        "status": "active" if now < ends else "expired",
        "maxExpiresAt": iso(max_expires_at(session)),
    }


def session_at(session: Session, now: int) -> bytes:
    """`session`, encoded. Of a session that has not changed only what the time changes is made anew."""
    before, between, after, ends, warns = _encoded_parts(session)
    if now >= ends:
        return b"%b0%bfalse%bexpired%b" % (before, _NEAR, between, after)
    return b"%b%d%b%b%bactive%b" % (
        before,
        ends - now,
        _NEAR,
        b"true" if now >= warns else b"false",
        between,
        after,
    )


def created_session(session: Session) -> dict[str, Any]:
    """A `CreatedSessionBody` but for its token, which is kept nowhere."""
    return {
        "sessionId": session.id,
        "channelId": session.channel_id,
        "agentId": session.agent_id,
        "userId": session.user_id,
        "createdAt": iso(session.created_at),
        "expiresAt": iso(expires_at(session)),
        "maxExpiresAt": iso(max_expires_at(session)),
        "status": "active",
        "timeoutConfig": timeout_config(session.config),
        "renewalCount": session.renewal_count,
        "metadata": orjson.Fragment(session.metadata),
    }


def message(message: Message) -> MessageBody:
    body: MessageBody = {
        "id": message.id,
        "content": message.content,
        "authorId": message.author_id,
        "isAgent": message.is_agent,
        "createdAt": iso(message.created_at),
        "metadata": orjson.Fragment(message.metadata),
    }
    if message.attachments:
        body["attachments"] = orjson.Fragment(message.attachments)
    if message.finish_reason:
        body["finishReason"] = message.finish_reason
    return body


def agent_response(reply: Message) -> AgentResponseBody:
    return {**message(reply), "text": reply.content}


def sent_message(transition: Transition, now: int) -> SentMessageBody:
    """The 201 of send: the message and what it did to the session."""
    sent, after = transition.message, transition.session
    assert sent is not None  # every send that is not refused stores a message
    body: SentMessageBody = {
        "id": sent.id,
        "content": sent.content,
        "authorId": sent.author_id,
        "createdAt": iso(sent.created_at),
        "metadata": orjson.Fragment(sent.metadata),
        "sessionStatus": {
            "expiresAt": iso(expires_at(after)),
            "renewalCount": after.renewal_count,
            "wasRenewed": transition.was_renewed,
            "isNearExpiration": is_near_expiration(after, now),
        },
    }
    if sent.attachments:
        body["attachments"] = orjson.Fragment(sent.attachments)
    return body


def history(page: Page, before: int | None, after: int | None) -> HistoryBody:
    """A page newest first; the cursors of an empty one echo what was asked."""
    messages = page.messages
    return {
        "messages": [message(one) for one in messages],
        "hasMore": page.has_more,
        "cursors": {
            "before": messages[-1].created_at if messages else before or 0,
            "after": messages[0].created_at if messages else after or 0,
        },
    }


def listed_session(record: Session | Tombstone, now: int) -> ListedSessionBody:
    ends = expires_at(record) if isinstance(record, Session) else record.expires_at
    return {
        "sessionId": record.id,
        "agentId": record.agent_id,
        "userId": record.user_id,
        "createdAt": iso(record.created_at),
        "expiresAt": iso(ends),
        "timeRemaining": max(0, ends - now),
        "isNearExpiration": isinstance(record, Session) and is_near_expiration(record, now),
        "renewalCount": record.renewal_count,
        "status": "active" if now < ends else "expired",
    }


_LEFT, _NEAR, _STATUS = b'"timeRemaining":', b',"isNearExpiration":', b'"status":"'


@lru_cache(maxsize=4096)
def _encoded_parts(of: Session) -> tuple[bytes, bytes, bytes, int, int]:
    """What stands before `timeRemaining`, between `isNearExpiration` and `status`, and after `status`; its instants."""
    whole = encode(session(of, expires_at(of)))
    before, _, rest = whole.partition(
        _LEFT + b"0" + _NEAR + b"false"
    )  # the first is no metadata of the client's
    between, _, after = rest.rpartition(_STATUS + b"expired")  # nor the last
    return before + _LEFT, between + _STATUS, after, expires_at(of), warn_at(of)


def session_list(listing: Listing, now: int, limit: int, offset: int) -> SessionListBody:
    counts = listing.counts
    return {
        "sessions": [listed_session(record, now) for record in listing.sessions],
        "total": listing.total,
        "limit": limit,
        "offset": offset,
        "stats": {
            "totalSessions": counts.active + counts.expired,
            "activeSessions": counts.active,
            "expiredSessions": counts.expired,
        },
    }
