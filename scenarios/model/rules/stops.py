"""Turns that somebody stopped: what may be left of one, and what must not come after it (spec section 11).

It knows which turns were asked to stop, by a cancel or a message that interrupts, and what was said of them. Whether a
stop came before the answer is the server's to say, once.
"""

from vigil.scenarios.model.observed import Violation

FINAL = ("cancelled", "answered", "failed", "none")

LATER_MS = 1000  # a message's timestamp is not further than this from when it was applied


class Stops:
    def __init__(self) -> None:
        self._asked: set[str] = set()  # messages whose turn somebody wanted to stop
        self._interrupts: dict[int, int] = {}  # until when messages came that one of these may have stopped
        self._said: dict[str, str] = {}  # the last word on turns, by message
        self._partial = 0  # answers that were cut

    def ask(self, message_id: str) -> None:
        """Somebody wants this message's turn stopped: from now on it may be."""
        self._asked.add(message_id)

    def interrupt(self, number: int, until: int) -> None:
        """A request wants all turns stopped of messages that came before it, and it was carried out by `until`."""
        self._interrupts[number] = until

    def may(self, message_id: str, at: int) -> bool:
        """Whether the turn of this message, of that instant, may have been stopped."""
        return message_id in self._asked or any(at <= until + LATER_MS for until in self._interrupts.values())

    def said(self, message_id: str, status: str, *numbers: int, answers: bool) -> None:
        """A cancel was answered with this. Raises Violation."""
        if status not in FINAL or (status == "none") == answers:
            raise Violation("11 cancel", f"a cancel of {message_id} says {status!r}", *numbers)
        before = self._said.setdefault(message_id, status)
        if before != status:
            raise Violation("11 cancel", f"a turn was {before}, and is {status}", *numbers)

    def over(self, message_id: str, status: str, *numbers: int) -> None:
        """The turn is seen to be answered, or to have failed. Raises Violation."""
        if self._said.get(message_id, status) != status:
            told = f"the turn on {message_id} was {self._said[message_id]}, and now it is {status}"
            raise Violation("11 after the stop", told, *numbers)
        self._said[message_id] = status

    def cancelled(self, message_id: str, at: int, *numbers: int) -> None:
        """An event says that it was stopped before anything was said. Raises Violation."""
        if not self.may(message_id, at):
            raise Violation("11 cancel", f"nobody stopped the turn on {message_id}", *numbers)
        self.over(message_id, "cancelled", *numbers)

    def cut(self, could_be: int, stopped: int, *numbers: int) -> None:
        """There is an answer that was cut; `could_be` of the `stopped` turns could have made it. Raises Violation."""
        self._partial += 1
        if not could_be or self._partial > stopped:
            raise Violation("11 cancel", "an answer was cut that nobody stopped", *numbers)
