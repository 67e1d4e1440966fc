"""A scenario of one recorded session: what was asked of it, when, and what came."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import yaml

from vigil.scenarios.language import durations
from vigil.scenarios.language.script import VERB_OF
from vigil.scenarios.replay.trace import Recorded, RecordedTurn, Start, Trace, TraceError

_TOLD = ("renewalCount", "sessionStatus.renewalCount", "sessionStatus.wasRenewed", "hasMore")
_STOPPED_MS = 60_000  # after it was stopped an agent would have spoken
_TIMES = ("expiresAt", "sessionStatus.expiresAt")


def busiest(trace: Trace) -> str:
    """The session with the most requests among those that the trace knows from their beginning."""
    began = _created(trace)
    counts = Counter(request.session for request in trace.requests if request.session in began)
    if not began:
        raise TraceError("the recording has no session from its beginning on: there is nothing to tell")
    return max(began, key=lambda session: counts[session])


def script(trace: Trace, session_id: str) -> str:
    """The YAML text of a scenario that does what was done to this session. Raises TraceError."""
    created = _created(trace).get(session_id)
    if created is None:
        raise TraceError(f"the recording does not have the creation of session {session_id}")
    asked = [one for one in trace.requests if one.operation in VERB_OF and not _refused_for_others(one)]
    own = [request for request in asked if request.session == session_id]
    turns = [turn for turn in trace.turns if turn.session == session_id]
    stopped = _stopped(own)
    steps = [_step(request, created.now, stopped) for request in (created, *own)]
    when = datetime.fromtimestamp(created.now / 1000, UTC)
    values = {
        "title": f"A session of {created.body['userId']} as it was recorded on {when:%Y-%m-%d at %H:%M:%S}",
        "why": f"It was recorded by version {trace.start.version}, with {len(steps)} requests.",
        "settings": _settings(trace.start, created.body["agentId"], turns, own),
        "steps": steps,
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _created(trace: Trace) -> dict[str, Recorded]:
    return {
        request.answer["sessionId"]: request
        for request in trace.requests
        if request.operation == "createSession" and request.status == HTTPStatus.CREATED
    }


def _refused_for_others(request: Recorded) -> bool:
    """Its user's or its agent's other sessions had used up the limit, and they are not in the scenario."""
    details = _at(request.answer, "details")
    return request.status == HTTPStatus.TOO_MANY_REQUESTS and details["scope"] != "session"


def _stopped(own: Sequence[Recorded]) -> dict[str, str]:
    """What messages are called whose answers were stopped, by their ids."""
    sent = {_at(one.answer, "id") for one in own if one.operation == "sendMessage"}
    ids = dict.fromkeys(_stopped_message(one) for one in own if one.operation == "cancelTurn")
    return {message_id: f"message{n}" for n, message_id in enumerate(ids, 1) if message_id in sent}


def _stopped_message(request: Recorded) -> str:
    return request.target.partition("?")[0].split("/")[-2]


def _step(request: Recorded, began: int, stopped: Mapping[str, str]) -> dict[str, Any]:
    verb = VERB_OF[request.operation]
    at = request.taken or request.now
    step: dict[str, Any] = {"at": durations.show(at - began)} if at > began else {}
    step |= _request(verb, request, stopped)
    if name := stopped.get(_at(request.answer, "id")):
        step["as"] = name
    if request.by == "token":
        step["auth"] = "token"
    elif request.by == "none":
        step["auth"] = "none"
    expected = dict(_expected(request.answer, began))
    step["expect"] = {"status": request.status, "body": expected} if expected else {"status": request.status}
    return step


def _request(verb: str, request: Recorded, stopped: Mapping[str, str]) -> dict[str, Any]:
    """What the verb says; a body that was refused goes as the raw text it was, or as so many letters."""
    body = request.body
    if isinstance(body, dict) and body.keys() <= {"bytes", "text"} and body:
        text = body.get("text", "x" * int(body.get("bytes", 0)))
        return {verb: {}, "raw": {"body": text}}
    said = dict(body or {})
    said |= {
        name: int(value) for name, value in parse_qsl(request.target.partition("?")[2]) if value.isdigit()
    }
    if verb == "stop":
        said["message"] = _message_in(request, stopped)
    if key := request.headers.get("idempotency-key"):
        said["idempotencyKey"] = key
    return {verb: said or None}


def _message_in(request: Recorded, stopped: Mapping[str, str]) -> str:
    """As the script knows it: by the answer of the step that sent it, where the recording has that."""
    message_id = _stopped_message(request)
    return f"${{{stopped[message_id]}.id}}" if message_id in stopped else message_id


def _expected(answer: Any, began: int) -> Iterator[tuple[str, Any]]:
    if not isinstance(answer, dict):
        return
    for path in _TOLD:
        if (value := _at(answer, path)) is not None:
            yield path, value
    for path in _TIMES:
        if (value := _at(answer, path)) is not None and "code" not in answer:
            since = round(datetime.fromisoformat(value).timestamp() * 1000) - began
            yield path, {"time": f"start{'-' if since < 0 else '+'}{durations.show(abs(since))}"}
    if "code" in answer:
        yield "code", answer["code"]


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _settings(
    start: Start, agent_id: str, turns: Sequence[RecordedTurn], own: Sequence[Recorded]
) -> dict[str, Any]:
    limits = start.settings.limits
    defaults = start.settings.defaults
    return {
        "limits": {
            name: str(limit)
            for name, limit in (("session", limits.session), ("user", limits.user), ("agent", limits.agent))
        },
        "defaults": {_camel(name): value for name, value in defaults.items()},
        "agents": [_agent(start, agent_id, turns, own)],
    }


def _agent(
    start: Start, agent_id: str, turns: Sequence[RecordedTurn], own: Sequence[Recorded]
) -> dict[str, Any]:
    """One that says what was said to the same words, as late."""
    agent = next(agent for agent in start.agents if agent.id == agent_id)
    entry: dict[str, Any] = {"id": agent.id, "name": agent.name, "kind": "none"}
    limits = {"session_limit": agent.session_limit, "agent_limit": agent.agent_limit}
    entry |= {name: str(limit) for name, limit in limits.items() if limit is not None}
    if timeouts := {_camel(name): value for name, value in agent.timeouts.items() if value is not None}:
        entry["timeoutConfig"] = timeouts
    if not agent.answers:
        return entry
    asked = {request.taken: request.body["content"] for request in own if _is_message(request)}
    rules = [_rule(asked[turn.to], turn) for turn in turns if turn.to in asked]
    return entry | {"kind": "scripted", "rules": [*rules, {"reply": "(nothing was recorded)"}]}


def _is_message(request: Recorded) -> bool:
    return request.operation == "sendMessage" and isinstance(request.body, dict) and "content" in request.body


def _rule(content: str, turn: RecordedTurn) -> dict[str, Any]:
    took_ms = turn.at - turn.to + (_STOPPED_MS if turn.is_cancelled else 0)
    rule: dict[str, Any] = {
        "match": f"^{re.escape(content)}$",
        "reply": (turn.reply or "(it failed)").replace("$", "$$"),
        "delay_ms": {"min": took_ms, "max": took_ms},
    }
    return rule if turn.is_cancelled or turn.reply is not None else rule | {"failures": {"fail": 1.0}}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
