"""What the wider API family's official TypeScript client sends: all of it succeeds, through every way in.

It puts `X-API-KEY` and `Content-Type: application/json` on every request, those without a body too, and writes
query values as strings. Its types differ from our bodies in places; docs/clients.md names them.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.harness import OWNER, WAYS, Answer, Api, WayIn, running_api
from vigil.server.api.call import Site


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
async def api(request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    way: Callable[[Site], WayIn] = request.param
    async with running_api(way) as running:
        yield running


async def call(api: Api, method: str, path: str, body: Any = None) -> Any:
    """One request as that client makes it. Gives the answer's body."""
    named = {} if body is not None else {"Content-Type": "application/json"}
    headers = {"X-API-KEY": OWNER, **named}
    answer: Answer = await api.request(method, path, body, credential=None, headers=headers)
    assert answer.status in (200, 201), answer
    return answer.json


async def new_session(api: Api) -> str:
    metadata = {"platform": "discord", "username": "ada", "discriminator": "0001", "avatar": "a.png"}
    body = {"agentId": "agent-123", "userId": "user-456", "metadata": metadata}
    created = await call(api, "POST", "", body)
    assert created["metadata"] == metadata
    return str(created["sessionId"])


async def test_what_it_reads_of_a_new_session_is_there(api: Api, autojump_clock: MockClock) -> None:
    created = await call(api, "POST", "", {"agentId": "agent-123", "userId": "user-456"})
    assert {"sessionId", "agentId", "userId", "createdAt", "metadata", "channelId"} <= set(created)
    info = await call(api, "GET", f"/{created['sessionId']}")
    assert {"sessionId", "agentId", "userId", "createdAt", "lastActivity", "metadata"} <= set(info)


async def test_a_get_and_a_delete_may_name_the_content_type_of_no_body(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await new_session(api)
    listing = await call(api, "GET", "")
    assert (listing["total"], listing["sessions"][0]["sessionId"]) == (1, session_id)
    assert (await call(api, "GET", "/health"))["status"] == "healthy"
    assert (await call(api, "GET", f"/{session_id}/messages"))["messages"] == []
    assert (await call(api, "DELETE", f"/{session_id}"))["success"] is True


async def test_a_post_without_a_body_may_too(api: Api, autojump_clock: MockClock) -> None:
    session_id = await new_session(api)
    for operation in ("renew", "heartbeat"):
        assert (await call(api, "POST", f"/{session_id}/{operation}"))["sessionId"] == session_id


async def test_its_synchronous_send_gets_the_text_of_the_agents_response(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await new_session(api)
    sent = await call(api, "POST", f"/{session_id}/messages", {"content": "hello", "transport": "http"})
    assert sent["agentResponse"]["text"] == "hello"
    assert {"expiresAt", "renewalCount", "wasRenewed", "isNearExpiration"} == set(sent["sessionStatus"])


@pytest.mark.parametrize("kind", ["image", "file", "audio", "video", "document"])
async def test_its_attachments_and_metadata_are_taken_and_given_back(
    api: Api, autojump_clock: MockClock, kind: str
) -> None:
    session_id = await new_session(api)
    file = {
        "type": kind,
        "url": "https://example.com/a",
        "name": "a",
        "size": 48_213,
        "mimeType": "application/pdf",
    }
    metadata = {
        "source": "web",
        "priority": "high",
        "tags": ["new", "vip"],
        "context": {"page": "home", "visits": 3, "signedIn": True},
        "thought": "say hello",
        "actions": ["REPLY"],
    }
    body = {"content": "hello", "attachments": [file], "metadata": metadata}
    sent = await call(api, "POST", f"/{session_id}/messages", body)
    assert (sent["attachments"], sent["metadata"]) == ([file], metadata)


async def test_limit_before_and_after_as_strings_page_through_the_history(
    api: Api, autojump_clock: MockClock
) -> None:
    session_id = await new_session(api)
    for n in range(3):
        await call(api, "POST", f"/{session_id}/messages", {"content": str(n)})
    await wait_all_tasks_blocked()
    newest = await call(api, "GET", f"/{session_id}/messages?limit=2")
    assert (len(newest["messages"]), newest["hasMore"]) == (2, True)
    cursors = newest["cursors"]
    older = await call(api, "GET", f"/{session_id}/messages?limit=100&before={cursors['before']}")
    newer = await call(api, "GET", f"/{session_id}/messages?after={cursors['before']}")
    assert (len(older["messages"]), len(newer["messages"])) == (4, 1)
    fields = {"id", "content", "authorId", "isAgent", "createdAt", "metadata"}
    assert all(set(message) - {"finishReason"} == fields for message in older["messages"])
