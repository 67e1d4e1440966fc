"""`vigil backup` and `vigil restore`, with servers that run meanwhile."""

import json
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.process import BASE, NO_LIMITS, running_server
from vigil import __main__ as vigil
from vigil.server.ops import backup
from vigil.server.ops.backup import BackupError

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """A command line in this process; gives its exit code and all that it said."""

    def run(*words: object) -> tuple[int, str]:
        code = vigil.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory, and the backup beside it, of a server that has one session with one message."""
    directory = tmp_path_factory.mktemp("made")
    with running_server(directory / "data") as server, server.client() as http:
        created(http)
        assert vigil.main(["backup", f"{directory}/a.vigil", "--data-dir", f"{directory}/data"]) == 0
    return directory


@pytest.fixture
def backed_up(made: Path, tmp_path: Path) -> Path:
    """A copy of both, to be spoiled."""
    shutil.copytree(made / "data", tmp_path / "data")
    (tmp_path / "data" / "database").unlink()  # it names the original
    return Path(shutil.copy(made / "a.vigil", tmp_path))


def created(http: httpx.Client, text: str = "hello") -> dict[str, Any]:
    session: dict[str, Any] = (
        http.post(BASE, json={"agentId": "agent-123", "userId": "u"}).raise_for_status().json()
    )
    body = {"content": text, "transport": "http"}
    http.post(f"{BASE}/{session['sessionId']}/messages", json=body).raise_for_status()
    return session


def said_in(http: httpx.Client, session: dict[str, Any]) -> list[str]:
    """What was said in the session, asked for with its own token."""
    headers = {"Authorization": f"Bearer {session['sessionToken']}"}
    answer = http.get(f"{BASE}/{session['sessionId']}/messages", headers=headers).raise_for_status()
    return [message["content"] for message in answer.json()["messages"]]


def test_sessions_of_a_backup_that_was_made_while_it_served_are_answered_after_a_restore(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    target = tmp_path / "a.vigil"
    acknowledged: list[dict[str, Any]] = []
    enough, stop = threading.Event(), threading.Event()

    def write() -> None:
        with server.client() as http:
            while not stop.is_set():
                acknowledged.append(created(http, "before"))
                if len(acknowledged) == 20:
                    enough.set()

    with running_server(tmp_path / "data", *NO_LIMITS) as server:
        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(60)
        before = list(acknowledged)
        code, text = run("backup", target, "--data-dir", tmp_path / "data")
        stop.set()
        writer.join()
    assert code == 0, text
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    shutil.rmtree(tmp_path / "data")
    code, text = run("restore", target, "--data-dir", tmp_path / "new")
    assert code == 0, text
    with running_server(tmp_path / "new") as server, server.client() as http:
        assert [said_in(http, session) for session in before] == [["before", "before"]] * len(before)


def test_the_key_that_the_server_made_itself_is_good_after_a_restore(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    no_key = {"VIGIL_API_KEY": None}
    with running_server(tmp_path / "data", environ=no_key):
        run("backup", tmp_path / "a.vigil", "--data-dir", tmp_path / "data")
    run("restore", tmp_path / "a.vigil", "--data-dir", tmp_path / "new")
    key = (tmp_path / "data" / "api-key").read_text().strip()
    assert (tmp_path / "new" / "api-key").read_text().strip() == key
    with running_server(tmp_path / "new", environ=no_key) as server:
        answer = httpx.get(f"{server.url}{BASE}", headers={"X-API-KEY": key})
    assert answer.status_code == 200


def test_a_store_in_use_is_not_overwritten_even_by_force(
    backed_up: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    with running_server(tmp_path / "other") as server, server.client() as http:
        session = created(http, "mine")
        code, text = run("restore", backed_up, "--data-dir", tmp_path / "other", "--force")
        assert (code, "is in use by a server" in text) == (2, True)
        assert said_in(http, session) == ["mine", "mine"]


def test_a_directory_that_holds_data_is_left_as_it_is_without_force(
    backed_up: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    code, text = run("restore", backed_up, "--data-dir", tmp_path / "data")
    assert (code, "--force" in text) == (2, True)
    assert {path: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


def test_what_force_replaces_is_moved_aside(
    backed_up: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    secret = (tmp_path / "data" / "secret").read_bytes()
    (tmp_path / "data" / "secret").write_bytes(b"another secret of 32 bytes .....")
    code, text = run("restore", backed_up, "--data-dir", tmp_path / "data", "--force")
    assert code == 0, text
    assert (tmp_path / "data" / "secret").read_bytes() == secret
    (aside,) = (tmp_path / "data").glob("before-restore-*")
    assert (aside / "secret").read_bytes() == b"another secret of 32 bytes ....."
    assert (aside / "vigil.db").exists()
    assert str(aside) in text


def test_no_backup_is_written_over_a_file_that_is_there(
    backed_up: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    content = backed_up.read_bytes()
    code, text = run("backup", backed_up, "--data-dir", tmp_path / "data")
    assert (code, "is there already" in text) == (2, True)
    assert backed_up.read_bytes() == content
    assert not list(tmp_path.glob(".vigil-backup-*"))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30_000])


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"SQLite format 3") + 3000] ^= 1
    path.write_bytes(content)


def _another_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "manifest.json")


@pytest.mark.parametrize(
    "spoil",
    [
        _truncated,
        _cut_short,
        _flipped,
        _another_tar,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not a backup"),
        Path.unlink,
    ],
)
def test_a_truncated_or_foreign_file_is_refused_and_leaves_nothing(
    spoil: Callable[[Path], object], backed_up: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    spoil(backed_up)
    code, text = run("restore", backed_up, "--data-dir", tmp_path / "new")
    assert code == 2
    assert text.startswith(f"vigil: {backed_up} cannot be ")
    assert len(text.splitlines()) == 1
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {".lock", "vigil.db.lock"}


def test_a_manifest_cannot_name_files_outside_of_the_directory(backed_up: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.vigil"
    with tarfile.open(backed_up) as whole, tarfile.open(evil, "w") as archive:
        member = whole.getmember("manifest.json")
        stream = whole.extractfile(member)
        assert stream is not None
        manifest = json.load(stream)
        manifest["files"]["../escaped"] = manifest["files"]["secret"]
        (tmp_path / "m.json").write_text(json.dumps(manifest))
        archive.add(tmp_path / "m.json", "manifest.json")
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupError, match="not one that Vigil writes"):
        backup.unpack(evil, tmp_path / "into")


def test_a_backup_of_a_newer_schema_says_what_to_do(backed_up: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    manifest = backup.unpack(backed_up, into)
    with sqlite3.connect(into / "vigil.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    names = list(manifest.files)
    measured = {name: backup._measured(into / name) for name in names}
    newer = manifest.model_copy(update={"files": measured})
    backup._write_tar(tmp_path / "newer", newer, [into / name for name in names])
    (tmp_path / "again").mkdir()
    with pytest.raises(BackupError, match=r"schema version 999.*restore it with the version that made it"):
        backup.unpack(tmp_path / "newer", tmp_path / "again")


def test_a_restore_that_was_cut_short_is_seen_at_the_next_start(
    backed_up: Path, tmp_path: Path, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vigil.server.ops.restoring._move_in", killed)
    assert run("restore", backed_up, "--data-dir", tmp_path / "new")[0] == 130
    monkeypatch.undo()
    with (
        pytest.raises(RuntimeError, match="a server has kept sessions in it"),
        running_server(tmp_path / "new"),
    ):
        pass
    assert run("restore", backed_up, "--data-dir", tmp_path / "new", "--force")[0] == 0
    with running_server(tmp_path / "new") as server, server.client() as http:
        assert http.get(BASE).json()["total"] == 1


def test_a_store_in_memory_and_a_directory_without_a_database_have_no_backup(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    code, text = run("backup", tmp_path / "a", "--data-dir", tmp_path, "--store", "memory:")
    assert (code, "keeps nothing" in text) == (2, True)
    code, text = run("backup", tmp_path / "a", "--data-dir", tmp_path / "empty")
    assert (code, "no database" in text) == (2, True)
    assert not (tmp_path / "empty").exists()


def test_a_database_of_its_own_name_is_found_by_the_note_in_the_data_directory(
    tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    with running_server(tmp_path / "data", f"--store=sqlite:{tmp_path / 'other.db'}") as server:
        with server.client() as http:
            created(http)
        code, text = run("backup", tmp_path / "a.vigil", "--data-dir", tmp_path / "data")
    assert code == 0, text
    with tarfile.open(tmp_path / "a.vigil") as archive:
        assert "vigil.db" in archive.getnames()
    assert "1 session," in text
