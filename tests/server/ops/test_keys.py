"""API keys and the directory they live in: spec section 6."""

import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from vigil.server.api.auth import SCOPES
from vigil.server.ops.data_dir import (
    DataDirError,
    locked,
    open_data_dir,
    read_file,
    session_secret,
    write_file,
)
from vigil.server.ops.keys import (
    KeyRing,
    KeysError,
    clear_key_file,
    ensure_default_key,
    has_clear_key,
    keys_file,
    keys_table,
    new_key,
    read_keys,
    revoke_key,
)

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
ENVIRONMENT_KEY = "a-key-from-the-environment"


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
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


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ring_of(data_dir: Path, warnings: list[str] | None = None, environment_key: str | None = None) -> KeyRing:
    warn = (lambda _text: None) if warnings is None else warnings.append
    return KeyRing(data_dir, monotonic=trio.current_time, warn=warn, environment_key=environment_key)


# --- the directory


def test_the_directory_is_made_for_its_owner_alone_with_its_parents(tmp_path: Path) -> None:
    open_data_dir(tmp_path / "a" / "b")
    assert mode(tmp_path / "a" / "b") == 0o700


def test_a_directory_and_files_that_others_could_read_are_tightened(tmp_path: Path) -> None:
    path = tmp_path / "loose"
    path.mkdir(mode=0o755)
    for name in ("secret", "keys.json", "api-key", "vigil.db", "vigil.db-wal"):
        (path / name).touch(0o644)
    open_data_dir(path)
    assert mode(path) == 0o700
    assert {mode(file) for file in path.iterdir()} == {0o600}


def test_files_that_are_not_vigils_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch(0o644)
    open_data_dir(tmp_path)
    assert mode(tmp_path / "notes.txt") == 0o644


def test_a_file_that_another_library_makes_later_is_private_too(data_dir: Path) -> None:
    (data_dir / "vigil.db").write_bytes(b"")
    assert mode(data_dir / "vigil.db") == 0o600


def test_a_directory_that_all_users_share_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(DataDirError, match="shared by all users"):
        open_data_dir(tmp_path)
    assert mode(tmp_path) == 0o1777


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_directorys_place_is_one_clear_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match=r"^[^\n]*file[^\n]* cannot be used: [^\n]*--data-dir$"):
        open_data_dir(tmp_path / "file" / below)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataDirError, match=r"^[^\n]*cannot be written[^\n]*$"):
        open_data_dir(tmp_path)


def test_a_written_file_is_private_and_leaves_nothing_beside_it(data_dir: Path) -> None:
    os.umask(0)
    write_file(data_dir / "file", b"content")
    assert mode(data_dir / "file") == 0o600
    assert [path.name for path in data_dir.iterdir()] == ["file"]


def test_a_file_is_replaced_whole_under_those_who_read_it(data_dir: Path) -> None:
    path = data_dir / "file"
    write_file(path, b"old content")
    with path.open("rb") as reader:
        write_file(path, b"new")
        assert reader.read() == b"old content"
    assert read_file(path) == b"new"


def test_a_write_that_fails_leaves_the_old_file_whole(data_dir: Path) -> None:
    path = data_dir / "file"
    write_file(path, b"old content")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, hard))  # as if the disk were full
    try:
        with pytest.raises(DataDirError, match="file cannot be used"):
            write_file(path, b"new content")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_file(path) == b"old content"


def test_what_a_crash_left_half_written_is_no_obstacle(data_dir: Path) -> None:
    (data_dir / ".file.tmp").write_bytes(b"hal")
    write_file(data_dir / "file", b"whole")
    assert read_file(data_dir / "file") == b"whole"


def test_a_lock_in_a_directory_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="No such file"), locked(tmp_path / "nowhere"):
        pass


def test_the_secret_is_made_once(data_dir: Path, random_bytes: Callable[[int], bytes]) -> None:
    secret = session_secret(data_dir, random_bytes)
    assert len(secret) == 32
    assert session_secret(data_dir, random_bytes) == secret
    assert mode(data_dir / "secret") == 0o600


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_secret_of_the_wrong_length_is_refused_and_kept(data_dir: Path, size: int) -> None:
    (data_dir / "secret").write_bytes(b"x" * size)
    with pytest.raises(DataDirError, match=rf"^[^\n]*secret holds {size} bytes, not 32[^\n]*$"):
        session_secret(data_dir, os.urandom)
    assert (data_dir / "secret").stat().st_size == size


# --- making, listing, revoking


