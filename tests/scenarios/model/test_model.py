"""The reference model: it holds for the real server, and catches each wrong answer."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import orjson
import pytest
import trio

from tests.scenarios.model.driver import People, Store, eavesdrop, live, trouble
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.runtime.creation import Rules
from vigil.scenarios.model import AgentRules, Model, ModelSettings
from vigil.scenarios.model.observed import Answered, Violation
from vigil.scenarios.model.world import epoch_ms, iso
from vigil.scenarios.virtual.determinism import run
from vigil.scenarios.virtual.in_process import START_MS, InProcessServer, virtual_plan

AGENTS = {
    "echo": AgentEntry("echo", "Echo", EchoAgent()),
    "mute": AgentEntry("mute", "Mute", None, TimeoutPatch(timeout_minutes=15, warning_threshold_minutes=2)),
    "tight": AgentEntry("tight", "Tight", EchoAgent(), TimeoutPatch(), Limit(3, 1), Limit(40, 60)),
}
RULES = {
    "echo": AgentRules(),
    "mute": AgentRules("none", {"timeoutMinutes": 15, "warningThresholdMinutes": 2}),
    "tight": AgentRules("echo", {}, (3, 1), (40, 60)),
}
SETTINGS = ModelSettings(
    START_MS, RULES, session_limit=(20, 60), user_limit=(100, 3600), tombstone_minutes=30
)


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


# --- each rule catches its wrong answer

Play = Callable[[People], Awaitable[None]]
Wrong = Callable[[Any], None]


def play(conversation: Play) -> None:
    """A conversation with the real server, watched by the model."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            plan = virtual_plan(
                store=Store(),
                agents=AGENTS,
                rules=Rules(tombstone_minutes=30),
                session_limit=Limit(20, 60),
                user_limit=Limit(100, 3600),
            )
            server = InProcessServer(plan, nursery)
            await server.start()
            people = People(server, Model(SETTINGS), Random(0))
            await conversation(people)
            people.model.finish(server.now)
            await server.stop()

    run(main)


def spoil(change: Wrong) -> Callable[[Answered], Answered]:
    """Answers whose JSON was changed in place."""

    def tamper(answer: Answered) -> Answered:
        body = orjson.loads(answer.body)
        change(body)
        return answer._replace(body=orjson.dumps(body))

    return tamper


def becomes(**changes: Any) -> Wrong:
    """A JSON object with other values; `a__b` is `b` inside `a`."""

    def change(body: Any) -> None:
        for path, value in changes.items():
            *outer, name = path.split("__")
            inner = body
            for step in outer:
                inner = inner[int(step) if step.isdigit() else step]
            inner[name] = value(inner[name]) if callable(value) else value

    return change


def later(text: str) -> str:
    return iso(epoch_ms(text) + 1)


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


def caught_by(rule: str, conversation: Play) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        play(conversation)
    found = caught.value.exceptions[0]
    assert isinstance(found, Violation)
    assert found.rule == rule, str(found)


async def expired(people: People) -> str:
    session = await people.begin("echo", "ann", timeoutMinutes=5, autoRenew=False)
    await trio.sleep(300)
    return session


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


def answer_with(status: int, body: Any) -> Callable[[Answered], Answered]:
    return lambda answer: answer._replace(status=status, body=orjson.dumps(body))


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


MESSAGE_LIES = {
    "4 message": becomes(content="something else"),
    "3 sendMessage": becomes(sessionStatus__wasRenewed=False),
    "4 author": becomes(authorId="bob"),
}


@pytest.mark.parametrize("rule", MESSAGE_LIES)
def test_a_201_of_a_message_is_known_to_the_last_field(rule: str) -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann")
        people.tamper = spoil(MESSAGE_LIES[rule])
        await people.ask("sendMessage", session, {"content": "hello"})

    caught_by(rule, conversation)


