"""The keys in force while a server runs."""

import os
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from vigil.server.api.auth import SCOPES
from vigil.server.ops.keys import (
    KeyRing,
    KeysError,
    keys_file,
    revoke_key,
)

ENVIRONMENT_KEY = "a-key-from-the-environment"


pytestmark = pytest.mark.usefixtures("loose_umask")


def ring_of(data_dir: Path, warnings: list[str] | None = None, environment_key: str | None = None) -> KeyRing:
    warn = (lambda _text: None) if warnings is None else warnings.append
    return KeyRing(data_dir, monotonic=trio.current_time, warn=warn, environment_key=environment_key)


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
