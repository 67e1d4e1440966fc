"""What a listener has heard, and what of it steps have taken. It knows events only by their type."""

from typing import Any

import trio

Frame = dict[str, Any]

CLOSED = "closed"  # the type of the frame that stands for the WebSocket's end


class Inbox:
    """Frames in the order in which they came. Whoever takes one passes over all before it."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._taken = 0
        self._more = trio.Event()

    def put(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._more.set()
        self._more = trio.Event()

    def take_nowait(self, kind: str | None, *, very_next: bool) -> Frame | None:
        """The next frame of that type (None: of any), if it is there. `very_next` takes no other for it."""
        for n, frame in enumerate(self._frames[self._taken :], self._taken + 1):
            if very_next or kind in (None, frame["type"]):
                self._taken = n
                return frame
        return None

    async def take(self, kind: str | None, *, very_next: bool) -> Frame:
        """Likewise, as soon as it is there."""
        while (frame := self.take_nowait(kind, very_next=very_next)) is None:
            await self._more.wait()
        return frame

    def not_taken(self) -> list[str]:
        """The types of what nobody took yet."""
        return [frame["type"] for frame in self._frames[self._taken :]]
