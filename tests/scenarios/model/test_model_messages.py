"""The reference model catches each wrong answer about messages, their repeats and their loss."""

from dataclasses import replace

import pytest
import trio

from tests.scenarios.model.driver import People, Store
from tests.scenarios.model.lies import Wrong, becomes, caught_by, spoil
from vigil.actors.runtime.clock import ScaledClock
from vigil.scenarios.model.world import iso
from vigil.scenarios.virtual.in_process import START_MS

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
