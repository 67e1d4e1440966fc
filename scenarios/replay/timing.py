"""When what was recorded happened, to the order within a millisecond: what a replay has to wait for.

Recorded instants are milliseconds of session time. The instants here have fractions: within the room before and after
a millisecond that still rounds to it, everything has its place:

    commands that waited for a commit were sent, and agents that did had answered
    that commit is done, and they are applied as one batch
    requests come, a little apart
    agents speak
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

from vigil.scenarios.replay.trace import Recorded, RecordedTurn, Trace

_ROOM_MS = 0.45
_WAITING_MS = 0.49  # before the instant at which what waited is applied
_APART_MS = 0.001  # requests of one millisecond
_QUEUED_MS = 0.0005  # commands that wait for one commit; of today's milliseconds a double tells half of it
_PAUSE_MS = 2  # in real time: what waited for a commit is applied within this after it

Place = tuple[int, int]
"""Of a command in a batch: the session's newest event after it, and what else orders."""


class Read(NamedTuple):
    """Until when messages were read, and the instants of those seen, if that is known."""

    done: int
    seen: Sequence[int] | None


class Timing:
    """All instants of one trace."""

    def __init__(self, trace: Trace) -> None:
        self._asked = {request.order: instant for instant, request in _in_order(trace.requests)}
        self._done = _commits_done(trace)
        self._over = {end.session: end.over for end in trace.ends}
        self._forgotten = _forgotten(trace.requests)
        self._reads = _reads(trace.requests)
        self._taken_up = _taken_up(trace.requests)
        self._queues = _queues(self._taken_up, [turn for turn in trace.turns if not turn.is_cancelled])
        self._take_ups = _instants_of(self._queues)
        self._begun = {(one.session, one.to): one.begun for one in trace.beginnings}
        self._beginnings = _instants_of((one.session, one.begun) for one in trace.beginnings)
        self._pause_ms = _PAUSE_MS * trace.start.time_scale

    def asked(self, request: Recorded) -> float:
        """When it came and was charged."""
        return self._asked[request.order]

    def told(self, request: Recorded) -> float:
        """When its session's actor got it. A command that was refused was applied before its answer was done."""
        if request.taken is None:
            return self.asked(request) + request.done - request.now
        if request.taken <= request.now:
            return self.asked(request)
        return self._queued((request.session, request.taken), _place(request))

    def said(self, turn: RecordedTurn) -> float:
        """When the agent spoke."""
        if len(self._queues[turn.session, turn.at]) > 1:
            return self._queued((turn.session, turn.at), _place_of(turn))
        return turn.at + _ROOM_MS

    def created(self, user_id: str, at: int) -> float:
        """When the commit of a new session was done."""
        return self._done.get((_new_session(user_id), at), 0) - _ROOM_MS

    def committed(self, session_id: str, at: int) -> float:
        """When a session's commit was done that was begun at `at`: when what had waited for it was applied; at once
        when nobody knows.
        """
        done = self._done.get((session_id, at))
        return self._until_what_waited(session_id, at, done)

    def begun(self, session_id: str, to: int, at: int) -> float:
        """When the beginning of a turn was committed, of the message at `to`; that commit is begun at `at`."""
        return self._until_what_waited(session_id, at, self._begun.get((session_id, to)))

    def over(self, session_id: str) -> float:
        """When the commit of a session's end was done."""
        return self._over.get(session_id, 0) - _ROOM_MS

    def forgotten(self, session_ids: Sequence[str]) -> float:
        """When sessions were forgotten on request, of which an end was all that was left."""
        return max((self._forgotten.get(one, 0) for one in session_ids), default=0) - _ROOM_MS

    def read(self, session_id: str, at: int) -> Read:
        """Of the messages that were asked for at `at`."""
        return self._reads.get((session_id, at), Read(0, None))

    def _until_what_waited(self, session_id: str, at: int, done: int | None) -> float:
        after = _first_after(self._take_ups, session_id, at)
        if after is None or not self._waited(done, session_id, after):
            return (done or 0) - _ROOM_MS
        waiting = self._taken_up.get((session_id, after), ())
        last = max((self.asked(request) for request in waiting if request.now == after), default=0)
        return max(after - _ROOM_MS, last + _QUEUED_MS)

    def _waited(self, done: int | None, session_id: str, at: int) -> bool:
        """Whether what was taken up at `at` had waited for the commit before, which was done at `done`. What was taken
        up together had waited for something; of a single command it is likely if it came before and no body could have
        made it late.
        """
        beginning = None if done is None else _first_after(self._beginnings, session_id, done)
        if beginning is not None and beginning <= at:
            return False  # for that commit, which came between
        commands = self._taken_up.get((session_id, at), ())
        was_there = done is None or any(request.now <= done for request in commands)
        if len(self._queues[session_id, at]) > 1:
            return was_there
        return was_there and done is not None and at - done <= self._pause_ms

    def _queued(self, take_up: tuple[str, int], place: Place) -> float:
        return take_up[1] - _WAITING_MS + self._queues[take_up].index(place) * _QUEUED_MS


