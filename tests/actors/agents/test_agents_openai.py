"""The openai kind, against real servers on loopback that stream, stall, break off and answer garbage."""

import json
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.actors.agents.completions import HELLO, KEY, completion, fails, piece
from tests.actors.agents.conftest import MakeAgent
from tests.actors.agents.loopback import (
    answer,
    end,
    events,
    free_port,
    hang_up,
    serve,
    stall,
    streamed,
)
from tests.actors.agents.talk import Talk, message
from tests.measure import examples
from vigil.actors.agents import remote
from vigil.actors.agents.base import Reply
from vigil.actors.agents.conversation import chat, with_system
from vigil.actors.agents.remote import Remote
from vigil.actors.core.errors import AgentFailed, AgentTimedOut

pytestmark = pytest.mark.usefixtures("no_pauses")


# --- what is asked


async def test_it_asks_for_a_streamed_completion_of_the_conversation(
    nursery: trio.Nursery, talk_to: Any
) -> None:
    server = await serve(nursery, events(*HELLO))
    agent = talk_to(
        server,
        system_prompt="Be brief.",
        api_key_env="MODEL_KEY",
        environ={"MODEL_KEY": KEY},
        options={"temperature": 0.2, "stop": ["\n"]},
    )
    earlier = [message("One?", -30), message("1.", -20, is_agent=True)]
    assert await agent.reply(Talk("Two?", earlier).turn) == Reply("Hello")
    (asked,) = server.asked
    assert asked.target == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.json == {
        "model": "tiny",
        "stream": True,
        "temperature": 0.2,
        "stop": ["\n"],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "1."},
            {"role": "user", "content": "Two?"},
        ],
    }


async def test_without_a_key_no_authorization_is_sent(nursery: trio.Nursery, talk_to: Any) -> None:
    server = await serve(nursery, events(*HELLO))
    await talk_to(server).reply(Talk("Hi").turn)
    assert "authorization" not in server.asked[0].headers


async def test_it_asks_for_as_much_history_as_it_is_told_to(nursery: trio.Nursery, talk_to: Any) -> None:
    server = await serve(nursery, events(*HELLO))
    talk = Talk("Now", [message(str(n), -n) for n in range(1, 9)])
    await talk_to(server, history_messages=3).reply(talk.turn)
    assert talk.history_limits == [3]
    assert server.asked[0].json["messages"] == [{"role": "user", "content": "3\n\n2\n\n1\n\nNow"}]
    await talk_to(server, history_messages=0).reply(talk.turn)
    assert talk.history_limits == [3]


def test_of_the_history_the_newest_that_fit_are_kept() -> None:
    earlier = [message("x" * 4, -1, is_agent=True), message("y" * 5, -2), message("z", -3, is_agent=True)]
    sizes = {most: sum(len(one["content"]) for one in chat(message("n"), earlier, most)) for most in (9, 8)}
    # With 8 only the agent's own message fits, and a conversation does not begin with that.
    assert sizes == {9: 1 + 4 + 5, 8: 1}


