"""The reference model holds for the real server, and catches each wrong answer about a session's life."""

from random import Random

import pytest
import trio

from tests.scenarios.model.driver import People, Store, eavesdrop, live, trouble
from tests.scenarios.model.lies import (
    AGENTS,
    SETTINGS,
    answer_with,
    becomes,
    caught_by,
    expired,
    later,
    play,
    spoil,
)
from vigil.actors.core.quotas import Limit
from vigil.actors.runtime.creation import Rules
from vigil.scenarios.model import Model
from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.world import iso
from vigil.scenarios.virtual.determinism import run
from vigil.scenarios.virtual.in_process import START_MS, InProcessServer, virtual_plan


async def a_day(seed: int, people: int, requests: int, pause_s: float, *, troubles: int = 0) -> People:
    async with trio.open_nursery() as nursery:
        store = Store()
        plan = virtual_plan(
            seed=seed,
            store=store,
            agents=AGENTS,
            rules=Rules(tombstone_minutes=30),
            session_limit=Limit(20, 60),
            user_limit=Limit(100, 3600),
        )
        server = InProcessServer(plan, nursery)
        await server.start()
        crowd = People(server, Model(SETTINGS), Random(seed))
        async with trio.open_nursery() as town:
            for n in range(people):
                town.start_soon(live, crowd, f"user{n}", requests, pause_s)
                town.start_soon(eavesdrop, crowd, requests // 10, pause_s)
            town.start_soon(trouble, crowd, store, troubles, pause_s * 20)
        await trio.sleep(60)
        crowd.model.finish(server.now)
        await server.stop()
        return crowd


@pytest.mark.parametrize("seed", range(6))
def test_it_holds_for_the_real_server(seed: int) -> None:
    pause_s = (0.5, 30.0, 400.0)[seed % 3]
    crowd = run(lambda: a_day(seed, 5, 80, pause_s), seed=seed)

    assert crowd.number > 300
    assert crowd.frames > 0


@pytest.mark.parametrize("seed", range(6))
def test_it_holds_through_crashes_and_store_faults(seed: int) -> None:
    pause_s = (0.5, 30.0, 400.0)[seed % 3]
    crowd = run(lambda: a_day(seed, 5, 80, pause_s, troubles=4), seed=seed)

    assert crowd.number > 200


SESSION_LIES = {
    "a later expiresAt": becomes(expiresAt=later),
    "a later lastActivity": becomes(lastActivity=later),
    "another renewalCount": becomes(renewalCount=lambda count: count + 1),
    "another timeRemaining": becomes(timeRemaining=lambda left: left - 1),
    "near its end when it is not": becomes(isNearExpiration=lambda near: not near),
    "an end that has come": becomes(status="expired"),
    "another cap": becomes(maxExpiresAt=later),
    "another config": becomes(timeoutConfig__autoRenew=False),
    "other metadata": becomes(metadata={"n": 8}),
    "another user": becomes(userId="somebody"),
    "one field too many": lambda body: body.update(extra=1),
}


@pytest.mark.parametrize("operation", ["getSession", "heartbeat", "renewSession", "updateTimeout"])
@pytest.mark.parametrize("lie", SESSION_LIES)
def test_a_session_object_is_known_to_the_last_field(operation: str, lie: str) -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann", timeoutMinutes=30)
        await trio.sleep(61)
        people.tamper = spoil(SESSION_LIES[lie])
        await people.ask(operation, session, {"timeoutMinutes": 40} if operation == "updateTimeout" else None)

    with pytest.raises(ExceptionGroup) as caught:
        play(conversation)
    assert caught.group_contains(Violation, match="3 ", depth=1)


GONE_LIES = {
    "3 expired": becomes(details__lastActivity=later),
    "9 errors": becomes(error="SessionExpired"),
}


@pytest.mark.parametrize("rule", GONE_LIES)
def test_a_410_says_what_was(rule: str) -> None:
    async def conversation(people: People) -> None:
        session = await expired(people)
        people.tamper = spoil(GONE_LIES[rule])
        await people.ask("getSession", session)

    caught_by(rule, conversation)


def test_a_session_lives_until_its_deadline() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann", timeoutMinutes=5)
        await trio.sleep(299)
        details = {
            "sessionId": session,
            "expiresAt": iso(START_MS + 300_000),
            "reason": "inactivity",
            "lastActivity": iso(START_MS),
            "renewalCount": 0,
        }
        body = {
            "error": "SessionExpiredError",
            "code": "SESSION_EXPIRED",
            "message": "over",
            "details": details,
        }
        people.tamper = answer_with(410, body)
        await people.ask("getSession", session)

    caught_by("3 expired", conversation)


def test_a_tombstone_is_not_forgotten_early() -> None:
    async def conversation(people: People) -> None:
        session = await expired(people)
        await trio.sleep(29 * 60)
        details = {"sessionId": session}
        body = {
            "error": "SessionNotFoundError",
            "code": "SESSION_NOT_FOUND",
            "message": "?",
            "details": details,
        }
        people.tamper = answer_with(404, body)
        await people.ask("getSession", session)

    caught_by("3 not found", conversation)
