"""The messages of one session: what was acknowledged, what may be there, and what a page must show (spec section 4).

An agent's messages are learned where they are first seen. It knows no deadline and no window.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from vigil.scenarios.model.observed import Violation
from vigil.scenarios.model.rules.stops import LATER_MS, Stops
from vigil.scenarios.model.world import Json, epoch_ms

NEVER = 1 << 62

Reply = Callable[[str], str]
_REASONS = ("stop", "length", "content_filter")


class Message:
    """A message that was seen. From observation `since` on every read must show it."""

    __slots__ = ("at", "since", "wire")

    def __init__(self, at: int, wire: Json, since: int) -> None:
        self.at = at
        self.wire = wire
        self.since = since


class Asked:
    """A message that was sent and not seen yet. With `lost_since` it is there, though its answer was lost then."""

    __slots__ = ("at_ms", "fields", "lost_since", "number")

    def __init__(self, at_ms: int, fields: Json, number: int) -> None:
        self.at_ms = at_ms
        self.fields = fields
        self.number = number
        self.lost_since = NEVER


class History:
    """`answers` says that the agent says anything at all, `reply` what it says to a message, where that is known."""

    def __init__(self, user: str, agent: str, *, answers: bool, reply: Reply | None) -> None:
        self.user = user
        self.agent = agent
        self.answers = answers
        self._reply = reply
        self.by_id: dict[str, Message] = {}
        self.asked: list[Asked] = []
        self._awaited: Counter[str] = Counter()  # answers that have not been seen yet
        self._owed = 0
        self._is_over = False
        self._failed_unseen: dict[str, bool] = {}  # turns, and whether they were stopped, by message
        self.stops = Stops()
        self._ats: list[int] = []  # in order, beside `_messages`
        self._messages: list[Message] = []

    def unanswered(self) -> int:
        """How many turns may be waiting, at most."""
        return self._owed if self.answers else 0

    def ask(self, at_ms: int, fields: Json, number: int) -> Asked:
        asked = Asked(at_ms, fields, number)
        self.asked.append(asked)
        self._await(fields["content"], 1)
        return asked

    def fail(self, message_id: str, *, is_cancelled: bool) -> None:
        """The agent will not answer this message: it failed, or `is_cancelled` says that it was stopped."""
        message = self.by_id.get(message_id)
        if self._is_over:
            return
        if message is None and self.answers and self.asked:
            self._failed_unseen[message_id] = is_cancelled  # its answer is on its way
            return
        if not self.answers or message is None or message.wire["isAgent"]:
            raise Violation("4 agentError", f"an error about {message_id}, which nobody said")
        if is_cancelled:
            self.stops.cancelled(message_id, message.at)
        else:
            self.stops.over(message_id, "failed")
        self._await(message.wire["content"], -1)

    def stop(self, message_id: str) -> None:
        """Somebody asks for the end of the turn on this message."""
        self.stops.ask(message_id)

    def stopped(self, message_id: str, status: str, number: int) -> None:
        """What a cancel was answered with."""
        if self._is_over:
            return
        message = self.by_id.get(message_id)  # None until whatever showed it is judged
        is_turn = self.answers and (message is None or not message.wire["isAgent"])
        self.stops.said(message_id, status, number, answers=is_turn)

    def end(self) -> None:
        """The session is over: nothing of it is there any more, and nothing is judged."""
        self._check_turns()
        self.__init__(self.user, self.agent, answers=self.answers, reply=self._reply)  # type: ignore[misc]
        self._is_over = True

    def withdraw(self, asked: Asked) -> None:
        """It was refused: it never was there."""
        if self._is_over:
            return
        if asked not in self.asked:
            raise Violation("4 refused", f"a refused message was seen: {asked.fields}", asked.number)
        self.asked.remove(asked)
        self._await(asked.fields["content"], -1)

    def at(self, instant: int) -> bool:
        at = bisect_left(self._ats, instant)
        return at < len(self._ats) and self._ats[at] == instant

    def newest(self) -> int:
        return self._ats[-1] if self._ats else 0

    def accept(self, asked: Asked, wire: Json, since: int) -> None:
        """Its answer says that it is stored as `wire`."""
        if self._is_over:
            return
        if wire["id"] in self.by_id:
            self.learn(wire, since, asked.number)
            return
        twin = next(
            (one for one in (asked, *self.asked) if one in self.asked and one.fields == asked.fields), None
        )
        if twin is None:
            raise Violation("4 message", f"a message has a second id: {wire}", asked.number)
        self.asked.remove(twin)
        self.add(wire, since, asked.number)

    def learn(self, wire: Json, since: int, *numbers: int) -> Message:
        """A message was seen: by its 201, in a page, in an event. It is the same wherever it is seen."""
        known = self.by_id.get(wire["id"])
        if known is not None:
            if known.wire != wire:
                raise Violation("4 message", f"a message was {known.wire} and is {wire}", *numbers)
            known.since = min(known.since, since)
            return known
        if self._is_over:
            return Message(epoch_ms(wire["createdAt"]), wire, since)
        if wire["isAgent"]:
            self._check_reply(wire, numbers)
        else:
            self._check_said(wire, numbers)
        return self.add(wire, since, *numbers)

    def add(self, wire: Json, since: int, *numbers: int) -> Message:
        """A new message takes its place; its timestamp is nobody else's."""
        at = epoch_ms(wire["createdAt"])
        place = bisect_left(self._ats, at)
        if place < len(self._ats) and self._ats[place] == at:
            raise Violation("4 timestamps", f"two messages have {wire['createdAt']}", *numbers)
        if wire["id"] in self.by_id:
            raise Violation("4 ids", f"two messages have the id {wire['id']}", *numbers)
        message = Message(at, wire, since)
        self._ats.insert(place, at)
        self._messages.insert(place, message)
        self.by_id[wire["id"]] = message
        if wire["id"] in self._failed_unseen:
            self.fail(wire["id"], is_cancelled=self._failed_unseen.pop(wire["id"]))
        return message

    def check_page(
        self, body: Json, query: "Query", began: int, ended: int, number: int, answers_by: int
    ) -> None:
        """`began` and `ended` are the observations between which the page was read. Messages before `answers_by` must
        have their answer; 0 when that is not known."""
        wires = body["messages"]
        if len(wires) > query.limit:
            raise Violation("4 limit", f"{len(wires)} messages on a page of {query.limit}", number)
        page = [self.learn(wire, ended, number) for wire in wires]
        ats = [message.at for message in page]
        if any(newer <= older for newer, older in pairwise(ats)):
            raise Violation("4 order", "a page is not newest first", number)
        if ats and not (query.after < ats[-1] and ats[0] < query.before):
            raise Violation("4 bounds", f"a page from {ats[-1]} to {ats[0]} for {query}", number)
        self._check_cursors(body, query, ats, number)
        low, high = query.covered(ats)
        self._check_complete(page, low, high, began, number)
        if (low, high) == (1 - NEVER, NEVER - 1):
            self._check_turns(number)
            asked = sum(
                not message.wire["isAgent"]
                and message.at < answers_by
                and not self.stops.may(message.wire["id"], message.at)
                for message in page
            )
            if len(page) - sum(not message.wire["isAgent"] for message in page) < asked:
                raise Violation("4 turns", "a message has no answer", number)
        self._check_more(body, query, ats, began, number)

    # --- private

    def _await(self, content: str, change: int) -> None:
        self._owed += change
        if self._reply is not None:
            self._awaited[self._reply(content)] += change

    def _check_turns(self, *numbers: int) -> None:
        """Answers come in the order of what they answer, though some may be missing."""
        if self._reply is None or self.asked:
            return
        questions = (one.wire["content"] for one in self._messages if not one.wire["isAgent"])
        replies = map(self._reply, questions)
        for message in self._messages:
            is_whole = message.wire["isAgent"] and message.wire["finishReason"] != "cancelled"
            if is_whole and message.wire["content"] not in replies:
                raise Violation("4 turns", f"answered out of order: {message.wire}", *numbers)

    def _check_reply(self, wire: Json, numbers: Sequence[int]) -> None:
        if not self.answers or wire["authorId"] != self.agent or not wire["content"]:
            raise Violation("4 agent", f"an answer that nobody gives: {wire}", *numbers)
        if wire.get("finishReason") == "cancelled":
            return self._check_cut(wire, numbers)
        reasons = _REASONS if self._reply is None else ("stop",)
        if wire.get("finishReason") not in reasons:
            raise Violation("11 finishReason", f"an answer that ends for no reason known: {wire}", *numbers)
        if self._owed <= 0:
            raise Violation("4 turns", f"more answers than messages: {wire}", *numbers)
        if self._reply is not None and self._awaited[wire["content"]] <= 0:
            raise Violation("5 answer", f"the answer to nothing, or a second one: {wire}", *numbers)
        self._awaited[wire["content"]] -= 1
        self._owed -= 1
        return None

    def _check_cut(self, wire: Json, numbers: Sequence[int]) -> None:
        """The answer to a turn that was stopped: the beginning of a whole one."""
        seen = [one for one in self._messages if not one.wire["isAgent"]]
        stopped = [one.wire["content"] for one in seen if self.stops.may(one.wire["id"], one.at)]
        stopped += [one.fields["content"] for one in self.asked if self.stops.may("", one.at_ms)]
        could_be = sum(
            self._reply is None or self._reply(content).startswith(wire["content"]) for content in stopped
        )
        self.stops.cut(could_be, len(stopped), *numbers)
        self._owed -= 1

    def _check_said(self, wire: Json, numbers: Sequence[int]) -> None:
        if "finishReason" in wire:
            raise Violation("11 finishReason", f"an answer's end on a message of a user: {wire}", *numbers)
        at = epoch_ms(wire["createdAt"])
        fitting = [one for one in self.asked if one.at_ms <= at and one.fields.items() <= wire.items()]
        if fitting:
            self.asked.remove(max(fitting, key=lambda one: one.at_ms))
            return
        raise Violation("4 message", f"a message that nobody sent: {wire}", *numbers)

    def _check_cursors(self, body: Json, query: "Query", ats: list[int], number: int) -> None:
        expected = {"before": ats[-1], "after": ats[0]} if ats else query.echoed()
        if body["cursors"] != expected:
            raise Violation("4 cursors", f"cursors are {body['cursors']}, not {expected}", number)

    def _check_complete(self, page: Sequence[Message], low: int, high: int, began: int, number: int) -> None:
        """Nothing acknowledged is missing between these instants, both included."""
        for asked in self.asked:
            if asked.lost_since < began and low <= asked.at_ms and asked.at_ms + LATER_MS < high:
                raise Violation("4 lost", f"an accepted message is not in its page: {asked.fields}", number)
        first, end = bisect_left(self._ats, low), bisect_right(self._ats, high)
        if end - first == len(page):
            return
        shown = {id(message) for message in page}
        for message in self._messages[first:end]:
            if message.since < began and id(message) not in shown:
                raise Violation(
                    "4 lost", f"an acknowledged message is not in its page: {message.wire}", number
                )

    def _check_more(self, body: Json, query: "Query", ats: list[int], began: int, number: int) -> None:
        low, high = query.beyond(ats)
        beyond = self._messages[bisect_left(self._ats, low) : bisect_right(self._ats, high)]
        if (
            not body["hasMore"]
            and len(ats) == query.limit
            and any(message.since < began for message in beyond)
        ):
            raise Violation("4 hasMore", "hasMore is false, and there are more", number)
        is_unsure = bool(self.asked) or self.unanswered() > 0
        if body["hasMore"] and (len(ats) < query.limit or not (beyond or is_unsure)):
            raise Violation("4 hasMore", "hasMore is true, and there are none", number)


class Query:
    """Which part of a history was asked for."""

    def __init__(self, asked: Any) -> None:
        self.limit = int(asked.get("limit", 50))
        self._before = int(asked["before"]) if "before" in asked else None
        self._after = int(asked["after"]) if "after" in asked else None
        self.before = NEVER if self._before is None else self._before
        self.after = -NEVER if self._after is None else self._after

    def __str__(self) -> str:
        return f"limit {self.limit}, before {self._before}, after {self._after}"

    @property
    def goes_forward(self) -> bool:
        return self._after is not None and self._before is None

    def echoed(self) -> dict[str, int]:
        return {"before": self._before or 0, "after": self._after or 0}

    def covered(self, ats: list[int]) -> tuple[int, int]:
        """The instants, both included, of which a page with these must show everything."""
        if len(ats) < self.limit:
            return self.after + 1, self.before - 1
        return (self.after + 1, ats[0]) if self.goes_forward else (ats[-1], self.before - 1)

    def beyond(self, ats: list[int]) -> tuple[int, int]:
        """The instants that `hasMore` speaks of."""
        if not ats:
            return 1, 0
        return (ats[0] + 1, NEVER) if self.goes_forward else (self.after + 1, ats[-1] - 1)
