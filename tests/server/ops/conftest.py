"""A data directory, and keys in it."""

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

from tests.server.ops.key_files import TODAY
from vigil.server.ops.data_dir import open_data_dir
from vigil.server.ops.keys import new_key


@pytest.fixture
def loose_umask() -> Iterator[None]:
    """Opening a data directory narrows the umask of the process; a loose one shows that it matters."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "vigil-data"
    open_data_dir(path)
    return path


@pytest.fixture
def random_bytes() -> Callable[[int], bytes]:
    """Different bytes each time, the same in each run."""
    calls = count()
    return lambda size: sha256(str(next(calls)).encode()).digest()[:size]


@pytest.fixture
def make(data_dir: Path, random_bytes: Callable[[int], bytes]) -> Callable[..., str]:
    def make(name: str, *scopes: str) -> str:
        return new_key(data_dir, name, scopes, created=TODAY, random_bytes=random_bytes)

    return make
