"""The front door: where to listen, with which certificate, and how to stop.

It knows addresses, TLS and the order of a start and a shutdown. It refuses to know what is said on a
connection (`server.connection`, `server.protocols`) and what is served: behind it is any ASGI app.
"""

import errno
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path

import structlog
import trio
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import ASGIFramework
from hypercorn.utils import LifespanTimeoutError

from server.connection import Server, Serving, Stream
from server.protocols import DEFAULTS, Limits

_log = structlog.get_logger()

_ACCEPT_PAUSE_S = 0.02
_LOG_FULL_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen. Port 0 takes a free port; certificate and key are PEM files and come together."""

    host: str = "127.0.0.1"
    port: int = 3000
    tls_cert: Path | None = None
    tls_key: Path | None = None


class ListenError(Exception):
    """The endpoint cannot be served. The text is one line for whoever started the server."""


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
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `shutdown`; started with the bound URLs once they accept. Spec section 10.

    At shutdown nothing more is accepted, idle connections close, what is under way gets `grace_s` to finish,
    the rest is cut. The app sends its WebSockets 1001 itself. Raises ListenError before the app has started.
    `first` reads each connection before the app's protocols do (`server.hotpath`).
    """
    context = tls_context(endpoint)
    listeners = await _bind(endpoint)
    urls = [_url(listener, secure=context is not None) for listener in listeners]
    server = Server(app, limits, first)
    lifespan = Lifespan(server.app, server.config, server.state)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            await _serve(server, listeners, context, shutdown, lambda: task_status.started(urls))
            await _end_lifespan(lifespan)
            nursery.cancel_scope.cancel()
    finally:
        _close(listeners)


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
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        # Without a password here OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        raise BadCertificate(_TLS_WHY.get(error.reason, _TLS_UNUSABLE).format(cert=cert, key=key)) from error
    return context


_BIND_WHY = {
    errno.EADDRINUSE: "port {port} on {host} is taken: stop what listens there, or choose another port",
    errno.EACCES: "no permission to listen on port {port}: choose one above 1023",
    errno.EADDRNOTAVAIL: "{host} is not an address of this machine",
}
_TLS_UNUSABLE = "{cert} and {key} are not a certificate and its key in PEM without a passphrase"
_TLS_WHY = {"KEY_VALUES_MISMATCH": "{key} is not the key of the certificate {cert}"}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ListenError(f"cannot read {path}: {error.strerror}") from error


async def _bind(endpoint: Endpoint) -> list[trio.SocketListener]:
    host, port = endpoint.host, endpoint.port
    if port not in range(65536):  # the resolver would cut it down to 16 bits
        raise ListenError(f"port {port} is not between 0 and 65535")
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except socket.gaierror as error:
        raise ListenError(f"no address is known for the host {host!r}") from error
    except (OSError, UnicodeError) as error:
        why = _BIND_WHY.get(getattr(error, "errno", 0), f"cannot listen on {host} port {port}: {error}")
        raise ListenError(why.format(host=host, port=port)) from error


def _url(listener: trio.SocketListener, *, secure: bool) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


async def _serve(
    server: Server,
    listeners: list[trio.SocketListener],
    context: ssl.SSLContext | None,
    shutdown: trio.Event,
    started: Callable[[], None],
) -> None:
    async with trio.open_nursery() as connections:
        try:
            async with trio.open_nursery() as doors:
                for listener in listeners:
                    doors.start_soon(_accept, server, listener, context, connections)
                doors.start_soon(server.close_idle)
                started()
                await shutdown.wait()
                doors.cancel_scope.cancel()
            _close(listeners)
            await server.drain()
        finally:
            # Sends are shielded: without the cut, a cancelled server would wait for its slowest reader.
            server.cut()
            connections.cancel_scope.cancel()


async def _accept(
    server: Server, listener: trio.SocketListener, context: ssl.SSLContext | None, connections: trio.Nursery
) -> None:
    quiet_until = -inf
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
            # The kernel wants a descriptor before it looks whether anybody waits at the door.
            await trio.lowlevel.wait_readable(listener.socket)
            if trio.current_time() >= quiet_until:
                quiet_until = trio.current_time() + _LOG_FULL_EVERY_S
                _log.error("cannot accept", error=repr(error), connections=len(server.connections))
            server.shed()
            await trio.sleep(_ACCEPT_PAUSE_S)
        else:
            connections.start_soon(server.serve_connection, _secured(stream, context))


def _secured(stream: trio.SocketStream, context: ssl.SSLContext | None) -> Stream:
    return trio.SSLStream(stream, context, server_side=True, https_compatible=True) if context else stream


async def _end_lifespan(lifespan: Lifespan) -> None:
    try:
        await lifespan.wait_for_shutdown()
    except LifespanTimeoutError:
        _log.error("the app did not finish its own shutdown in time")
