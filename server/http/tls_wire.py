"""The socket below TLS, with a bound on what a client may send there that is nothing for us.

TLS 1.3 lets a client ask for new keys as often as it likes; each time costs more than a small request, and OpenSSL
processes all that was received in one go without a word to the layer above. So it gets little at a time, one such
client in a turn, and only so much before there is something to read. It refuses to know what TLS says.
"""

import trio

from vigil.server.http.budget import Traffic

RECV_BYTES = 2 * 1024  # 75 changes of keys
SILENT_BYTES_MAX = 20 * 1024  # a record of TLS has 16 KiB and a little


class Wire(trio.abc.Stream):
    """Raises BrokenResourceError when the client has sent too much for nothing."""

    def __init__(self, stream: trio.SocketStream, traffic: Traffic) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._traffic = traffic
        self._silent = 0  # bytes since the last that were for us

    def note_useful(self) -> None:
        """What was received had something in it."""
        self._silent = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._silent:
            await self._traffic.turns.wait()
        data = bytes(await self._stream.receive_some(min(max_bytes or RECV_BYTES, RECV_BYTES)))
        self._silent += len(data)
        if self._silent > SILENT_BYTES_MAX:
            self._traffic.cut("flood")
            raise trio.BrokenResourceError("too much TLS without a byte of HTTP")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


Stream = trio.SocketStream | trio.SSLStream[Wire]


async def receive(stream: Stream, bytes_max: int) -> bytes:
    """b"" at the end. Raises what Trio's streams raise."""
    data = bytes(await stream.receive_some(bytes_max))
    if isinstance(stream, trio.SSLStream):
        stream.transport_stream.note_useful()
    return data
