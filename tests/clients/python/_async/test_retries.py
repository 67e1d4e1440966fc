"""Through a proxy that cuts, delays and repeats: everything is done once, and nothing is given up too soon."""

import re
import time

import pytest

from tests.clients.python.loops import on_either_loop
from tests.clients.python.proxy import Proxy, answer, cut_at_once, hold, lose_the_answer, repeat
from tests.process import KEY, ServerProcess
from vigil_client import AsyncSession, AsyncVigil
from vigil_client.errors import GatewayFailed, NoAnswer, RateLimited, SessionNotFound, TimedOut

KEYS = re.compile(rb"(?i)\r\nidempotency-key: (\S+)")


@on_either_loop
async def test_a_message_whose_answer_was_lost_is_stored_once(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        proxy.faults += [cut_at_once, lose_the_answer, repeat]
        sent = await session.send("Once.")
        assert [message.id async for message in session.messages()] == [sent.id]
        keys = [KEYS.findall(request) for request in proxy.requests[1:4]]
        assert keys == [keys[0]] * 3


@on_either_loop
async def test_a_session_whose_answer_was_lost_is_begun_once(proxy: Proxy) -> None:
    user = f"user-{time.monotonic_ns()}"
    async with AsyncVigil(proxy.url, api_key=KEY) as vigil:
        proxy.faults += [lose_the_answer, repeat]
        session = await vigil.create(agent_id="silent", user_id=user)
        assert [one.session_id async for one in vigil.sessions(user_id=user)] == [session.id]


@on_either_loop
async def test_an_end_whose_answer_was_lost_has_ended_it(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        proxy.faults += [lose_the_answer]
        await session.end()
        with pytest.raises(SessionNotFound):
            await session.get()


@on_either_loop
async def test_an_answer_that_does_not_come_in_time_is_asked_for_again(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY, timeout_s=2) as vigil:
        session = await vigil.create(agent_id="silent", user_id="user-1")
        proxy.faults += [hold]
        sent = await session.send("Once.")
        assert [message.id async for message in session.messages()] == [sent.id]


@on_either_loop
async def test_with_retries_off_the_first_failure_is_the_last(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY, retries=0, timeout_s=1) as vigil:
        proxy.faults += [cut_at_once, hold]
        with pytest.raises(NoAnswer):
            await vigil.health()
        with pytest.raises(TimedOut):
            await vigil.health()
        assert len(proxy.requests) == 2


@on_either_loop
async def test_tries_are_bounded(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY, retries=2) as vigil:
        proxy.faults += [cut_at_once] * 9
        with pytest.raises(NoAnswer):
            await vigil.health()
        assert len(proxy.requests) == 3


@on_either_loop
async def test_a_proxys_502_passes_and_its_404_does_not(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY) as vigil:
        proxy.faults += [answer("502 Bad Gateway"), answer("503 Busy", "Retry-After: 0.01")]
        await vigil.list(limit=1)
        proxy.faults += [answer("404 Not Found")]
        with pytest.raises(GatewayFailed) as refused:
            await vigil.list(limit=1)
        assert refused.value.code == "HTTP_404"


@on_either_loop
async def test_a_wait_that_is_too_long_is_not_begun(proxy: Proxy) -> None:
    async with AsyncVigil(proxy.url, api_key=KEY, max_wait_s=1) as vigil:
        proxy.faults += [answer("503 Busy", "Retry-After: 60")]
        with pytest.raises(GatewayFailed) as refused:
            await vigil.list(limit=1)
        assert refused.value.retry_after_s == 60


@on_either_loop
async def test_a_limit_is_waited_for_as_long_as_the_server_says(fast_server: ServerProcess) -> None:
    async with AsyncVigil(fast_server.url, api_key=KEY) as vigil:
        session = await vigil.create(agent_id="strict", user_id="user-1")
        for number in range(5):  # three a minute, which takes a fifth of a second here
            await session.send(str(number))
        assert len([message async for message in session.messages()]) >= 5


@on_either_loop
async def test_a_limit_with_retries_off_is_an_error_that_says_when(fast_server: ServerProcess) -> None:
    async with AsyncVigil(fast_server.url, api_key=KEY, retries=0) as vigil:
        session = await vigil.create(agent_id="strict", user_id="user-1")
        with pytest.raises(RateLimited) as refused:
            await _send_all(session)
        assert refused.value.details["scope"] == "session"
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s <= 60 / 300


async def _send_all(session: AsyncSession) -> None:
    for number in range(50):
        await session.send(str(number))
