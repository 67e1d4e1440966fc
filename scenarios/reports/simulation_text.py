"""A simulation's outcome as text for people. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping

from vigil.scenarios.simulation.outcome import Outcome, Settings

HOUR_MS = 3_600_000


def heading(settings: Settings, version: str) -> str:
    """What is about to run: everything that is needed to run it again."""
    return (
        f"seed {settings.seed}, vigil {version}: {settings.people} people ({settings.mix}) "
        f"for {settings.hours:g} hours, faults {', '.join(settings.faults) or 'none'}"
    )


def summary(outcome: Outcome) -> str:
    """Everything that happened in a screenful, and at its end whether it held."""
    return "\n".join((*_requests(outcome), *_figures(outcome), *_verdict(outcome)))


def _requests(outcome: Outcome) -> Iterator[str]:
    yield "requests by operation and status"
    for operation, statuses in outcome.answers.items():
        yield f"  {operation:<16}{_counts(statuses)}"


def _figures(outcome: Outcome) -> Iterator[str]:
    bands = Counter(f"{band.kind} (clean)" if band.clean else band.kind for band in outcome.bands)
    rows = {
        "people": _counts(outcome.people),
        "sessions": f"{outcome.sessions_begun} begun; {_counts(outcome.sessions_ended)}",
        "limits hit": _counts(outcome.limits_hit),
        "events heard": _counts(outcome.events),
        "faults": _counts(bands),
        "what they did": _counts(outcome.struck),
        "time": f"{outcome.virtual_ms / HOUR_MS:.1f} virtual hours in {outcome.real_s:.1f} s",
        "speed": f"{outcome.requests} requests, {outcome.requests_a_second:.0f} a second; {outcome.commits} commits",
        "hash": outcome.hash,
    }
    for name, text in rows.items():
        yield f"{name:<18}{text}"


def _verdict(outcome: Outcome) -> Iterator[str]:
    failure = outcome.violation
    if failure is None:
        yield "held"
        return
    yield f"VIOLATED after {failure.at_ms / HOUR_MS:.2f} hours: {failure.message}"
    for (number, person, operation, _, at_ms, took_ms, status), request, answer in failure.evidence:
        yield f"  #{number} {operation} of person {person}, sent at {at_ms} ms and over after {took_ms} ms"
        yield f"    {request}"
        yield f"    {status or 'no answer'} {answer}"
    yield f"again: {outcome.settings.repro}"


def _counts(counts: Mapping[str, int]) -> str:
    return "  ".join(f"{name} {count}" for name, count in counts.items()) or "none"
