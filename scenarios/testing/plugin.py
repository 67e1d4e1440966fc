"""The pytest plugin `vigil`: fixtures for tests of applications that talk to Vigil.

It costs nothing until a fixture is used: all of Vigil is imported inside of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vigil.scenarios.testing.process import RunningServer
    from vigil.scenarios.testing.virtual import VirtualVigil


@pytest.fixture(scope="session")
def vigil_server_flags() -> tuple[str, ...]:
    """Flags of `vigil serve` for `vigil_server`; override it in a conftest.py."""
    return ()


@pytest.fixture(scope="session")
def vigil_server(
    tmp_path_factory: pytest.TempPathFactory, vigil_server_flags: tuple[str, ...]
) -> Iterator[RunningServer]:
    """A real server, one for all tests: `url`, `api_key`, `data_dir`."""
    import os
    import secrets

    from vigil.scenarios.testing.process import running

    key = f"tests-{secrets.token_urlsafe(24)}"
    with running(tmp_path_factory.mktemp("vigil"), vigil_server_flags, os.environ, key) as server:
        yield server


@pytest.fixture
def vigil(vigil_server: RunningServer) -> Iterator[Any]:
    """The client of `vigil-client`, connected to `vigil_server`; without that package the test is skipped."""
    client = pytest.importorskip(
        "vigil_client", reason="the fixture `vigil` needs the client: pip install vigil-client"
    )
    with client.Vigil(vigil_server.url, api_key=vigil_server.api_key) as connected:
        yield connected


@pytest.fixture
def virtual_vigil() -> Iterator[VirtualVigil]:
    """A whole server in virtual time, for this test alone."""
    from vigil.scenarios.testing.virtual import VirtualVigil

    with VirtualVigil() as server:
        yield server


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Callable[[str | Path], None]:
    """Plays a script in virtual time; it fails the test when something in it did not hold.

    The name of a file is relative to the test's own.
    """

    def play(file: str | Path) -> None:
        from vigil.scenarios.language import reading
        from vigil.scenarios.replay.command import play_virtual
        from vigil.scenarios.reports import play_text

        located = reading.load(request.path.parent / file)
        (played,) = _in_a_thread(lambda: play_virtual([located], tell=lambda _: None))
        if played.verdict == "failed":
            pytest.fail(play_text.failure(played), pytrace=False)

    return play


def _in_a_thread(job: Callable[[], Any]) -> Any:
    """Trio cannot run inside of Trio, and the test may be one of its tasks."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(job())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
