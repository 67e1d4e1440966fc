"""The pytest plugin, used as its page says; and that it costs nothing where it is not used."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.testing.process import running
from vigil.scenarios.testing.virtual import BASE, VirtualVigil

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL))


def run_pytest(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As a user runs it, in a directory that has nothing of ours."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("VIGIL_", "PYTEST_"))
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=False)


def test_the_examples_of_the_page_pass(tmp_path: Path) -> None:
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    done = run_pytest(tmp_path, "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout


def test_a_scenario_that_does_not_hold_fails_its_test_with_the_story(tmp_path: Path) -> None:
    (tmp_path / "idle.yaml").write_text(EXAMPLES["idle.yaml"].replace("at: 30m", "at: 29m"))
    (tmp_path / "test_it.py").write_text("def test_it(scenario):\n    scenario('idle.yaml')\n")
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "idle.yaml:" in done.stdout
    assert "410" in done.stdout


def test_the_plugin_imports_nothing_of_vigil_until_a_fixture_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    loaded = {name for name in sys.modules if name.startswith('vigil.')}\n"
        "    assert loaded == {'vigil.scenarios', 'vigil.scenarios.testing', 'vigil.scenarios.testing.plugin'}\n"
        "    assert not {'httpx', 'quart', 'pydantic'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


def test_without_the_client_its_fixture_skips_and_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['vigil_client'] = None\n")
    (tmp_path / "test_it.py").write_text("def test_it(vigil):\n    pass\n")
    done = run_pytest(tmp_path, "-rs")
    assert "1 skipped" in done.stdout
    assert "pip install vigil-client" in done.stdout


def test_the_fixture_of_the_client_is_connected_to_the_real_server(tmp_path: Path) -> None:
    (tmp_path / "vigil_client.py").write_text(
        "class Vigil:\n"
        "    def __init__(self, url, api_key): self.url, self.api_key = url, api_key\n"
        "    def __enter__(self): return self\n"
        "    def __exit__(self, *_): pass\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_it(vigil, vigil_server):\n"
        "    assert (vigil.url, vigil.api_key) == (vigil_server.url, vigil_server.api_key)\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout


def test_a_real_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ScenarioError, match="--port"),
        running(tmp_path, ["--port=x"], os.environ, "key-0123456789abcdef"),
    ):
        pass


# --- the virtual server


def created(http: httpx.Client, agent: str = "agent-123") -> dict[str, Any]:
    body: dict[str, Any] = http.post(BASE, json={"agentId": agent, "userId": "u"}).raise_for_status().json()
    return body


def test_an_agent_that_raises_fails_the_turn_and_is_told() -> None:
    def fails(_turn: object) -> str:
        raise RuntimeError("out of order")

    with VirtualVigil({"bad": fails}) as server, server.client() as http:
        session = created(http, "bad")
        body = {"content": "hello", "transport": "http"}
        answer = http.post(f"{BASE}/{session['sessionId']}/messages", json=body)
        assert answer.status_code == 502


def test_time_stands_still_without_an_advance() -> None:
    with VirtualVigil() as server, server.client() as http:
        before = server.now
        created(http)
        threading.Event().wait(0.05)
        assert server.now == before


def test_an_agent_that_never_answers_is_waited_for_as_long_as_a_turn_may_take() -> None:
    with VirtualVigil({"deaf": None, "slow": _sleeps}) as server, server.client() as http:
        before = server.now
        body = {"content": "hello", "transport": "http"}
        session = created(http, "slow")
        assert http.post(f"{BASE}/{session['sessionId']}/messages", json=body).status_code == 504
        assert (server.now - before).total_seconds() == 60


async def _sleeps(_turn: object) -> str:
    await trio.sleep_forever()
    raise AssertionError


def test_nobody_listens_to_a_session_that_is_not_there() -> None:
    with VirtualVigil() as server:
        with pytest.raises(ScenarioError, match="no events of"):
            server.listening("00000000-0000-4000-8000-000000000000").__enter__()
        assert server.now.year == 2026  # and the server lives


def test_two_servers_side_by_side_know_nothing_of_each_other() -> None:
    with VirtualVigil() as one, VirtualVigil() as other:
        with one.client() as http:
            created(http)
        one.advance("1h")
        assert other.now < one.now
        with other.client() as http:
            assert http.get(BASE).json()["total"] == 0


def test_an_ended_server_says_so_and_leaves_no_thread() -> None:
    with VirtualVigil() as server:
        pass
    assert not any(thread.name == "virtual Vigil" for thread in threading.enumerate())
    with pytest.raises(ScenarioError, match="has ended"):
        server.advance("1s")


def test_a_bad_duration_is_refused_in_words() -> None:
    with VirtualVigil() as server, pytest.raises(ValueError, match="is not a duration"):
        server.advance("soon")
