"""Breakages of a session's life: renewals, deadlines, warnings, tombstones."""

from tests.scenarios.breakages.breaking import (
    DEFAULTS,
    Handler,
    Patch,
    at_activity,
    breaks,
    everywhere,
    replace_handler,
)
from vigil.actors.core import expiry, lifecycle
from vigil.actors.core.commands import CancelTurn, Heartbeat, Renew, Retime, Transition
from vigil.actors.core.errors import (
    ChangeRefused,
    RenewalRefused,
)
from vigil.actors.core.events import Renewed, TimeoutUpdated
from vigil.actors.core.expiry import Phase
from vigil.actors.core.records import Session, State, TimeoutConfig, TimeoutPatch
from vigil.actors.indexes.tombstones import Tombstones
from vigil.actors.runtime import creation
from vigil.actors.runtime.host import ActorHost


@breaks(3, "renewal-forgets-the-cap", "the deadline is renewedAt + timeout, whatever the maximum duration")
def _(patch: Patch) -> None:
    def expires_at(session: Session) -> int:
        return session.renewed_at + session.config.timeout_minutes * expiry.MINUTE_MS

    everywhere(patch, expiry.expires_at, expires_at)


@breaks(3, "renewals-are-not-counted", "activity renews a session and does not count it")
def _(patch: Patch) -> None:
    at_activity(patch, lambda before, after: after[0]._replace(renewal_count=before.renewal_count))


@breaks(3, "renewals-count-at-the-cap", "activity counts as a renewal where nothing can be put off any more")
def _(patch: Patch) -> None:
    at_activity(
        patch,
        lambda before, after: after[0]._replace(
            renewal_count=before.renewal_count + before.config.auto_renew
        ),
    )


@breaks(3, "activity-is-not-noted", "a message or heartbeat leaves lastActivity alone")
def _(patch: Patch) -> None:
    at_activity(patch, lambda before, after: after[0]._replace(last_activity=before.last_activity))


@breaks(3, "heartbeat-renews-without-auto-renew", "a heartbeat renews although autoRenew is off")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Heartbeat, now: int) -> Transition:
        on = session._replace(config=session.config._replace(auto_renew=True))
        done = handler(on, asked, now)
        return done._replace(state=done.session._replace(config=session.config))

    replace_handler(patch, Heartbeat, change)


@breaks(3, "renew-is-activity", "POST /renew sets lastActivity")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Renew, now: int) -> Transition:
        done = handler(session, asked, now)
        return done if done.refusal else done._replace(state=done.session._replace(last_activity=now))

    replace_handler(patch, Renew, change)


@breaks(3, "renewed-at-the-cap", "POST /renew succeeds and counts although the cap is reached")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Renew, now: int) -> Transition:
        done = handler(session, asked, now)
        if not isinstance(done.refusal, RenewalRefused):
            return done
        after = session._replace(renewed_at=now, renewal_count=session.renewal_count + 1)
        return lifecycle._live(after, now, Renewed(expiry.expires_at(after), after.renewal_count))

    replace_handler(patch, Renew, change)


@breaks(11, "what-was-said-is-dropped", "a stopped answer leaves no message, whatever was said of it")
def _(patch: Patch) -> None:
    replace_handler(
        patch, CancelTurn, lambda handler, state, asked, now: handler(state, asked._replace(said=""), now)
    )


@breaks(3, "warning-is-not-armed-again", "a renewal by activity leaves the warning fired")
def _(patch: Patch) -> None:
    at_activity(patch, lambda before, after: after[0]._replace(warned=before.warned))


@breaks(3, "every-change-arms-the-warning", "a PATCH that moves neither deadline nor threshold warns again")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Retime, now: int) -> Transition:
        done = handler(session._replace(warned=False), asked, now)
        return done._replace(state=session) if done.refusal else done

    replace_handler(patch, Retime, change)


@breaks(3, "warning-comes-late", "the warning fires one minute after it is due")
def _(patch: Patch) -> None:
    real = expiry.warn_at
    everywhere(patch, real, lambda session: real(session) + expiry.MINUTE_MS)


@breaks(3, "expiry-a-millisecond-late", "a session still takes commands at expiresAt")
def _(patch: Patch) -> None:
    def phase(state: State, now: int) -> Phase:
        return real_phase(state, now - 1)

    def due_at(session: Session) -> int:
        return real_due_at(session) + session.warned

    real_phase, real_due_at = expiry.phase, expiry.due_at
    everywhere(patch, real_phase, phase)
    everywhere(patch, real_due_at, due_at)


@breaks(3, "expiry-reason-is-always-inactivity", "a session that reached its cap says it was idle")
def _(patch: Patch) -> None:
    everywhere(patch, expiry.expiry_reason, lambda _: "inactivity")


@breaks(3, "patch-falls-back-to-defaults", "what a PATCH does not say becomes the default again")
def _(patch: Patch) -> None:
    real = expiry.merge

    def merge(_config: TimeoutConfig, change: TimeoutPatch) -> TimeoutConfig:
        return real(DEFAULTS, change)

    patch.setattr(lifecycle, "merge", merge)  # creation has a name of its own for it


@breaks(3, "patch-into-the-past-is-accepted", "a PATCH may end the session by the way")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Retime, now: int) -> Transition:
        done = handler(session, asked, now)
        if not isinstance(done.refusal, ChangeRefused):
            return done
        after = session._replace(config=expiry.merge(session.config, asked.patch))
        return lifecycle._live(after, now, TimeoutUpdated(after))

    replace_handler(patch, Retime, change)


@breaks(3, "auto-renew-forgets-activity", "turning autoRenew on does not count from lastActivity")
def _(patch: Patch) -> None:
    def change(handler: Handler, session: Session, asked: Retime, now: int) -> Transition:
        done = handler(session._replace(last_activity=session.created_at), asked, now)
        if done.refusal:
            return done._replace(state=session)
        return done._replace(state=done.session._replace(last_activity=session.last_activity))

    replace_handler(patch, Retime, change)


@breaks(
    3, "creation-goes-by-defaults", "what a request does not say is the default, not the agent's or server's"
)
def _(patch: Patch) -> None:
    real = expiry.merge
    patch.setattr(creation, "merge", lambda _config, change: real(DEFAULTS, change))


@breaks(3, "tombstones-last-an-hour", "an expired session is 404 after an hour")
def _(patch: Patch) -> None:
    real = Tombstones.__init__

    def short(self: Tombstones, minutes: int, most: int) -> None:
        real(self, min(minutes, 60), most)

    patch.setattr(Tombstones, "__init__", short)


@breaks(3, "tombstones-without-bound", "more tombstones are kept than the setting allows")
def _(patch: Patch) -> None:
    real = Tombstones.__init__

    def many(self: Tombstones, minutes: int, _most: int) -> None:
        real(self, minutes, 1_000_000)

    patch.setattr(Tombstones, "__init__", many)


@breaks(3, "delete-leaves-the-tombstone", "DELETE of an expired session says 200 and removes nothing")
def _(patch: Patch) -> None:
    real = ActorHost._end_what_is_left

    async def leave(self: ActorHost, session_id: str) -> None:
        if self._registry.tombstones.get(session_id, self.clock.now()) is None:
            await real(self, session_id)

    patch.setattr(ActorHost, "_end_what_is_left", leave)
