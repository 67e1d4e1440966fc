"""Where to listen: names, addresses and paths become listening sockets, and are given back at the end.

It knows addresses and socket files. It refuses to know what is said on a connection, and TLS.
"""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog
import trio

from vigil.actors.core.errors import VigilError

UNIX = "unix:"  # what the path of a socket file stands behind

_BACKLOG = 65_535  # the system cuts it down to what it allows
_PATH_BYTES_MAX = 107
_BOTH_FAMILIES = {"::": ("::", "0.0.0.0")}  # noqa: S104  an IPv6 socket of Trio's takes IPv6 alone
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}  # a family that the machine does not speak

_log = structlog.get_logger()


class ListenError(VigilError):
    """An address cannot be served. The text is one line for whoever started the server."""


class Door(NamedTuple):
    """A listening socket. `address` is HOST:PORT or unix:PATH; `file` tells which socket file is its own."""

    listener: trio.SocketListener
    address: str
    file: os.stat_result | None = None

    def url(self, *, secure: bool) -> str:
        """Its URL; of a socket file, which has none, the address."""
        if self.file is not None:
            return self.address
        return f"{'https' if secure else 'http'}://{self.address}"

    def close(self) -> None:
        """Listen no more. The socket file goes, unless it is another server's by now."""
        self.listener.socket.close()
        if self.file is not None:
            path = self.address.removeprefix(UNIX)
            with suppress(OSError):
                if os.path.samestat(os.lstat(path), self.file):
                    os.unlink(path)


async def open_doors(hosts: Sequence[str], port: int, umask: int | None = None) -> list[Door]:
    """Listen on each of `hosts`: a name, an address, or unix:PATH. Port 0 takes one free port for all of them.

    `umask` is what socket files have their access from, if that is not the umask of the process.

    Raises ListenError, and then listens nowhere.
    """
    if port not in range(65536):  # the resolver would cut it down to 16 bits
        raise ListenError(f"port {port} is not between 0 and 65535")
    doors: list[Door] = []
    try:
        for host in hosts:
            await _open(host, port, umask, doors)
    except BaseException:
        close_doors(doors)
        raise
    return doors


def close_doors(doors: Sequence[Door]) -> None:
    for door in doors:
        door.close()


async def _open(host: str, port: int, umask: int | None, doors: list[Door]) -> None:
    """Add the doors of one host."""
    if host.startswith(UNIX):
        doors.append(_unix_door(host.removeprefix(UNIX), umask))
        return
    addresses = await _addresses(host, port)
    failures = [failure for address in addresses if (failure := await _open_tcp(address, port, doors))]
    if len(failures) == len(addresses) or any(failure.errno not in _NOT_HERE for failure in failures):
        raise _refused(host, port, failures[0])
    for failure in failures:
        _log.warning("one of the host's addresses is not served", host=host, error=str(failure))


async def _addresses(host: str, port: int) -> Sequence[str]:
    if host in _BOTH_FAMILIES:
        return _BOTH_FAMILIES[host]
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(f"no address is known for the host {host!r}") from error
    except UnicodeError as error:
        raise _refused(host, port, error) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _open_tcp(address: str, port: int, doors: list[Door]) -> OSError | None:
    """Add the door of an address, unless it is open already. Gives why it cannot be had."""
    open_ones = [door.listener.socket.getsockname()[:2] for door in doors if door.file is None]
    if any(known == address for known, _ in open_ones):
        return None
    try:
        (listener,) = await trio.open_tcp_listeners(
            port or (open_ones[0][1] if open_ones else 0), host=address
        )
    except OSError as error:
        return error
    known, taken = listener.socket.getsockname()[:2]
    doors.append(Door(listener, f"[{known}]:{taken}" if ":" in known else f"{known}:{taken}"))
    return None


_TCP_WHY = {
    errno.EADDRINUSE: "port {port} on {host} is taken: stop what listens there, or choose another port",
    errno.EACCES: "no permission to listen on port {port}: choose one above 1023",
    errno.EADDRNOTAVAIL: "{host} is not an address of this machine",
    errno.EAFNOSUPPORT: "{host} is of a kind of address that this machine does not speak",
}


def _refused(host: str, port: int, error: Exception) -> ListenError:
    why = _TCP_WHY.get(getattr(error, "errno", 0), f"cannot listen on {host} port {port}: {error}")
    return ListenError(why.format(host=host, port=port))


# --- socket files


def _unix_door(path: str, umask: int | None) -> Door:
    """A socket file with the access that the umask leaves it."""
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise ListenError(f"{path} is too long for a socket file: {_PATH_BYTES_MAX} bytes are the most")
    sock = socket.socket(socket.AF_UNIX)
    try:
        _make_way(path)
        sock.bind(path)
        if umask is not None:
            os.chmod(path, 0o777 & ~umask)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        return Door(listener, f"{UNIX}{path}", os.lstat(path))
    except OSError as error:
        sock.close()
        why = _UNIX_WHY.get(error.errno or 0, f"cannot listen on {UNIX}{path}: {error}")
        raise ListenError(why.format(path=path)) from error
    except BaseException:
        sock.close()
        raise


_UNIX_WHY = {
    errno.ENOENT: "cannot make {path}: there is no such directory; make it first",
    errno.EACCES: "no permission to make {path}: choose a directory that you may write to",
    errno.EADDRINUSE: "another server has just made {path}: stop it, or choose another path",
}


def _make_way(path: str) -> None:
    """Remove a socket file on which nobody answers: what a crash has left."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{path} is there already and is no socket: choose another path")
    if _somebody_answers(path):
        raise ListenError(f"a server answers on {path} already: stop it, or choose another path")
    os.unlink(path)


def _somebody_answers(path: str) -> bool:
    """Whoever cannot be asked counts as somebody."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED
