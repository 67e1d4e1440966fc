"""What came in and went out, noted as it happens: for `vigil replay` to play again in virtual time.

A note is a plain tuple of what the event loop has at hand; `server.recording.lines` says what it means. Lines are made
of notes in a process of their own, so that recording takes a few microseconds of a request and not of its throughput.
"""

import marshal
import os
import queue
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import orjson
import structlog

from vigil.actors.agents.base import AgentEntry
from vigil.actors.core.commands import Transition
from vigil.actors.core.errors import VigilError
from vigil.actors.core.events import AgentError, Broadcast
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import Session
from vigil.actors.runtime.clock import ScaledClock
from vigil.actors.turns.turns import TURN_ENDS
from vigil.server.api.auth import Principal
from vigil.server.api.call import Applied, Call, Reply
from vigil.server.front.routing import below
from vigil.server.ops.site import Plan

log = structlog.get_logger()

FORMAT = 1
BATCH = 64  # notes that go to the other process together
WAITING_MAX = 4096  # batches: beyond, the recording ends rather than take memory without bound
END_S = 30.0  # for the other process to write what it has
COMMITTED_MAX = (
    65_536  # commands, the newest: when they were durable is known, however late they are answered
)

Note = tuple[Any, ...]

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.ASCII | re.IGNORECASE)


class RecordingError(VigilError):
    """The recording cannot begin."""


class Start(NamedTuple):
    """What the server was when the recording began."""

    version: str
    sessions: int  # that it held already: a trace cannot tell how they came to be
    content: bool = False  # whether what people wrote is in it


class Recorder:
    """Notes requests and what was committed, and hands each note to `put`, which must not wait."""

    def __init__(self, put: Callable[[Note], object], clock: ScaledClock) -> None:
        self._put = put
        self._clock = clock
        self._callers: dict[str, Note] = {}
        self._committed: OrderedDict[Applied, int] = OrderedDict()  # when it was durable

    def begin(self, plan: Plan, start: Start) -> None:
        """The first note."""
        first = {
            "trace": FORMAT,
            "version": start.version,
            "startedAt": self._clock.now(),
            "timeScale": self._clock.scale,
            "content": start.content,
            "sessions": start.sessions,
            "settings": _settings(plan),
            "agents": [_agent(entry) for entry in plan.agents.values()],
        }
        self._put(("begin", orjson.dumps(first)))

    def answered(self, call: Call, operation: str, reply: Reply | None) -> None:
        """One request, once its answer is whole (a stream: once it has begun) or its client has gone: status 0."""
        request, principal = call.request, call.principal
        header = request.header
        status, headers, answer = (reply.status, reply.headers, reply.body) if reply else (0, [], b"")
        self._put(
            (
                "request",
                call.now,
                call.order,
                call.taken and call.taken.at,
                call.taken and call.taken.event_id,
                self._done(call),
                operation,
                principal and self._caller(principal),
                principal is None and bool(header("authorization") or header("x-api-key")),
                call.session_id,
                request.method,
                _path(call),
                request.query_string,
                header("content-type"),
                header("idempotency-key"),
                call.raw_body,
                call.body is not None,
                status,
                headers,
                answer if isinstance(answer, bytes) else b"",
            )
        )

    def on_committed(self, session_id: str, transition: Transition) -> None:
        """One committed transition. Those that no request tells of are recorded: of agents' turns, and ends."""
        now = self._clock.now()
        if not isinstance(transition.state, Session):
            self._put(("over", session_id, now))
        elif transition.turn is not None and transition.turn[1] in TURN_ENDS:
            to, at = transition.turn[0], transition.events[0].at
            self._put(("turn", session_id, to, at, transition.session.event_id, now, *_said(transition)))
        elif transition.turn is not None and transition.message is None:
            self._put(("begun", session_id, transition.turn[0], now))
        else:
            self._note_committed(Applied.of(transition), now)

    def _note_committed(self, command: Applied, now: int) -> None:
        self._committed[command] = now
        if len(self._committed) > COMMITTED_MAX:
            self._committed.popitem(last=False)

    def _caller(self, principal: Principal) -> Note:
        caller = self._callers.get(principal.id)
        if caller is None:
            caller = principal.id, principal.name, sorted(principal.scopes), principal.session_id
            if principal.session_id is None:  # keys are few, tokens many
                self._callers[principal.id] = caller
        return caller

    def _done(self, call: Call) -> int:
        """When what was asked was durable; where nothing was to be, now."""
        now = self._clock.now()
        return now if call.taken is None else self._committed.get(call.taken, now)