PAGE_LIES: dict[str, tuple[str, Wrong]] = {
    "a lost message": ("4 lost", lambda body: body["messages"].pop(1)),
    "a page in the wrong order": ("4 order", lambda body: body["messages"].reverse()),
    "a message that changed": ("4 message", becomes(messages__1__content="no")),
    "hasMore without more": ("4 hasMore", becomes(hasMore=True)),
    "cursors of another page": ("4 cursors", becomes(cursors__before=5)),
    "the same message twice": ("4 order", lambda body: body["messages"].append(body["messages"][-1])),
    "an answer that does not say why it ends": (
        "11 finishReason",
        lambda body: body["messages"][0].pop("finishReason"),
    ),
    "an echo that was cut": ("11 finishReason", becomes(messages__0__finishReason="length")),
    "a question that says why it ends": ("4 message", becomes(messages__1__finishReason="stop")),
    "an echo that nobody gave": (
        "5 answer",
        lambda body: body["messages"].insert(
            0,
            body["messages"][0]
            | {"id": "x", "content": "boo", "createdAt": iso(START_MS + 99), "isAgent": True},
        ),
    ),
}


@pytest.mark.parametrize("lie", PAGE_LIES)
def test_a_page_shows_what_was_acknowledged(lie: str) -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann")
        for text in ("one", "two"):
            await people.ask("sendMessage", session, {"content": text})
            await trio.sleep(1)
        people.tamper = spoil(PAGE_LIES[lie][1])
        await people.ask("getMessages", session, query={"limit": 9})

    caught_by(PAGE_LIES[lie][0], conversation)


def test_an_echo_has_to_come() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann")
        await people.ask("sendMessage", session, {"content": "hello"})
        await trio.sleep(2)
        people.tamper = spoil(
            lambda body: (
                body["messages"].pop(0) and body.update(cursors={"before": START_MS, "after": START_MS})
            )
        )
        await people.ask("getMessages", session)

    caught_by("4 turns", conversation)


def test_a_repeat_gets_the_same_answer() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("mute", "ann")
        await people.ask("sendMessage", session, {"content": "hello"}, key="k")
        await trio.sleep(1)
        people.tamper = spoil(becomes(sessionStatus__renewalCount=7))
        await people.ask("sendMessage", session, {"content": "hello"}, key="k")

    caught_by("4 repeat", conversation)


def test_a_used_key_takes_no_other_body() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("mute", "ann")
        await people.ask("sendMessage", session, {"content": "hello"}, key="k")
        first = people.model
        del first._sessions.by_id[session].keys["k"]
        await people.ask("sendMessage", session, {"content": "hullo"}, key="k")

    caught_by("4 key reused", conversation)


def header(name: str, change: Callable[[str], str]) -> Callable[[Answered], Answered]:
    return lambda answer: answer._replace(headers=dict(answer.headers) | {name: change(answer.headers[name])})


def test_every_counted_answer_says_what_is_left() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann")
        people.tamper = header("ratelimit", lambda text: text.replace("r=19", "r=18"))
        await people.ask("getSession", session)

    caught_by("7 ratelimit", conversation)


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_limit_is_exact(forgotten: bool) -> None:
    """Admitted over the limit, and refused with room: here the model's own window is the one that is wrong."""

    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann")
        for _ in range(20 if forgotten else 19):
            await people.ask("getSession", session)
        window = people.model.limits._windows["session"][session]
        if forgotten:
            window.hits.popleft()
        else:
            window.hits.appendleft(window.hits[0])
        await people.ask("getSession", session)

    caught_by("7 refused with room" if forgotten else "7 over the limit", conversation)


def test_a_refusal_names_the_window_and_the_wait() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("echo", "ann")
        for _ in range(20):
            await people.ask("getSession", session)
        people.tamper = spoil(becomes(details__retryAfterMs=1))
        await people.ask("getSession", session)

    caught_by("7 refusal", conversation)


LIST_LIES: dict[str, tuple[str, Wrong]] = {
    "a total that is one off": ("1 total", becomes(total=1)),
    "stats that are one off": ("1 stats", becomes(stats__expiredSessions=1)),
    "a missing session": ("1 list", lambda body: body["sessions"].pop()),
    "the oldest first": ("1 list", lambda body: body["sessions"].reverse()),
    "a session as it was": ("1 list", becomes(sessions__0__renewalCount=1)),
}


