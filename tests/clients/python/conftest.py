"""Servers for the client's tests: real processes, on both fronts and on both stores of one node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.python.proxy import Proxy, running_proxy
from tests.process import NO_LIMITS, ServerProcess, running_server

AGENTS = """
agents:
  - {id: agent-123, kind: echo}
  - {id: silent, kind: none}
  - {id: strict, kind: echo, session_limit: 3/minute}
  - id: talker
    kind: scripted
    rules: [{reply: "One two three four five six."}]
    piece_delay_ms: {max: 2}
  - id: slow
    kind: scripted
    rules: [{reply: "One two three four five six."}]
    piece_delay_ms: {min: 100, max: 101}
  - id: sleeper
    kind: scripted
    rules: [{reply: "Good morning.", delay_ms: {min: 3600000, max: 3600000}}]
  - id: broken
    kind: scripted
    rules: [{reply: "Never said."}]
    failures: {fail: 1.0}
seed: 7
"""
FRONTS = {"hot-sqlite": ["--front=hot"], "quart-memory": ["--front=quart", "--store=memory:"]}


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIGIL_API_KEY", raising=False)
    monkeypatch.delenv("VIGIL_URL", raising=False)


@pytest.fixture(scope="session", params=FRONTS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Without limits, so that tests can share it."""
    yield from _serve(tmp_path_factory.mktemp("server"), *FRONTS[request.param], *NO_LIMITS)


@pytest.fixture(scope="session")
def fast_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Five minutes of a session take a second."""
    yield from _serve(tmp_path_factory.mktemp("fast"), "--time-scale=300", *NO_LIMITS)


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    with running_proxy(server.url) as proxy:
        yield proxy


def _serve(directory: Path, *flags: str) -> Iterator[ServerProcess]:
    (directory / "agents.yaml").write_text(AGENTS)
    agents = f"--agents={directory / 'agents.yaml'}"
    with running_server(directory / "data", "--log-level=error", agents, *flags) as server:
        yield server
