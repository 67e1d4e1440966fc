"""The front door: where to listen, with which certificate, and how to stop.

It knows TLS and the order of a start and a shutdown. It refuses to know how an address becomes a socket
(`server.http.addresses`), what is said on a connection (`server.http.connection`, `server.http.protocols`) and what
is served: behind it is any ASGI app.
"""

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import ASGIFramework
from hypercorn.utils import LifespanTimeoutError

from vigil.server.http.addresses import Door, ListenError, close_doors, open_doors
from vigil.server.http.budget import Traffic
from vigil.server.http.connection import Server, Serving
from vigil.server.http.protocols import DEFAULTS, Limits
from vigil.server.http.tls_wire import Stream, Wire

_log = structlog.get_logger()

_ACCEPT_PAUSE_S = 0.02
_FAREWELL_TURNS = 8  # in which the tasks end whose sockets were closed
_ACCEPTS_MAX = 128  # in one turn of the loop


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen. Port 0 takes a free port; certificate and key are PEM files and come together.

    `umask` is that of socket files; None is that of the process.
    """

    hosts: tuple[str, ...] = ("127.0.0.1",)
    port: int = 3000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    umask: int | None = None


class BadCertificate(ListenError):
    """The certificate and its key cannot be used."""

    example = """\
-----BEGIN CERTIFICATE-----  in one file,  -----BEGIN PRIVATE KEY-----  in the other.
For a try on this machine:
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \\
  -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \\
  -keyout key.pem -out cert.pem"""


async def listen(
    app: ASGIFramework,
    endpoint: Endpoint,
    *,
    shutdown: trio.Event,
    limits: Limits = DEFAULTS,
    first: Callable[[Server, Stream], Serving] | None = None,
    traffic: Traffic | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `shutdown`; started with the bound URLs once they accept. Spec section 10.

    At shutdown nothing more is accepted, idle connections close, what is under way gets `grace_s` to finish,
    the rest is cut. The app sends its WebSockets 1001 itself. Raises ListenError before the app has started.
    `first` reads each connection before the app's protocols do (`server.front.fast_path`). `traffic` has the bounds
    over all connections, and counts them.
    """
    context = tls_context(endpoint)
    doors = await open_doors(endpoint.hosts, endpoint.port, endpoint.umask)
    urls = [door.url(secure=context is not None) for door in doors]
    server = Server(app, limits, first, traffic)
    lifespan = Lifespan(server.app, server.config, server.state)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            await _serve(server, doors, context, shutdown, lambda: task_status.started(urls))
            await _end_lifespan(lifespan)
            nursery.cancel_scope.cancel()
    finally:
        close_doors(doors)


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """TLS 1.2 or newer that offers HTTP/2; None for a plain endpoint. Raises ListenError."""
    cert, key = endpoint.tls_cert, endpoint.tls_key
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ListenError("TLS needs a certificate and its key: set both or neither")
    for path in (cert, key):
        _check_readable(path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= (
        ssl.OP_NO_RENEGOTIATION
    )  # in TLS 1.2 a client could ask for one handshake after another
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        # Without a password here OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        raise BadCertificate(_TLS_WHY.get(error.reason, _TLS_UNUSABLE).format(cert=cert, key=key)) from error
    return context


_TLS_UNUSABLE = "{cert} and {key} are not a certificate and its key in PEM without a passphrase"
_TLS_WHY = {"KEY_VALUES_MISMATCH": "{key} is not the key of the certificate {cert}"}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_LEFT = {errno.ECONNABORTED, errno.EPROTO, errno.EPERM}  # before it was accepted


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ListenError(f"cannot read {path}: {error.strerror}") from error


async def _serve(
    server: Server,
    doors: list[Door],
    context: ssl.SSLContext | None,
    shutdown: trio.Event,
    started: Callable[[], None],
) -> None:
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as accepting:
                for door in doors:
                    accepting.start_soon(_accept, server, door.listener, context, connections)
                accepting.start_soon(server.close_idle)
                started()
                await shutdown.wait()
                accepting.cancel_scope.cancel()
            close_doors(doors)
            await server.drain()
        finally:
            # Sends are shielded: without the cut, a cancelled server would wait for its slowest reader.
            server.cut()
            connections.cancel_scope.cancel()


async def _accept(
    server: Server, listener: trio.SocketListener, context: ssl.SSLContext | None, connections: trio.Nursery
) -> None:
    """Accept whoever waits at the door, many in a turn: else clients that come at once come one after another."""
    door = socket.socket(fileno=listener.socket.fileno())
    door.setblocking(False)
    try:
        while True:
            await trio.lowlevel.wait_readable(door)
            await _make_room(server, server.traffic.wanted_room())
            try:
                for client in _who_waits(door, server.traffic.room):
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(client))
                    connections.start_soon(server.serve_connection, _secured(server, stream, context))
            except OSError as error:
                await _bear(error, door, server)
    finally:
        door.detach()


def _who_waits(door: socket.socket, room: int) -> Iterator[socket.socket]:
    """Some of them, accepted. Raises OSError."""
    with suppress(BlockingIOError):
        for _ in range(min(_ACCEPTS_MAX, room)):
            yield door.accept()[0]


async def _bear(error: OSError, door: socket.socket, server: Server) -> None:
    """One could not be accepted. Raises what no waiting mends."""
    if error.errno in _NO_DESCRIPTORS:
        # The kernel wants a descriptor before it looks whether anybody waits at the door.
        await trio.lowlevel.wait_readable(door)
        await _make_room(server, server.traffic.a_few)
    elif error.errno not in _LEFT:
        raise error


async def _make_room(server: Server, wanted: int) -> None:
    """Close so many that are idle, in one go. Without any, come back when somebody may have left."""
    if wanted and not server.shed(wanted):
        server.traffic.is_full(
            "cannot accept: all connections are in use; raise the descriptor limit (ulimit -n)"
        )
        await trio.sleep(_ACCEPT_PAUSE_S)
    for _ in range(_FAREWELL_TURNS if wanted else 0):
        await trio.lowlevel.checkpoint()


def _secured(server: Server, stream: trio.SocketStream, context: ssl.SSLContext | None) -> Stream:
    if context is None:
        return stream
    wire = Wire(stream, server.traffic)
    return trio.SSLStream(wire, context, server_side=True, https_compatible=True)


async def _end_lifespan(lifespan: Lifespan) -> None:
    try:
        await lifespan.wait_for_shutdown()
    except LifespanTimeoutError:
        _log.error("the app did not finish its own shutdown in time")
