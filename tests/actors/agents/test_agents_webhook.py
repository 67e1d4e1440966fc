"""The webhook kind, against real receivers on loopback: what is posted, how it is signed, what may come back."""

import hashlib
import hmac
import json
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.actors.agents.conftest import MakeAgent
from tests.actors.agents.loopback import Loopback, answer, for_ever, hang_up, serve, stall, streamed
from tests.actors.agents.talk import SESSION, Talk, message
from tests.measure import examples
from vigil.actors.agents import remote
from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Agent, Reply
from vigil.actors.agents.webhook import metadata_text
from vigil.actors.core.errors import AgentFailed, AgentTimedOut
from vigil.server.input import fields

SECRET = "a-secret-of-two-parties"
GOOD = answer(200, {"content": "Hello", "metadata": {"mood": "fine"}})
HELLO = Reply("Hello", '{"mood":"fine"}')


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.01, 0.02))


@pytest.fixture
def post_to(make_agent: MakeAgent) -> Any:
    """An agent that posts to a loopback server."""

    def make(server: Loopback, **more: Any) -> Agent:
        environ = {"ORDERS_SECRET": SECRET}
        url = f"{server.url}/turns?v=1"
        return make_agent(kind="webhook", url=url, secret_env="ORDERS_SECRET", environ=environ, **more)

    return make


# --- what is posted


async def test_a_turn_is_posted_as_json(nursery: trio.Nursery, post_to: Any) -> None:
    server = await serve(nursery, GOOD)
    newest = message("Grüße", metadata='{"n":123456789012345678901234567890}', attachments='[{"type":"a"}]')
    talk = Talk(newest)
    assert await post_to(server).reply(talk.turn) == HELLO
    assert talk.said == ["Hello"]
    assert talk.history_limits == []
    assert server.asked[0].target == "/turns?v=1"
    assert server.asked[0].headers["content-type"] == "application/json"
    assert server.asked[0].json == {
        "sessionId": SESSION.id,
        "agentId": "helper",
        "userId": "user-456",
        "message": {
            "id": newest.id,
            "content": "Grüße",
            "createdAt": "2026-11-22T09:00:00.123Z",
            "metadata": {"n": 123456789012345678901234567890},
            "attachments": [{"type": "a"}],
        },
    }


async def test_history_goes_along_when_it_is_asked_for_oldest_first(
    nursery: trio.Nursery, post_to: Any
) -> None:
    server = await serve(nursery, GOOD)
    reply = message("b", -2, is_agent=True, finish_reason="length")
    earlier = [message("a", -3), reply, message("too old", -9)]
    await post_to(server, history_messages=2).reply(Talk("c", earlier).turn)
    history = server.asked[0].json["history"]
    assert [(one["content"], one["authorId"], one["isAgent"]) for one in history] == [
        ("a", "user-456", False),
        ("b", "helper", True),
    ]
    assert history[0].keys() == {
        "id",
        "content",
        "createdAt",
        "metadata",
        "attachments",
        "authorId",
        "isAgent",
    }
    assert history[1].keys() == {*history[0], "finishReason"}
    assert history[1]["finishReason"] == "length"


async def test_the_body_is_signed_with_the_time_in_the_header(nursery: trio.Nursery, post_to: Any) -> None:
    server = await serve(nursery, GOOD)
    await post_to(server).reply(Talk("Hi").turn)
    asked = server.asked[0]
    assert asked.headers["vigil-timestamp"] == "1795338999"
    expected = hmac.new(SECRET.encode(), b"1795338999." + asked.body, hashlib.sha256).hexdigest()
    assert asked.headers["vigil-signature"] == f"v1={expected}"


# --- what may come back


@pytest.mark.parametrize("metadata", [{}, {"a": [1, 2.5, True, "x"]}, {"1": {"2": {"3": {"4": [[]][0]}}}}])
async def test_metadata_comes_back_as_compact_json(
    nursery: trio.Nursery, post_to: Any, metadata: Any
) -> None:
    server = await serve(nursery, answer(201, {"content": "Hello", "metadata": metadata}))
    reply = await post_to(server).reply(Talk("Hi").turn)
    assert reply == Reply("Hello", json.dumps(metadata, separators=(",", ":")))


async def test_an_answer_may_leave_metadata_out(nursery: trio.Nursery, post_to: Any) -> None:
    server = await serve(nursery, answer(200, {"content": "Hello"}))
    assert await post_to(server).reply(Talk("Hi").turn) == Reply("Hello", "{}")


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_an_answer_may_say_why_it_ends(nursery: trio.Nursery, post_to: Any, reason: Any) -> None:
    server = await serve(nursery, answer(200, {"content": "Hello", "finishReason": reason}))
    assert await post_to(server).reply(Talk("Hi").turn) == Reply("Hello", "{}", reason)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'\xef\xbb\xbf{"content": "Hello"}', "application/json"),
        (b' \r\n{"content": "Hello"}\r\n', "text/html; charset=latin-1"),
        (b'{"content": "Hello", "error": null}', "text/event-stream"),
        (b'{"content": "Hello", "error": false}', ""),
        (b'{"content": "Hello", "error": {}}', "application/json"),
    ],
)
async def test_an_answer_counts_whatever_is_around_it(
    nursery: trio.Nursery, post_to: Any, body: bytes, kind: str
) -> None:
    server = await serve(nursery, answer(200, body, Content_Type=kind))
    assert await post_to(server).reply(Talk("Hi").turn) == Reply("Hello")


def six_levels() -> dict[str, Any]:
    return {"2": {"3": {"4": {"5": {"6": {}}}}}}


