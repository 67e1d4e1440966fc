"""Keys that expire, keys and secrets that are made anew, and the ones before them, which are good for a while."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

from tests.process import BASE, KEY, running_server
from vigil import __main__ as vigil
from vigil.server.api.auth import Authenticator, Principal, Unauthenticated
from vigil.server.ops.data_dir import SECRETS_BEFORE, DataDirError, open_data_dir, session_secret
from vigil.server.ops.keys import (
    KeyRing,
    KeysError,
    ensure_default_key,
    has_clear_key,
    new_key,
    read_keys,
    rotate_key,
)
from vigil.server.ops.keys_table import keys_table
from vigil.server.ops.token_secrets import follow, rotate_secret, secrets_in_force

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Wall:
    """A clock on the wall that is moved by hand."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    open_data_dir(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def random_bytes() -> Callable[[int], bytes]:
    calls = count()
    return lambda size: sha256(str(next(calls)).encode()).digest()[:size]


Random = Callable[[int], bytes]


def made(data_dir: Path, random_bytes: Random, expires: datetime | None = None) -> str:
    created = NOW.date()
    scopes = ["sessions:read"]
    return new_key(data_dir, "reader", scopes, created=created, random_bytes=random_bytes, expires=expires)


def ring_of(data_dir: Path, wall: Wall) -> KeyRing:
    return KeyRing(data_dir, monotonic=trio.current_time, warn=print, now=wall.now)


# --- keys


async def test_a_key_is_good_until_it_expires_and_then_its_listeners_go(
    data_dir: Path, random_bytes: Random, wall: Wall, autojump_clock: MockClock
) -> None:
    key = made(data_dir, random_bytes, NOW + HOUR)
    ring = ring_of(data_dir, wall)
    reader = ring.find(key)
    assert reader is not None
    wall.time = NOW + HOUR - timedelta(milliseconds=1)
    await trio.sleep(1)
    assert ring.find(key) == reader
    wall.time = NOW + HOUR
    await trio.sleep(1)
    assert ring.find(key) is None
    assert not ring.in_force(reader)


async def test_both_are_good_for_a_while_after_a_rotation_and_are_the_same_caller(
    data_dir: Path, random_bytes: Random, wall: Wall, autojump_clock: MockClock
) -> None:
    old = made(data_dir, random_bytes)
    ring = ring_of(data_dir, wall)
    before = ring.find(old)
    new = rotate_key(data_dir, "reader", keep=HOUR, now=NOW, random_bytes=random_bytes)
    await trio.sleep(1)
    by_old, by_new = ring.find(old), ring.find(new)
    assert before is not None
    assert by_old == before
    assert by_new is not None
    assert (by_new.id, by_new.name, by_new.scopes) == before[:3]  # what it did once stays done once
    wall.time = NOW + HOUR
    await trio.sleep(1)
    assert (ring.find(old), ring.find(new)) == (None, by_new)
    assert not ring.in_force(before)
    assert ring.in_force(by_new)


async def test_a_rotation_that_keeps_nothing_ends_the_one_before_at_once(
    data_dir: Path, random_bytes: Random, wall: Wall
) -> None:
    old = made(data_dir, random_bytes)
    new = rotate_key(data_dir, "reader", keep=timedelta(0), now=NOW, random_bytes=random_bytes)
    ring = ring_of(data_dir, wall)
    assert ring.find(old) is None
    assert ring.find(new) is not None


async def test_a_later_rotation_does_not_lengthen_the_life_of_the_first(
    data_dir: Path, random_bytes: Random, wall: Wall
) -> None:
    first = made(data_dir, random_bytes)
    second = rotate_key(data_dir, "reader", keep=HOUR, now=NOW, random_bytes=random_bytes)
    third = rotate_key(data_dir, "reader", keep=5 * HOUR, now=NOW, random_bytes=random_bytes)
    wall.time = NOW + 2 * HOUR
    ring = ring_of(data_dir, wall)
    assert ring.find(first) is None
    assert ring.find(second) is not None
    assert ring.find(third) is not None


def test_a_key_that_has_expired_is_rotated_only_with_a_new_expiry(
    data_dir: Path, random_bytes: Random
) -> None:
    made(data_dir, random_bytes, NOW)
    with pytest.raises(KeysError, match=r"has expired.*--expires 90d"):
        rotate_key(data_dir, "reader", keep=HOUR, now=NOW, random_bytes=random_bytes)
    rotate_key(
        data_dir, "reader", keep=HOUR, now=NOW, random_bytes=random_bytes, expires=NOW + timedelta(days=90)
    )
    (key,) = read_keys(data_dir)
    assert key.expires == NOW + timedelta(days=90)
    assert key.before == ()


def test_the_list_says_what_expires_and_until_when_the_one_before_is_good(
    data_dir: Path, random_bytes: Random
) -> None:
    made(data_dir, random_bytes, NOW + 2 * HOUR)
    rotate_key(data_dir, "reader", keep=HOUR, now=NOW, random_bytes=random_bytes)
    assert "2026-11-22 11:00Z (the one before: 2026-11-22 10:00Z)" in keys_table(data_dir, NOW)
    assert "2026-11-22  2026-11-22 11:00Z\n" in keys_table(data_dir, NOW + HOUR) + "\n"
    assert "has expired" in keys_table(data_dir, NOW + 2 * HOUR)


