"""The limits against brute force over the log of admitted requests (spec section 7)."""

import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tests.actors.limits.asking import T0, Asker, next_empty_at
from tests.measure import examples
from vigil.actors.core.errors import RateLimited
from vigil.actors.core.quotas import Limit, Quota, Refused, Scope
from vigil.actors.limits.limiter import Limits

SESSIONS = {
    "s1": ("u1", "a1"),
    "s2": ("u1", "a2"),
    "s3": ("u2", "a1"),
    "s4": ("u2", "own"),
    "s5": ("u1", "own"),
}


@dataclass
class Log:
    """Every admitted request, for ever; counting over it is the definition of the limits."""

    session: Limit
    user: Limit
    agent: Limit
    overrides: dict[str, tuple[Limit | None, Limit | None]] = field(default_factory=dict)
    admitted: list[tuple[int, dict[Scope, str]]] = field(default_factory=list)

    def limit(self, scope: Scope, agent_id: str) -> Limit:
        own_session, own_agent = self.overrides.get(agent_id, (None, None))
        return {"session": own_session or self.session, "user": self.user, "agent": own_agent or self.agent}[
            scope
        ]

    def counted(self, now: int, scope: Scope, subject: str, limit: Limit) -> list[int]:
        """The instants that count at `now`: those in (now - length, now]."""
        length = limit.window_s * 1000
        return [
            at
            for at, subjects in self.admitted
            if subjects.get(scope) == subject and now - length < at <= now
        ]

    def has_room(self, now: int, subjects: dict[Scope, str]) -> bool:
        return all(self.remaining(now, scope, subjects) > 0 for scope in subjects)

    def remaining(self, now: int, scope: Scope, subjects: dict[Scope, str]) -> int:
        limit = self.limit(scope, subjects["agent"])
        return max(0, limit.requests - len(self.counted(now, scope, subjects[scope], limit)))

    def reset_ms(self, now: int, scope: Scope, subjects: dict[Scope, str]) -> int:
        """Looks at every instant at which something drops out, until more remains than now."""
        limit = self.limit(scope, subjects["agent"])
        before = self.remaining(now, scope, subjects)
        for at in sorted(self.counted(now, scope, subjects[scope], limit)):
            drops_out_at = at + limit.window_s * 1000
            if self.remaining(drops_out_at, scope, subjects) > before:
                return drops_out_at - now
        return 0

    def quotas(self, now: int, subjects: dict[Scope, str]) -> tuple[Quota, ...]:
        return tuple(
            Quota(
                scope,
                self.limit(scope, subjects["agent"]),
                self.remaining(now, scope, subjects),
                self.reset_ms(now, scope, subjects),
            )
            for scope in subjects
        )


def subjects_of(user_id: str, agent_id: str, session_id: str | None) -> dict[Scope, str]:
    subjects: dict[Scope, str] = {"user": user_id, "agent": agent_id}
    return subjects if session_id is None else {"session": session_id, **subjects}


def check_refusal(log: Log, now: int, subjects: dict[Scope, str], refused: Refused) -> None:
    wait_ms = refused.wait_ms
    assert wait_ms > 0
    assert log.has_room(now + wait_ms, subjects)
    assert not log.has_room(now + wait_ms - 1, subjects)
    edges = {at + s * 1000 - now for at, _ in log.admitted for s in (1, 60, 3600)}
    earlier = {wait for edge in edges for wait in (edge - 1, edge) if 0 <= wait < wait_ms}
    assert not any(log.has_room(now + wait, subjects) for wait in earlier)
    retry_after_s = math.ceil(wait_ms / 1000)
    assert log.has_room(now + retry_after_s * 1000, subjects)
    assert not log.has_room(now + (retry_after_s - 1) * 1000, subjects)
    limit = log.limit(refused.scope, subjects["agent"])
    assert (refused.limit, refused.window_s) == limit
    assert log.remaining(now, refused.scope, subjects) == 0
    assert wait_ms == log.reset_ms(now, refused.scope, subjects)
    full = [scope for scope in subjects if log.remaining(now, scope, subjects) == 0]
    assert wait_ms == max(log.reset_ms(now, scope, subjects) for scope in full)


def decide(limits: Limits, now: int, asker: Asker) -> tuple[Quota, ...] | Refused:
    try:
        return limits.admit(now, *asker)
    except RateLimited as error:
        return error.refused


def ask_both(log: Log, limits: Limits, now: int, asker: Asker) -> Refused | None:
    """One request to the limits and to brute force."""
    subjects = subjects_of(*asker)
    fits = log.has_room(now, subjects)
    decision = decide(limits, now, asker)
    if isinstance(decision, Refused):
        assert not fits, "refused although all three had room"
        check_refusal(log, now, subjects, decision)
        assert decision.quotas == log.quotas(now, subjects)
        return decision
    assert fits, "one too many"
    log.admitted.append((now, subjects))
    assert decision == log.quotas(now, subjects)
    return None


