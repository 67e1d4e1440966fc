"""Streams, events and heartbeats: what goes on for longer than a request."""

import threading
from pathlib import Path

import pytest

from tests.clients.python.conftest import AGENTS
from tests.clients.python.loops import on_either_loop
from tests.clients.python.proxy import Proxy, cut_at_once, cut_behind
from tests.process import KEY, ServerProcess, running_server
from vigil_client import AsyncVigil, Message, Piece, SessionInfo
from vigil_client._async.io import sleep
from vigil_client.errors import AgentFailed, SessionGone, SessionNotFound
from vigil_client.events import (
    Event,
    MessageBroadcast,
    MessageChunk,
    Resync,
    SessionEnded,
    SessionExpired,
)

REPLY = "One two three four five six."


@on_either_loop
async def test_a_stream_is_pieces_and_then_the_message(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="talker", user_id="user-1")
        stream = session.stream("Count!")
        *pieces, message = [part async for part in stream]
        assert isinstance(message, Message)
        assert all(isinstance(piece, Piece) for piece in pieces)
        assert "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == message.content == REPLY
        assert stream.sent is not None
        assert stream.sent.content == "Count!"


@on_either_loop
async def test_a_stream_that_breaks_goes_on_where_it_was(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="talker", user_id="user-1")
        proxy.faults += [cut_behind(b"event: chunk\n"), cut_at_once, cut_behind(b"event: userMessage\n")]
        stream = session.stream("Count!")
        assert "".join([text async for text in stream.text()]) == REPLY
        assert stream.answer is not None
        assert stream.answer.content == REPLY
        assert len([message async for message in session.messages()]) == 2


@on_either_loop
async def test_a_stream_that_breaks_while_the_agent_talks_says_nothing_twice(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="slow", user_id="user-1")
        proxy.faults += [cut_behind(b"event: chunk\n")]
        assert "".join([text async for text in session.stream("Count!").text()]) == REPLY


@on_either_loop
async def test_a_stream_keeps_what_only_unicode_takes_for_a_line_end(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="agent-123", user_id="user-1")
        said = "one\u2028two\u0085three\n\nfour"
        assert (await session.stream(said).message()).content == said