def test_a_file_of_keys_without_the_new_fields_stays_as_it_was(data_dir: Path, random_bytes: Random) -> None:
    made(data_dir, random_bytes)
    (key,) = json.loads((data_dir / "keys.json").read_text())["keys"]
    assert set(key) == {"name", "scopes", "sha256", "created"}


def test_the_key_in_clear_follows_a_rotation_of_the_servers_own_key(
    data_dir: Path, random_bytes: Random
) -> None:
    ensure_default_key(data_dir, created=NOW.date(), random_bytes=random_bytes)
    new = rotate_key(data_dir, "default", keep=HOUR, now=NOW, random_bytes=random_bytes)
    assert (data_dir / "api-key").read_text().strip() == new
    assert has_clear_key(data_dir)


@pytest.mark.parametrize(
    ("name", "hint"), [("raeder", "did you mean reader"), ("VIGIL_API_KEY", "environment")]
)
def test_a_key_that_is_not_there_cannot_be_rotated(
    name: str, hint: str, data_dir: Path, random_bytes: Random
) -> None:
    made(data_dir, random_bytes)
    with pytest.raises(KeysError, match=hint):
        rotate_key(data_dir, name, keep=HOUR, now=NOW, random_bytes=random_bytes)


# --- the token secret


def nobody(_key: str) -> Principal | None:
    return None


def test_tokens_of_before_are_good_for_as_long_as_was_said(data_dir: Path, random_bytes: Random) -> None:
    auth = Authenticator(nobody, session_secret(data_dir, random_bytes))
    old = auth.mint("a")
    until = rotate_secret(data_dir, keep=HOUR, now=NOW, random_bytes=random_bytes)
    assert until == NOW + HOUR
    auth.use_secrets(*secrets_in_force(data_dir, NOW))
    new = auth.mint("a")
    assert new != old
    assert auth.authenticate(f"Bearer {old}") == auth.authenticate(f"Bearer {new}")
    auth.use_secrets(*secrets_in_force(data_dir, until))
    assert auth.authenticate(f"Bearer {new}").session_id == "a"
    with pytest.raises(Unauthenticated):
        auth.authenticate(f"Bearer {old}")


def test_a_secret_that_leaked_can_be_ended_at_once(data_dir: Path, random_bytes: Random) -> None:
    session_secret(data_dir, random_bytes)
    rotate_secret(data_dir, keep=HOUR, now=NOW, random_bytes=random_bytes)
    rotate_secret(data_dir, keep=timedelta(0), now=NOW, random_bytes=random_bytes)
    assert len(secrets_in_force(data_dir, NOW)) == 1


async def test_a_broken_file_leaves_the_secrets_as_they_were_and_warns_once(
    data_dir: Path, random_bytes: Random, autojump_clock: MockClock
) -> None:
    session_secret(data_dir, random_bytes)
    used: list[tuple[bytes, ...]] = []
    warnings: list[str] = []
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await follow(data_dir, lambda *all_: used.append(all_), warn=warnings.append, now=Wall().now)

        nursery.start_soon(run)
        await trio.sleep(2)
        (data_dir / SECRETS_BEFORE).write_text("{")
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert len(used) == 1
    assert len(warnings) == 1
    assert "is broken" in warnings[0]
    with pytest.raises(DataDirError, match="Restore it from a backup, or delete it"):
        secrets_in_force(data_dir, NOW)


def test_a_running_server_takes_a_rotated_secret_and_key_within_moments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path / "data"

    def keys(*words: str) -> str:
        assert vigil.main(["keys", *words, "--data-dir", str(data_dir)]) == 0
        return capsys.readouterr().out.strip()

    with running_server(data_dir) as server, httpx.Client(base_url=server.url) as http:
        old_key = keys("new", "app", "--scope", "sessions:create", "--expires", "90d")
        new_key_ = keys("rotate", "app")

        def create(key: str) -> httpx.Response:
            body = {"agentId": "agent-123", "userId": "u"}
            return http.post(BASE, json=body, headers={"X-API-KEY": key, "Idempotency-Key": "once"})

        def look(token: str) -> int:
            path = f"{BASE}/{token.partition('.')[0]}"
            return http.get(path, headers={"X-API-KEY": token}).status_code

        http.get("/livez")
        first = eventually(lambda: create(old_key), 201).json()
        assert eventually(lambda: create(new_key_), 201).json()["sessionId"] == first["sessionId"]
        old_token = first["sessionToken"]
        assert "are good until" in keys("rotate-secret", "--keep", "1h")
        eventually_true(lambda: create(new_key_).json()["sessionToken"] != old_token)
        assert look(old_token) == 200
        keys("rotate-secret", "--keep", "0m")
        eventually_true(lambda: look(old_token) == 401)
        assert http.get(BASE, headers={"X-API-KEY": KEY}).json()["total"] == 1


def eventually(ask: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """The server looks at its files twice a second; the test's timeout bounds this."""
    while True:
        answer = ask()
        if answer.status_code == status:
            return answer


def eventually_true(holds: Callable[[], bool]) -> None:
    while not holds():
        pass
