"""The mailbox: bounded, in order, and nobody who asks is left without an answer."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from vigil.actors.core.commands import Heartbeat, Renew, Transition
from vigil.actors.core.errors import Overloaded, RenewalRefused, SessionNotFound, StoreUnavailable
from vigil.actors.core.records import Gone
from vigil.actors.runtime.mailbox import CAPACITY, Mailbox

DONE = Transition(Gone("s-1"))


class Asker:
    """Asks once, and keeps what it got."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.got: Transition | Exception | None = None

    async def __call__(self) -> None:
        try:
            self.got = await self.mailbox.ask(Heartbeat())
        except Exception as error:
            self.got = error


async def test_asks_are_taken_together_in_order_and_each_gets_its_own_answer(
    autojump_clock: MockClock,
) -> None:
    mailbox, got = Mailbox(), []

    async def ask(name: str) -> None:
        done = await mailbox.ask(Renew())
        got.append((name, done.state.id))

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(ask, name)
            await wait_all_tasks_blocked()
        assert mailbox.waiting == 3
        asks = mailbox.take()
        assert mailbox.waiting == 0
        for ask_, name in zip(asks, "abc", strict=True):
            ask_.answer(Transition(Gone(name)))
    assert sorted(got) == [("a", "a"), ("b", "b"), ("c", "c")]


async def test_a_refusal_and_a_failure_are_raised_where_it_was_asked(autojump_clock: MockClock) -> None:
    mailbox, askers = Mailbox(), []
    refusal, failure = RenewalRefused("s-1", "max_duration"), StoreUnavailable("full")
    async with trio.open_nursery() as nursery:
        for _ in "ab":
            askers.append(Asker(mailbox))
            nursery.start_soon(askers[-1])
            await wait_all_tasks_blocked()
        first, second = mailbox.take()
        first.answer(DONE._replace(refusal=refusal))
        second.fail(failure)
    assert [asker.got for asker in askers] == [refusal, failure]


async def test_one_more_than_64_is_refused_at_once_and_the_others_are_not_touched(
    autojump_clock: MockClock,
) -> None:
    mailbox, askers = Mailbox(), [Asker(Mailbox()) for _ in range(CAPACITY)]
    assert CAPACITY == 64
    async with trio.open_nursery() as nursery:
        for asker in askers:
            asker.mailbox = mailbox
            nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await mailbox.ask(Heartbeat())
        nursery.start_soon(lambda: mailbox.ask(Heartbeat(), always=True))
        await wait_all_tasks_blocked()
        assert mailbox.waiting == CAPACITY + 1
        for ask in mailbox.take():
            ask.answer(DONE)
    assert all(asker.got is DONE for asker in askers)


async def test_closing_answers_everybody_who_waits_and_everybody_who_comes_later(
    autojump_clock: MockClock,
) -> None:
    mailbox, end = Mailbox(), SessionNotFound("s-1")
    askers = [Asker(mailbox), Asker(mailbox)]
    async with trio.open_nursery() as nursery:
        for asker in askers:
            nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        mailbox.close(end)
    assert [asker.got for asker in askers] == [end, end]
    with pytest.raises(SessionNotFound):
        await mailbox.ask(Heartbeat(), always=True)
    assert mailbox.waiting == 0


async def test_asking_cannot_be_cancelled_halfway(autojump_clock: MockClock) -> None:
    """The asker hears what became of its command, and is cancelled after that."""
    mailbox, asker = Mailbox(), Asker(Mailbox())
    asker.mailbox = mailbox
    after = trio.Event()

    async def ask_and_go_on() -> None:
        await asker()
        after.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_and_go_on)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
            assert asker.got is None
            (ask,) = mailbox.take()
            ask.answer(DONE)
    assert asker.got is DONE
    assert after.is_set()