@on_either_loop
async def test_a_stream_to_an_agent_that_answers_nobody_is_empty(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        stream = session.stream("Hello?")
        assert [part async for part in stream] == []
        assert stream.sent is not None


@on_either_loop
async def test_a_stream_tells_that_the_agent_failed(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="broken", user_id="user-1")
        with pytest.raises(AgentFailed) as failed:
            await session.stream("Hello?").message()
        assert failed.value.status == 502


@on_either_loop
async def test_a_stream_can_be_left_and_the_answer_read_later(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="talker", user_id="user-1")
        async with session.events() as events:
            async with session.stream("Count!") as stream:
                async for _ in stream:
                    break
            assert [part async for part in stream] == []
            async for event in events:
                if isinstance(event, MessageBroadcast) and event.data.is_agent:
                    break
        assert (await session.history(limit=1)).messages[0].content == REPLY


@on_either_loop
async def test_events_come_in_order_until_the_session_ends(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1", auto_renew=False)
        async with session.events() as events:
            await session.send("Hello")
            await session.end()
            heard = [event async for event in events]
        assert [event.type for event in heard] == ["messageBroadcast", "sessionEnded"]
        assert [event.id for event in heard] == [2, 3]


@on_either_loop
async def test_events_go_on_after_a_cut_without_a_gap_or_a_repeat(
    proxy: Proxy, server: ServerProcess
) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as direct, AsyncVigil(proxy.url, api_key=KEY) as vigil:
        session = await direct.create(agent_id="silent", user_id="user-1", auto_renew=False)
        heard: list[Event] = []
        async with vigil.session(session.id).events() as events:
            proxy.cut()  # before anything was heard
            proxy.faults += [cut_at_once, cut_at_once]
            for number in range(3):
                await session.send(str(number))
                heard.append(await anext(events))
                proxy.cut()
            await session.end()
            heard += [event async for event in events]
        assert [event.id for event in heard[:3]] == [2, 3, 4]
        assert [event.data.content for event in heard if isinstance(event, MessageBroadcast)] == [
            "0",
            "1",
            "2",
        ]
        assert [type(event) for event in heard[3:]] == [SessionEnded]


@on_either_loop
async def test_events_can_be_taken_up_from_an_id(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1", auto_renew=False)
        await session.send("Hello")
        async with session.events(last_event_id=0) as events:
            assert [(await anext(events)).type for _ in range(2)] == ["sessionCreated", "messageBroadcast"]


@on_either_loop
async def test_pieces_are_events_too(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="talker", user_id="user-1")
        said = ""
        async with session.events() as events:
            await session.send("Count!")
            async for event in events:
                if isinstance(event, MessageChunk):
                    said += event.data.text
                elif isinstance(event, MessageBroadcast) and event.data.is_agent:
                    break
        assert said == REPLY


@on_either_loop
async def test_a_restart_that_forgot_events_says_resync(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(AGENTS)
    agents = f"--agents={tmp_path / 'agents.yaml'}"
    with running_server(tmp_path / "data", agents) as server:
        url, port = server.url, server.url.rpartition(":")[2]
        async with AsyncVigil(url, api_key=KEY) as vigil:
            session = await vigil.create(agent_id="silent", user_id="user-1", auto_renew=False)
            async with session.events(last_event_id=0) as events:
                assert (await anext(events)).id == 1
            await session.send("Not heard")
            server.stop()
            with running_server(tmp_path / "data", f"--port={port}", agents):
                async with session.events(last_event_id=events.last_event_id) as events:
                    event = await anext(events)
                    assert isinstance(event, Resync)
                    assert event.id == events.last_event_id == 2


@on_either_loop
async def test_events_of_a_session_that_never_was_are_an_error(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        with pytest.raises(SessionNotFound):
            await anext(vigil.session("00000000-0000-4000-8000-000000000000").events())


@on_either_loop
async def test_heartbeats_keep_a_session_and_warn_once(fast_server: ServerProcess) -> None:
    warnings: list[SessionInfo] = []
    async with AsyncVigil(fast_server.url, api_key=KEY) as vigil:
        session = await vigil.create(
            agent_id="silent", user_id="user-1", timeout_minutes=5, warning_threshold_minutes=10
        )  # which is near its end all the time, and would be over after a second
        async with session.events() as events, session.keep_alive(on_warning=warnings.append) as alive:
            for _ in range(6):
                assert (await anext(events)).type in ("sessionRenewed", "sessionExpirationWarning")
        assert alive.session is not None
        assert (await session.get()).renewal_count >= 3
    assert len(warnings) == 1


@on_either_loop
async def test_heartbeats_stop_when_the_session_is_lost(server: ServerProcess) -> None:
    told = threading.Event()
    lost: list[Exception] = []

    def on_lost(error: Exception) -> None:
        lost.append(error)
        told.set()

    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        await session.end()
        async with session.keep_alive(on_lost=on_lost) as alive:
            while not told.is_set():
                await sleep(0.01)
        assert lost == [alive.lost]
        assert isinstance(alive.lost, SessionGone)


@on_either_loop
async def test_what_a_block_with_heartbeats_raises_is_what_comes_out(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        with pytest.raises(ZeroDivisionError):
            async with session.keep_alive():
                raise ZeroDivisionError


@on_either_loop
async def test_an_expired_session_is_begun_anew_when_that_is_asked_for(fast_server: ServerProcess) -> None:
    async with AsyncVigil(fast_server.url, api_key=KEY) as vigil:
        wanted = {"agent_id": "agent-123", "user_id": "user-1", "timeout_minutes": 5}
        session = await vigil.create(**wanted, recreate=True)  # type: ignore[arg-type]
        first = session.id
        ends = [event async for event in session.events()]
        assert isinstance(ends[-1], SessionExpired)
        assert (await session.send("Still there?")).content == "Still there?"
        assert session.id != first
        await session.end()
        assert (await session.stream("And now?").message()).content == "And now?"


@on_either_loop
async def test_without_being_asked_nothing_is_begun_anew(server: ServerProcess) -> None:
    async with AsyncVigil(server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        await session.end()
        with pytest.raises(SessionGone):
            await session.send("Still there?")
