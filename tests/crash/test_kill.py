"""kill -9 in the middle of load: everything that was acknowledged is there afterwards (spec section 10).

A real process on a SQLite store, killed at random moments while clients talk to it. What a client knows is what
it was answered; the one request that was under way may have happened or not, but never twice.
"""

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.measure import PROVING
from tests.process import BASE, NO_LIMITS, ServerProcess, running_server

ROUNDS = 25 if PROVING else 5
CLIENTS = 6
KILL_AFTER = (30, 400)  # answers, of all clients together


@dataclass
class Known:
    """What one client knows of its session."""

    session: dict[str, Any]  # as of the last answer
    messages: list[str] = field(default_factory=list)  # acknowledged, oldest first
    ended: bool = False
    under_way: str = ""  # the operation that was not answered
    content: str = ""  # of the send that was not answered
    key: str = ""


class Client:
    """One client after another in one thread: it makes sessions and lives them until the server is gone."""

    def __init__(self, server: ServerProcess, answers: threading.Semaphore, seed: int) -> None:
        self.known: list[Known] = []
        self.creations: dict[str, str] = {}  # idempotency key of an unanswered create -> user
        self._http = server.client()
        self._answers = answers  # one for each answer that came
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=120)
        assert not self._thread.is_alive()
        self._http.close()

    def _live(self) -> None:
        try:
            while True:
                self._live_one_session()
        except httpx.HTTPError:
            return  # killed

    def _live_one_session(self) -> None:
        key, user = str(uuid4()), f"user-{uuid4()}"
        self.creations[key] = user
        known = Known(_created(self._http, user, key).json())
        del self.creations[key]
        self.known.append(known)
        self._answers.release()
        for _ in range(self._random.randrange(5, 40)):
            self._do(known, self._random.choice(("send", "send", "send", "renew", "retime", "heartbeat")))
        if self._random.random() < 0.5:
            self._do(known, "end")

    def _do(self, known: Known, operation: str) -> None:
        known.under_way = operation
        known.content, known.key = f"message {uuid4()}", str(uuid4())
        answer = _ask(self._http, operation, known)
        assert answer.is_success, answer.text
        known.under_way = ""
        self._answers.release()
        if operation == "send":
            known.messages.append(known.content)
        elif operation == "end":
            known.ended = True
        else:
            known.session = answer.json()


