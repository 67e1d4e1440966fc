"""Records are built from tuples in the order of their fields: a field that is moved is an error here, not a silence.

`maker` and the SQLite statements go by place. Whoever moves a field sees from these tests what goes by it; how many
fields each call gives is counted by `tests/test_maker.py`.
"""

import importlib
import sys

import pytest

from vigil.actors.core import lifecycle
from vigil.actors.core.commands import Transition
from vigil.actors.core.events import Broadcast, Event, Renewed
from vigil.actors.core.quotas import Quota
from vigil.actors.core.records import Message, Session, TimeoutConfig
from vigil.actors.stores.base import (
    InsertMessage,
    RemoveSession,
    SaveAnswer,
    SaveWindow,
    UpdateSession,
    UpdateTurn,
)

FIELDS = {
    Session: "key id agent_id user_id channel_id metadata created_at last_activity renewed_at config renewal_count "
    "warned event_id last_message_at",
    TimeoutConfig: "timeout_minutes auto_renew max_duration_minutes warning_threshold_minutes",
    Message: "id created_at author_id is_agent content metadata attachments reply_to finish_reason",
    Event: "id session_id at data",
    Broadcast: "message",
    Renewed: "expires_at renewal_count",
    Transition: "state events message turn was_renewed refusal",
    Quota: "scope limit remaining reset_ms",
    UpdateSession: "session",
    InsertMessage: "session_key message turn",
    UpdateTurn: "session_key created_at turn",
    SaveAnswer: "scope key body_sha256 answer session_key saved_at",
    RemoveSession: "session_key tombstone",
    SaveWindow: "scope subject admitted_at",
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_the_fields_stand_in_the_order_by_which_tuples_are_built(kind: type) -> None:
    assert kind._fields == tuple(FIELDS[kind].split())  # type: ignore[attr-defined]


def test_a_moved_field_of_a_session_stops_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = (*Session._fields[:-2], "last_message_at", "event_id")
    monkeypatch.setattr(Session, "_fields", moved)
    monkeypatch.delitem(sys.modules, lifecycle.__name__)
    with pytest.raises(TypeError, match="a field of Session was moved"):
        importlib.import_module(lifecycle.__name__)
