"""The openai kind: what is bounded, and what must not get out or in."""

import json
import logging
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from tests.actors.agents.completions import HELLO, KEY, MIB, completion, fails, piece
from tests.actors.agents.loopback import (
    answer,
    events,
    for_ever,
    free_port,
    hang_up,
    serve,
    streamed,
)
from tests.actors.agents.talk import Talk
from tests.fakes import Bystander
from vigil.actors.agents import remote
from vigil.actors.agents.base import ANSWER_CHARACTERS_MAX, Reply
from vigil.actors.core.errors import AgentFailed

pytestmark = pytest.mark.usefixtures("no_pauses")


# --- what is bounded


def traced_peak() -> int:
    return tracemalloc.get_traced_memory()[1]


ENDLESS = [
    (streamed(b"", then=for_ever(b"data: " + b"x" * 4096)), "a line without an end"),
    (streamed(b"", then=for_ever(f"data: {json.dumps(piece('x' * 4096))}\n\n".encode())), "too long"),
    (streamed(b"{", kind="application/json", then=for_ever(b" " * 65_536)), "too long"),
    (answer(200, completion("x" * (ANSWER_CHARACTERS_MAX + 1))), "too long"),
    (answer(200, completion("x" * 10 * MIB)), "too long"),
    (answer(500, b"x" * 10 * MIB), "answered 500"),
]


@pytest.mark.parametrize(("endless", "told"), ENDLESS)
async def test_an_endless_answer_ends_in_bounded_memory(
    nursery: trio.Nursery, talk_to: Any, endless: Any, told: str
) -> None:
    server = await serve(nursery, endless, events(*HELLO))
    agent = talk_to(server)
    await trio.testing.wait_all_tasks_blocked()
    tracemalloc.start()
    try:
        assert told in await fails(agent)
        assert traced_peak() < 8 * MIB
    finally:
        tracemalloc.stop()
    assert await agent.reply(Talk("Hi").turn) == Reply("Hello")


async def test_the_longest_answer_allowed_arrives(nursery: trio.Nursery, talk_to: Any) -> None:
    text = "🙂" * ANSWER_CHARACTERS_MAX
    server = await serve(nursery, answer(200, completion(text)))
    assert await talk_to(server).reply(Talk("Hi").turn) == Reply(text)


@pytest.mark.parametrize("keep_alive", [b": still thinking\n\n", b"data: {}\n\n", b"\n", b" "])
async def test_keep_alives_that_never_end_take_no_memory(
    nursery: trio.Nursery, talk_to: Any, keep_alive: bytes
) -> None:
    server = await serve(nursery, streamed(b"", then=for_ever(keep_alive * 4000)))
    tracemalloc.start()
    try:
        with trio.move_on_after(0.5) as scope:
            await talk_to(server).reply(Talk("Hi").turn)
        assert scope.cancelled_caught
        assert traced_peak() < 8 * MIB
    finally:
        tracemalloc.stop()


# --- what must not get out or in


@pytest.mark.parametrize(
    "bad",
    [
        answer(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        answer(400, {"error": {"message": f"Bad Authorization: Bearer {KEY}"}}),
        events({"error": {"message": f"{KEY} is out of money"}}),
        hang_up,
        answer(200, b"garbage"),
    ],
)
async def test_the_key_is_in_no_log_line_and_no_error(
    nursery: trio.Nursery, talk_to: Any, bad: Any, logged: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    agent = talk_to(await serve(nursery, bad), api_key_env="MODEL_KEY", environ={"MODEL_KEY": KEY})
    with pytest.raises(AgentFailed) as failure:
        await agent.reply(Talk("Hi").turn)
    assert [entry["agent_id"] for entry in logged] == ["helper"]
    assert failure.value.__cause__ is None
    shown = (str(logged), caplog.text, repr(failure.value), repr(vars(agent)), repr(agent))
    assert not [text for text in shown if KEY in text]


async def test_what_the_server_said_is_in_the_log_for_whoever_has_to_find_out(
    nursery: trio.Nursery, talk_to: Any, logged: list[Any]
) -> None:
    server = await serve(nursery, answer(404, b'{"error":\n "model \'tiny\' not found, pull it first"}'))
    await fails(talk_to(server))
    assert logged[0]["what"] == "answered 404"
    assert logged[0]["said"] == '{"error": "model \'tiny\' not found, pull it first"}'


async def test_what_comes_with_a_refused_key_is_not_logged(
    nursery: trio.Nursery, talk_to: Any, logged: list[Any]
) -> None:
    """Providers repeat a part of the key."""
    await fails(talk_to(await serve(nursery, answer(401, {"error": f"not valid: {KEY[:5]}***{KEY[-4:]}"}))))
    assert logged[0]["what"] == "answered 401"
    assert KEY[-4:] not in str(logged)


async def test_proxies_of_the_environment_do_not_count(
    nursery: trio.Nursery, talk_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"http://127.0.0.1:{await free_port()}"
    monkeypatch.setenv("HTTP_PROXY", dead)
    monkeypatch.setenv("ALL_PROXY", dead)
    server = await serve(nursery, events(*HELLO))
    assert await talk_to(server).reply(Talk("Hi").turn) == Reply("Hello")
    assert await fails(talk_to(server, trust_env=True)) == "The agent's server cannot be reached"


async def test_redirects_are_not_followed(nursery: trio.Nursery, talk_to: Any) -> None:
    other = await serve(nursery, events(*HELLO))
    server = await serve(nursery, answer(307, b"", Location=f"{other.url}/v1/chat/completions"))
    await fails(talk_to(server))
    assert other.asked == []


async def test_cookies_are_not_kept(nursery: trio.Nursery, talk_to: Any) -> None:
    server = await serve(nursery, answer(200, completion("Hello"), Set_Cookie="session=1; Path=/"))
    agent = talk_to(server)
    for _ in range(2):
        await agent.reply(Talk("Hi").turn)
    assert "cookie" not in server.asked[1].headers


async def test_many_turns_at_once_each_get_their_own_answer(nursery: trio.Nursery, talk_to: Any) -> None:
    async def repeat(stream: trio.SocketStream) -> None:
        text = server.asked[-1].json["messages"][-1]["content"]
        await answer(200, completion(text))(stream)

    server = await serve(nursery, repeat)
    agent = talk_to(server)
    replies: dict[int, Reply] = {}

    async def ask(number: int) -> None:
        replies[number] = await agent.reply(Talk(str(number)).turn)

    async with trio.open_nursery() as turns:
        for number in range(150):
            turns.start_soon(partial(ask, number))
    assert replies == {number: Reply(str(number)) for number in range(150)}
    assert server.connections <= remote.CONNECTIONS_MAX


async def test_others_have_their_turn_while_a_large_chunk_is_read(nursery: trio.Nursery) -> None:
    bystander = Bystander()

    async def chunks() -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield b"data: {}\n\n" * 6400

    nursery.start_soon(bystander.run)
    taken = bytearray()

    def take(piece: bytes) -> bool:
        taken.extend(piece)
        return False

    await remote.read_chunks(httpx.Response(200, content=chunks()), take)
    nursery.cancel_scope.cancel()
    assert taken == b"data: {}\n\n" * 6400
    assert bystander.turns >= 64_000 // remote.PIECE_BYTES
