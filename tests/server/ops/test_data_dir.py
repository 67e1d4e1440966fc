"""The data directory: private, whole after a crash, one writer at a time (spec section 6)."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.ops.key_files import mode
from vigil.server.ops.data_dir import (
    DataDirError,
    locked,
    open_data_dir,
    read_file,
    session_secret,
    write_file,
)

pytestmark = pytest.mark.usefixtures("loose_umask")


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
