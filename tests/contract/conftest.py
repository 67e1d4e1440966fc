"""The contract suite runs once for each way in."""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness import WAYS, Api, WayIn, running_api
from vigil.server.api.call import Site


@pytest.fixture(params=list(WAYS.values()), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> Callable[[Site], WayIn]:
    chosen: Callable[[Site], WayIn] = request.param
    return chosen


@pytest.fixture
async def api(way: Callable[[Site], WayIn]) -> AsyncIterator[Api]:
    """A site with the default settings. A test that also takes `autojump_clock` runs in virtual time."""
    async with running_api(way) as running:
        yield running
