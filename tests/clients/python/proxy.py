"""A proxy that does harm: it cuts, delays, repeats and answers itself, one fault for each request that comes."""

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

Fault = Callable[["Proxy", bytes, socket.socket], None]


class Proxy:
    """Listens until it is closed. `faults` are taken one by one; without any it hands on. One request a connection."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self.target = (str(target.hostname), target.port or 80)
        self.faults: deque[Fault] = deque()
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self.is_closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.is_closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Every connection that is open now."""
        for connection in self._open[:]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def connect(self) -> socket.socket:
        server = socket.create_connection(self.target)
        self._open.append(server)
        return server

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = _request(client)
            if request:
                self.requests.append(request)
                fault = self.faults.popleft() if self.faults else hand_on
                fault(self, request, client)


@contextmanager
def running_proxy(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


def hand_on(proxy: Proxy, request: bytes, client: socket.socket) -> None:
    cut_behind(b"no answer has this in it: \x00\xff")(proxy, request, client)


def cut_at_once(_proxy: Proxy, _request: bytes, _client: socket.socket) -> None:
    """The server never hears of it."""


def lose_the_answer(proxy: Proxy, request: bytes, _client: socket.socket) -> None:
    """The server does it; the client never hears of it."""
    _whole_answer(proxy, request)


def repeat(proxy: Proxy, request: bytes, client: socket.socket) -> None:
    """The server gets it twice."""
    _whole_answer(proxy, request)
    hand_on(proxy, request, client)


def hold(proxy: Proxy, request: bytes, _client: socket.socket) -> None:
    """The server does it; the answer does not come for as long as the test takes."""
    _whole_answer(proxy, request)
    proxy.is_closed.wait(60)


def answer(status: str, *headers: str, body: str = "<html>no</html>") -> Fault:
    """The proxy's own."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    told = ("\r\n".join(head) + "\r\n\r\n" + body).encode()
    return lambda _proxy, _request, client: client.sendall(told)


def cut_behind(mark: bytes) -> Fault:
    """Hand the answer on as far as the mark."""

    def fault(proxy: Proxy, request: bytes, client: socket.socket) -> None:
        with proxy.connect() as server:
            server.sendall(request)
            threading.Thread(target=_pump, args=[client, server], daemon=True).start()
            seen = b""
            while data := server.recv(65_536):
                seen += data
                client.sendall(data)
                if mark in seen:
                    break
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    return fault


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)  # the server hears at once that the client has gone


def _whole_answer(proxy: Proxy, request: bytes) -> bytes:
    with proxy.connect() as server:
        server.sendall(request)
        told = b""
        while data := server.recv(65_536):
            told += data
        return told


def _request(client: socket.socket) -> bytes:
    """One whole request, asking the server to close behind it unless it asks for a WebSocket."""
    came = b""
    while b"\r\n\r\n" not in came:
        data = client.recv(65_536)
        if not data:
            return b""
        came += data
    head, _, body = came.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += client.recv(65_536)
    if b"websocket" not in head.lower():
        lines = [line for line in lines if not line.lower().startswith(b"connection:")] + [
            b"Connection: close"
        ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
