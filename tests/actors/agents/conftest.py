"""Agents that are closed after their test, and what they log."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.actors.agents.loopback import Loopback
from tests.actors.agents.talk import agent_of, loaded
from vigil.actors.agents import catalogue, remote
from vigil.actors.agents.base import Agent, AgentEntry

MakeAgent = Callable[..., Agent]


@pytest.fixture
async def make_agent(tmp_path: Path) -> AsyncIterator[MakeAgent]:
    """An agent from the fields of its catalogue entry; `environ` are its variables."""
    entries: dict[str, AgentEntry] = {}

    def make(**fields: Any) -> Agent:
        entry = entries[str(len(entries))] = loaded(tmp_path, **fields)
        return agent_of(entry)

    yield make
    await catalogue.close(entries)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What is logged in a test, whatever the tests' configuration lets out."""
    quiet = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("debug"))
    try:
        with structlog.testing.capture_logs() as entries:
            yield entries
    finally:
        structlog.configure(**quiet)


@pytest.fixture
def talk_to(make_agent: MakeAgent) -> Any:
    """An agent that speaks to a loopback server."""

    def make(server: Loopback, **fields: Any) -> Agent:
        return make_agent(kind="openai", base_url=f"{server.url}/v1", model="tiny", **fields)

    return make


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server is asked again at once."""
    monkeypatch.setattr(remote, "PAUSES_S", (0.01, 0.02))
