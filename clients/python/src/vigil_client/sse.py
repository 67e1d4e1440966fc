"""Server-sent events out of bytes. Lines end where the protocol says, not where Unicode sees an end."""

from typing import NamedTuple


class ServerSent(NamedTuple):
    event: str
    data: str


class Decoder:
    """Bytes in, whole events out. Comments, and fields that this API does not use, are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSent]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        taken = (self._take(line.removesuffix(b"\r").decode()) for line in lines)
        return [event for event in taken if event is not None]

    def _take(self, line: str) -> ServerSent | None:
        if not line:
            return self._finish()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None

    def _finish(self) -> ServerSent | None:
        event, data = ServerSent(self._event, "\n".join(self._data)), self._data
        self._event, self._data = "", []
        return event if data else None
