"""One line for each thing that happened, on standard error or in a file: JSON for machines, aligned text for people.

Tokens and keys are never handed to a logger, and tracebacks are logged without the values of local variables, so
none can come out of one.
"""

import logging
import os
import select
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO

import orjson
import structlog
import structlog.tracebacks
from structlog.typing import EventDict, Processor, WrappedLogger

from vigil.actors.core.errors import VigilError

Format = Literal["auto", "json", "text"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogError(VigilError):
    """The log file cannot be opened; the text says why and what to do."""


def configure(log_format: Format, level: str, out: TextIO | Path | None = None) -> None:
    """Set up all logging of this process, to standard error if not elsewhere. `auto` is text on a terminal and JSON
    elsewhere. Raises LogError.
    """
    global _log
    _log = _Log(out or sys.stderr)
    as_text = log_format == "text" or (log_format == "auto" and _log.isatty())
    structlog.configure(
        processors=[*_COMMON, *(_for_people(colors=_log.isatty()) if as_text else _FOR_MACHINES)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _log,
        cache_logger_on_first_use=True,
    )


def reopen() -> None:
    """Go on in the file that has the log's name now: somebody may have moved the old one away. Raises LogError, and
    then the log goes on in the old one.
    """
    if _log is not None:
        _log.reopen()


class _Log:
    """Writes lines, and loses those that cannot be written at once: neither a full disk under the log nor a reader
    that does not read may stop the server.
    """

    def __init__(self, out: TextIO | Path) -> None:
        self._path = out if isinstance(out, Path) else None
        self._use(_opened(out) if isinstance(out, Path) else out)

    def reopen(self) -> None:
        if self._path is not None:
            before = self._stream
            self._use(_opened(self._path))
            with suppress(OSError):
                before.close()

    def _use(self, stream: TextIO) -> None:
        self._stream = stream
        self._room = _room_in(stream)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def msg(self, line: str) -> None:
        if self._room is not None and not self._room.poll(0):
            return
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


_log: _Log | None = None


def _opened(path: Path) -> TextIO:
    """At its end, for the owner alone if it is new."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise LogError(
            f"{path} cannot be written: {error.strerror}. Mend it, or name another --log-file"
        ) from None
    return os.fdopen(descriptor, "w", encoding="utf-8")


def _room_in(stream: TextIO) -> "select.poll | None":
    """What tells whether a pipe, a socket or a terminal takes more right now; None for what always does."""
    try:
        number = stream.fileno()
        if stat.S_ISREG(os.fstat(number).st_mode):
            return None
    except (OSError, ValueError):
        return None  # not a file of the system's
    room = select.poll()
    room.register(number, select.POLLOUT)
    return room


def _without_nothing(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _json(event: EventDict, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()


def _for_people(*, colors: bool) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


_COMMON: list[Processor] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _without_nothing,
]
_FOR_MACHINES: list[Processor] = [
    structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    structlog.processors.JSONRenderer(serializer=_json),
]
