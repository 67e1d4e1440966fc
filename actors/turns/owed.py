"""What a session's turns are made of: messages that wait for their answer, and what the agent says of one.

It knows no store and no actor.
"""

from collections import deque
from collections.abc import Callable

import trio

from vigil.actors.core.records import Message, TurnState


class Speech:
    """What an agent says in a turn. All that it says before anybody else runs is handed out as one chunk: a burst
    of small pieces, as they come out of one read of a socket, is no reason to cut those who listen."""

    __slots__ = ("_hand_out", "_handed_out", "_is_cut", "_pieces", "_soon")

    def __init__(self, hand_out: Callable[[str], None]) -> None:
        self._hand_out = hand_out
        self._handed_out: list[str] = []
        self._is_cut = False
        self._pieces: list[str] = []
        self._soon = trio.lowlevel.current_trio_token().run_sync_soon

    def say(self, piece: str) -> None:
        if piece and not self._pieces:
            self._soon(self.flush)
        if piece:
            self._pieces.append(piece)

    def flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._is_cut:
            chunk = "".join(pieces)
            self._handed_out.append(chunk)
            self._hand_out(chunk)

    def cut(self) -> str:
        """Nothing more is handed out. Gives all that was."""
        self._is_cut = True
        return "".join(self._handed_out)


class Owed:
    """A message that waits for its answer.

    `begins_as` is the state its turn takes when it begins: "" for it has begun. `message` is None for one that waits
    far behind: many of them, with all that people attach, are not kept twice.
    """

    __slots__ = ("begins_as", "created_at", "end", "end_committed", "id", "message", "scope", "speech")

    def __init__(self, id: str, created_at: int, begins_as: TurnState, message: Message | None) -> None:  # noqa: A002
        self.id = id
        self.created_at = created_at
        self.begins_as = begins_as
        self.message = message
        self.scope = trio.CancelScope()  # of its turn
        self.speech: Speech | None = None  # once the agent is asked
        self.end: TurnState = ""  # the one of TURN_ENDS that the actor was asked to commit
        self.end_committed: trio.Event | None = None  # set with the end of a turn that was cancelled

    def over(self) -> None:
        """Its end is committed."""
        if self.end_committed is not None:
            self.end_committed.set()


class Queue:
    """The turns of one session, in their order, while it has any."""

    __slots__ = ("claimed", "owed", "scope", "working")

    def __init__(self) -> None:
        self.owed: deque[Owed] = deque()
        self.claimed = 0  # sends that are not committed yet
        self.working = False
        self.scope = trio.CancelScope()  # of the task that works it off, a new one each time it starts

    def is_changing(self) -> bool:
        """Whether a message or the end of a turn is being committed."""
        return self.claimed > 0 or any(owed.end for owed in self.owed)
