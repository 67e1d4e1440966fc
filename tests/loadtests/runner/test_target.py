"""The look at a server before a run: what it says of itself is believed, and what could only fail is refused."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.process import KEY, ServerProcess, running_server
from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.runner.options import LoadError
from vigil.loadtests.runner.target import Look, Unreachable, look

DEMO = ("agent-123",)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("target") / "data", "--time-scale=60") as process:
        yield process


def looked(url: str, key: str = KEY, agents: tuple[str, ...] = DEMO, scale: float | None = None) -> Look:
    return look(url, key, agents, "somebody", Limits(), scale)


def test_the_time_scale_is_read_from_the_answers(server: ServerProcess) -> None:
    assert looked(server.url).scale == 60
    assert looked(server.url, scale=60).scale == 60


def test_what_was_seen_is_for_the_oracle(server: ServerProcess) -> None:
    seen = looked(server.url)
    assert [one.operation for one in seen.observations] == ["create", "end"]
    assert looked(server.url).before[DEMO[0]] > seen.before[DEMO[0]]


@pytest.mark.parametrize(
    ("key", "agents", "scale", "told"),
    [
        (KEY, DEMO, 30.0, "the server runs at --time-scale 60, not at 30: leave the flag out"),
        ("wrong-key-0123456789", DEMO, None, "the server does not know the API key"),
        (KEY, ("nobody",), None, "the server has no agent 'nobody'"),
        ("schl\u00fcssel", DEMO, None, "the API key has 1 of its 9 characters that no header can carry"),
        ("one\r", DEMO, None, "the API key has a line break in it"),
        ("", DEMO, None, "the API key is missing"),
    ],
)
def test_what_can_be_put_right_is_told_in_one_line(
    server: ServerProcess, key: str, agents: tuple[str, ...], scale: float | None, told: str
) -> None:
    with pytest.raises(LoadError) as refused:
        looked(server.url, key, agents, scale)
    assert not isinstance(refused.value, Unreachable)
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)


def test_who_is_no_sessions_api_is_told_so() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.handle_request).start()
        with pytest.raises(Unreachable, match="answers 501, and not as a Sessions API would"):
            looked(f"http://127.0.0.1:{other.server_port}")


def test_where_nobody_answers_is_told_so() -> None:
    with pytest.raises(Unreachable, match="nothing answers at"):
        looked("http://127.0.0.1:9")
