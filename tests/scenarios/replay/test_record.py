"""A real server records what real clients do, and the recording is replayed in virtual time without a difference."""

import json
import random
import threading
from pathlib import Path

import httpx
import pytest

import vigil.__main__ as vigil
from tests.process import BASE, ServerProcess, running_server

PEOPLE = 8
REQUESTS = 30
SECRET = "what people told their agent"


def live(server: ServerProcess, number: int) -> None:
    """One person's requests, one after the other."""
    stream = random.Random(number)
    with server.client() as http:
        session = _begin(http, stream, number)
        for _ in range(REQUESTS):
            path = f"{BASE}/{session['sessionId']}"
            if _ask(http, stream, path).status_code in (404, 410):
                session = _begin(http, stream, number)


def _begin(http: httpx.Client, stream: random.Random, number: int) -> dict[str, str]:
    config = {"timeoutMinutes": 5, "autoRenew": stream.random() < 0.5}
    asked = {"agentId": "agent-123", "userId": f"user-{number}", "timeoutConfig": config}
    answer: dict[str, str] = http.post(BASE, json=asked).raise_for_status().json()
    return answer


def _ask(http: httpx.Client, stream: random.Random, path: str) -> httpx.Response:
    transport = stream.choice(["websocket", "http", "sse"])
    message = {"content": f"{SECRET} {stream.random()}", "transport": transport}
    requests: list[tuple[str, str, object]] = [
        ("POST", f"{path}/messages", message),
        ("POST", f"{path}/messages", message),
        ("GET", path, None),
        ("POST", f"{path}/heartbeat", None),
        ("GET", f"{path}/messages?limit=3", None),
        ("PATCH", f"{path}/timeout", {"timeoutMinutes": stream.randrange(3, 9)}),
        ("GET", f"{BASE}?limit=2&status=all", None),
        ("POST", f"{path}/renew", None),
        ("DELETE", f"{path}/renew", None),
    ]
    method, target, body = stream.choice(requests)
    return http.request(method, target, json=body)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    flags = ("--time-scale=300", f"--record={path}", "--session-limit=20/minute", "--log-level=error")
    with running_server(tmp_path / "data", *flags) as server:
        people = [threading.Thread(target=live, args=(server, number)) for number in range(PEOPLE)]
        for person in people:
            person.start()
        for person in people:
            person.join()
        assert server.stop() == 0
    return path


def test_real_traffic_is_replayed_without_a_difference(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert SECRET not in trace.read_text()
    code = vigil.main(["replay", str(trace)])
    said = capsys.readouterr().out
    assert (code, "no difference" in said) == (0, True), said
    assert len(trace.read_text().splitlines()) > PEOPLE * REQUESTS


def test_an_answer_that_was_recorded_otherwise_is_told_with_its_line(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = trace.read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if json.loads(line).get("operation") == "heartbeat")
    told = json.loads(lines[number])
    told["answer"]["renewalCount"] += 1
    lines[number] = json.dumps(told)
    trace.write_text("".join(f"{line}\n" for line in lines))
    assert vigil.main(["replay", str(trace)]) == 1
    said = capsys.readouterr().out
    assert "1 differences" in said
    assert f"trace.jsonl:{number + 1} at " in said
    assert "heartbeat renewalCount: recorded " in said