def test_a_key_is_256_random_bits_with_a_prefix_in_url_safe_characters(make: Callable[..., str]) -> None:
    first, second = make("one", "sessions:read"), make("two", "sessions:read")
    assert first != second
    assert re.fullmatch(r"vigil_[A-Za-z0-9_-]{43}", first)


def test_the_file_holds_names_scopes_dates_and_hashes_never_a_key(
    data_dir: Path, make: Callable[..., str]
) -> None:
    key = make("reader", "sessions:write", "sessions:read", "sessions:read")
    (kept,) = read_keys(data_dir)
    assert (kept.name, kept.scopes, kept.created) == ("reader", ("sessions:read", "sessions:write"), TODAY)
    assert kept.sha256 == sha256(key.encode()).hexdigest()
    for file in data_dir.iterdir():
        assert mode(file) == 0o600
        assert key not in file.read_text()


def test_the_list_shows_names_scopes_and_dates(data_dir: Path, make: Callable[..., str]) -> None:
    key = make("reader", "sessions:read")
    make("dashboard-2", "sessions:health", "sessions:read")
    table = keys_table(data_dir, NOW)
    assert table.splitlines() == [
        "NAME         SCOPES                         CREATED     EXPIRES",
        "reader       sessions:read                  2026-11-22  never",
        "dashboard-2  sessions:read sessions:health  2026-11-22  never",
    ]
    assert key not in table


def test_an_empty_list_says_how_to_make_a_key_and_makes_no_directory(tmp_path: Path) -> None:
    assert "vigil keys new" in keys_table(tmp_path / "nowhere", NOW)
    assert not (tmp_path / "nowhere").exists()


def test_making_the_first_key_makes_the_directory(tmp_path: Path) -> None:
    new_key(tmp_path / "new", "a", ["sessions:read"], created=TODAY, random_bytes=os.urandom)
    assert mode(tmp_path / "new") == 0o700


def test_a_name_that_is_taken_is_one_clear_line_and_changes_nothing(
    data_dir: Path, make: Callable[..., str]
) -> None:
    make("reader", "sessions:read")
    before = keys_file(data_dir).read_bytes()
    with pytest.raises(KeysError, match=r"^There is a key 'reader' already[^\n]*$"):
        make("reader", "sessions:write")
    assert keys_file(data_dir).read_bytes() == before


@pytest.mark.parametrize("name", ["", "two words", "-x", "a\n", "x" * 65, "caf\u00e9", "VIGIL_API_KEY"])
def test_a_name_that_would_confuse_a_log_is_refused(make: Callable[..., str], name: str) -> None:
    with pytest.raises(KeysError, match=r"^[^\n]*cannot name a key[^\n]*$"):
        make(name, "sessions:read")


def test_an_unknown_scope_is_one_clear_line_with_the_five_that_are(make: Callable[..., str]) -> None:
    with pytest.raises(KeysError, match=r"^There is no scope 'sessions:fly'\.[^\n]*$") as refusal:
        make("reader", "sessions:read", "sessions:fly")
    assert all(scope in str(refusal.value) for scope in SCOPES)
    with pytest.raises(KeysError, match="needs a scope"):
        make("reader")


def test_revoking_a_key_that_is_not_there_is_one_clear_line(data_dir: Path, make: Callable[..., str]) -> None:
    make("reader", "sessions:read")
    with pytest.raises(KeysError, match=r"^There is no key 'writer'[^\n]*$"):
        revoke_key(data_dir, "writer")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "Invalid JSON"),
        ("[]", "object"),
        ('{"keys": [{"name": "a"}]}', "keys.0.scopes"),
        ('{"keys": [], "more": 1}', "more"),
        ('{"keys": [{"name":"a","scopes":["sessions:fly"],"sha256":"%s","created":"2026-01-01"}]}', "scopes"),
        ('{"keys": [{"name":"a","scopes":[],"sha256":"short","created":"2026-01-01"}]}', "sha256"),
    ],
)
def test_a_broken_file_is_one_clear_line_and_no_key_is_added_to_it(
    data_dir: Path, make: Callable[..., str], content: str, says: str
) -> None:
    keys_file(data_dir).write_text(content.replace("%s", "0" * 64))
    with pytest.raises(KeysError, match=rf"^[^\n]*keys\.json is broken: [^\n]*{says}[^\n]*$"):
        make("reader", "sessions:read")
    assert keys_file(data_dir).read_text() == content.replace("%s", "0" * 64)