def _path(call: Call) -> str:
    """As a server without a root path, and with ids in lower case alone, would have had it. What was not below the root
    path was not found, and is not found with an empty segment before it.
    """
    inside = below(call.site.root_path, call.request.path)
    if inside is None:
        return f"/{call.request.path}"
    return inside if inside.islower() else _UUID.sub(lambda found: found[0].lower(), inside)


def _said(transition: Transition) -> tuple[str | None, str, str]:
    """An agent's reply with its metadata and how it ended; or None, and how it failed."""
    data = transition.events[0].data
    if isinstance(data, AgentError):
        return None, data.code, data.message
    assert isinstance(data, Broadcast)  # nothing else ends a turn
    return data.message.content, data.message.metadata, data.message.finish_reason


class Outbox:
    """Notes on their way to the other process, in batches, by a thread that may wait for it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._batch: list[Note] = []
        self._waiting: queue.Queue[list[Note] | None] = queue.Queue(WAITING_MAX)
        self._is_over = False
        self._thread = threading.Thread(target=self._send, name="recording")
        self._thread.start()

    def put(self, note: Note) -> None:
        self._batch.append(note)
        if len(self._batch) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        batch, self._batch = self._batch, []
        if self._is_over or not batch:
            return
        try:
            self._waiting.put_nowait(batch)
        except queue.Full:
            self._give_up("it cannot keep up with what comes in")

    def close(self) -> None:
        """Send what there is and let the other process finish."""
        self.flush()
        self._waiting.put(None)
        self._thread.join()
        with suppress(OSError):
            self._pipe.close()

    def _send(self) -> None:
        while (batch := self._waiting.get()) is not None:
            if self._is_over:
                continue
            try:
                marshal.dump(batch, self._pipe)
                self._pipe.flush()
            except OSError:
                self._give_up("its file cannot be written any more")

    def _give_up(self, why: str) -> None:
        self._is_over = True
        log.error("the recording ends here", why=why)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A new file for the owner alone. Raises RecordingError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        message = f"{path} exists already: a recording is never written over. Name another --record FILE"
        raise RecordingError(message) from None
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        yield file


@contextmanager
def outbox(file: BinaryIO, *, content: bool) -> Iterator[Outbox]:
    """The way to a process that writes lines to `file` until the block is left."""
    command = [sys.executable, "-m", "vigil.server.recording.lines", *(["--content"] if content else [])]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file)  # noqa: S603  our own
    assert writer.stdin is not None  # it is a pipe
    box = Outbox(writer.stdin)
    try:
        yield box
    finally:
        box.close()
        with suppress(subprocess.TimeoutExpired):
            writer.wait(END_S)


def _settings(plan: Plan) -> dict[str, Any]:
    rules = plan.rules
    limits = {"session": plan.session_limit, "user": plan.user_limit, "agent": plan.agent_limit}
    return {
        "limits": {name: _limit(limit) for name, limit in limits.items()},
        "defaults": rules.defaults._asdict(),
        "sessionMax": rules.session_max,
        "tombstoneMinutes": rules.tombstone_minutes,
        "tombstoneMax": rules.tombstone_max,
        "contentPolicy": plan.content_policy,
    }


def _agent(entry: AgentEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.name,
        "answers": entry.agent is not None,
        "timeouts": entry.timeouts._asdict(),
        "sessionLimit": _limit(entry.session_limit),
        "agentLimit": _limit(entry.agent_limit),
    }


def _limit(limit: Limit | None) -> list[int] | None:
    return None if limit is None else list(limit)