@examples(100)
@given(
    st.lists(st.tuples(st.booleans(), st.text(min_size=1, max_size=30)), max_size=12),
    st.integers(0, 200),
    st.sampled_from([None, "Be brief."]),
)
def test_a_chat_alternates_ends_with_the_message_and_stays_within_its_bounds(
    authors: list[tuple[bool, str]], most: int, prompt: str | None
) -> None:
    earlier = [message(text, -n, is_agent=is_agent) for n, (is_agent, text) in enumerate(authors, 1)]
    turns = with_system(prompt, chat(message("the newest"), earlier, most))
    if prompt:
        assert turns.pop(0) == {"role": "system", "content": prompt}
    assert [one["role"] for one in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"]
    assert turns[-1]["content"].endswith("the newest")
    joints = 2 * len(earlier)
    assert sum(len(one["content"]) for one in turns) <= len("the newest") + most + joints


# --- what comes back


async def test_pieces_are_said_as_they_arrive(nursery: trio.Nursery, talk_to: Any) -> None:
    heard = trio.Event()

    async def wait_for_the_listener(stream: trio.SocketStream) -> None:
        await heard.wait()
        await streamed_rest(stream)

    async def streamed_rest(stream: trio.SocketStream) -> None:
        rest = f"data: {json.dumps(piece('lo', 'stop'))}\n\n".encode()
        await stream.send_all(f"{len(rest):x}\r\n".encode() + rest + b"\r\n")
        await end(stream)

    server = await serve(nursery, events(piece("Hel"), then=wait_for_the_listener))
    talk = Talk("Hi")

    def say(text: str) -> None:
        talk.said.append(text)
        heard.set()

    with trio.fail_after(60):
        assert await talk_to(server).reply(talk.turn._replace(say=say)) == Reply("Hello")
    assert talk.said == ["Hel", "lo"]


@pytest.mark.parametrize("cut_bytes", [1, 7, 64])
async def test_events_may_be_cut_anywhere(nursery: trio.Nursery, talk_to: Any, cut_bytes: int) -> None:
    server = await serve(nursery, events(piece("Grüße, "), piece("Zoë 🙂"), "[DONE]", cut_bytes=cut_bytes))
    assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Grüße, Zoë 🙂")


@pytest.mark.parametrize(
    "noise",
    [
        b": a comment\n\n",
        b"event: ping\nid: 7\nretry: 10\n\n",
        b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n',
        b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": null, "tool_calls": null}, "logprobs": null}]}\n\n',
        b"data:\n\n",
    ],
)
async def test_what_says_nothing_is_passed_over(nursery: trio.Nursery, talk_to: Any, noise: bytes) -> None:
    said = b"".join(
        f"data: {json.dumps(one)}\r\n\r\n".encode() for one in (piece("Hel"), piece("lo", "stop"))
    )
    server = await serve(nursery, streamed(noise + said + noise))
    assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Hello")


async def test_a_server_that_does_not_stream_is_understood(nursery: trio.Nursery, talk_to: Any) -> None:
    server = await serve(nursery, answer(200, completion("Hello")))
    talk = Talk("Hi")
    assert await talk_to(server).reply(talk.turn) == Reply("Hello")
    assert talk.said == ["Hello"]


async def test_a_stream_that_stays_open_after_it_is_done_delays_nobody(
    nursery: trio.Nursery, talk_to: Any
) -> None:
    server = await serve(nursery, events(piece("Hello", "stop"), "[DONE]", then=stall))
    with trio.fail_after(60):
        assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Hello")
        await server.cut.wait()


async def test_a_connection_that_breaks_after_it_is_done_harms_nobody(
    nursery: trio.Nursery, talk_to: Any
) -> None:
    server = await serve(nursery, events(piece("Hello", "stop"), "[DONE]", then=hang_up))
    assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Hello")


async def test_connections_are_used_again(nursery: trio.Nursery, talk_to: Any) -> None:
    server = await serve(nursery, events(*HELLO), answer(200, completion("Hello")), events(*HELLO))
    agent = talk_to(server)
    for _ in range(4):
        await agent.reply(Talk("Hi").turn)
    assert server.connections == 1


# --- what goes wrong


BAD_ANSWERS = [
    (events(piece("Hel"), then=end), "broke off in the middle"),
    (events(piece("Hel"), then=hang_up), "broke off the connection"),
    (events(piece("Hel", "stop"), then=hang_up), "broke off the connection"),
    (events(then=end), "broke off in the middle"),
    (streamed(b"\x00\xff\xfe garbage \n\n garbage"), "broke off in the middle"),
    (answer(200, b"<html>hello</html>", Content_Type="text/html"), "broke off in the middle"),
    (answer(200, b"[" * 100_000), "broke off in the middle"),
    (answer(200, b""), "broke off in the middle"),
    (answer(204), "broke off in the middle"),
    (answer(200, b'{"choices": [{"message": {"content": "Hel'), "not JSON"),
    (answer(200, b'{"a": ' * 100_000), "not JSON"),
    (answer(200, {"id": "x"}), "no chat completion"),
    (answer(200, {"choices": "none"}), "no chat completion"),
    (answer(200, {"error": "model not found"}), "reported an error"),
    (answer(200, {"choices": []}), "empty answer"),
    (answer(200, completion("")), "empty answer"),
    (answer(200, completion(None)), "empty answer"),
    (answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip"), "compressed its answer"),
    (answer(500, {"error": {"message": "oh no"}}), "answered 500"),
    (answer(404, b"no such model"), "answered 404"),
    (answer(401, {"error": {"message": f"Incorrect API key {KEY}"}}), "answered 401"),
    (answer(302, b"", Location="http://127.0.0.1:1/"), "answered 302"),
    (hang_up, "broke off the connection"),
]


@pytest.mark.parametrize(("bad", "told"), BAD_ANSWERS)
async def test_a_bad_answer_is_a_failure_fit_for_clients_and_is_asked_for_once(
    nursery: trio.Nursery, talk_to: Any, bad: Any, told: str
) -> None:
    server = await serve(nursery, bad, events(*HELLO))
    agent = talk_to(server)
    text = await fails(agent)
    assert told in text
    assert len(text) < 100
    assert str(server.port) not in text
    assert len(server.asked) == 1
    assert await agent.reply(Talk("And now?").turn) == Reply("Hello")


async def test_a_server_that_is_not_there_is_a_failure(make_agent: MakeAgent) -> None:
    agent = make_agent(kind="openai", base_url=f"http://127.0.0.1:{await free_port()}", model="tiny")
    assert await fails(agent) == "The agent's server cannot be reached"


async def test_a_turn_is_asked_again_while_the_server_is_not_there(
    nursery: trio.Nursery, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await free_port()
    agent = make_agent(kind="openai", base_url=f"http://127.0.0.1:{port}", model="tiny")
    tried = trio.Event()

    def failed(self: Remote, what: str, **_details: object) -> AgentFailed:
        tried.set()
        return AgentFailed(what)

    monkeypatch.setattr(Remote, "failed", failed)
    monkeypatch.setattr(remote, "PAUSES_S", (0.5, 0.5))

    async def start_when_it_was_missed() -> None:
        await tried.wait()
        await serve(nursery, events(*HELLO), port=port)

    nursery.start_soon(start_when_it_was_missed)
    assert await agent.reply(Talk("Hi").turn) == Reply("Hello")


@pytest.mark.parametrize("status", [429, 502, 503, 504, 529])
async def test_a_busy_server_is_asked_again_twice(nursery: trio.Nursery, talk_to: Any, status: int) -> None:
    server = await serve(nursery, answer(status), answer(status), events(*HELLO))
    talk = Talk("Hi")
    assert await talk_to(server).reply(talk.turn) == Reply("Hello")
    assert talk.said == ["Hel", "lo"]
    busy = await serve(nursery, answer(status))
    assert f"answered {status}" in await fails(talk_to(busy))
    assert len(busy.asked) == 3


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry_After": "2"}, 2),
        ({"Retry_After": " 1.5 "}, 1.5),
        ({"Retry_After": "0.75"}, 0.75),
        ({"retry_after_ms": "1250"}, 1.25),
        ({"Retry_After_MS": "900.5", "Retry_After": "59"}, 0.9005),
        ({"Retry_After_Ms": "soon", "Retry_After": "2"}, 2),
        ({"Date": "Sun, 22 Nov 2026 09:00:00 GMT", "Retry_After": "Sun, 22 Nov 2026 09:00:03 GMT"}, 3),
        ({"Retry_After": "-5"}, None),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "1e1"}, None),
        ({"Retry_After": "nan"}, None),
        ({"Retry_After": "1_0"}, None),
        ({"Retry_After": "٣"}, None),
        ({"Retry_After": "Sun, 22 Nov 2026 09:00:03 GMT"}, None),
        ({"Date": "Sun, 22 Nov 2026 09:00:00 GMT", "Retry_After": "Sun, 22 Nov 99999 09:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_how_long_a_busy_server_wants_to_be_left_alone(headers: dict[str, str], wait_s: float | None) -> None:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    assert remote._retry_after_s(httpx.Headers(named)) == wait_s


@pytest.mark.parametrize("headers", [{"Retry_After": "0.6"}, {"Retry_After_Ms": "600"}])
async def test_retry_after_is_waited_for(
    nursery: trio.Nursery, talk_to: Any, headers: dict[str, str]
) -> None:
    server = await serve(nursery, answer(429, **headers), events(*HELLO))
    started = trio.current_time()
    assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Hello")
    assert trio.current_time() - started >= 0.6  # without it a pause has a hundredth of a second


async def test_retry_after_in_the_past_or_unreadable_is_no_harm(nursery: trio.Nursery, talk_to: Any) -> None:
    past = {"Date": "Sun, 22 Nov 2026 09:00:00 GMT", "Retry_After": "Sun, 22 Nov 2026 08:00:00 GMT"}
    server = await serve(nursery, answer(429, **past), answer(429, Retry_After="soon"), events(*HELLO))
    with trio.fail_after(60):
        assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Hello")


@pytest.mark.parametrize(
    "when",
    [
        {"Retry_After": "61"},
        {"Retry_After": "99999999999999999999"},
        {"Retry_After": "60.5"},
        {"Retry_After_Ms": "60500"},
        {"Date": "Sun, 22 Nov 2026 09:00:00 GMT", "Retry_After": "Sun, 22 Nov 2026 09:01:01 GMT"},
    ],
)
async def test_a_retry_that_would_come_too_late_is_not_waited_for(
    nursery: trio.Nursery, talk_to: Any, when: dict[str, str]
) -> None:
    server = await serve(nursery, answer(429, **when), events(*HELLO))
    assert "answered 429" in await fails(talk_to(server))
    assert len(server.asked) == 1


async def test_a_server_that_says_nothing_for_the_turns_time_is_a_time_out(
    nursery: trio.Nursery, talk_to: Any
) -> None:
    finished = events(piece("Hello", "stop"), then=stall)  # it may go on: some say that with each piece
    server = await serve(nursery, stall, events(piece("Hel"), then=stall), finished, events(*HELLO))
    agent = talk_to(server, turn_timeout_s=1.0)
    for _ in range(3):
        with pytest.raises(AgentTimedOut, match=r"did not answer within 1 s"):
            await agent.reply(Talk("Hi").turn)
    assert await agent.reply(Talk("Hi").turn) == Reply("Hello")


async def test_a_cancelled_turn_lets_go_of_its_connection(nursery: trio.Nursery, talk_to: Any) -> None:
    server = await serve(nursery, events(piece("Hel"), then=stall), events(*HELLO))
    agent, talk = talk_to(server), Talk("Hi")
    with trio.CancelScope() as scope:
        await agent.reply(talk.turn._replace(say=lambda _piece: scope.cancel()))
    assert scope.cancelled_caught
    with trio.fail_after(60):
        await server.cut.wait()
    assert await agent.reply(talk.turn) == Reply("Hello")
