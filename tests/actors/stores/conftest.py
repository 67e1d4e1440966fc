"""A SQLite store in a file of its own. `test_stores` has fixtures of the same names for every kind of store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.actors.stores.sqlite_files import anchor
from vigil.actors.stores.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vigil.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.start(anchor)
    yield store
    await store.close()
