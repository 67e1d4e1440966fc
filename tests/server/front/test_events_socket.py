"""What listeners of an events WebSocket get, and from where on."""

from typing import Any

import pytest

from tests.harness import START_MS
from tests.server.front.listening import heartbeats, new_session, refused
from tests.server.sockets import Served, event, events, listening, rest, serving, until
from vigil.actors.core.expiry import MINUTE_MS
from vigil.actors.hub.hub import KEPT_MAX
from vigil.actors.runtime.clock import ScaledClock

# --- what comes


async def test_every_change_is_an_event_and_ids_count_by_one(served: Served) -> None:
    api = served.api
    created = await api.create(agentId="patient", metadata={"source": "web"})
    path = f"/{created['sessionId']}"
    async with listening(served.port, created["sessionId"], "?lastEventId=0") as socket:
        sent = (await api.request("POST", f"{path}/messages", {"content": "hi"})).json
        found = await events(socket, 5)
        renewed = (await api.request("POST", f"{path}/renew")).json
        retimed = (await api.request("PATCH", f"{path}/timeout", {"timeoutMinutes": 60})).json
        found += await events(socket, 2)
        asked = (await api.request("POST", f"{path}/messages", {"content": "fail"})).json
        found += await events(socket, 3)
        assert (await api.request("DELETE", path)).status == 200
        last, code = await rest(socket)
    found += last
    assert code == 1000
    assert [one["type"] for one in found] == [
        "sessionCreated",
        "messageBroadcast",
        "sessionRenewed",
        "messageChunk",
        "messageBroadcast",
        "sessionRenewed",
        "sessionTimeoutUpdated",
        "messageBroadcast",
        "sessionRenewed",
        "agentError",
        "sessionEnded",
    ]
    assert [one.get("id") for one in found] == [1, 2, 3, None, *range(4, 11)]
    assert {one["sessionId"] for one in found} == {created["sessionId"]}
    assert [set(one) - {"id"} for one in found] == [{"type", "sessionId", "at", "data"}] * 11
    data = [one["data"] for one in found]
    assert data[0]["metadata"] == {"source": "web"}
    assert {name: data[0][name] for name in data[0].keys() & created.keys()} == {
        name: created[name] for name in data[0].keys() & created.keys()
    }
    assert data[1] == {name: sent[name] for name in data[1] if name != "isAgent"} | {"isAgent": False}
    assert data[2]["expiresAt"] == sent["sessionStatus"]["expiresAt"]
    assert data[3] == {"messageId": sent["id"], "text": "re: hi"}
    assert (data[4]["content"], data[4]["isAgent"], data[4]["finishReason"]) == ("re: hi", True, "stop")
    assert data[5] == {"expiresAt": renewed["expiresAt"], "renewalCount": renewed["renewalCount"]}
    assert data[6] == {name: retimed[name] for name in ("timeoutConfig", "expiresAt", "renewalCount")}
    assert data[9] == {"messageId": asked["id"], "code": "AGENT_FAILED", "message": "As you wish"}


async def test_a_warning_comes_before_the_end_and_1000_after_it() -> None:
    async with serving(clock=ScaledClock(START_MS, scale=600)) as served:  # 5 minutes are half a second
        config = {"timeoutMinutes": 5, "warningThresholdMinutes": 4}
        created = await served.api.create(timeoutConfig=config)
        async with listening(served.port, created["sessionId"]) as socket:
            (warning, expired), code = await rest(socket)
    ends = created["expiresAt"]
    assert code == 1000
    assert (warning["type"], warning["id"]) == ("sessionExpirationWarning", 2)
    assert warning["data"]["expiresAt"] == ends
    assert 0 < warning["data"]["timeRemaining"] <= 4 * MINUTE_MS
    assert (expired["type"], expired["id"]) == ("sessionExpired", 3)
    assert expired["data"] == {"expiredAt": ends, "reason": "inactivity"}


async def test_everybody_who_listens_gets_everything_and_their_own_session_only(served: Served) -> None:
    one, other = await new_session(served), await new_session(served)
    async with (
        listening(served.port, one) as first,
        listening(served.port, one) as second,
        listening(served.port, other) as apart,
    ):
        await heartbeats(served, one, 20)
        await heartbeats(served, other, 1)
        for socket in (first, second):
            assert [told["id"] for told in await events(socket, 20)] == list(range(2, 22))
        assert (await event(apart))["sessionId"] == other


async def test_a_listener_that_goes_away_is_forgotten(served: Served) -> None:
    session_id = await new_session(served)
    async with listening(served.port, session_id) as socket:
        await heartbeats(served, session_id, 1)
        await event(socket)
        assert (len(served.api.site.directory.hub), len(served.api.site.listeners)) == (1, 1)
    await until(lambda: not len(served.api.site.directory.hub) and not served.api.site.listeners)


# --- from which event on


@pytest.mark.parametrize(
    ("last", "missed"),
    [
        (None, []),
        (0, [1, 2, 3, 4, 5]),
        (1, [2, 3, 4, 5]),
        (4, [5]),
        (5, []),
        (6, "resync"),
        (9_007_199_254_740_991, "resync"),
    ],
)
async def test_a_listener_gets_what_it_has_missed_and_then_what_comes(
    served: Served, last: int | None, missed: Any
) -> None:
    session_id = await new_session(served)
    await heartbeats(served, session_id, 4)
    async with listening(served.port, session_id, "" if last is None else f"?lastEventId={last}") as socket:
        await heartbeats(served, session_id, 1)
        found = await events(socket, 2 if missed == "resync" else len(missed) + 1)
    if missed == "resync":
        assert (found[0]["type"], found[0]["id"], found[0]["data"]) == ("resync", 5, {})
        missed = [5]
    assert [one["id"] for one in found] == [*missed, 6]


async def test_what_is_no_longer_kept_is_one_resync(served: Served) -> None:
    session_id = await new_session(served)
    await heartbeats(served, session_id, KEPT_MAX)
    newest = KEPT_MAX + 1
    async with listening(served.port, session_id, "?lastEventId=0") as socket:
        told = await event(socket)
        assert (told["type"], told["id"]) == ("resync", newest)
    async with listening(served.port, session_id, "?lastEventId=1") as socket:
        assert [told["id"] for told in await events(socket, KEPT_MAX)] == list(range(2, newest + 1))


@pytest.mark.parametrize("query", ["-1", "x", "1.0", "", "9" * 20, "1&lastEventId=2", "1&other=2", "+1"])
async def test_a_bad_last_event_id_is_400_before_the_upgrade(served: Served, query: str) -> None:
    session_id = await new_session(served)
    refusal = await refused(served, session_id, f"?lastEventId={query}")
    assert (refusal.status, refusal.code) == (400, "VALIDATION_ERROR")
