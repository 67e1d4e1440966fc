"""Listeners that read too slowly or not at all, and streams whose client goes: who is cut, and that nothing stays."""

import gc
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.fakes import entry
from tests.harness import AGENTS, BASE, OWNER, START_MS, Api, running_api
from tests.server.raw import UPGRADE, Client, connect, masked
from tests.server.sockets import Served, events, listening, serving, until
from vigil.actors.agents.base import Reply, Turn
from vigil.actors.hub.hub import Chunk, Ending, Notice, Subscription
from vigil.server.front import events_socket as stream
from vigil.server.front.quart_app import make_app
from vigil.server.http.protocols import Limits

BIG = {"type": "image", "name": "a.png", "url": "data:image/png;base64," + "A" * 60_000}
CLOSE = 0x88


# --- the close codes


class EagerSocket:
    """Takes everything at once."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, data: str) -> None:
        self.sent.append(data)
        await trio.lowlevel.checkpoint()

    async def receive(self) -> str:
        await trio.sleep_forever()
        raise AssertionError


class StuckSocket(EagerSocket):
    async def send(self, data: str) -> None:
        self.sent.append(data)
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("why", "code"),
    [("over", 1000), ("stopping", 1001), ("revoked", 1008), ("broken", 1011), ("slow", 1013)],
)
async def test_each_ending_has_its_close_code(why: Ending, code: int) -> None:
    subscription = Subscription()
    subscription.put(Notice(Chunk("s-1", START_MS, "m-1", "a")))
    subscription.end(why)
    socket = EagerSocket()
    assert await stream.send_events(socket, subscription) == code
    assert len(socket.sent) == 1


@pytest.mark.parametrize(("why", "code"), [("revoked", 1008), ("slow", 1013)])
async def test_one_that_is_cut_off_is_not_sent_what_was_unread_even_when_it_is_stuck(
    why: Ending, code: int
) -> None:
    subscription = Subscription()
    for _ in range(3):
        subscription.put(Notice(Chunk("s-1", START_MS, "m-1", "a")))
    socket = StuckSocket()
    codes: list[int] = []

    async def run() -> None:
        codes.append(await stream.send_events(socket, subscription))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            subscription.cut_off(why)
    assert (codes, len(socket.sent)) == ([code], 1)


async def test_one_that_is_cut_off_before_it_has_read_is_sent_nothing() -> None:
    subscription = Subscription()
    subscription.put(Notice(Chunk("s-1", START_MS, "m-1", "a")))
    subscription.cut_off("revoked")
    socket = EagerSocket()
    assert await stream.send_events(socket, subscription) == 1008
    assert socket.sent == []


# --- real sockets


@asynccontextmanager
async def deaf(served: Served, session_id: str) -> AsyncIterator[Client]:
    """A listener with a small receive buffer that has read nothing but its 101."""
    socket = trio.socket.socket()
    socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await socket.connect(("127.0.0.1", served.port))
    client = Client(trio.SocketStream(socket))
    credential = b"Authorization: Bearer %b\r\n" % OWNER.encode()
    path = f"{BASE}/{session_id}/events".encode()
    try:
        await client.send((UPGRADE % credential).replace(b"/ws", path, 1))
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        yield client
    finally:
        socket.close()


async def post(api: Api, session_id: str) -> None:
    """An event of about 180 KB."""
    body = {"content": "look", "attachments": [BIG] * 3}
    assert (await api.request("POST", f"/{session_id}/messages", body)).status == 201


async def flood(served: Served, session_id: str, heard: Sequence[Any] | None = None) -> None:
    """Messages until somebody is cut, each once the one before it was heard."""
    hub, sent = served.api.site.directory.hub, 0
    before = len(hub)
    while len(hub) == before:
        await post(served.api, session_id)
        sent += 1
        assert sent < 500
        if heard is not None:
            await until(lambda: len(heard) >= sent)  # noqa: B023  called at once


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The server's frames but for pings; one that is not whole is left out."""
    while len(data) >= 2:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        if len(data) < start + size:
            return
        if data[0] != 0x89:
            yield data[0], data[start : start + size]
        data = data[start + size :]


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


def alive(kind: type) -> int:
    gc.collect()
    return sum(isinstance(one, kind) for one in gc.get_objects())


