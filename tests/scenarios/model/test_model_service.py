"""The reference model catches wrong limits, lists, health, rights and events."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.scenarios.model.driver import People, Store
from tests.scenarios.model.lies import Play, Wrong, becomes, caught_by, later, spoil
from vigil.scenarios.model.observed import Answered
from vigil.scenarios.model.world import iso
from vigil.scenarios.virtual.in_process import START_MS


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


def test_a_503_needs_a_reason() -> None:
    async def conversation(people: People) -> None:
        session = await people.begin("mute", "ann")
        store = people.server.plan.store
        assert isinstance(store, Store)
        store.is_full = True
        await people.ask("heartbeat", session)

    caught_by("9 unavailable", conversation)
