# Made from tests/clients/python/_async/test_client.py by clients/python/generate_sync.py: change that one.
"""What the client says to a server, and what it makes of the answers."""

import uuid

import pytest

from tests.clients.python.loops import as_it_is
from tests.process import KEY, ServerProcess
from vigil.server.api.routes import ROUTES
from vigil_client import Attachment, Vigil
from vigil_client._sync import client as client_module
from vigil_client._sync import session as session_module
from vigil_client.calls import BASE, session_path
from vigil_client.errors import (
    AgentFailed,
    AgentNotFound,
    BadRequest,
    Forbidden,
    NoAnswer,
    SessionNotFound,
    SessionRenewalFailed,
    Unauthenticated,
    VigilError,
)

PATHS = {route.path.rpartition("/")[2] for route in ROUTES}


@as_it_is
def test_a_message_is_sent_and_answered(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="agent-123", user_id="user-1", metadata={"from": "test"})
        sent = session.send("Hello, how can I help you today?", wait=True)
        assert sent.session_status.was_renewed
        assert sent.answer is not None
        assert (sent.answer.content, sent.answer.finish_reason) == (sent.content, "stop")
        page = session.history(limit=1)
        assert (list(page.messages), page.has_more) == ([sent.answer], True)
        assert (session.get()).metadata == {"from": "test"}


@as_it_is
def test_an_id_and_a_token_open_a_session_without_any_key(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        created = (vigil.create(agent_id="agent-123", user_id="user-1")).created
    assert created is not None
    assert created.session_token not in repr(created)
    with Vigil(server.url) as vigil:
        session = vigil.session(created.session_id, created.session_token)
        assert (session.get()).user_id == "user-1"
        with pytest.raises(Unauthenticated):
            vigil.list()
        with pytest.raises(Forbidden):
            vigil.session(str(uuid.uuid4()), created.session_token).get()


@as_it_is
def test_a_session_is_kept_changed_and_ended(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="silent", user_id="user-1", timeout_minutes=10, auto_renew=False)
        assert (session.heartbeat()).renewal_count == 0
        assert (session.renew()).renewal_count == 1
        retimed = session.retime(timeout_minutes=20, max_duration_minutes=15)
        assert retimed.timeout_config.timeout_minutes == 20
        assert retimed.expires_at == retimed.max_expires_at
        with pytest.raises(SessionRenewalFailed) as refused:
            session.renew()
        assert refused.value.details["reason"] == "max_duration"
        session.end()
        with pytest.raises(SessionNotFound):
            session.end()


@as_it_is
def test_every_error_says_what_where_and_which_request(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        with pytest.raises(AgentNotFound) as unknown:
            vigil.create(agent_id="nobody", user_id="user-1")
        assert (unknown.value.code, unknown.value.status) == ("AGENT_NOT_FOUND", 404)
        assert unknown.value.details == {"agentId": "nobody"}
        assert unknown.value.request_id
        assert unknown.value.request_id in str(unknown.value)
        with pytest.raises(BadRequest) as wrong:
            vigil.create(agent_id="agent-123", user_id="user-1", timeout_minutes=1)
        assert [problem["path"] for problem in wrong.value.problems] == ["timeoutConfig.timeoutMinutes"]
        assert isinstance(wrong.value, VigilError)


@as_it_is
def test_an_agent_that_fails_leaves_the_message_stored(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="broken", user_id="user-1")
        with pytest.raises(AgentFailed) as failed:
            session.send("Are you there?", wait=True)
        assert failed.value.details["userMessage"]["content"] == "Are you there?"
        assert len((session.history()).messages) == 1


@as_it_is
def test_attachments_and_metadata_go_along(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="silent", user_id="user-1")
        cat = Attachment(type="image", url="https://example.com/cat.png", name="cat.png", size=7)
        sent = session.send("Look!", attachments=[cat], metadata={"mood": "glad"})
        assert (list(sent.attachments), sent.metadata) == ([cat], {"mood": "glad"})


@as_it_is
def test_pages_of_messages_are_one_iterator_in_either_order(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "LONGEST_PAGE", 2)
    said = [str(number) for number in range(5)]
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="silent", user_id="user-1")
        for content in said:
            session.send(content)
        assert [message.content for message in session.messages(oldest_first=True)] == said
        assert [message.content for message in session.messages()] == said[::-1]


@as_it_is
def test_pages_of_sessions_are_one_iterator_and_none_comes_twice(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LONGEST_PAGE", 2)
    user = f"user-{uuid.uuid4()}"
    with Vigil(server.url, api_key=KEY) as vigil:
        made = [(vigil.create(agent_id="silent", user_id=user)).id for _ in range(5)]
        found = []
        for session in vigil.sessions(user_id=user):
            found.append(session.session_id)
            if len(found) == 1:  # moves all others by one
                vigil.create(agent_id="silent", user_id=user)
        assert sorted(found) == sorted(made)
        assert (vigil.list(user_id=user, limit=1)).total == 6


@as_it_is
def test_health_is_an_answer(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        assert (vigil.health()).status in ("healthy", "degraded")


@as_it_is
def test_nobody_there_is_no_answer() -> None:
    with Vigil("http://127.0.0.1:1", api_key=KEY, retries=1) as vigil:
        with pytest.raises(NoAnswer):
            vigil.health()


@as_it_is
def test_what_is_no_json_is_refused_before_anything_is_sent(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="silent", user_id="user-1")
        with pytest.raises(ValueError, match="not JSON compliant"):
            session.send("Hello", metadata={"no": float("nan")})


@pytest.mark.skipif("cancel" not in PATHS, reason="the server has no route to cancel a turn yet")
@as_it_is
def test_a_turn_is_cancelled(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="sleeper", user_id="user-1")
        sent = session.send("Wake up!")
        assert (session.cancel(sent.id)).status == "cancelled"
        assert (session.cancel(sent.id)).status == "cancelled"


@pytest.mark.skipif("ledger" not in PATHS, reason="the server has no route for the ledger yet")
@as_it_is
def test_the_ledger_tells_what_moved_the_deadline(server: ServerProcess) -> None:
    with Vigil(server.url, api_key=KEY) as vigil:
        session = vigil.create(agent_id="silent", user_id="user-1")
        session.renew()
        ledger = session.ledger()
        assert [entry.kind for entry in ledger.entries] == ["created", "renewed"]


def test_a_session_id_is_never_more_than_a_part_of_the_path() -> None:
    assert session_path("../admin", "events") == f"{BASE}/..%2Fadmin/events"


def test_an_address_without_http_is_refused() -> None:
    with pytest.raises(ValueError, match="http://"):
        Vigil("127.0.0.1:3000")
