"""API keys: making, listing, revoking, and the one that serve makes (spec section 6)."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.server.ops.key_files import NOW, TODAY, mode
from vigil.server.api.auth import SCOPES
from vigil.server.ops.keys import (
    KeysError,
    clear_key_file,
    ensure_default_key,
    has_clear_key,
    keys_file,
    new_key,
    read_keys,
    revoke_key,
)
from vigil.server.ops.keys_table import keys_table

pytestmark = pytest.mark.usefixtures("loose_umask")


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
from datetime import date
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
