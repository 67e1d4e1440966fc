"""`vigil doctor`: against a server that is well, and against what is not."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.process import KEY, ServerProcess, running_server
from vigil import __main__ as vigil
from vigil.server.doctor import hard, machine
from vigil.server.doctor.findings import broken, exit_code, good, warning


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("doctor") / "data") as server:
        yield server


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIGIL_API_KEY", KEY)


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = vigil.main(["doctor", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_server_that_is_well_survives_everything_and_keeps_nothing_of_it(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = doctor(capsys, server.url, "--hard")
    assert code == 0, text
    assert "broken  " not in text
    for subject in ("health", "create", "message", "history", "events"):
        assert f"good     {subject}: " in text
    assert text.count("survived") == len(hard.ATTACKS)
    with server.client() as http:
        assert http.get("/api/messaging/sessions").json()["total"] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--agent", "nobody"], "broken   create: 404 AGENT_NOT_FOUND"),
        ([], "broken   API key: refused (401): it is wrong"),
    ],
)
def test_what_a_server_refuses_is_broken_and_says_what_to_do(
    words: list[str],
    told: str,
    server: ServerProcess,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not words:
        monkeypatch.setenv("VIGIL_API_KEY", "another-key-0123456789")
    code, text = doctor(capsys, server.url, *words)
    assert code == 1
    (found,) = [n for n, line in enumerate(text.splitlines()) if line.startswith(told)]
    assert text.splitlines()[found + 1].startswith("         -> ")
    assert "another-key" not in text


def test_nobody_at_the_url_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = doctor(capsys, "http://127.0.0.1:9")
    assert code == 1
    assert "does not answer" in text


def test_another_program_at_the_url_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n") as port:
        code, text = doctor(capsys, f"http://127.0.0.1:{port}")
    assert code == 1
    assert "/livez gives 502" in text


@pytest.mark.parametrize("url", ["http://192.0.2.1:3000", "https://localhost", ""])
def test_hard_is_for_a_server_on_this_machine_alone(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = doctor(capsys, *([url] if url else []), "--hard")
    assert (code, "--hard is for a server on this machine" in text) == (2, True)


def test_an_attack_that_ends_a_server_or_is_taken_for_good_is_found() -> None:
    async def tried(port: int) -> list[str]:
        attack = next(one for one in hard.ATTACKS if one.name == "NaN")
        return [(await hard._tried(attack, "127.0.0.1", port, hard.Aim(KEY, "x"))).seen]

    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as port:
        assert trio.run(tried, port) == ["it answers HTTP/1.1 200 OK, not HTTP/1.1 400"]
    assert trio.run(tried, port) == ["the server no longer answers"]


def test_settings_that_cannot_be_used_are_broken_and_wrong_names_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIL_PROT", "1")
    code, text = doctor(capsys)
    assert (code, "warning  settings: The environment variable VIGIL_PROT" in text) == (0, True)
    monkeypatch.setenv("VIGIL_PORT", "x")
    code, text = doctor(capsys)
    assert (code, "broken   settings: VIGIL_PORT: 'x'" in text) == (1, True)


def test_files_that_others_can_read_are_a_warning_and_stay_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vigil-data").mkdir(mode=0o700)
    (tmp_path / "vigil-data" / "secret").touch()
    (tmp_path / "vigil-data" / "secret").chmod(0o644)
    code, text = doctor(capsys)
    assert (code, "secret can be read by others" in text) == (0, True)
    assert (tmp_path / "vigil-data" / "secret").stat().st_mode & 0o777 == 0o644


def test_agents_and_keys_that_cannot_be_read_are_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIGIL_API_KEY")
    (tmp_path / "agents.yaml").write_text("agents: 3")
    monkeypatch.setenv("VIGIL_AGENTS", "agents.yaml")
    (tmp_path / "vigil-data").mkdir(mode=0o700)
    (tmp_path / "vigil-data" / "keys.json").write_text(json.dumps({"keys": 3}))
    code, text = doctor(capsys)
    assert code == 1
    assert "broken   agents: " in text
    assert "broken   API keys: " in text


def test_a_clock_and_a_disk_are_judged_by_their_figures() -> None:
    assert machine._clock(2218, 0).level == "broken"
    assert machine._clock(2026, 5).level == "warning"
    assert machine._clock(2026, 0).level == "good"
    assert [machine._room(Path("/"), size).level for size in (1, 2**29, 2**40)] == [
        "broken",
        "warning",
        "good",
    ]


def test_warnings_do_not_fail_it() -> None:
    assert exit_code([good("a", ""), warning("b", "", "")]) == 0
    assert exit_code([good("a", ""), broken("b", "", "")]) == 1


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that gives the same answer to everybody; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
