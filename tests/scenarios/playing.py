"""Scripts written in tests, read and played as files are."""

import time
from functools import partial
from pathlib import Path
from textwrap import dedent

from vigil.scenarios.language import reading
from vigil.scenarios.language.reading import Located
from vigil.scenarios.play.player import play
from vigil.scenarios.play.results import Play
from vigil.scenarios.play.targets import Virtual
from vigil.scenarios.virtual import determinism

HEAD = "title: A script that a test has written\nwhy: The test has a reason of its own.\n"


def script(steps: str, settings: str = "") -> Located:
    """A script of these steps, written without indentation. Its first step stands in line 4, without settings."""
    body = HEAD + (f"settings:\n{_indented(settings)}\n" if settings else "")
    return reading.parse(f"{body}steps:\n{_indented(steps)}\n", Path("test.yaml"))


def played(steps: str, settings: str = "", *, seed: object = 0) -> Play:
    """What came of it in virtual time."""
    return run_virtual(script(steps, settings), seed=seed)


def run_virtual(located: Located, *, seed: object = 0) -> Play:
    return determinism.run(partial(_play, located), seed=seed)


async def _play(located: Located) -> Play:
    async with Virtual().open(located.script) as target:
        return await play(located, target, clock=time.perf_counter)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in dedent(text).strip().splitlines())
