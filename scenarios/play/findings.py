"""What was expected of a response, an event or a burst, and what came. Pure: what follows from it is the player's."""

from collections.abc import Iterator, Mapping
from typing import Any

from vigil.scenarios.language import durations, matchers
from vigil.scenarios.language.expectations import Expect
from vigil.scenarios.language.matchers import Finding, Moment
from vigil.scenarios.language.paths import MISSING, look
from vigil.scenarios.language.verbs import ExpectEvent
from vigil.scenarios.play.context import Response
from vigil.scenarios.play.inbox import Frame, Inbox
from vigil.scenarios.play.results import Judged


def parts_found(
    expect: Expect, response: Response, moment: Moment
) -> Iterator[tuple[tuple[str, str], Finding]]:
    """Each header and each part of the body that something is expected of, with what was found."""
    for name, matcher in expect.headers.items():
        value = response.headers.get(name.lower(), MISSING)
        yield ("headers", name), matchers.judge_header(matcher, value, moment)
    for path, matcher in expect.body.items():
        yield ("body", path), matchers.judge(matcher, look(response.body, path), moment)


def event_found(wanted: ExpectEvent, frame: Frame | None, inbox: Inbox) -> Finding:
    """Whether the frame that was taken, or none, is what was wanted."""
    kind, within = wanted.type or "any event", durations.show(wanted.within)
    came = "nothing" if frame is None else f"{frame['type']} {matchers.shown(frame.get('data'))}"
    if wanted.never:
        return Finding(frame is None, f"no {kind} within {within}", came)
    if frame is None and (others := inbox.not_taken()):
        came = f"only {', '.join(others)}"
    is_it = frame is not None and wanted.type in (None, frame["type"])
    return Finding(is_it, f"{'next ' if wanted.next else ''}{kind} within {within}", came)


def with_body(finding: Finding, body: Any) -> Finding:
    """A status that nobody expected is explained by its body."""
    return finding if finding.held else finding._replace(came=f"{finding.came} {matchers.shown(body)}")


def counts(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def in_words(failure: Judged) -> str:
    return f"{failure.expectation}: expected {failure.expected}, came {failure.came}"
