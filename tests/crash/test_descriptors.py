"""Few descriptors: a real server under `ulimit -n`, so that what it keeps for itself is counted too."""

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.process import BASE, KEY, NO_LIMITS, ServerProcess

LIMIT = 128
UNDER_LIMIT = ("sh", "-c", f'ulimit -n {LIMIT}; exec "$0" -m vigil "$@"', sys.executable)
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-API-KEY: {key}\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _connected(server: ServerProcess, stack: ExitStack, first: str = "") -> socket.socket:
    url = httpx.URL(server.url)
    client = stack.enter_context(socket.create_connection((url.host, url.port), timeout=30))
    client.sendall(first.encode())
    return client


@pytest.mark.parametrize("first", ["", "GET /liv"], ids=["silent", "half a request"])
def test_beyond_the_descriptor_limit_new_clients_are_served_and_the_limit_is_never_met(
    tmp_path: Path, first: str
) -> None:
    server = ServerProcess(tmp_path / "data", *NO_LIMITS, entry=UNDER_LIMIT)
    try:
        with ExitStack() as stack:
            for _ in range(3 * LIMIT):
                _connected(server, stack, first)
            assert httpx.get(f"{server.url}/livez", timeout=30).status_code == 200
            with server.client() as client:
                made = client.post(BASE, json={"agentId": "agent-123", "userId": "u"})
                assert made.status_code == 201
            # What is kept back: for files, for agents' connections, and for who knocks next.
            assert psutil.Process(server.process.pid).num_fds() <= LIMIT - LIMIT // 16
        log = server.log.read_text()
        assert "connections cut" in log
        assert "Too many open files" not in log
    finally:
        assert server.stop() == 0


def test_websockets_that_take_every_descriptor_they_may_leave_room_for_requests_and_a_line_says_so(
    tmp_path: Path,
) -> None:
    server = ServerProcess(tmp_path / "data", *NO_LIMITS, entry=UNDER_LIMIT)
    try:
        with ExitStack() as stack, server.client() as client:
            made = client.post(BASE, json={"agentId": "agent-123", "userId": "u"}).json()
            upgrade = UPGRADE.format(path=f"{BASE}/{made['sessionId']}/events", key=KEY)
            opened = [_connected(server, stack, upgrade).recv(1024)[9:12] for _ in range(LIMIT)]
            assert set(opened) == {b"101", b"503"}
            assert httpx.get(f"{server.url}/livez", timeout=30).status_code == 200
            full = client.get("/metrics").text.partition("\nvigil_connections_full_total ")[2].split()[0]
            assert float(full) >= opened.count(b"503")
        assert "WebSocket" in server.log.read_text()
    finally:
        assert server.stop() == 0