small_limits = st.builds(Limit, st.integers(1, 6), st.sampled_from([1, 60]))
agent_limits = st.builds(Limit, st.integers(1, 9), st.sampled_from([1, 60, 3600]))
overrides = st.fixed_dictionaries({"own": st.tuples(st.none() | small_limits, st.none() | agent_limits)})
gaps = st.one_of(
    st.just(0),  # bursts and ties
    st.integers(1, 400),
    st.sampled_from([998, 999, 1000, 1001, 59_999, 60_000, 60_001, 3_599_999, 3_600_000, 3_600_001]),
    st.integers(1, 90_000),
)
askers = st.one_of(
    st.sampled_from([(user, agent, session) for session, (user, agent) in SESSIONS.items()]),
    st.tuples(st.sampled_from(["u1", "u2"]), st.sampled_from(["a1", "a2", "own"]), st.none()),
)
edge = st.just("edge")  # come back exactly when the last refusal said
requests = st.lists(st.tuples(gaps | edge, askers), max_size=60)
rules = st.tuples(small_limits, agent_limits, agent_limits, overrides)
Rules = tuple[Limit, Limit, Limit, dict[str, tuple[Limit | None, Limit | None]]]
Requests = list[tuple[int | str, Asker]]


@examples(300)
@given(rules, requests)
def test_every_decision_is_the_one_that_brute_force_makes(rules: Rules, requests: Requests) -> None:
    log, limits = Log(*rules), Limits(*rules)
    now, wait_ms = T0, 0
    for gap, asker in requests:
        now += wait_ms if isinstance(gap, str) else gap
        refused = ask_both(log, limits, now, asker)
        wait_ms = refused.wait_ms if refused else 0


@examples(150)
@given(rules, requests, st.integers(1, 5))
def test_forgetting_empty_windows_changes_no_decision_and_leaves_no_empty_one(
    rules: Rules, requests: Requests, every: int
) -> None:
    log, limits = Log(*rules), Limits(*rules)
    now = T0
    for n, (gap, asker) in enumerate(requests):
        now += gap if isinstance(gap, int) else 0
        ask_both(log, limits, now, asker)
        if n % every == 0:
            limits.forget_empty(now)
            assert limits.statistics().windows == len(live_windows(log, now))
        assert len(limits._empty_at) == limits.statistics().windows, "one entry a window is enough to find it"
    limits.forget_empty(now)
    while (at := next_empty_at(limits)) is not None:
        assert at > now, "forgetting left something that was due"
        now = at
        limits.forget_empty(now)
        assert limits.statistics().windows == len(live_windows(log, now))
    assert limits.statistics().windows == 0


def live_windows(log: Log, now: int) -> set[tuple[str, str]]:
    return {
        (scope, subject)
        for at, subjects in log.admitted
        for scope, subject in subjects.items()
        if at > now - log.limit(scope, agent_of_request(subjects)).window_s * 1000
    }


def agent_of_request(subjects: dict[Scope, str]) -> str:
    return subjects["agent"]


def agent_of(session_id: str) -> str | None:
    return SESSIONS[session_id][1] if session_id in SESSIONS else None


@examples(150)
@given(rules, requests, rules, requests)
def test_after_a_clean_restart_every_decision_goes_on_even_under_other_limits(
    rules: Rules, before: Requests, new_rules: Rules, after: Requests
) -> None:
    """Under limits of other counts (the same windows) nothing is forgotten, and surplus is waited out."""
    new_rules = with_windows_of(rules, new_rules)
    log, limits, now = Log(*rules), Limits(*rules), T0
    for gap, asker in before:
        now += gap if isinstance(gap, int) else 0
        ask_both(log, limits, now, asker)
    log = Log(*new_rules, admitted=log.admitted)
    restarted = Limits(*new_rules)
    restarted.restore(limits.saved(), agent_of)
    for gap, asker in after:
        now += gap if isinstance(gap, int) else 0
        restarted.forget_empty(now)
        ask_both(log, restarted, now, asker)


def with_windows_of(old: Rules, new: Rules) -> Rules:
    """The counts of `new` over the windows of `old`."""

    def mixed(was: Limit, becomes: Limit) -> Limit:
        return Limit(becomes.requests, was.window_s)

    session, user, agent = (mixed(was, becomes) for was, becomes in zip(old[:3], new[:3], strict=True))
    was_own, new_own = old[3]["own"], new[3]["own"]
    own_session = mixed(was_own[0] or old[0], new_own[0] or new[0])
    own_agent = mixed(was_own[1] or old[2], new_own[1] or new[2])
    return session, user, agent, {"own": (own_session, own_agent)}
