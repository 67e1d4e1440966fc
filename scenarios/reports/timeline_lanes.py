"""What a play's drawing is made of, as JSON values: a lane for each session, with deadlines, marks and what they say.

Instants are milliseconds from the play's beginning. It draws nothing, and texts are as they came: whoever shows
them escapes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from vigil.scenarios.language import durations
from vigil.scenarios.play.results import EventSeen, Exchange, Happening, Judged, Play, SessionSeen, What
from vigil.server.api.wire_time import epoch_ms

Json: TypeAlias = dict[str, Any]
State = Literal["good", "refused", "limited", "error", "lost", "failed"]
End = Literal["alive", "ended", "expired"]

MARKS_MAX = 1500  # of each sort in one play: exchanges, events, expectations
TEXT_MAX = 2000  # characters of one body
SERVICE = "The service"  # the lane of what is about no session
AGENT_ROW, EVENTS_ROW, EXPECTED_ROW = _OWN_ROWS = ("the agent", "events", "expected")
OK_BELOW, LIMITED = 400, 429
_OF_STATUS = ("status", "statuses")

# What is drawn for a verb; anything else is a read.
_VERBS = {
    "create": "create",
    "send": "message",
    "heartbeat": "heartbeat",
    "renew": "renewal",
    "retime": "retime",
    "end": "end",
    "listen": "listen",
}
_EVENTS = {
    "sessionCreated": "create",
    "sessionRenewed": "renewal",
    "sessionTimeoutUpdated": "retime",
    "sessionExpirationWarning": "warning",
    "sessionExpired": "expiry",
    "sessionEnded": "end",
    "agentError": "fault",
}


class Segment(NamedTuple):
    """A stretch in which the deadline stood still, so that the time remaining fell by what passed."""

    from_ms: int
    to_ms: int
    left_from_ms: int
    left_to_ms: int


class Mark(NamedTuple):
    """Something at an instant in one row of a lane."""

    at: int
    to: int
    step: int
    row: str
    kind: str
    state: State
    title: str
    parts: list[list[str]]  # [name, text] of everything there is to be known


def drawing(play: Play) -> Json:
    """All of it, ready for JSON. A play that took no time at all is drawn over its steps."""
    exchanges, left_exchanges = _some(play.exchanges, {judged.step for judged in play.failures})
    events, left_events = _some(play.events, set())
    judged, left_judged = _some(play.judged, {judged.step for judged in play.failures})
    kept = _Kept(exchanges, events, judged)
    left = {"requests": left_exchanges, "events": left_events, "expectations": left_judged}
    return {
        "length": play.ended_ms - play.started_ms,
        "steps": len(play.steps),
        "lanes": list(_lanes(play, kept)),
        "happenings": [_happening(play, happening) for happening in play.happenings],
        "downs": list(_downs(play)),
        "left": [f"{count} {name}" for name, count in left.items() if count],
    }


def segments(play: Play, session_id: str) -> list[Segment]:
    """How the deadline of a session went, as far as the play shows: answers and events say where it is."""
    points = sorted(_deadlines(play, session_id), key=lambda point: point[0])
    over = min(_over(play, session_id)[0], play.ended_ms)
    moved = points[:1] + [new for old, new in pairwise(points) if new[1] != old[1]]
    until = [at for at, _ in moved[1:]] + [over]
    found = []
    for (at, expires), following in zip(moved, until, strict=True):
        to = min(following, expires, over)
        if to > at:
            begin = play.started_ms
            found.append(Segment(at - begin, to - begin, expires - at, expires - to))
    return found


class _Kept(NamedTuple):
    exchanges: Sequence[Exchange]
    events: Sequence[EventSeen]
    judged: Sequence[Judged]


Stepped = TypeVar("Stepped", bound=Exchange | EventSeen | Judged)


def _some(items: Sequence[Stepped], wanted: set[int]) -> tuple[list[Stepped], int]:
    """At most MARKS_MAX and those of the wanted steps: the first and the last. Gives how many are left out too."""
    if len(items) <= MARKS_MAX:
        return list(items), 0
    half = MARKS_MAX // 2
    middle = [item for item in items[half:-half] if item.step in wanted][:half]
    kept = [*items[:half], *middle, *items[-half:]]
    return kept, len(items) - len(kept)


# --- lanes


def _lanes(play: Play, kept: _Kept) -> Iterator[Json]:
    ids = {session.name: session.session_id for session in play.sessions}
    marks = _by_lane(play, kept, ids)
    for session_id in dict.fromkeys(ids.values()):
        names = [name for name, its_id in ids.items() if its_id == session_id]
        yield _session_lane(play, session_id, names, marks.get(session_id, []))
    if "" in marks:
        yield {**_lane(SERVICE, marks[""]), "about": "", "segments": [], "over": None}


def _session_lane(play: Play, session_id: str, names: Sequence[str], marks: list[Mark]) -> Json:
    session = next(seen for seen in play.sessions if seen.session_id == session_id)
    at_ms, how = _over(play, session_id)
    stretches = segments(play, session_id)
    if stretches and not stretches[-1].left_to_ms:
        at_ms, how = play.started_ms + stretches[-1].to_ms, "expired"
    return {
        **_lane(", ".join(names), marks),
        "about": f"{session.user_id} with {session.agent_id}, {session_id}",
        "segments": [list(stretch) for stretch in stretches],
        "over": None if how == "alive" else {"at": at_ms - play.started_ms, "how": how},
    }


def _lane(name: str, marks: list[Mark]) -> Json:
    used = dict.fromkeys(mark.row for mark in marks)
    rows = [*(row for row in used if row not in _OWN_ROWS), *(row for row in _OWN_ROWS if row in used)]
    return {
        "name": name,
        "rows": rows,
        "marks": [
            mark._asdict() | {"row": rows.index(mark.row)} for mark in sorted(marks, key=lambda one: one.at)
        ],
    }


def _by_lane(play: Play, kept: _Kept, ids: Mapping[str, str]) -> dict[str, list[Mark]]:
    """Marks by session id; "" has those of the service, and of sessions that never came to be."""
    found: dict[str, list[Mark]] = {}
    wanted = _wanted(play)
    for exchange in kept.exchanges:
        state = _state(exchange.status)
        if state in ("limited", "error") and exchange.step in wanted:
            state = "refused"
        found.setdefault(ids.get(exchange.session, ""), []).extend(_exchange(play, exchange, state))
    for heard in _heard_together(kept.events):
        found.setdefault(ids.get(heard[0].session, ""), []).append(_event(play, heard))
    inside = {step.parent: step.session for step in play.steps if step.parent is not None}
    for judged in kept.judged:
        session = inside.get(judged.step) or _session_of(play, judged)
        found.setdefault(ids.get(session, ""), []).append(_judged(play, judged))
    return found


def _session_of(play: Play, judged: Judged) -> str:
    """An expected event belongs to the session that it was heard of, or to the only one there is."""
    step = play.steps[judged.step] if judged.step < len(play.steps) else None
    if step is None or step.session or step.verb != "expect_event":
        return step.session if step else ""
    heard = (event for event in reversed(play.events) if event.at_ms <= judged.at_ms)
    found = next((event.session for event in heard if event.type in step.label), "")
    return found or (play.sessions[0].name if len(play.sessions) == 1 else "")


def _heard_together(events: Sequence[EventSeen]) -> list[list[EventSeen]]:
    """One event that several listeners got at the same time is one."""
    found: dict[tuple[Any, ...], list[EventSeen]] = {}
    for number, event in enumerate(events):
        own = number if event.id is None else -1
        found.setdefault((event.session, event.type, event.id, event.at_ms, own), []).append(event)
    return list(found.values())


# --- marks


def _wanted(play: Play) -> set[int]:
    """The steps whose answers were what the script said: a refusal there is none to worry about.

    A burst is judged as a whole; each of its requests is a step inside it.
    """
    held = {judged.step for judged in play.judged if judged.held and judged.expectation in _OF_STATUS}
    return held | {step.index for step in play.steps if step.parent in held}


def _exchange(play: Play, exchange: Exchange, state: State) -> Iterator[Mark]:
    at, to = exchange.at_ms - play.started_ms, exchange.done_ms - play.started_ms
    row, kind = exchange.device or "client", _VERBS.get(exchange.operation, "read")
    as_expected = ", as expected" if state == "refused" else ""
    title = f"{exchange.operation}: {_answered(exchange)}{as_expected}"
    yield Mark(at, to, exchange.step, row, kind, state, title, _parts(play, exchange))
    reply = exchange.answer.get("agentResponse") if isinstance(exchange.answer, dict) else None
    if reply is not None:
        parts = [["reply", _text(reply)]]
        yield Mark(to, to, exchange.step, AGENT_ROW, "reply", "good", "the agent's reply", parts)


def _state(status: int) -> State:
    if status == 0:
        return "lost"
    if status == LIMITED:
        return "limited"
    return "good" if status < OK_BELOW else "error"


def _answered(exchange: Exchange) -> str:
    code = exchange.answer.get("code") if isinstance(exchange.answer, dict) else None
    return f"{exchange.status or 'no answer'}{f' {code}' if isinstance(code, str) else ''}"


def _parts(play: Play, exchange: Exchange) -> list[list[str]]:
    took_ms = exchange.done_ms - exchange.at_ms
    step = play.steps[exchange.step] if exchange.step < len(play.steps) else None
    parts = {
        "step": f"line {step.line}: {step.label}" if step else "",
        "took": durations.show(took_ms) if took_ms else "",
        "request": f"{exchange.method} {exchange.target}",
        "body": _text(exchange.request),
        "answer": f"{_answered(exchange)}\n{_text(exchange.answer)}".strip(),
        "headers": _cut("\n".join(f"{name}: {value}" for name, value in exchange.headers)),
    }
    return [[name, text] for name, text in parts.items() if text]


def _event(play: Play, heard: Sequence[EventSeen]) -> Mark:
    event = heard[0]
    at = event.at_ms - play.started_ms
    kind, row = _EVENTS.get(event.type, "event"), EVENTS_ROW
    if event.type == "messageBroadcast" and isinstance(event.data, dict) and event.data.get("isAgent"):
        kind = "reply"
    if kind in ("reply", "fault") or event.type == "messageChunk":
        row = AGENT_ROW
    parts = [["heard by", ", ".join(one.listener for one in heard)], ["data", _text(event.data)]]
    if event.id is not None:
        parts.insert(0, ["id", str(event.id)])
    return Mark(at, at, event.step, row, kind, "good", event.type, parts)


def _judged(play: Play, judged: Judged) -> Mark:
    at = judged.at_ms - play.started_ms
    state: State = "good" if judged.held else "failed"
    title = f"{judged.expectation}: {'held' if judged.held else 'failed'}"
    place = f"{play.file}:{judged.line}"
    parts = [["line", place], ["expected", _cut(judged.expected)], ["came", _cut(judged.came)]]
    return Mark(at, at, judged.step, EXPECTED_ROW, "expectation", state, title, parts)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1))


def _cut(text: str) -> str:
    left = len(text) - TEXT_MAX
    return text if left <= 0 else f"{text[:TEXT_MAX]}... ({left} characters left out)"


# --- the server itself


def _happening(play: Play, happening: Happening) -> Json:
    text = _HAPPENED[happening.what].format(happening.text)
    return {"at": happening.at_ms - play.started_ms, "text": text}


_HAPPENED: dict[What, str] = {
    "crashed": "crashed, to be down for {}",
    "stopped": "stopped, to be down for {}",
    "up again": "up again",
    "agent": "agent {}",
}


def _downs(play: Play) -> Iterator[list[int]]:
    """From when to when the server was down."""
    down: int | None = None
    for happening in play.happenings:
        if happening.what in ("crashed", "stopped"):
            down = happening.at_ms
        elif happening.what == "up again" and down is not None:
            yield [down - play.started_ms, happening.at_ms - play.started_ms]
            down = None
    if down is not None:
        yield [down - play.started_ms, play.ended_ms - play.started_ms]


# --- deadlines


def _deadlines(play: Play, session_id: str) -> Iterator[tuple[int, int]]:
    """(when, expiresAt) wherever the play says it, both session time."""
    names = {session.name for session in play.sessions if session.session_id == session_id}
    yield _first_deadline(play.sessions, session_id)
    for exchange in _told_first(play.exchanges):
        if exchange.session in names and (expires := _expires(exchange)) is not None:
            yield exchange.at_ms, expires
    for event in play.events:
        moved = event.type in ("sessionRenewed", "sessionTimeoutUpdated")
        if moved and event.session in names and (expires := _time(event.data)) is not None:
            yield event.happened_ms, expires


def _first_deadline(sessions: Sequence[SessionSeen], session_id: str) -> tuple[int, int]:
    return next(
        (seen.created_at_ms, seen.expires_at_ms) for seen in sessions if seen.session_id == session_id
    )


def _told_first(exchanges: Sequence[Exchange]) -> Iterator[Exchange]:
    """Without the answers that were given before: a repeated one speaks of the time of the first."""
    told: set[Any] = set()
    for exchange in exchanges:
        message = exchange.answer.get("id") if isinstance(exchange.answer, dict) else None
        if not isinstance(message, str) or message not in told:
            yield exchange
            told.add(message)


def _expires(exchange: Exchange) -> int | None:
    answer = exchange.answer
    if not isinstance(answer, dict) or _state(exchange.status) != "good":
        return None
    if exchange.operation == "send":
        return _time(answer.get("sessionStatus"))
    return _time(answer) if exchange.operation in ("get", "renew", "heartbeat", "retime") else None


def _time(body: Any) -> int | None:
    text = body.get("expiresAt") if isinstance(body, dict) else None
    try:
        return epoch_ms(text) if isinstance(text, str) else None
    except (ValueError, TypeError):  # a bad time is for the script to judge, not for the page
        return None


def _over(play: Play, session_id: str) -> tuple[int, End]:
    """When a session was over and how, as far as anybody said so; else the play's end."""
    names = {session.name for session in play.sessions if session.session_id == session_id}
    return min([(play.ended_ms, "alive"), *_ends(play, names)], key=lambda end: end[0])


def _ends(play: Play, names: set[str]) -> Iterator[tuple[int, End]]:
    for exchange in play.exchanges:
        if exchange.session in names and exchange.operation == "end" and _state(exchange.status) == "good":
            yield exchange.done_ms, "ended"
    for event in play.events:
        if event.session in names and event.type in _OVER:
            yield event.happened_ms, _OVER[event.type]


_OVER: dict[str, End] = {"sessionExpired": "expired", "sessionEnded": "ended"}
