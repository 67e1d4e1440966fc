"""A look at the target before a run: whether it is there, lets us in, has the agents, and what their windows hold.

Plain blocking HTTP. What is asked here is charged like anything else, so the oracle hears of it.
"""

import re
import time
from typing import Any, NamedTuple

import httpx

from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.people.observation import Observation
from vigil.loadtests.runner.options import LoadError
from vigil.scenarios.play.api_key import api_key_fault
from vigil.scenarios.play.time_scale import HEADER, time_scale

ANSWER_S_MAX = 5.0

_BASE = "/api/messaging/sessions"
_REMAINING = re.compile(r'"agent";r=(\d{1,9})', re.ASCII)
_CREATED = 201


class Unreachable(LoadError):
    """Nobody answers at the URL as a server of this contract would."""


class Look(NamedTuple):
    """What a first look has shown. `before`: how many admissions each agent's window held already."""

    observations: list[Observation]
    before: dict[str, int]
    scale: float


def look(
    url: str, api_key: str, agents: tuple[str, ...], user: str, limits: Limits, time_scale: float | None
) -> Look:
    """Create and end a session with each agent. Raises Unreachable, or LoadError for what can be put right.

    `time_scale` is what somebody said of it, None for nothing: what the server's answers say counts.
    """
    if fault := api_key_fault(api_key):
        raise LoadError(f"the API key {fault}: give one with --api-key or VIGIL_API_KEY")
    seen = Look([], {}, 1.0)
    headers = {"Authorization": f"Bearer {api_key}"}
    try:
        with httpx.Client(
            base_url=url,
            headers=headers,
            timeout=ANSWER_S_MAX,
            verify=False,  # noqa: S501  as Locust does: a server under test has a certificate of its own
            trust_env=False,
        ) as client:
            for agent in agents:
                seen = _try(client, agent, user, limits, seen)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"nothing answers at {url}: {error or type(error).__name__}") from None
    if time_scale is not None and time_scale != seen.scale:
        raise LoadError(
            f"the server runs at --time-scale {seen.scale:g}, not at {time_scale:g}: leave the flag out, "
            "the scale is read from the server's answers"
        )
    return seen


def _try(client: httpx.Client, agent: str, user: str, limits: Limits, seen: Look) -> Look:
    """One session with one agent: what was seen until then, and of it."""
    body = {"agentId": agent, "userId": user}
    sent_s = time.monotonic()
    answer = client.post(_BASE, json=body)
    create = _seen("create", None, user, agent, sent_s, answer)
    _check(answer, agent)
    session_id = answer.json()["sessionId"]
    sent_s = time.monotonic()
    end = client.delete(f"{_BASE}/{session_id}")
    match = _REMAINING.search(answer.headers.get("RateLimit", ""))
    held = max(0, limits.agent.requests - 1 - int(match[1])) if match else 0
    both = [create, _seen("end", session_id, user, agent, sent_s, end)]
    return Look([*seen.observations, *both], {**seen.before, agent: held}, _scale(answer))


def _check(answer: httpx.Response, agent: str) -> None:
    """Raise LoadError for what would make every other request fail as well."""
    known = _REASONS.get(answer.status_code)
    if known is not None:
        raise LoadError(known.format(agent=agent))
    if answer.status_code != _CREATED or not _is_session(answer):
        raise Unreachable(
            f"{answer.request.url} answers {answer.status_code}, and not as a Sessions API would"
        )


def _scale(answer: httpx.Response) -> float:
    """How fast the server's time runs, as it says itself."""
    text = answer.headers.get(HEADER, "1")
    scale = time_scale(text)
    if scale is None:
        raise Unreachable(f"{answer.request.url} answers with {HEADER} {text!r}, which is none")
    return scale


_REASONS = {
    401: "the server does not know the API key: give one with --api-key or VIGIL_API_KEY",
    403: "the API key may not do everything: it needs all scopes",
    404: "the server has no agent {agent!r}: name its agents with --agent",
    429: "the limits of agent {agent!r} are used up: wait, or name another with --agent",
}


def _is_session(answer: httpx.Response) -> bool:
    try:
        body: Any = answer.json()
    except ValueError:
        return False
    return isinstance(body, dict) and {"sessionId", "sessionToken"} <= body.keys()


def _seen(
    operation: str, session: str | None, user: str, agent: str, sent_s: float, answer: httpx.Response
) -> Observation:
    return Observation(
        sent_s,
        time.monotonic(),
        operation,
        session,
        user,
        agent,
        answer.status_code,
        answer.headers.get("RateLimit", ""),
        answer.headers.get("RateLimit-Policy", ""),
        answer.headers.get("Retry-After", ""),
    )
