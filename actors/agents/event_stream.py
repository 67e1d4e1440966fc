"""Server-sent events, read as the WHATWG's text on event streams says, from chunks that are cut anywhere.

It knows neither what the events are about nor where the chunks come from. Nobody reconnects to an agent's stream, so
`id` and `retry` are not kept. It gives the event that the stream's end has cut short too, where a browser drops it:
not every server ends its last line.
"""

from collections.abc import Iterator
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    type: str
    data: str


class EventTooLong(Exception):
    """A line, or what an event's lines have together, is longer than allowed."""


class EventStream:
    """Feed it chunks, tell it the end. Both give what they complete, and raise EventTooLong."""

    def __init__(self, event_bytes_max: int) -> None:
        self._bytes_max = event_bytes_max
        self._line = bytearray()
        self._data = bytearray()
        self._type = ""
        self._is_first_line = True
        self._ended_in_cr = False  # a line feed that comes next belongs to it

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        if not chunk:
            return
        if self._ended_in_cr:
            chunk = chunk.removeprefix(b"\n")
        self._ended_in_cr = chunk.endswith(b"\r")
        for part in chunk.splitlines(keepends=True):  # of bytes: at CR, LF and CRLF alone
            text = part.rstrip(b"\r\n")
            self._line += text
            if len(self._line) + len(self._data) > self._bytes_max:
                raise EventTooLong
            if len(text) < len(part) and (event := self._end_line()):
                yield event

    def end(self) -> Iterator[ServerSentEvent]:
        """The stream is over. What it gives, if anything, may have been cut in the middle."""
        for event in (self._end_line() if self._line else None, self._dispatch()):
            if event:
                yield event

    def _end_line(self) -> ServerSentEvent | None:
        line, self._line = bytes(self._line), bytearray()
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(BOM), False
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data += value + b"\n"
        elif name == b"event":
            self._type = value.decode(errors="replace")
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, kind, self._type = self._data, self._type, ""
        if not data:
            return None
        self._data = bytearray()
        return ServerSentEvent(kind or "message", data[:-1].decode(errors="replace"))
