"""The events WebSocket as a person hears it: a greenlet that reads frames and writes each down.

The handshake is a request like any other for the limits (spec section 7). Knows websocket-client; gevent makes its
blocking reads cooperative.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import gevent
import orjson
from websocket import WebSocket, WebSocketBadStatusException, WebSocketException

from vigil.loadtests.people.client import TIMEOUT_S
from vigil.loadtests.people.observation import Observation
from vigil.loadtests.people.person import BASE, LIMITED, refusal

if TYPE_CHECKING:
    from vigil.loadtests.people.person import Person, Session

WAITING_MAX = 100  # messages whose frame has not come yet


class EventsSocket:
    """One person's socket for one session. A frame of a message is timed from when that message was due."""

    def __init__(self, person: Person, session: Session) -> None:
        self._person = person
        self._session = session
        self._socket: WebSocket | None = None
        self._reader: gevent.Greenlet[..., None] | None = None
        self._sent: dict[str, float] = {}
        self._early: dict[str, float] = {}

    def hears(self, session: Session) -> bool:
        return self._socket is not None and self._session is session

    def open(self) -> None:
        """Connect. A refusal is written down, and then there is nothing to hear."""
        world, session = self._person.world, self._session
        scheme = "wss" if world.target.tls else "ws"
        url = f"{scheme}://{world.target.authority}{world.target.prefix}{BASE}/{session.id}/events"
        socket = WebSocket(enable_multithread=False)
        sent_s = world.clock()
        status, headers, body, error = 0, {}, b"", "the run ended before the answer"
        try:
            socket.connect(  # type: ignore[no-untyped-call]
                url,
                header=[f"Authorization: Bearer {session.token}"],
                timeout=TIMEOUT_S,
                suppress_origin=True,
                http_no_proxy=["*"],
            )
            status, headers, error = _SWITCHING, socket.getheaders() or {}, ""
        except WebSocketBadStatusException as refused:
            status, headers, body = refused.status_code, refused.resp_headers or {}, refused.resp_body or b""
            error = "" if self._is_expected(status) else f"answered {status} instead of 101"
        except (OSError, WebSocketException) as failure:
            error = f"no answer: {type(failure).__name__}: {failure}"
        finally:
            self._note(sent_s, status, headers, body, error)
        if status == _SWITCHING:
            socket.settimeout(None)
            self._socket = socket
            self._reader = gevent.spawn(self._read, socket)

    def expect(self, message_id: str, due_s: float) -> None:
        """A message was sent: its frame is to be timed from `due_s`, whichever of the two comes first."""
        came_s = self._early.pop(message_id, None)
        if came_s is not None:
            self._person.report("frame_message", came_s - due_s)
        elif len(self._sent) < WAITING_MAX:
            self._sent[message_id] = due_s

    def close(self) -> None:
        if self._reader is not None:
            self._reader.kill()
        if self._socket is not None:
            with contextlib.suppress(OSError, WebSocketException):
                self._socket.close(timeout=1)
            self._socket = None

    def _read(self, socket: WebSocket) -> None:
        try:
            while text := socket.recv():
                self._hear(orjson.loads(text))
        except (OSError, WebSocketException):
            pass  # closed by the server, with the session: the next message opens another
        self._socket = None

    def _hear(self, event: dict[str, Any]) -> None:
        now_s = self._person.world.clock()
        if event["type"] != "messageBroadcast":
            self._person.report(f"frame_{event['type']}")
            return
        message = event["data"]
        due_s = self._sent.pop(message["id"], None)
        if due_s is not None:
            self._person.report("frame_message", now_s - due_s)
        elif message.get("isAgent"):
            self._person.report("frame_reply")
        elif len(self._early) < WAITING_MAX:
            self._early[message["id"]] = now_s

    def _is_expected(self, status: int) -> bool:
        over = self._session.may_be_over(self._person.world.clock())
        return status == LIMITED or (status in _OVER and over)

    def _note(self, sent_s: float, status: int, headers: dict[str, str], body: bytes, error: str) -> None:
        session = self._session
        wait_ms, scope = refusal(body) if status == LIMITED else (None, "")
        received_s = self._person.world.clock() if status else None
        seen = Observation(
            sent_s,
            received_s,
            "events",
            session.id,
            session.user,
            session.agent,
            status,
            headers.get("ratelimit", ""),
            headers.get("ratelimit-policy", ""),
            headers.get("retry-after", ""),
            wait_ms,
            scope,
        )
        self._person.note("WS", "events", seen, sent_s, error=error)


_SWITCHING = 101
_OVER = frozenset((404, 410))
