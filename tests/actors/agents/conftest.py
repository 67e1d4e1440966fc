"""Agents that are closed after their test."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.agents import catalogue
from actors.agents.base import Agent, AgentEntry
from tests.actors.agents.talk import agent_of, loaded

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
