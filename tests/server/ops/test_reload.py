"""SIGHUP: what is read and opened anew, and that it never ends the server (spec section 10). Real processes."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.process import BASE, ServerProcess, running_server

SLOW = "{id: slow, name: Slow, kind: scripted, rules: [{reply: from the old one, delay_ms: {min: 1500, max: 1500}}]}"
AGENTS = f"agents:\n  - {{id: one, name: One, kind: echo}}\n  - {SLOW}\n"


class Place:
    """A server with files that SIGHUP reads again."""

    def __init__(self, tmp_path: Path) -> None:
        self.agents = tmp_path / "agents.yaml"
        self.log = tmp_path / "vigil.log"
        self.agents.write_text(AGENTS)
        self.server: ServerProcess

    def lines(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return [line for line in lines if event in line["event"]]

    def hang_up(self) -> None:
        """And wait until it has reloaded."""
        before = len(self.lines("reloaded"))
        self.server.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 30
        while len(self.lines("reloaded")) <= before and time.monotonic() < until:
            time.sleep(0.02)
        assert len(self.lines("reloaded")) > before, self.server.log.read_text()


@contextmanager
def place(tmp_path: Path, *flags: str) -> Iterator[tuple[Place, httpx.Client]]:
    it = Place(tmp_path)
    files = (f"--agents={it.agents}", f"--log-file={it.log}")
    with running_server(tmp_path / "data", *files, *flags) as it.server, it.server.client() as http:
        yield it, http
        assert it.server.stop(signal.SIGTERM) == 0


def create(http: httpx.Client, agent_id: str) -> httpx.Response:
    return http.post(BASE, json={"agentId": agent_id, "userId": "user-456"})


def ask(http: httpx.Client, session: dict[str, Any]) -> httpx.Response:
    path = f"{BASE}/{session['sessionId']}/messages"
    return http.post(path, json={"content": "hello", "transport": "http"})


def test_sighup_has_new_agents_and_those_that_are_gone_fail_their_turns_alone(tmp_path: Path) -> None:
    with place(tmp_path) as (it, http):
        session = create(http, "one").json()
        assert create(http, "two").status_code == 404
        it.agents.write_text("agents:\n  - {id: two, name: Two, kind: echo}\n")
        it.hang_up()
        assert create(http, "two").status_code == 201
        assert create(http, "one").json()["code"] == "AGENT_NOT_FOUND"
        assert http.get(f"{BASE}/{session['sessionId']}").json()["status"] == "active"
        answer = ask(http, session)
        assert (answer.status_code, answer.json()["code"]) == (502, "AGENT_FAILED")
        assert http.post(f"{BASE}/{session['sessionId']}/heartbeat").status_code == 200


def test_a_turn_that_runs_is_ended_by_the_agent_that_it_began_with(tmp_path: Path) -> None:
    with place(tmp_path) as (it, http):
        session = create(http, "slow").json()
        path = f"{BASE}/{session['sessionId']}/messages"
        with http.stream("POST", path, json={"content": "hello", "transport": "sse"}) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: userMessage"
            assert http.post(path, json={"content": "and then"}).status_code == 201  # it waits
            it.agents.write_text("agents:\n  - {id: slow, name: New, kind: echo}\n")
            it.hang_up()
            assert "from the old one" in "".join(lines)
        with http.stream("POST", path, json={"content": "last", "transport": "sse"}) as stream:
            assert "agentResponse" in stream.read().decode()
        said = [one["content"] for one in http.get(path).json()["messages"] if one["isAgent"]]
        assert said == ["last", "and then", "from the old one"]


def test_sighup_has_new_limits_of_agents_and_what_was_admitted_still_counts(tmp_path: Path) -> None:
    with place(tmp_path) as (it, http):
        session = create(http, "one").json()
        path = f"{BASE}/{session['sessionId']}"
        for _ in range(3):
            assert http.get(path).headers["RateLimit-Policy"].startswith('"session";q=60;')
        it.agents.write_text("agents:\n  - {id: one, name: One, kind: echo, session_limit: 4/minute}\n")
        it.hang_up()
        answer = http.get(path)
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Policy"].startswith('"session";q=4;')
        assert answer.headers["RateLimit"].startswith('"session";r=0;')
        assert http.get(path).status_code == 429
        it.agents.write_text(AGENTS)
        it.hang_up()
        assert http.get(path).headers["RateLimit"].startswith('"session";r=55;')


def test_a_bad_catalogue_leaves_the_agents_as_they_were_and_is_said_in_one_line(tmp_path: Path) -> None:
    with place(tmp_path) as (it, http):
        it.agents.write_text("agents:\n  - {id: two, kind: oracle}\n  - nonsense\n")
        it.hang_up()
        assert create(http, "one").status_code == 201
        (line,) = it.lines("The agents stay as they were")
        assert "agents.yaml:2: agents[0].kind: must be one of" in line["event"]
        it.agents.unlink()
        it.hang_up()
        assert create(http, "one").status_code == 201
        assert "cannot be read: No such file" in it.lines("The agents stay as they were")[1]["event"]


def test_bad_keys_leave_those_that_were(tmp_path: Path) -> None:
    with place(tmp_path) as (it, http):
        (tmp_path / "data" / "keys.json").write_text("{")
        it.hang_up()
        assert create(http, "one").status_code == 201
        assert len(it.lines("The API keys stay as they were")) >= 1


def test_the_log_goes_on_in_a_new_file_when_the_old_one_was_moved_away(tmp_path: Path) -> None:
    with place(tmp_path) as (it, _):
        old = it.log.rename(tmp_path / "vigil.log.1")
        it.hang_up()
        assert it.lines("reloaded")
        assert "reloaded" not in old.read_text()
        assert it.log.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_opened_anew_goes_on_in_the_old_file(tmp_path: Path) -> None:
    with place(tmp_path) as (it, http):
        old, it.log = it.log, it.log.rename(tmp_path / "vigil.log.1")
        old.mkdir()
        it.hang_up()
        assert "Is a directory" in it.lines("The log goes on in the old file")[0]["event"]
        assert create(http, "one").status_code == 201


def test_sighup_without_a_catalogue_or_a_log_file_changes_nothing(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, server.client() as http:
        for _ in range(3):
            server.process.send_signal(signal.SIGHUP)
        assert create(http, "agent-123").status_code == 201
        assert server.stop(signal.SIGTERM) == 0


def test_rate_windows_are_saved_after_a_sighup_as_ever(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, server.client() as http:
        session = create(http, "agent-123").json()
        http.get(f"{BASE}/{session['sessionId']}")
        server.process.send_signal(signal.SIGHUP)
        assert server.stop(signal.SIGTERM) == 0
    with running_server(tmp_path / "data") as server, server.client() as http:
        answer = http.get(f"{BASE}/{session['sessionId']}")
        assert answer.headers["RateLimit"].startswith('"session";r=58;')
