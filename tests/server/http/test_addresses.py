"""Where a server listens: names, both families, several addresses, socket files; and what it leaves behind."""

import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.process import KEY, ServerProcess, running_server
from tests.server.raw import TIMEOUT_S
from vigil.server.http.addresses import Door, ListenError, close_doors, open_doors


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="this machine does not speak IPv6")


async def refused(*hosts: str, port: int = 0) -> str:
    """The one line of why nobody can listen there."""
    with pytest.raises(ListenError) as error:
        close_doors(await open_doors(hosts, port))
    assert "\n" not in str(error.value)
    return str(error.value)


async def addresses(*hosts: str) -> Sequence[str]:
    doors = await open_doors(hosts, 0)
    close_doors(doors)
    return [door.address.rpartition(":")[0] for door in doors]


def answers(family: socket.AddressFamily, address: object) -> bool:
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


# --- names and addresses


@IPV6
async def test_two_colons_are_every_interface_of_both_families_at_one_port() -> None:
    doors = await open_doors(["::"], 0)
    port = int(doors[0].address.rpartition(":")[2])
    assert [door.address for door in doors] == [f"[::]:{port}", f"0.0.0.0:{port}"]
    assert answers(socket.AF_INET, ("127.0.0.1", port))
    assert answers(socket.AF_INET6, ("::1", port))
    close_doors(doors)


async def test_several_hosts_share_the_one_port_that_was_free() -> None:
    doors = await open_doors(["127.0.0.1", "127.0.0.2"], 0)
    urls = [door.url(secure=False) for door in doors]
    close_doors(doors)
    port = urls[0].rpartition(":")[2]
    assert urls == [f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}"]


async def test_an_address_that_is_named_twice_is_listened_on_once() -> None:
    assert "127.0.0.1" in await addresses("localhost", "127.0.0.1")
    assert await addresses("127.0.0.1", "127.0.0.1") == ["127.0.0.1"]


async def test_when_one_host_cannot_be_had_none_is_listened_on(tmp_path: Path) -> None:
    file = tmp_path / "vigil.sock"
    assert await refused(f"unix:{file}", "192.0.2.1") == "192.0.2.1 is not an address of this machine"
    assert not file.exists()


async def test_a_host_of_which_one_address_is_not_here_is_listened_on_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(_host: str, _port: int) -> Sequence[str]:
        return ["192.0.2.1", "127.0.0.1"]

    monkeypatch.setattr("vigil.server.http.addresses._addresses", both)
    assert await addresses("chat.example") == ["127.0.0.1"]


# --- socket files


async def test_a_socket_file_is_there_while_somebody_listens_and_has_what_the_umask_leaves(
    tmp_path: Path,
) -> None:
    file = tmp_path / "vigil.sock"
    before = os.umask(0o077)
    try:
        (door,) = await open_doors([f"unix:{file}"], 3000)
    finally:
        os.umask(before)
    assert door.url(secure=False) == f"unix:{file}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o700
    assert answers(socket.AF_UNIX, str(file))
    door.close()
    assert not file.exists()


async def test_a_socket_file_on_which_nobody_answers_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "vigil.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(file))
    (door,) = await open_doors([f"unix:{file}"], 0)
    assert answers(socket.AF_UNIX, str(file))
    door.close()


async def test_a_socket_file_on_which_a_server_answers_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "vigil.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(file))
        other.listen(0)
        assert (
            await refused(f"unix:{file}")
            == f"a server answers on {file} already: stop it, or choose another path"
        )
        with socket.socket(socket.AF_UNIX) as waiting:  # a full queue is an answer too
            waiting.setblocking(False)
            waiting.connect_ex(str(file))
            assert "answers" in await refused(f"unix:{file}")
    assert file.is_socket()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "precious.txt"
    file.write_text("precious")
    assert (await refused(f"unix:{file}")).endswith("is there already and is no socket: choose another path")
    assert file.read_text() == "precious"


async def test_a_socket_file_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    assert "there is no such directory" in await refused(f"unix:{tmp_path}/nowhere/vigil.sock")
    assert "107 bytes are the most" in await refused(f"unix:/{'x' * 107}")


async def test_the_socket_file_of_the_next_server_is_not_removed(tmp_path: Path) -> None:
    file = tmp_path / "vigil.sock"
    old = await open_at(file)
    file.unlink()
    new = await open_at(file)
    old.close()
    assert answers(socket.AF_UNIX, str(file))
    new.close()
    assert not file.exists()


async def open_at(file: Path) -> Door:
    (door,) = await open_doors([f"unix:{file}"], 0)
    return door


@pytest.mark.parametrize("front", ["hot", "quart"])
def test_every_address_of_a_server_answers_the_line_that_it_prints_for_it(tmp_path: Path, front: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    file = tmp_path / "vigil.sock"
    hosts = ["--host=127.0.0.1", f"--host=unix:{file}", *(["--host=[::1]"] if has_ipv6() else [])]
    flags = [*hosts, "--root-path=/chat", f"--front={front}", "--log-level=error"]
    with running_server(tmp_path / "data", *flags) as server:
        lines = [printed(server) for _ in hosts]
        assert [f"--unix-socket {file} " in line for line in lines] == [
            False,
            True,
            *([False] * (len(hosts) - 2)),
        ]
        for line in lines:
            done = subprocess.run(
                ["/bin/sh", "-c", f"{line} -s -o /dev/null -w '%{{http_code}}'"],
                env={"PATH": os.environ["PATH"], "VIGIL_API_KEY": KEY},
                capture_output=True,
                text=True,
                check=True,
                timeout=TIMEOUT_S,
            )
            assert done.stdout == "201", line
        assert server.stop(signal.SIGTERM) == 0
    assert not file.exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o755), (0o007, 0o770)])
def test_a_socket_file_of_vigil_serve_has_what_the_umask_leaves_and_its_data_are_private_all_the_same(
    tmp_path: Path, umask: int, mode: int
) -> None:
    file, data = tmp_path / "vigil.sock", tmp_path / "data"
    before = os.umask(umask)
    try:
        with running_server(data, f"--host=unix:{file}", "--log-level=error") as server:
            assert stat.S_IMODE(file.stat().st_mode) == mode
            assert {stat.S_IMODE(kept.stat().st_mode) for kept in data.iterdir()} == {0o600}
            assert server.stop(signal.SIGTERM) == 0
    finally:
        os.umask(before)


def printed(server: ServerProcess) -> str:
    """The next line to try."""
    while not (line := server.stdout.readline()).startswith("  curl "):
        assert line
    return line.strip()
