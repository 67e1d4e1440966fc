"""The deliberate bugs that a simulation must find, and a short run that shows each.

A run shows a bug by what the model or the leak check says: a bug that ends in a crash would be found by anybody.
Most of them are `tests.scenarios.breakages`; here are those that only a population meets: many at once, crashes in
the middle of a commit, what is left when everybody has gone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import trio

from tests.scenarios.breakages import BREAKAGES, Breakage
from vigil.actors.core import lifecycle
from vigil.actors.core.events import Event, Renewed
from vigil.actors.hub.hub import Notice, Subscription
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.limits.limiter import Limits
from vigil.actors.runtime import actor as session
from vigil.actors.runtime.mailbox import Ask
from vigil.actors.turns.turns import Turns
from vigil.scenarios.simulation.faults.plan import KINDS
from vigil.scenarios.simulation.outcome import Settings
from vigil.server.api import gateway
from vigil.server.api.call import Site

Patch = pytest.MonkeyPatch


class Shown(NamedTuple):
    """A short run that shows a bug, by its seed, and the id of the rule that notices it first."""

    seed: int
    rule: str


def _acknowledge_first(patch: Patch) -> None:
    def carry_out(self: session.SessionActor, asks: Sequence[Ask]) -> None:
        now, before, state = self._host.clock.now(), self.session, self.state
        transitions = []
        for ask in asks:
            transitions.append(lifecycle.step(state, ask.command, now))
            state = transitions[-1].state
        writes = session._writes(before, now, asks, transitions)
        self._apply(transitions)
        for ask, transition in zip(asks, transitions, strict=True):
            ask.answer(transition)
        self._host.store.submit(writes, lambda _error: None)
        self._resume()

    patch.setattr(session.SessionActor, "_process_batch", carry_out)


def _take_each_turn_twice(patch: Patch) -> None:
    submit = Turns._submit

    def twice(self: Turns, actor: session.SessionActor, *owed: Any) -> None:
        submit(self, actor, *owed)
        submit(self, actor, *owed)

    patch.setattr(Turns, "_submit", twice)


def _skip_renewals(patch: Patch) -> None:
    put = Subscription.put

    def skip(self: Subscription, notice: Notice) -> None:
        if not (isinstance(notice.news, Event) and isinstance(notice.news.data, Renewed)):
            put(self, notice)

    patch.setattr(Subscription, "put", skip)


def _windows_outlive_a_crash(patch: Patch) -> None:
    begin, last = Limits.__init__, dict[object, Limits]()  # by the run: one has nothing of another

    def begin_with_the_last_ones(self: Limits, *args: Any) -> None:
        begin(self, *args)
        run = trio.lowlevel.current_trio_token()
        if run in last:
            self.restore([one for one in last[run].saved() if one.scope == "user"], lambda _: None)
        last[run] = self

    patch.setattr(Limits, "__init__", begin_with_the_last_ones)


def _keep_listeners(patch: Patch) -> None:
    def keep(site: Site, session_id: str, subscription: Subscription) -> None:
        site.directory.hub.unsubscribe(session_id, subscription)

    patch.setattr(gateway, "stop_listening", keep)


BUGS: dict[str, Breakage] = BREAKAGES | {
    "acknowledged-before-the-commit": Breakage(4, "an answer goes out before its commit", _acknowledge_first),
    "turns-taken-twice": Breakage(4, "each message is answered twice", _take_each_turn_twice),
    "tombstones-are-forgotten-at-once": Breakage(
        3, "an expired session is 404", lambda patch: patch.setattr(Tombstones, "get", lambda *_: None)
    ),
    "windows-outlive-a-crash": Breakage(
        7, "a crash leaves the users' windows full", _windows_outlive_a_crash
    ),
    "listeners-miss-renewals": Breakage(8, "nobody hears of a renewal", _skip_renewals),
    "listeners-are-never-forgotten": Breakage(8, "one that went is kept", _keep_listeners),
    "windows-are-never-forgotten": Breakage(
        7, "empty windows are kept", lambda patch: patch.setattr(Limits, "forget_empty", lambda *_: None)
    ),
}

# Twenty people in two hours with all faults, and the seed under which they notice first; found by trying.
# A tombstone lives for a day, so it is one that is forgotten after an hour.
SHOWN: dict[str, Shown] = {
    "renewal-forgets-the-cap": Shown(3, "3 created"),
    "renewals-are-not-counted": Shown(1, "3 sendMessage"),
    "renewals-count-at-the-cap": Shown(3, "3 sendMessage"),
    "activity-is-not-noted": Shown(1, "3 expired"),
    "answers-do-not-say-why-they-end": Shown(1, "11 finishReason"),
    "heartbeat-renews-without-auto-renew": Shown(1, "3 heartbeat"),
    "renew-is-activity": Shown(1, "3 renewSession"),
    "renewed-at-the-cap": Shown(1, "3 renewSession"),
    "warning-is-not-armed-again": Shown(11, "8 warning"),
    "warning-comes-late": Shown(1, "10 health"),
    "expiry-a-millisecond-late": Shown(1, "7 counted"),
    "expiry-reason-is-always-inactivity": Shown(3, "3 expired"),
    "patch-falls-back-to-defaults": Shown(1, "3 updateTimeout"),
    "patch-into-the-past-is-accepted": Shown(4, "3 updateTimeout"),
    "auto-renew-forgets-activity": Shown(4, "3 updateTimeout"),
    "creation-goes-by-defaults": Shown(1, "3 created"),
    "tombstones-last-an-hour": Shown(1, "1 stats"),
    "delete-leaves-the-tombstone": Shown(1, "3 expired"),
    "equal-timestamps": Shown(1, "4 timestamps"),
    "has-more-on-an-exact-page": Shown(1, "4 hasMore"),
    "cursor-includes-its-message": Shown(1, "4 bounds"),
    "idempotency-is-forgotten": Shown(1, "4 repeat"),
    "idempotency-key-for-any-body": Shown(2, "4 key reused"),
    "turns-out-of-order": Shown(1, "4 turns"),
    "token-opens-other-sessions": Shown(3, "6 order"),
    "window-one-too-large": Shown(1, "7 ratelimit"),
    "window-a-millisecond-long": Shown(3, "7 ratelimit"),
    "refused-requests-are-charged": Shown(1, "7 ratelimit"),
    "retry-after-rounded-down": Shown(1, "7 retry-after"),
    "bad-requests-are-free": Shown(1, "7 counted"),
    "listeners-are-free": Shown(1, "7 counted"),
    "event-ids-have-gaps": Shown(1, "8 ids"),
    "no-resync": Shown(2, "8 ids"),
    "the-end-closes-as-a-stop": Shown(1, "8 close"),
    "expiring-soon-is-never-more": Shown(1, "10 health"),
    "total-counts-the-page": Shown(2, "1 total"),
    "acknowledged-before-the-commit": Shown(4, "4 lost"),
    "turns-taken-twice": Shown(1, "5 answer"),
    "tombstones-are-forgotten-at-once": Shown(1, "3 not found"),
    "windows-outlive-a-crash": Shown(1, "7 ratelimit"),
    "listeners-miss-renewals": Shown(1, "8 ids"),
    "listeners-are-never-forgotten": Shown(4, "leak"),
    "windows-are-never-forgotten": Shown(1, "leak"),
}


def settings(seed: int) -> Settings:
    return Settings(seed, people=20, hours=2.0, faults=KINDS)