BAD_ANSWERS = [
    (answer(200, "Hello"), "not a JSON object"),
    (answer(200, b"Hello"), "not JSON"),
    (answer(204), "not JSON"),
    (answer(200, b'{"content": "a", "content": "b"}'), "not JSON"),
    (answer(200, b'{"content": "\\udc00"}'), "not JSON"),
    (answer(200, {}), "not {content, metadata, finishReason}"),
    (answer(200, {"content": 5}), "not {content, metadata, finishReason}"),
    (answer(200, {"content": None}), "not {content, metadata, finishReason}"),
    (answer(200, {"content": "a", "text": "b"}), "not {content, metadata, finishReason}"),
    (answer(200, {"content": "a", "error": "boom"}), "reported an error"),
    (answer(200, {"content": "a", "error": {"message": "boom"}}), "reported an error"),
    (answer(200, {"error": {"message": SECRET}}), "reported an error"),
    (answer(200, {"error": None}), "not {content, metadata, finishReason}"),
    (answer(200, {"content": "a", "finishReason": "cancelled"}), "a finishReason that is none"),
    (answer(200, {"content": "a", "finishReason": "STOP"}), "a finishReason that is none"),
    (answer(200, {"content": "a", "finishReason": None}), "a finishReason that is none"),
    (answer(200, {"content": "a", "finishReason": ["stop"]}), "a finishReason that is none"),
    (answer(200, b"data: Hello\n\n", Content_Type="text/event-stream"), "not JSON"),
    (answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip"), "compressed its answer"),
    (answer(200, {"content": ""}), "empty answer"),
    (answer(200, {"content": "x" * (ANSWER_CHARACTERS_MAX + 1)}), "too long"),
    (answer(200, {"content": "x" * 10 * 1024 * 1024}), "too long"),
    (streamed(b'{"content": "', kind="application/json", then=for_ever(b"x" * 65_536)), "too long"),
    (streamed(b'{"content": "', kind="application/json"), "not JSON"),
    (answer(200, {"content": "a", "metadata": None}), "metadata that is not allowed"),
    (answer(200, {"content": "a", "metadata": []}), "metadata that is not allowed"),
    (answer(200, {"content": "a", "metadata": {"b": [None]}}), "metadata that is not allowed"),
    (answer(200, {"content": "a", "metadata": six_levels()}), "metadata that is not allowed"),
    (answer(200, {"content": "a", "metadata": {"b": "x" * 16_384}}), "metadata that is not allowed"),
    (answer(200, b'{"content": "a", "metadata": {"b": 1e999}}'), "metadata that is not allowed"),
    (answer(400, {"error": "no"}), "answered 400"),
    (answer(401, SECRET.encode()), "answered 401"),
    (answer(500, b"<html>" * 1000), "answered 500"),
    (answer(301, b"", Location="/elsewhere"), "answered 301"),
]


@pytest.mark.parametrize(("bad", "told"), BAD_ANSWERS)
async def test_anything_else_is_a_failure_and_is_not_posted_again(
    nursery: trio.Nursery, post_to: Any, bad: Any, told: str, logged: list[Any]
) -> None:
    server = await serve(nursery, bad, GOOD)
    agent, talk = post_to(server), Talk("Hi")
    with pytest.raises(AgentFailed) as failure, trio.fail_after(60):
        await agent.reply(talk.turn)
    assert told in str(failure.value)
    assert len(str(failure.value)) < 100
    assert len(server.asked) == 1
    assert talk.said == []
    assert SECRET not in str(logged)
    assert len(str(logged)) < 500
    assert await agent.reply(talk.turn) == HELLO


@pytest.mark.parametrize(
    "passing",
    [
        answer(429, Retry_After="0"),
        answer(429, Retry_After="0.01"),
        answer(503, Retry_After_Ms="10", Retry_After="3600"),
        answer(503),
        answer(529),
        hang_up,
        streamed(b'{"content"', kind="application/json", then=hang_up),
    ],
)
async def test_a_passing_failure_is_posted_again_under_the_same_key(
    nursery: trio.Nursery, post_to: Any, passing: Any
) -> None:
    server = await serve(nursery, passing, passing, GOOD)
    talk = Talk("Hi")
    assert await post_to(server).reply(talk.turn) == HELLO
    assert [asked.headers["idempotency-key"] for asked in server.asked] == [talk.turn.message.id] * 3
    assert len({asked.body for asked in server.asked}) == 1


async def test_it_is_posted_three_times_at_most(nursery: trio.Nursery, post_to: Any) -> None:
    server = await serve(nursery, hang_up)
    with pytest.raises(AgentFailed, match="broke off the connection"):
        await post_to(server).reply(Talk("Hi").turn)
    assert len(server.asked) == 3


async def test_a_receiver_that_stalls_is_a_time_out_and_not_posted_to_again(
    nursery: trio.Nursery, post_to: Any
) -> None:
    server = await serve(nursery, stall)
    with pytest.raises(AgentTimedOut):
        await post_to(server, turn_timeout_s=1.0).reply(Talk("Hi").turn)
    assert len(server.asked) == 1


# --- metadata: the same rules as for what clients send


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def _taken(check: Any, value: object) -> str | None:
    try:
        return str(check(value))
    except ValueError:
        return None


@examples(300)
@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4) | json_values)
def test_an_agents_metadata_is_taken_when_a_clients_would_be(value: object) -> None:
    assert _taken(metadata_text, value) == _taken(fields._metadata, value)


@pytest.mark.parametrize(("size", "good"), [(16_384, True), (16_385, False)])
def test_metadata_has_16384_bytes_at_most(size: int, good: bool) -> None:
    value = {"b": "é" * ((size - 8) // 2) + "x" * (size % 2)}
    assert len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) == size
    assert (_taken(metadata_text, value) is not None) is good