async def test_a_listener_that_reads_nothing_is_cut_with_1013_and_others_lose_nothing() -> None:
    async with serving() as served:
        created = await served.api.create(timeoutConfig={"autoRenew": False})
        session_id = created["sessionId"]
        notices = alive(Notice)
        async with deaf(served, session_id) as client, listening(served.port, session_id) as other:
            heard: list[Any] = []
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    while True:
                        heard.extend(await events(other, 1))

                nursery.start_soon(listen)
                await flood(served, session_id, heard)
                sent = len(heard) + 1
                await post(served.api, session_id)
                await until(lambda: len(heard) == sent)
                nursery.cancel_scope.cancel()
            assert [one["id"] for one in heard] == list(range(2, sent + 2))
            hub = served.api.site.directory.hub
            assert len(hub) == 1
            assert alive(Notice) - notices <= 3  # two of these are all that a session's 256 KiB keep

            told = list(frames(await client.rest()))
            ids = [json.loads(text)["id"] for first, text in told[:-1] if first == 0x81]
            assert ids == list(range(2, 2 + len(ids)))
            assert len(ids) < sent
            assert told[-1] == (CLOSE, (1013).to_bytes(2))


async def test_a_listener_that_never_reads_again_is_gone_after_the_time_of_one_send() -> None:
    async with serving(Limits(listen_s=0.2)) as served:
        session_id = (await served.api.create(timeoutConfig={"autoRenew": False}))["sessionId"]
        subscriptions, tasks = alive(Subscription), living_tasks()
        async with deaf(served, session_id):
            await flood(served, session_id)
            await until(lambda: not served.api.site.listeners)
        await until(lambda: living_tasks() == tasks)
        assert (len(served.api.site.directory.hub), alive(Subscription)) == (0, subscriptions)


async def test_a_listener_that_reads_slowly_but_keeps_up_gets_everything() -> None:
    async with serving() as served:
        session_id = (await served.api.create(timeoutConfig={"autoRenew": False}))["sessionId"]
        async with listening(served.port, session_id) as socket:
            ids = []
            for _ in range(30):
                await post(served.api, session_id)
                ids += [one["id"] for one in await events(socket, 1)]
        assert ids == list(range(2, 32))


async def test_a_client_that_disappears_leaves_nothing() -> None:
    async with serving() as served:
        session_id = (await served.api.create())["sessionId"]
        for _ in range(5):
            async with deaf(served, session_id) as client:
                await client.send(masked(0x81, b"hello"))
                client.reset()
        await until(lambda: not served.api.site.listeners)
        assert len(served.api.site.directory.hub) == 0


# --- sse on a real socket


class SteppingAgent:
    """Says a word each time it is let."""

    def __init__(self) -> None:
        self.let, self._words = trio.open_memory_channel[str](0)

    async def reply(self, turn: Turn) -> Reply:
        said = []
        async for word in self._words:
            said.append(word)
            turn.say(word)
        return Reply("".join(said))


async def test_pieces_arrive_as_they_are_said_and_the_turn_outlives_its_client() -> None:
    agent = SteppingAgent()
    limits = Limits(send_s=0.3)  # so long a client that has closed its side may still want the answer
    async with serving(limits, agents={**AGENTS, "patient": entry(agent)}) as served:
        session_id = (await served.api.create(agentId="patient"))["sessionId"]
        hub = served.api.site.directory.hub
        async with connect(served.running) as client:
            body = b'{"content": "hi", "transport": "sse"}'
            head = (
                f"POST {BASE}/{session_id}/messages HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {OWNER}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            await client.send(head.encode() + body)
            answered = (await client.until(b"\r\n\r\n")).lower()
            assert answered.startswith(b"http/1.1 201")
            assert b"\r\ncontent-type: text/event-stream\r\n" in answered
            assert b"\r\nratelimit: " in answered
            assert b"event: userMessage\ndata: {" in await client.until(b"\n\n")
            for word in ("one ", "two "):
                await agent.let.send(word)
                frame = await client.until(b"\n\n")
                assert b"event: chunk\n" in frame
                assert f'"text":"{word}"'.encode() in frame
        await until(lambda: not len(hub))
        await agent.let.send("three")
        await agent.let.aclose()
        await trio.testing.wait_all_tasks_blocked()
        newest = (await served.api.request("GET", f"/{session_id}/messages?limit=1")).json["messages"][0]
        assert newest["content"] == "one two three"


async def test_a_client_that_goes_before_the_first_byte_of_its_stream_leaves_nothing() -> None:
    """Its stream was never begun, so nothing in it can clean up."""

    class GoneError(Exception):
        pass

    to_come = [json.dumps({"content": "hi", "transport": "sse"}).encode()]

    async def receive() -> Any:
        if not to_come:
            await trio.sleep_forever()
        return {"type": "http.request", "body": to_come.pop(), "more_body": False}

    async def send(_event: Any) -> None:
        raise GoneError

    async with running_api() as api:
        session_id = (await api.create(agentId="agent-123"))["sessionId"]
        headers = {"authorization": f"Bearer {OWNER}", "content-type": "application/json"}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": f"{BASE}/{session_id}/messages",
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        with pytest.RaisesGroup(GoneError, flatten_subgroups=True):
            await make_app(api.site)(scope, receive, send)  # type: ignore[arg-type]
        assert len(api.site.directory.hub) == 0
