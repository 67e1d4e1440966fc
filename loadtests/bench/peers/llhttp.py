"""The ceiling of a server in Python: llhttp's parser on a Trio stream, one fixed answer, nothing else."""

from contextlib import suppress
from functools import partial

import httptools
import trio

from vigil.loadtests.bench.peers import ANSWER

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_RESPONSE = _HEAD % len(ANSWER) + ANSWER


class _Asked:
    """Counts the requests that are complete."""

    def __init__(self) -> None:
        self.waiting = 0

    def on_message_complete(self) -> None:
        self.waiting += 1


async def _answer(stream: trio.SocketStream) -> None:
    asked = _Asked()
    parser = httptools.HttpRequestParser(asked)
    with suppress(trio.BrokenResourceError):  # wrk resets what is under way when its time is over
        while data := await stream.receive_some(65_536):
            parser.feed_data(data)
            if asked.waiting:
                await stream.send_all(_RESPONSE * asked.waiting)
                asked.waiting = 0


async def _serve() -> None:
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, _answer, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serving)
        print(f"http://127.0.0.1:{listener.socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    trio.run(_serve)
