"""A server whose events somebody listens to."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes import entry
from tests.harness import AGENTS
from tests.server.front.listening import MoodyAgent
from tests.server.sockets import Served, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(agents={**AGENTS, "patient": entry(MoodyAgent())}) as running:
        yield running