def _first_after(instants: Mapping[str, Sequence[int]], session_id: str, at: int) -> int | None:
    of_session = instants.get(session_id, ())
    place = bisect_right(of_session, at)
    return of_session[place] if place < len(of_session) else None


def _new_session(user_id: str) -> str:
    return f"new session of {user_id}"


def _in_order(requests: Sequence[Recorded]) -> Iterator[tuple[float, Recorded]]:
    """Each with its instant; those of one millisecond a little apart, so that they stay in order."""
    last, count = -1, 0
    for request in requests:
        last, count = request.now, count + 1 if request.now == last else 0
        yield request.now + min(count * _APART_MS, _ROOM_MS), request


def _taken_up(requests: Sequence[Recorded]) -> Mapping[tuple[str, int], Sequence[Recorded]]:
    """The commands that a session's actor took up at one instant."""
    together: defaultdict[tuple[str, int], list[Recorded]] = defaultdict(list)
    for request in requests:
        if request.taken is not None and request.session:
            together[request.session, request.taken].append(request)
    return together


def _queues(
    taken_up: Mapping[tuple[str, int], Sequence[Recorded]], turns: Sequence[RecordedTurn]
) -> Mapping[tuple[str, int], Sequence[Place]]:
    """The order in which commands and agents' answers were applied, by session and instant. A cancelled turn ended with
    the command that cancelled it.
    """
    queues: defaultdict[tuple[str, int], list[Place]] = defaultdict(list)
    for take_up, requests in taken_up.items():
        queues[take_up] += map(_place, requests)
    for turn in turns:
        queues[turn.session, turn.at].append(_place_of(turn))
    for queue in queues.values():
        queue.sort()
    return queues


def _place(request: Recorded) -> Place:
    return request.event or 0, request.order


def _place_of(turn: RecordedTurn) -> Place:
    return turn.event, -1


def _instants_of(take_ups: Iterable[tuple[str, int]]) -> Mapping[str, Sequence[int]]:
    """By session, in order."""
    instants: defaultdict[str, list[int]] = defaultdict(list)
    for session_id, at in sorted(take_ups):
        instants[session_id].append(at)
    return instants


def _commits_done(trace: Trace) -> Mapping[tuple[str, int], int]:
    """When the commit of a session's commands was done, by session and take-up; of a create, by its user."""
    done: dict[tuple[str, int], int] = {(turn.session, turn.at): turn.done for turn in trace.turns}
    for request in trace.requests:
        if request.taken is not None:
            who = request.session or _new_session(request.body["userId"])
            done.setdefault((who, request.taken), request.done)
    return done


def _forgotten(requests: Sequence[Recorded]) -> Mapping[str, int]:
    return {
        one.session: one.done
        for one in requests
        if one.operation == "endSession" and one.status == HTTPStatus.OK
    }


def _reads(requests: Sequence[Recorded]) -> Mapping[tuple[str, int], Read]:
    reads: dict[tuple[str, int], Read] = {}
    for request in requests:
        if request.operation == "getMessages" and request.session:
            messages = request.answer.get("messages") if request.answer else None
            seen = None if messages is None else [_epoch_ms(message["createdAt"]) for message in messages]
            reads[request.session, request.now] = Read(request.done, seen)
    return reads


def _epoch_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
