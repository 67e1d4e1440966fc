"""From callbacks to tasks: what is said at once or later, once, whoever still listens."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from vigil.actors.callbacks import Callback, await_callback
from vigil.actors.core.errors import StoreUnavailable


async def test_what_is_said_at_once_is_there_at_once(autojump_clock: MockClock) -> None:
    def say(on_result: Callback[str]) -> None:
        on_result("now")

    assert await await_callback(say) == "now"


async def test_none_can_be_said_too(autojump_clock: MockClock) -> None:
    heard: list[object] = []

    def say(on_result: Callback[None]) -> None:
        heard.append(on_result)
        on_result(None)

    await await_callback(say)
    assert len(heard) == 1


async def test_an_error_that_is_said_is_raised(autojump_clock: MockClock) -> None:
    def say(on_result: Callback[str]) -> None:
        on_result(StoreUnavailable("full"))

    with pytest.raises(StoreUnavailable):
        await await_callback(say)


@pytest.mark.parametrize("said", ["later", StoreUnavailable("full")])
async def test_what_is_said_later_is_waited_for_whoever_cancels(
    autojump_clock: MockClock, said: str | Exception
) -> None:
    hears: list[Callback[str]] = []
    got: list[str | Exception] = []

    async def wait() -> None:
        try:
            got.append(await await_callback(hears.append))
        except StoreUnavailable as error:
            got.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
            assert got == []
            (on_result,) = hears
            on_result(said)
    assert got == [said]


async def test_an_error_of_who_tells_is_an_error_of_who_asks(autojump_clock: MockClock) -> None:
    def tell(_hear: Callable[[object], None]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await await_callback(tell)