def _created(http: httpx.Client, user: str, key: str) -> httpx.Response:
    body = {"agentId": "silent", "userId": user, "timeoutConfig": {"maxDurationMinutes": 4320}}
    answer = http.post(BASE, json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    return answer


def _ask(http: httpx.Client, operation: str, known: Known) -> httpx.Response:
    path = f"{BASE}/{known.session['sessionId']}"
    if operation == "send":
        return http.post(
            f"{path}/messages", json={"content": known.content}, headers={"Idempotency-Key": known.key}
        )
    if operation == "retime":
        minutes = 30 + len(known.messages) + known.session["renewalCount"] % 100
        return http.patch(f"{path}/timeout", json={"timeoutMinutes": minutes})
    if operation == "end":
        return http.delete(path)
    return http.post(f"{path}/{operation}")


def test_after_kill_9_everything_acknowledged_is_there_and_nothing_twice(tmp_path: Path) -> None:
    agents = tmp_path / "agents.yaml"
    agents.write_text("agents:\n  - {id: silent, name: Silent, kind: none}\n")
    flags = (f"--agents={agents}", "--log-level=error", *NO_LIMITS)
    randomness = random.Random(20261122)
    checked = 0
    clients: list[Client] = []
    for round_number in range(ROUNDS):
        with running_server(tmp_path / "data", *flags) as server:
            checked += sum(_check(server, client) for client in clients)
            answers = threading.Semaphore(0)
            clients = [Client(server, answers, seed=round_number * 100 + n) for n in range(CLIENTS)]
            for _ in range(randomness.randrange(*KILL_AFTER)):
                assert answers.acquire(timeout=60)
            server.stop(signal.SIGKILL)
        for client in clients:
            client.join()
    with running_server(tmp_path / "data", *flags) as server:
        checked += sum(_check(server, client) for client in clients)
    assert checked >= ROUNDS  # sessions: it was load that was killed


def _check(server: ServerProcess, client: Client) -> int:
    with server.client() as http:
        for known in client.known:
            _check_session(http, known)
        for key, user in client.creations.items():
            _check_creation(http, key, user)
    return len(client.known)


def _check_session(http: httpx.Client, known: Known) -> None:
    session_id = known.session["sessionId"]
    answer = http.get(f"{BASE}/{session_id}")
    if known.ended or (known.under_way == "end" and answer.status_code == 404):
        assert answer.status_code == 404
        return
    assert answer.status_code == 200, (known, answer.text)
    _check_state(known, answer.json())
    if known.under_way == "send":
        again = _ask(http, "send", known)
        assert again.status_code == 201, again.text
        known.messages.append(known.content)
    assert _history(http, session_id) == known.messages


def _check_state(known: Known, now: dict[str, Any]) -> None:
    """At most the one operation that was not answered has changed it, beside the acknowledged sends."""
    before = known.session
    maybe = 1 if known.under_way in {"send", "renew", "heartbeat"} else 0
    assert now["createdAt"] == before["createdAt"]
    assert now["renewalCount"] >= before["renewalCount"]
    assert now["expiresAt"] >= before["expiresAt"] or known.under_way == "retime"
    assert now["renewalCount"] <= before["renewalCount"] + len(known.messages) + maybe
    if known.under_way != "retime":
        assert now["timeoutConfig"] == before["timeoutConfig"]


def _history(http: httpx.Client, session_id: str) -> list[str]:
    """Every message's content, oldest first."""
    contents: list[str] = []
    query = "limit=100"
    while True:
        page = http.get(f"{BASE}/{session_id}/messages?{query}").json()
        contents += [message["content"] for message in page["messages"]]
        if not page["hasMore"]:
            return contents[::-1]
        query = f"limit=100&before={page['cursors']['before']}"


def _check_creation(http: httpx.Client, key: str, user: str) -> None:
    """A create that was not answered: a retry with its key makes one session, whether it had happened or not."""
    first, second = _created(http, user, key), _created(http, user, key)
    assert first.json() == second.json()
    assert http.get(f"{BASE}?userId={user}").json()["total"] == 1


def test_what_fell_due_while_the_server_was_down_has_happened_at_once(tmp_path: Path) -> None:
    flags = ("--time-scale=1000", "--log-level=error", *NO_LIMITS)  # five minutes are 0.3 s
    with running_server(tmp_path / "data", *flags) as server, server.client() as http:
        body = {"agentId": "agent-123", "userId": "user-456", "timeoutConfig": {"timeoutMinutes": 5}}
        short = http.post(BASE, json=body).json()
        server.stop(signal.SIGKILL)
    time.sleep(0.4)  # real time has to pass for what falls due in it
    with running_server(tmp_path / "data", *flags) as server, server.client() as http:
        answer = http.get(f"{BASE}/{short['sessionId']}")
        assert answer.status_code == 410
        assert answer.json()["details"]["expiresAt"] == short["expiresAt"]
        listing = http.get(f"{BASE}?status=all").json()
        assert listing["stats"] == {"totalSessions": 1, "activeSessions": 0, "expiredSessions": 1}


@contextmanager
def _stopped_cleanly(server: ServerProcess) -> Iterator[None]:
    yield
    assert server.stop(signal.SIGTERM) == 0


def test_sigterm_ends_with_exit_code_0_and_keeps_everything(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server, server.client() as http, _stopped_cleanly(server):
        session = http.post(BASE, json={"agentId": "agent-123", "userId": "user-456"}).json()
        assert (
            http.post(f"{BASE}/{session['sessionId']}/messages", json={"content": "kept"}).status_code == 201
        )
    with running_server(tmp_path / "data") as server, server.client() as http:
        assert http.get(f"{BASE}/{session['sessionId']}/messages").json()["messages"][-1]["content"] == "kept"


def test_a_second_signal_does_not_cut_a_clean_stop_short(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        for _ in range(4):
            server.process.send_signal(signal.SIGTERM)
        assert server.stop(signal.SIGTERM) == 0