def test_two_keys_of_one_name_are_a_broken_file(data_dir: Path, make: Callable[..., str]) -> None:
    make("a", "sessions:read")
    make("b", "sessions:read")
    keys_file(data_dir).write_text(keys_file(data_dir).read_text().replace('"b"', '"a"'))
    with pytest.raises(KeysError, match="same name"):
        read_keys(data_dir)


_MAKER = """
import os, sys
from datetime import UTC, date, datetime
from pathlib import Path
from vigil.server.ops.keys import new_key
print("ready", flush=True)
sys.stdin.readline()
for n in range(10):
    name = f"{sys.argv[2]}-{n}"
    new_key(Path(sys.argv[1]), name, ["sessions:read"], created=date.min, random_bytes=os.urandom)
"""


def test_processes_that_change_the_keys_at_once_lose_none(data_dir: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", _MAKER, str(data_dir), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b", "c")
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    for maker in makers:
        maker.communicate(timeout=120)
        assert maker.returncode == 0
    names = {key.name for key in read_keys(data_dir)}
    assert names == {f"{name}-{n}" for name in "abc" for n in range(10)}


# --- the key that serve makes


def test_without_any_key_one_with_all_scopes_is_made_in_clear_for_the_owner(data_dir: Path) -> None:
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    (kept,) = read_keys(data_dir)
    clear = clear_key_file(data_dir)
    assert (kept.name, kept.scopes) == ("default", SCOPES)
    assert kept.sha256 == sha256(clear.read_text().strip().encode()).hexdigest()
    assert mode(clear) == 0o600
    assert has_clear_key(data_dir)


def test_the_next_start_keeps_the_key_that_the_first_made(data_dir: Path) -> None:
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    made = clear_key_file(data_dir).read_text()
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    assert clear_key_file(data_dir).read_text() == made
    assert len(read_keys(data_dir)) == 1


def test_where_a_key_was_made_by_hand_no_default_is_added(data_dir: Path, make: Callable[..., str]) -> None:
    make("reader", "sessions:read")
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    assert [key.name for key in read_keys(data_dir)] == ["reader"]
    assert not clear_key_file(data_dir).exists()
    assert not has_clear_key(data_dir)


def test_revoking_default_removes_it_in_both_places(data_dir: Path) -> None:
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    revoke_key(data_dir, "default")
    assert read_keys(data_dir) == ()
    assert not clear_key_file(data_dir).exists()


def test_revoking_another_key_leaves_the_clear_one(data_dir: Path, make: Callable[..., str]) -> None:
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    make("reader", "sessions:read")
    revoke_key(data_dir, "reader")
    assert has_clear_key(data_dir)


def test_a_clear_key_that_a_crash_left_unregistered_is_made_anew(data_dir: Path) -> None:
    clear_key_file(data_dir).write_text("vigil_of-a-start-that-crashed\n")
    assert not has_clear_key(data_dir)
    ensure_default_key(data_dir, created=TODAY, random_bytes=os.urandom)
    assert has_clear_key(data_dir)


# --- the keys in force


async def test_a_presented_key_is_its_principal_and_anything_else_is_nobody(
    data_dir: Path, make: Callable[..., str]
) -> None:
    key = make("reader", "sessions:read", "sessions:health")
    ring = ring_of(data_dir)
    principal = ring.find(key)
    assert principal is not None
    assert principal.id == sha256(key.encode()).hexdigest()[:16]
    assert principal.name == "reader"
    assert principal.scopes == {"sessions:read", "sessions:health"}
    assert principal.session_id is None
    for wrong in ("", key[:-1], f"{key}x", key.upper(), sha256(key.encode()).hexdigest()):
        assert ring.find(wrong) is None


async def test_the_environments_key_is_one_more_with_all_scopes(
    data_dir: Path, make: Callable[..., str]
) -> None:
    key = make("reader", "sessions:read")
    ring = ring_of(data_dir, environment_key=ENVIRONMENT_KEY)
    principal = ring.find(ENVIRONMENT_KEY)
    assert principal is not None
    assert (principal.name, principal.scopes) == ("VIGIL_API_KEY", frozenset(SCOPES))
    assert ring.find(key) is not None


