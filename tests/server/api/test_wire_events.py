"""The exact JSON of every event (spec section 8), and that it is made once."""

import json
from typing import Any

import pytest

from tests.harness import START_MS
from vigil.actors.core.events import (
    AgentError,
    Broadcast,
    Created,
    Ended,
    Event,
    EventData,
    ExpirationWarning,
    Expired,
    Renewed,
    TimeoutUpdated,
)
from vigil.actors.core.records import Message, Session, TimeoutConfig
from vigil.actors.hub.hub import Chunk, Notice, Resync
from vigil.server.api.wire_events import frame

NINE = "2026-11-22T09:00:00.000Z"
HALF_PAST = "2026-11-22T09:30:00.000Z"
NOON = "2026-11-22T12:00:00.000Z"
CONFIG = {
    "timeoutMinutes": 30,
    "autoRenew": True,
    "maxDurationMinutes": 180,
    "warningThresholdMinutes": 5,
}
SESSION = Session(
    key=1,
    id="s-1",
    agent_id="agent-123",
    user_id="user-456",
    channel_id="c-1",
    metadata='{"source":"web"}',
    created_at=START_MS,
    last_activity=START_MS,
    renewed_at=START_MS,
    config=TimeoutConfig(30, True, 180, 5),
    renewal_count=2,
)
FILES = '[{"type":"image","url":"https://example.com/a.png","name":"a.png"}]'
SAID = Message("m-1", START_MS, "user-456", False, "h\u00ed \u2028", "{}", FILES)
ANSWER = Message("m-2", START_MS + 1, "agent-123", True, "ho", '{"mood":"fine"}', "", START_MS, "length")

EVENTS: list[tuple[EventData, str, dict[str, Any]]] = [
    (
        Created(SESSION),
        "sessionCreated",
        {
            "sessionId": "s-1",
            "agentId": "agent-123",
            "userId": "user-456",
            "createdAt": NINE,
            "lastActivity": NINE,
            "expiresAt": HALF_PAST,
            "timeRemaining": 1_800_000,
            "isNearExpiration": False,
            "timeoutConfig": CONFIG,
            "renewalCount": 2,
            "metadata": {"source": "web"},
            "status": "active",
            "maxExpiresAt": NOON,
        },
    ),
    (
        Broadcast(SAID),
        "messageBroadcast",
        {
            "id": "m-1",
            "content": "h\u00ed \u2028",
            "authorId": "user-456",
            "isAgent": False,
            "createdAt": NINE,
            "metadata": {},
            "attachments": json.loads(FILES),
        },
    ),
    (
        Broadcast(ANSWER),
        "messageBroadcast",
        {
            "id": "m-2",
            "content": "ho",
            "authorId": "agent-123",
            "isAgent": True,
            "createdAt": "2026-11-22T09:00:00.001Z",
            "metadata": {"mood": "fine"},
            "finishReason": "length",
        },
    ),
    (Renewed(START_MS + 1_800_000, 3), "sessionRenewed", {"expiresAt": HALF_PAST, "renewalCount": 3}),
    (
        TimeoutUpdated(SESSION),
        "sessionTimeoutUpdated",
        {"timeoutConfig": CONFIG, "expiresAt": HALF_PAST, "renewalCount": 2},
    ),
    (
        ExpirationWarning(START_MS + 1_800_000, 300_000),
        "sessionExpirationWarning",
        {"expiresAt": HALF_PAST, "timeRemaining": 300_000, "minutesRemaining": 5},
    ),
    (
        ExpirationWarning(START_MS + 1_800_000, 299_999),
        "sessionExpirationWarning",
        {"expiresAt": HALF_PAST, "timeRemaining": 299_999, "minutesRemaining": 5},
    ),
    (
        Expired(START_MS + 1_800_000, "inactivity"),
        "sessionExpired",
        {"expiredAt": HALF_PAST, "reason": "inactivity"},
    ),
    (Ended(START_MS), "sessionEnded", {"endedAt": NINE}),
    (
        AgentError("m-1", "AGENT_TIMEOUT", "The agent did not answer within 10 s"),
        "agentError",
        {"messageId": "m-1", "code": "AGENT_TIMEOUT", "message": "The agent did not answer within 10 s"},
    ),
]


@pytest.mark.parametrize(("data", "kind", "body"), EVENTS)
def test_every_event_has_its_exact_body(data: EventData, kind: str, body: dict[str, Any]) -> None:
    told = json.loads(frame(Notice(Event(7, "s-1", START_MS, data))))
    assert told == {"id": 7, "type": kind, "sessionId": "s-1", "at": NINE, "data": body}


def test_every_kind_of_event_is_tried_here() -> None:
    assert {type(data) for data, _, _ in EVENTS} == set(EventData.__args__)


def test_a_chunk_has_no_id() -> None:
    told = json.loads(frame(Notice(Chunk("s-1", START_MS, "m-1", "Hel"))))
    data = {"messageId": "m-1", "text": "Hel"}
    assert told == {"type": "messageChunk", "sessionId": "s-1", "at": NINE, "data": data}


def test_a_resync_has_the_id_of_the_newest_event() -> None:
    told = json.loads(frame(Notice(Resync(41, "s-1", START_MS))))
    assert told == {"id": 41, "type": "resync", "sessionId": "s-1", "at": NINE, "data": {}}


def test_a_frame_is_made_once_however_many_send_it() -> None:
    notice = Notice(Event(7, "s-1", START_MS, Ended(START_MS)))
    assert frame(notice) is frame(notice)