@pytest.mark.parametrize("lie", LIST_LIES)
def test_lists_show_and_count_everything(lie: str) -> None:
    async def conversation(people: People) -> None:
        for user in ("ann", "bob"):
            await people.begin("echo", user)
            await trio.sleep(1)
        people.tamper = spoil(LIST_LIES[lie][1])
        await people.ask("listSessions", None)

    caught_by(LIST_LIES[lie][0], conversation)


def test_health_counts_live_sessions() -> None:
    async def conversation(people: People) -> None:
        await people.begin("echo", "ann")
        people.tamper = spoil(becomes(activeSessions=2))
        await people.ask("getHealth", None)

    caught_by("10 health", conversation)


def test_a_token_opens_no_other_session() -> None:
    async def conversation(people: People) -> None:
        session, other = await people.begin("echo", "ann"), await people.begin("echo", "bob")
        people.tokens[session] = people.tokens[other] = people.tokens[other]
        model_sees = people.model.sent
        people.model.sent = lambda sent: model_sees(sent._replace(credential="other token"))  # type: ignore[method-assign]
        await people.ask("getSession", session, credential="key")

    caught_by("6 order", conversation)


EVENT_LIES: dict[str, tuple[str, str, Wrong]] = {
    "a skipped id": ("sessionRenewed", "8 ids", becomes(id=lambda n: n + 1)),
    "another deadline": ("sessionRenewed", "8 renewed", becomes(data__expiresAt=later)),
    "another count": ("sessionRenewed", "8 renewed", becomes(data__renewalCount=5)),
    "another message": ("messageBroadcast", "4 message", becomes(data__content="no")),
    "an early warning": (
        "sessionExpirationWarning",
        "8 warning",
        becomes(at=iso(START_MS)),
    ),
    "another reason": ("sessionExpired", "8 expired", becomes(data__reason="max_duration")),
    "another session": ("sessionCreated", "8 frame", becomes(sessionId="x")),
}


@pytest.mark.parametrize("lie", EVENT_LIES)
def test_events_are_known_to_the_last_field(lie: str) -> None:
    kind, rule, change = EVENT_LIES[lie]

    def tamper(event: Any) -> Any:
        if event["type"] == kind:
            change(event)
        return event

    caught_by(rule, heard_by(tamper))


@pytest.mark.parametrize("kind", ["messageBroadcast", "sessionExpirationWarning"])
def test_an_event_that_nobody_hears_is_missed(kind: str) -> None:
    """It is left out and the ids close up, as if it had never been committed."""
    dropped = 0

    def tamper(event: Any) -> Any:
        nonlocal dropped
        if event["type"] == kind:
            dropped += 1
            return {"type": "messageChunk", "sessionId": event["sessionId"], "at": event["at"]} | {
                "data": {"messageId": "", "text": ""}
            }
        return event | {"id": event["id"] - dropped}

    caught_by("8 missing" if kind == "messageBroadcast" else "8 warning", heard_by(tamper))


def heard_by(tamper: Callable[[Any], Any]) -> Play:
    async def conversation(people: People) -> None:
        session = await people.begin("mute", "ann", timeoutMinutes=10)
        people.tamper_frame = tamper
        async with trio.open_nursery() as nursery:
            nursery.start_soon(people.listen, session, 0, 3600)
            await trio.sleep(60)
            await people.ask("sendMessage", session, {"content": "hello"})

    async def flat(people: People) -> None:
        try:
            await conversation(people)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    return flat


def test_an_acknowledged_message_survives_a_crash() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("mute", "ann")
        await people.ask("sendMessage", session, {"content": "hello"})
        people.model.crashed(people.server.now)
        await people.server.crash()
        store = people.server.plan.store
        assert isinstance(store, Store)
        for messages in store._messages.values():
            messages.clear()
        people.server.plan = replace(people.server.plan, clock=ScaledClock(people.server.plan.clock.now()))
        await people.server.start()
        people.model.restarted(people.server.now, clean=False)
        await people.ask("getMessages", session)

    caught_by("4 lost", conversation)


def test_a_503_needs_a_reason() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("mute", "ann")
        store = people.server.plan.store
        assert isinstance(store, Store)
        store.is_full = True
        await people.ask("heartbeat", session)

    caught_by("9 unavailable", conversation)
