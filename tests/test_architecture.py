"""The journeys in ARCHITECTURE.md are the ones that are made: each is run, and its calls are compared with the page.

When a function was renamed or moved, mend the line in ARCHITECTURE.md; the failure lists what was really called.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import trio
import trio.testing

from tests import ROOT
from tests.calls import ROOMS, noted_calls
from tests.harness import AGENTS, running_api
from tests.scenarios.playing import script
from tests.server.fronts import request
from tests.server.raw import connect, start
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.stores.sqlite.store import SqliteStore
from vigil.scenarios.replay.command import play_virtual
from vigil.server.front.fast_path import FastPath
from vigil.server.front.quart_app import make_app

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
STEP = re.compile(r"^\d+\. `([\w/]+\.py)` `(\w+)`", re.MULTILINE)


def journey(title: str) -> list[str]:
    """The steps under a heading of the page, each as `file name`."""
    section = re.search(rf"^### {title}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None, f"ARCHITECTURE.md has no heading: ### {title}"
    return [f"{file} {name}" for file, name in STEP.findall(section[1])]


def assert_made(title: str, calls: Sequence[str]) -> None:
    """The page's steps were called, and first called in the page's order."""
    told = journey(title)
    made = [call for call in calls if call in told]
    assert made == told, f"{title}: the page says\n{_lines(told)}\nbut this was called\n{_lines(calls)}"


def _lines(calls: Sequence[str]) -> str:
    return "\n".join(f"  {n}. {call}" for n, call in enumerate(calls, 1))


async def test_a_message_goes_the_way_that_the_page_describes(tmp_path: Path) -> None:
    """Over a socket, the fast path and SQLite, to the agent and back into the history."""
    agents = {**AGENTS, "silent": AgentEntry("silent", "Echo", EchoAgent())}
    with noted_calls() as calls:
        store = SqliteStore(tmp_path / "vigil.db")
        async with running_api(store=store, agents=agents) as api, trio.open_nursery() as nursery:
            session = await api.create()
            running = await start(nursery, make_app(api.site), first=FastPath(api.site))
            async with connect(running) as client:
                await client.ask(
                    request("GET", "/{id}")
                )  # a connection's first request is read by its own task
                await trio.testing.wait_all_tasks_blocked()
                calls.clear()
                await client.ask(request("POST", "/{id}/messages", b'{"content":"hello"}'))
                while len(api.site.directory.turns):
                    await trio.lowlevel.checkpoint()
            made = list(calls)
            assert await store.history(
                api.site.directory.find(session["sessionId"]).session.key, None, None, 9
            )
            api.site.stop_taking_requests()
            running.shutdown.set()
    assert_made("A message", made)


async def test_a_deadline_is_served_the_way_that_the_page_describes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with noted_calls() as calls:
        async with running_api() as api:
            await api.create(timeoutConfig={"timeoutMinutes": 30})
            calls.clear()
            await trio.sleep(31 * 60)
            made = list(calls)
    assert_made("A deadline", made)


def test_a_step_of_a_script_goes_the_way_that_the_page_describes() -> None:
    with noted_calls() as calls:
        (play,) = play_virtual(
            [script("- create:\n    agentId: agent-123\n    userId: user-456")], tell=lambda _: None
        )
    assert play.verdict == "held", play.reason
    assert_made("A step of a script", list(calls))


def test_every_folder_of_the_rooms_has_its_line_on_the_page() -> None:
    folders = {
        file.parent.relative_to(ROOT).as_posix()
        for room in ROOMS
        for file in (ROOT / room).rglob("__init__.py")
    }
    told = set(re.findall(r"^\| `([\w/]+)/` \|", PAGE, re.MULTILINE))
    assert told == (folders | {"scenarios/library"}) - set(ROOMS)


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(rf"`((?:{'|'.join(ROOMS)}|docs|tests)/[\w/.]+)`", PAGE))
    assert [name for name in named if not (ROOT / name).exists()] == []
