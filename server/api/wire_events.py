"""Events as the JSON of spec section 8, encoded once however many listen."""

from collections.abc import Callable
from typing import Any, NamedTuple

from vigil.actors.core.events import (
    AgentError,
    Broadcast,
    Created,
    Ended,
    Event,
    ExpirationWarning,
    Expired,
    Renewed,
    TimeoutUpdated,
)
from vigil.actors.core.expiry import MINUTE_MS, expires_at
from vigil.actors.hub.hub import Chunk, Notice, Resync
from vigil.server.api import answers
from vigil.server.api.wire_time import iso


def frame(notice: Notice) -> str:
    """The text of one WebSocket frame."""
    if notice.frame is None:
        notice.frame = answers.encode(_body(notice.news)).decode()
    return notice.frame


def _body(news: Event | Chunk | Resync) -> dict[str, Any]:
    if isinstance(news, Chunk):
        return _shape("messageChunk", news, {"messageId": news.message_id, "text": news.text})
    if isinstance(news, Resync):
        return {"id": news.id} | _shape("resync", news, {})
    form = _FORMS[type(news.data)]
    return {"id": news.id} | _shape(form.type, news, form.data(news))


def _shape(kind: str, news: Event | Chunk | Resync, data: Any) -> dict[str, Any]:
    return {"type": kind, "sessionId": news.session_id, "at": iso(news.at), "data": data}


class _Form(NamedTuple):
    type: str
    data: Callable[[Any], Any]


def _timeout_updated(event: Event) -> dict[str, Any]:
    session = event.data.session  # type: ignore[union-attr]  # by the table below
    return {
        "timeoutConfig": answers.timeout_config(session.config),
        "expiresAt": iso(expires_at(session)),
        "renewalCount": session.renewal_count,
    }


def _warning(event: Event) -> dict[str, Any]:
    warning: Any = event.data
    return {
        "expiresAt": iso(warning.expires_at),
        "timeRemaining": warning.time_remaining,
        "minutesRemaining": -(-warning.time_remaining // MINUTE_MS),
    }


_FORMS: dict[type, _Form] = {
    Created: _Form("sessionCreated", lambda event: answers.session(event.data.session, event.at)),
    Broadcast: _Form("messageBroadcast", lambda event: answers.message(event.data.message)),
    Renewed: _Form(
        "sessionRenewed",
        lambda event: {
            "expiresAt": iso(event.data.expires_at),
            "renewalCount": event.data.renewal_count,
        },
    ),
    TimeoutUpdated: _Form("sessionTimeoutUpdated", _timeout_updated),
    ExpirationWarning: _Form("sessionExpirationWarning", _warning),
    Expired: _Form(
        "sessionExpired",
        lambda event: {"expiredAt": iso(event.data.expired_at), "reason": event.data.reason},
    ),
    Ended: _Form("sessionEnded", lambda event: {"endedAt": iso(event.data.ended_at)}),
    AgentError: _Form(
        "agentError",
        lambda event: {
            "messageId": event.data.message_id,
            "code": event.data.code,
            "message": event.data.message,
        },
    ),
}
