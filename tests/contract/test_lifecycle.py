"""Spec section 3 as a client sees it."""

import trio
from trio.testing import MockClock

from tests.harness import Api


async def test_a_session_that_nobody_touches_expires_after_its_timeout(
    api: Api, autojump_clock: MockClock
) -> None:
    session = await api.create()
    await trio.sleep(30 * 60 - 0.001)
    assert (await api.request("GET", f"/{session['sessionId']}")).status == 200
    await trio.sleep(0.001)
    answer = await api.request("GET", f"/{session['sessionId']}")
    assert (answer.status, answer.code) == (410, "SESSION_EXPIRED")
    assert answer.json["details"] == {
        "sessionId": session["sessionId"],
        "expiresAt": session["expiresAt"],
        "reason": "inactivity",
        "lastActivity": session["createdAt"],
        "renewalCount": 0,
    }