async def test_a_ring_without_a_file_has_no_keys_until_one_is_made(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    ring = ring_of(data_dir)
    assert ring.find("vigil_anything") is None
    key = make("reader", "sessions:read")
    mock_clock.jump(1)
    assert ring.find(key) is not None


async def test_new_and_revoked_keys_count_within_a_second(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    old = make("old", "sessions:read")
    ring = ring_of(data_dir)
    principal = ring.find(old)
    assert principal is not None
    revoke_key(data_dir, "old")
    new = make("new", "sessions:write")
    mock_clock.jump(1)
    assert not ring.in_force(principal)
    assert ring.find(old) is None
    assert ring.find(new) is not None


async def test_a_change_that_keeps_size_and_mtime_counts_too(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    key = make("reader", "sessions:read")
    ring = ring_of(data_dir)
    before = keys_file(data_dir).stat().st_mtime_ns
    keys_file(data_dir).write_text(keys_file(data_dir).read_text().replace('"reader"', '"viewer"'))
    os.utime(keys_file(data_dir), ns=(before, before))
    mock_clock.jump(1)
    principal = ring.find(key)
    assert principal is not None
    assert principal.name == "viewer"


async def test_the_environments_key_survives_a_change_of_the_file(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    ring = ring_of(data_dir, environment_key=ENVIRONMENT_KEY)
    make("reader", "sessions:read")
    mock_clock.jump(1)
    assert ring.find(ENVIRONMENT_KEY) is not None


async def test_the_file_is_looked_at_twice_a_second_at_most(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    key = make("reader", "sessions:read")
    ring = ring_of(data_dir)
    revoke_key(data_dir, "reader")
    mock_clock.jump(0.4)
    assert ring.find(key) is not None
    mock_clock.jump(0.2)
    assert ring.find(key) is None


async def test_who_was_let_in_is_in_force_while_key_and_scopes_are_the_same(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    ring = ring_of(data_dir)
    narrowed, kept = make("narrowed", "sessions:read"), make("kept", "sessions:write")
    mock_clock.jump(1)
    first, second = ring.find(narrowed), ring.find(kept)
    assert first is not None
    assert second is not None
    keys_file(data_dir).write_text(keys_file(data_dir).read_text().replace(":read", ":health"))
    mock_clock.jump(1)
    assert not ring.in_force(first)
    assert ring.in_force(second)


async def test_a_session_token_stays_in_force_whatever_becomes_of_the_keys(data_dir: Path) -> None:
    ring = ring_of(data_dir, environment_key=ENVIRONMENT_KEY)
    principal = ring.find(ENVIRONMENT_KEY)
    assert principal is not None
    assert ring.in_force(principal._replace(id="a-session", session_id="a-session"))


@pytest.mark.parametrize("fault", ["broken", "unreadable"])
async def test_a_file_that_went_bad_keeps_the_last_good_keys_and_is_told_of_once(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock, fault: str
) -> None:
    key = make("reader", "sessions:read")
    warnings: list[str] = []
    ring = ring_of(data_dir, warnings)
    good = keys_file(data_dir).read_bytes()
    keys_file(data_dir).unlink()
    if fault == "broken":
        keys_file(data_dir).write_bytes(good[:-10])
    else:
        keys_file(data_dir).mkdir()  # a directory cannot be read as a file, not even by root
    for _ in range(5):
        mock_clock.jump(1)
        assert ring.find(key) is not None
    (warning,) = warnings
    assert re.fullmatch(r"The API keys stay as they were: [^\n]*keys\.json[^\n]*", warning)
    assert key not in warning


async def test_a_file_that_was_mended_counts_again(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    key = make("reader", "sessions:read")
    warnings: list[str] = []
    ring = ring_of(data_dir, warnings)
    keys_file(data_dir).write_text("{")
    mock_clock.jump(1)
    assert ring.find(key) is not None
    keys_file(data_dir).write_text('{"keys": []}')
    mock_clock.jump(1)
    assert ring.find(key) is None
    assert len(warnings) == 1


async def test_a_deleted_file_holds_no_keys(
    data_dir: Path, make: Callable[..., str], mock_clock: MockClock
) -> None:
    key = make("reader", "sessions:read")
    ring = ring_of(data_dir)
    keys_file(data_dir).unlink()
    mock_clock.jump(1)
    assert ring.find(key) is None


async def test_a_server_does_not_start_on_a_broken_file(data_dir: Path) -> None:
    keys_file(data_dir).write_text("{")
    with pytest.raises(KeysError, match=r"keys\.json is broken"):
        ring_of(data_dir)


async def test_neither_the_ring_nor_a_principal_shows_a_key(data_dir: Path, make: Callable[..., str]) -> None:
    key = make("reader", "sessions:read")
    ring = ring_of(data_dir, environment_key=ENVIRONMENT_KEY)
    shown = f"{ring!r} {vars(ring)} {ring.find(key)!r} {ring.find(ENVIRONMENT_KEY)!r}"
    assert key not in shown
    assert ENVIRONMENT_KEY not in shown
