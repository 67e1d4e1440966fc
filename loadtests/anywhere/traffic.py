"""The traffic that brings a limit to its edge: a burst, and then a little again and again while the window slides.

A fixed window, a sliding counter and a token bucket let too many in under it; a log of timestamps does not. Knows
nothing of proofs.
"""

import json
from collections.abc import Iterator
from math import ceil

import httpx
import trio

from vigil.loadtests.anywhere.judging import Outcome, Seen
from vigil.loadtests.anywhere.profile import SUBJECT, Profile, RequestTemplate

PROBES = 20  # in a window, after its burst
BURST = 1.2  # of the limit

_SUCCESSES = range(200, 400)
_ANSWER_S = 30.0


async def observe(profile: Profile) -> list[Seen]:
    """Send until the run time is over, and give what came of it. Raises httpx.HTTPError when nothing ever answers."""
    seen: list[Seen] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=_ANSWER_S, limits=limits) as http:
        (await http.send(_request(http, profile.request, profile.subjects[0]))).raise_for_status()
        began_s = trio.current_time()
        await trio.sleep(profile.window_s)  # until that one no longer counts
        with trio.move_on_after(profile.run_s):
            async with trio.open_nursery() as nursery:
                for number, subject in enumerate(profile.subjects):
                    late_s = profile.window_s * number / len(profile.subjects) / PROBES
                    nursery.start_soon(_one_subject, http, profile, subject, late_s, began_s, seen)
    return seen


async def _one_subject(
    http: httpx.AsyncClient, profile: Profile, subject: str, late_s: float, began_s: float, seen: list[Seen]
) -> None:
    await trio.sleep(late_s)
    while True:
        for count in _counts(profile.limit.requests):
            next_s = trio.current_time() + profile.window_s / PROBES
            gate = trio.CapacityLimiter(profile.at_once)
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(_ask, http, profile, subject, gate, began_s, seen)
            await trio.sleep_until(next_s)
        await trio.sleep(profile.window_s)  # it empties


def _counts(limit: int) -> Iterator[int]:
    yield ceil(limit * BURST)
    yield from [max(1, limit // 10)] * PROBES


async def _ask(
    http: httpx.AsyncClient,
    profile: Profile,
    subject: str,
    gate: trio.CapacityLimiter,
    began_s: float,
    seen: list[Seen],
) -> None:
    """One request. One that is cut off by the end of the run may have been admitted."""
    async with gate:
        sent_s = trio.current_time() - began_s
        outcome: Outcome = "unknown"
        retry_after_s = None
        try:
            answer = await http.send(_request(http, profile.request, subject))
            outcome = _outcome(answer, profile)
            retry_after_s = _seconds(answer.headers.get(profile.retry_after))
        except httpx.HTTPError:
            pass
        finally:
            received_s = trio.current_time() - began_s
            seen.append(Seen(subject, sent_s, received_s, outcome, retry_after_s))


def _outcome(answer: httpx.Response, profile: Profile) -> Outcome:
    if answer.status_code in profile.refused:
        return "refused"
    return "admitted" if answer.status_code in _SUCCESSES else "unknown"


def _seconds(text: str | None) -> float | None:
    """A date, which HTTP allows too, is too coarse to judge."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _request(http: httpx.AsyncClient, template: RequestTemplate, subject: str) -> httpx.Request:
    def put(text: str) -> str:
        return text.replace(SUBJECT, subject)

    headers = {name: put(value) for name, value in template.headers.items()}
    body = template.body
    if isinstance(body, dict | list):
        headers.setdefault("Content-Type", "application/json")
        body = json.dumps(body)
    return http.build_request(
        template.method, put(template.url), headers=headers, content=None if body is None else put(body)
    )
