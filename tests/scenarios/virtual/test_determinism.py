"""Runs in virtual time go the same way in every process: guards the private names that make it so."""

import os
import signal
import subprocess
import sys
from hashlib import sha256

import pytest
import trio
import trio.testing

from vigil.scenarios.virtual import determinism


async def _trace() -> str:
    """What ten tasks do that are always ready at the same moments."""
    seen: list[str] = []

    async def walk(name: int) -> None:
        for step in range(20):
            await trio.sleep(60)
            seen.append(f"{trio.current_time():.0f} {name} {step}")

    async with trio.open_nursery() as nursery:
        for name in range(10):
            nursery.start_soon(walk, name)
    return sha256("\n".join(seen).encode()).hexdigest()


def _elsewhere(seed: int, hash_seed: int) -> str:
    code = (
        "from vigil.scenarios.virtual import determinism; from tests.scenarios.virtual.test_determinism import _trace;"
        f"print(determinism.run(_trace, seed={seed}))"
    )
    environ = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_one_seed_gives_one_order_of_tasks_in_every_process() -> None:
    here = determinism.run(_trace, seed=7)
    assert here == determinism.run(_trace, seed=7) == _elsewhere(7, 1) == _elsewhere(7, 2)


def test_another_seed_gives_another_order() -> None:
    assert len({determinism.run(_trace, seed=seed) for seed in range(4)}) == 4


def test_hours_pass_without_waiting() -> None:
    async def long() -> float:
        await trio.sleep(100 * 3600)
        return trio.current_time()

    assert determinism.run(long) >= 100 * 3600


def test_who_waits_until_nothing_can_run_goes_before_the_jump() -> None:
    async def main() -> list[float]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 60)
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
        return [before, trio.current_time()]

    assert determinism.run(main) == [0.0, 60.0]


def test_what_comes_from_outside_goes_before_the_jump() -> None:
    async def main() -> float:
        came = trio.Event()
        trio.lowlevel.current_trio_token().run_sync_soon(came.set)
        with trio.move_on_after(60):
            await came.wait()
        return trio.current_time()

    assert determinism.run(main) == 0.0


def test_a_run_that_fails_leaves_trio_as_it_was() -> None:
    async def fail() -> None:
        raise ValueError("on purpose")

    before = trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING, trio._core._run._r
    with pytest.raises(ValueError, match="on purpose"):
        determinism.run(fail)
    assert (trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING, trio._core._run._r) == before


def test_an_interrupt_is_raised_where_main_waits_and_tears_no_other_task() -> None:
    """Raised between two lines of a nursery's own, it would lose a task and the run would never end."""
    went_on = []

    async def works() -> None:
        signal.raise_signal(signal.SIGINT)
        went_on.append(True)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(works)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as raised:
        determinism.run(main)
    assert raised.value.subgroup(KeyboardInterrupt)
    assert went_on
