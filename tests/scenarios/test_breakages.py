"""A script that notices nothing is worth nothing: each broken rule is seen by scripts of the library.

`make test` plays for each breakage the scripts that must notice it, `make prove` all of them. The table is printed:
`pytest -rP tests/scenarios/test_breakages.py`.
"""

import time
from collections.abc import Mapping
from functools import partial

import pytest
import trio

from tests.measure import PROVING
from tests.scenarios.breakages import BREAKAGES, broken
from tests.scenarios.language.test_script import LIBRARY
from vigil.scenarios.language import reading
from vigil.scenarios.language.reading import Located
from vigil.scenarios.play.player import play
from vigil.scenarios.play.targets import Virtual
from vigil.scenarios.virtual import determinism

DAYS_MAX_S = 8 * 24 * 3600  # of virtual time: a broken server may never answer

SCRIPTS: Mapping[str, Located] = {path.stem: reading.load(path) for path in LIBRARY}

# Who must notice; others may.
NOTICED_BY: Mapping[str, tuple[str, ...]] = {
    "renewal-forgets-the-cap": ("patient_reader", "three_days"),
    "renewals-are-not-counted": ("closed_laptop", "two_devices"),
    "renewals-count-at-the-cap": ("renewed_up_to_the_maximum",),
    "activity-is-not-noted": ("closed_laptop", "hanging_agent"),
    "heartbeat-renews-without-auto-renew": ("no_auto_renew", "retimed"),
    "renew-is-activity": ("manual_renewal",),
    "renewed-at-the-cap": ("manual_renewal", "retimed"),
    "what-was-said-is-dropped": ("stopped_answer",),
    "warning-is-not-armed-again": ("warnings", "warned_from_the_start", "health"),
    "every-change-arms-the-warning": ("warnings",),
    "warning-comes-late": ("warnings", "closing_codes"),
    "expiry-a-millisecond-late": ("no_auto_renew", "ended_and_forgotten"),
    "expiry-reason-is-always-inactivity": ("patient_reader", "manual_renewal"),
    "patch-falls-back-to-defaults": ("retimed",),
    "patch-into-the-past-is-accepted": ("retimed",),
    "auto-renew-forgets-activity": ("retimed",),
    "creation-goes-by-defaults": ("whose_settings",),
    "tombstones-last-an-hour": ("closed_laptop", "three_days"),
    "tombstones-without-bound": ("bounded_memory",),
    "delete-leaves-the-tombstone": ("ended_and_forgotten",),
    "equal-timestamps": ("paging_through_a_flood",),
    "has-more-on-an-exact-page": ("paging_through_a_flood",),
    "cursor-includes-its-message": ("paging_through_a_flood",),
    "idempotency-is-forgotten": ("idempotent_retries", "crash_in_a_talk"),
    "idempotency-key-for-any-body": ("idempotent_retries",),
    "idempotency-keys-last-for-ever": ("idempotent_retries",),
    "turns-out-of-order": ("turns_in_order",),
    "retried-for-ever": ("crash_in_a_turn",),
    "metadata-overwrites": ("forged_metadata",),
    "written-by-metadata": ("forged_metadata",),
    "a-crash-loses-a-message": ("crash_in_a_talk", "clean_restart"),
    "failures-without-the-message": ("failing_agent", "hanging_agent"),
    "nothing-is-streamed": ("streamed_reply",),
    "answers-do-not-say-why-they-end": ("streamed_reply",),
    "token-opens-other-sessions": ("tokens",),
    "window-one-too-large": ("burst_at_the_limit", "bad_input", "bounded_memory"),
    "window-a-millisecond-long": ("burst_at_the_limit", "refused_requests_are_free"),
    "windows-by-the-clock": ("sliding_window", "three_limits"),
    "refused-requests-are-charged": ("three_limits", "refused_requests_are_free"),
    "the-shorter-wait-is-named": ("three_limits",),
    "retry-after-rounded-down": ("burst_at_the_limit",),
    "bad-requests-are-free": ("bad_input",),
    "listeners-are-free": ("burst_at_the_limit", "two_devices"),
    "a-crash-keeps-the-windows": ("crash_in_a_talk",),
    "a-stop-forgets-the-windows": ("clean_restart",),
    "event-ids-have-gaps": ("resumed_listening", "closing_codes"),
    "no-resync": ("resumed_listening", "crash_in_a_talk"),
    "the-end-closes-as-a-stop": ("closing_codes",),
    "down-time-is-not-counted": ("down_time",),
    "expiring-soon-is-never-more": ("health", "down_time"),
    "total-counts-the-page": ("lists_and_statuses",),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_rule_is_noticed(name: str) -> None:
    breakage, must = BREAKAGES[name], NOTICED_BY[name]
    with broken(breakage):
        seen = [stem for stem in (SCRIPTS if PROVING else must) if not _holds(SCRIPTS[stem])]
    print(f"section {breakage.section}: {breakage.what}: noticed by {', '.join(seen) or 'nobody'}")
    assert seen
    assert set(must) <= set(seen)


@pytest.mark.parametrize("name", ["renewal-forgets-the-cap", "event-ids-have-gaps"])
def test_a_rule_that_was_broken_is_whole_again(name: str) -> None:
    """Plays with one seed are equal, so whatever a breakage left behind would be found."""
    must = NOTICED_BY[name]
    with broken(BREAKAGES[name]):
        assert not any(_holds(SCRIPTS[stem]) for stem in must)
    assert all(_holds(SCRIPTS[stem]) for stem in must)


def test_every_breakage_has_a_witness_and_every_script_is_one() -> None:
    assert NOTICED_BY.keys() == BREAKAGES.keys()
    assert {stem for stems in NOTICED_BY.values() for stem in stems} == SCRIPTS.keys()


def _holds(located: Located) -> bool:
    return determinism.run(partial(_play, located))


async def _play(located: Located) -> bool:
    with trio.move_on_after(DAYS_MAX_S):
        async with Virtual().open(located.script) as target:
            came = await play(located, target, clock=time.perf_counter)
        return came.verdict == "held"
    return False
