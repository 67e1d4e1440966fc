"""One line for each thing that happened, on standard error: JSON for machines, aligned text for people.

Tokens and keys are never handed to a logger, and tracebacks are told without the values of local variables, so
none can come out of one.
"""

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO

import orjson
import structlog
import structlog.tracebacks
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "json", "text"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(log_format: Format, level: str, stream: TextIO | None = None) -> None:
    """Set up all logging of this process. `auto` is text on a terminal and JSON elsewhere."""
    out = stream or sys.stderr
    as_text = log_format == "text" or (log_format == "auto" and out.isatty())
    structlog.configure(
        processors=[*_COMMON, *(_for_people(out) if as_text else _FOR_MACHINES)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Logger(out),
        cache_logger_on_first_use=True,
    )


class _Logger:
    """Writes lines, and loses those that cannot be written: a full disk under the log must not stop the server."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


def _without_nothing(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _json(event: EventDict, **_options: object) -> str:
    return orjson.dumps(event, default=str).decode()


def _for_people(out: TextIO) -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    ]


_COMMON: list[Processor] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _without_nothing,
]
_FOR_MACHINES: list[Processor] = [
    structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    structlog.processors.JSONRenderer(serializer=_json),
]
