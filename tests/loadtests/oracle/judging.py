"""Observations for the oracle, written down short, and its judgement of them."""

from collections.abc import Iterable

from vigil.loadtests.oracle.findings import Judgement, Kind, Limits, Tally
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.people.observation import Observation, Scope

REAL = Limits()


def judge(seen: Iterable[Observation], limits: Limits = REAL, scale: float = 1.0) -> Judgement:
    oracle = Oracle(limits, scale=scale)
    oracle.add(seen)
    return oracle.judge()


def tally(judgement: Judgement, scope: Scope) -> Tally:
    return next(each for each in judgement.tallies if each.scope == scope)


def answer(
    sent_s: float,
    took_s: float = 0.002,
    *,
    status: int = 200,
    remaining: int | None = None,
    reset_s: int = 60,
    retry_after: str = "",
    scope: str = "",
    operation: str = "heartbeat",
    session: str | None = "s",
) -> Observation:
    """An answer for session `s`, of user `u` and agent `a`. Of its headers only the session's item is looked at."""
    header = "" if remaining is None else rate_limit_header(remaining, reset_s)
    return Observation(
        sent_s,
        sent_s + took_s,
        operation,
        session,
        "u",
        "a",
        status,
        header,
        POLICY,
        retry_after,
        None,
        scope,
    )


POLICY = '"session";q=60;w=60, "user";q=1000;w=3600, "agent";q=5000;w=3600'


def rate_limit_header(remaining: int, reset_s: int) -> str:
    return f'"session";r={remaining};t={reset_s}, "user";r=999;t=3600, "agent";r=4999;t=3600'


def texts(found: Tally, kind: Kind) -> list[str]:
    return [finding.text for finding in found.findings if finding.kind == kind]
