"""Where frames begin in the bytes of an HTTP/2 client, and what each is going to cost. Pure (RFC 9113, section 4.1).

h2 takes apart whatever it is given in one go: 64 KiB are thousands of empty frames. So bytes are cut between frames
here, and it gets a few at a time. It refuses to know what frames mean, and finds no fault with them.
"""

from collections.abc import Iterator

_PREFACE_BYTES = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
_HEAD_BYTES = 9
_DATA, _HEADERS, _RST_STREAM = 0x0, 0x1, 0x3
_COSTS = {_HEADERS: 8, _RST_STREAM: 24}  # a request is a task; taken back, it was one for nothing
_BYTES_A_UNIT = 128  # of anything but DATA: a SETTINGS frame can hold thousands of them


class Http2Frames:
    """What was read of one connection. A frame's cost is due with its head; its payload may be still to come."""

    def __init__(self) -> None:
        self._skip = _PREFACE_BYTES  # bytes until the next head
        self._head = b""  # of a frame, as far as it has come

    def pieces(self, data: bytes, units_max: int) -> Iterator[tuple[bytes, int]]:
        """The data in pieces with the cost of the frames that begin in them, at least one and about `units_max`."""
        start = at = units = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
            else:
                step = _HEAD_BYTES - len(self._head)
                self._head += data[at : at + step]
                at += min(step, len(data) - at)
                units += self._cost()
            if units >= units_max and not self._head and at < len(data):
                yield data[start:at], units
                start, units = at, 0
        yield data[start:], units or 1

    def _cost(self) -> int:
        """Of the frame whose head is complete; 0 if it is not."""
        if len(self._head) < _HEAD_BYTES:
            return 0
        self._skip, kind = int.from_bytes(self._head[:3]), self._head[3]
        self._head = b""
        return _COSTS.get(kind, 1) + (0 if kind == _DATA else self._skip // _BYTES_A_UNIT)
