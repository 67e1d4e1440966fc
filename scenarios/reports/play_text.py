"""Plays in words, for a terminal, for CI and as JSON. It judges nothing."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vigil.scenarios.language import durations, matchers
from vigil.scenarios.play.results import EventSeen, Exchange, Play, as_json
from vigil.scenarios.reports.junit import Case, junit

STORY_LINES_MAX = 40


class _Told(NamedTuple):
    """One line of what happened, in order."""

    at_ms: int
    text: str


def line(play: Play) -> str:
    """One play in one line."""
    if play.verdict == "skipped":
        return f"skipped  {play.title}: {play.reason}"
    return f"{play.verdict:<7}  {play.title}  ({_took(play.ended_ms - play.started_ms, play.real_s)})"


def failure(play: Play) -> str:
    """What did not hold: where it stands, what was expected, what came, and all that happened up to there."""
    return "\n".join(_failure(play))


def summary(plays: Sequence[Play]) -> str:
    """All plays in one line."""
    counted = Counter(play.verdict for play in plays)
    verdicts = ", ".join(f"{counted[verdict]} {verdict}" for verdict in ("held", "failed", "skipped"))
    session_ms = sum(play.ended_ms - play.started_ms for play in plays)
    return f"{verdicts}  ({_took(session_ms, sum(play.real_s for play in plays))})"


def as_junit(plays: Sequence[Play]) -> str:
    """JUnit XML: one case a play."""
    return junit("vigil replay", [_case(play) for play in plays])


def as_text(plays: Sequence[Play]) -> str:
    """JSON: everything about all plays."""
    return json.dumps({"plays": [as_json(play) for play in plays]}, ensure_ascii=False, indent=1)


def _took(session_ms: int, real_s: float) -> str:
    shown_ms = round(session_ms, -3) or session_ms
    real = f"{real_s * 1000:.0f} ms" if real_s < 1 else f"{real_s:.1f} s"
    return f"{durations.show(shown_ms)} of session time in {real}"


def _case(play: Play) -> Case:
    failed = failure(play) if play.verdict == "failed" else None
    return Case(play.title, play.real_s, failed, play.reason if play.verdict == "skipped" else None)


def _failure(play: Play) -> Iterator[str]:
    for judged in play.failures:
        yield f"  {play.file}:{judged.line}: {play.steps[judged.step].label}"
        yield f"    {judged.expectation}"
        yield f"      expected  {judged.expected}"
        yield f"      came      {judged.came}"
    story = [*_story(play)]
    yield "  up to there" + (
        f" (the last {STORY_LINES_MAX} of {len(story)} lines)" if len(story) > STORY_LINES_MAX else ""
    )
    for told in story[-STORY_LINES_MAX:]:
        yield f"    {durations.show(told.at_ms - play.started_ms):>12}  {told.text}"


def _story(play: Play) -> list[_Told]:
    told = [
        *(_Told(exchange.done_ms, _exchange(exchange)) for exchange in play.exchanges),
        *(_Told(event.at_ms, _event(event)) for event in play.events),
        *(
            _Told(happening.at_ms, f"the server: {happening.what} {happening.text}")
            for happening in play.happenings
        ),
    ]
    return sorted(told, key=lambda one: one.at_ms)


def _exchange(exchange: Exchange) -> str:
    who = f"{exchange.device}: " if exchange.device else ""
    code = exchange.answer.get("code", "") if isinstance(exchange.answer, dict) else ""
    sent = "" if exchange.request is None else f" {matchers.shown(exchange.request)[:80]}"
    return f"{who}{exchange.operation} {exchange.session}{sent} -> {exchange.status} {code}".rstrip()


def _event(event: EventSeen) -> str:
    return f"  {event.listener} hears {event.type} {matchers.shown(event.data)[:80]}"
