"""One person's connection: a request out, an answer back, and the instants of both.

Leaner than Locust's own HTTP clients, and it never sends anything twice: a repeat behind the oracle's back would be
a request that nobody counted. Knows HTTP/1.1 and gevent; knows nothing of Locust, limits or what the bytes mean.
"""

from typing import NamedTuple

from gevent import socket, ssl
from geventhttpclient.response import HTTPParseError, HTTPSocketResponse

from vigil.loadtests.people.pacing import Clock
from vigil.loadtests.runner.options import Target

TIMEOUT_S = 30.0
IDLE_S_MAX = 50.0  # servers close idle connections; ours after 75 s
QUIET_S_MAX = 1.0  # after so long a look tells whether the server has hung up

_READ_BYTES = 65_536


class Answer(NamedTuple):
    """What came back; status 0 and the reason in `error` when nothing did. Instants are of the clock given."""

    sent_s: float
    received_s: float | None
    status: int
    body: bytes = b""
    rate_limit: str = ""
    policy: str = ""
    retry_after: str = ""
    error: str = ""


class Connection:
    """Kept alive, opened when it is needed, one request at a time."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._socket: socket.socket | None = None
        self._used_s = 0.0
        self.sent_s: float | None = None  # of a request under way

    def request(self, method: str, head: bytes, body: bytes) -> Answer:
        """Send one request, whose head ends in front of `Content-Length`. A failure is an answer with status 0."""
        sent_s = self._clock()
        try:
            connection = self._ready()
            sent_s = self.sent_s = self._clock()
            connection.sendall(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
            answer = self._read(connection, method, sent_s)
        except (OSError, HTTPParseError) as error:
            self.close()
            answer = Answer(sent_s, None, 0, error=f"no answer: {type(error).__name__}: {error}")
        except BaseException:
            self.close()  # its person was stopped: the answer still to come is nobody's
            raise
        self.sent_s = None
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ready(self) -> socket.socket:
        if self._socket is not None and self._is_stale(self._socket):
            self.close()
        if self._socket is None:
            self._socket = connect(self._target)
        return self._socket

    def _is_stale(self, connection: socket.socket) -> bool:
        quiet_s = self._clock() - self._used_s
        if quiet_s < QUIET_S_MAX:
            return False
        return quiet_s > IDLE_S_MAX or (not self._target.tls and _has_hung_up(connection))

    def _read(self, connection: socket.socket, method: str, sent_s: float) -> Answer:
        response = HTTPSocketResponse(connection, _READ_BYTES, method)  # reads up to the end of the headers
        received_s = self._clock()
        body = response.read()
        self._used_s = self._clock()
        if response.should_close():
            self.close()
        return _answer(response, body, sent_s, received_s)


def connect(target: Target) -> socket.socket:
    """A socket to the target, with TLS where its URL says so; certificates are not checked, as in Locust."""
    connection = socket.create_connection((target.host, target.port), TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not target.tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=target.host)


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether the server has closed: its end of stream can be read. Never waits."""
    connection.settimeout(0.0)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(TIMEOUT_S)


def _answer(response: HTTPSocketResponse, body: bytes, sent_s: float, received_s: float) -> Answer:
    header = response.info().get
    return Answer(
        sent_s,
        received_s,
        response.status_code,
        body,
        _text(header("ratelimit")),
        _text(header("ratelimit-policy")),
        _text(header("retry-after")),
    )


def _text(value: str | list[str] | None) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return value or ""
