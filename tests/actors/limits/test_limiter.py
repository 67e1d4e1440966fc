"""The limits against brute force over the log of admitted requests (spec section 7)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.measure import examples
from vigil.actors.core.errors import RateLimited
from vigil.actors.core.quotas import Limit, Quota, Refused, Scope
from vigil.actors.limits.limiter import Limits

Asker = tuple[str, str, str | None]  # user, agent, session

T0 = 1_795_338_000_000
SESSIONS = {
    "s1": ("u1", "a1"),
    "s2": ("u1", "a2"),
    "s3": ("u2", "a1"),
    "s4": ("u2", "own"),
    "s5": ("u1", "own"),
}


# --- brute force


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


def next_empty_at(limits: Limits) -> int | None:
    """When `forget_empty` may next find something."""
    return limits._empty_at[0][0] if limits._empty_at else None


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


# --- sentence by sentence


def plain(
    session: str = "60/minute", user: str = "1000/hour", agent: str = "5000/hour", **more: Any
) -> Limits:
    return Limits(Limit.parse(session), Limit.parse(user), Limit.parse(agent), **more)


def burst(limits: Limits, count: int, now: int = T0, asker: Asker = ("u", "a", "s")) -> None:
    for _ in range(count):
        limits.admit(now, *asker)


def refusal(limits: Limits, now: int, *asker: str | None) -> Refused:
    with pytest.raises(RateLimited) as caught:
        limits.admit(now, *asker)  # type: ignore[arg-type]
    return caught.value.refused


def test_an_admission_no_longer_counts_a_whole_window_later_and_still_does_a_millisecond_before() -> None:
    limits = plain()
    burst(limits, 60)
    assert refusal(limits, T0 + 59_999, "u", "a", "s").wait_ms == 1
    assert limits.admit(T0 + 60_000, "u", "a", "s")[0].remaining == 59


def test_sixty_in_a_burst_are_admitted_and_the_sixty_first_waits_the_whole_minute() -> None:
    limits = plain()
    burst(limits, 60)
    refused = refusal(limits, T0, "u", "a", "s")
    assert (refused.scope, refused.limit, refused.window_s, refused.wait_ms) == ("session", 60, 60, 60_000)


def test_the_quotas_of_an_admission_count_this_request_and_name_all_three_in_order() -> None:
    limits = plain()
    limits.admit(T0, "u", "a", "other")
    assert limits.admit(T0 + 500, "u", "a", "s") == (
        Quota("session", Limit(60, 60), 59, 60_000),
        Quota("user", Limit(1000, 3600), 998, 3_599_500),
        Quota("agent", Limit(5000, 3600), 4998, 3_599_500),
    )


def test_a_create_counts_for_the_user_and_the_agent_alone() -> None:
    limits = plain(user="1/hour")
    assert [quota.scope for quota in limits.admit(T0, "u", "a")] == ["user", "agent"]
    refused = refusal(limits, T0, "u", "a")
    assert [quota.scope for quota in refused.quotas] == ["user", "agent"]
    assert refused.scope == "user"


def test_a_refused_request_is_charged_nowhere() -> None:
    limits = plain(session="1/minute")
    limits.admit(T0, "u", "a", "s")
    for _ in range(50):
        refusal(limits, T0, "u", "a", "s")
    assert [quota.remaining for quota in limits.admit(T0, "u", "a", "t")] == [0, 998, 4998]


def test_a_refused_stranger_leaves_no_window_behind() -> None:
    limits = plain(agent="1/hour")
    limits.admit(T0, "u", "a", "s")
    windows = limits.statistics().windows
    for n in range(100):
        refusal(limits, T0, f"stranger {n}", "a", f"session {n}")
    assert limits.statistics().windows == windows


def test_of_several_full_windows_the_longest_wait_is_named() -> None:
    limits = plain(session="1/second", user="1/minute", agent="1/hour")
    limits.admit(T0, "u", "a", "s")
    refused = refusal(limits, T0 + 10, "u", "a", "s")
    assert (refused.scope, refused.wait_ms) == ("agent", 3_599_990)
    assert [quota.reset_ms for quota in refused.quotas] == [990, 59_990, 3_599_990]


def test_users_agents_and_sessions_of_the_same_name_are_counted_apart() -> None:
    limits = plain(session="2/minute", user="2/minute", agent="2/minute")
    limits.admit(T0, "x", "a", "b")
    limits.admit(T0, "a", "b", "x")
    assert [quota.remaining for quota in limits.admit(T0, "b", "x", "a")] == [1, 1, 1]


def test_an_agent_may_override_the_session_and_agent_limits_but_not_the_users() -> None:
    own = {"vip": (Limit(2, 1), Limit(3, 60)), "half": (None, Limit(7, 60))}
    limits = plain(overrides=own)
    assert [q.limit for q in limits.admit(T0, "u", "vip", "s")] == [
        Limit(2, 1),
        Limit(1000, 3600),
        Limit(3, 60),
    ]
    assert [q.limit for q in limits.admit(T0, "u", "half", "t")] == [
        Limit(60, 60),
        Limit(1000, 3600),
        Limit(7, 60),
    ]
    assert [q.remaining for q in limits.admit(T0, "u", "a", "r")] == [59, 997, 4999]


def test_statistics_count_admissions_and_refusals_by_the_scope_they_were_refused_for() -> None:
    limits = plain(session="2/minute")
    burst(limits, 2)
    refusal(limits, T0, "u", "a", "s")
    stats = limits.statistics()
    assert (stats.admitted, stats.windows) == (2, 3)
    assert stats.refused == {"session": 1, "user": 0, "agent": 0}


def test_the_window_of_a_session_that_is_over_is_dropped_and_the_others_stay() -> None:
    limits = plain(session="1/hour")
    limits.admit(T0, "u", "a", "s")
    limits.drop_session("s")
    limits.drop_session("never was")
    assert limits.statistics().windows == 2
    limits.forget_empty(T0 + 3_600_000)
    assert (limits.statistics().windows, next_empty_at(limits)) == (0, None)


def test_the_next_empty_window_is_the_one_whose_newest_request_is_oldest() -> None:
    limits = plain()
    assert next_empty_at(limits) is None
    limits.admit(T0, "u", "a", "s")
    assert next_empty_at(limits) == T0 + 60_000
    limits.admit(T0 + 30_000, "u", "a", "s")
    limits.forget_empty(T0 + 60_000)
    assert next_empty_at(limits) == T0 + 90_000


# --- memory


def rings(limits: Limits) -> Iterator[tuple[int, int, int]]:
    """(requests that count, slots, bytes a slot) of every window."""
    for windows in limits._windows.values():
        for window in windows.values():
            yield window.size, len(window._ring), window._ring.itemsize


def test_an_admitted_request_takes_eight_bytes_a_window() -> None:
    limits = plain()
    burst(limits, 60)
    assert next(rings(limits)) == (60, 60, 8)
    assert all(slots <= 2 * size and wide == 8 for size, slots, wide in rings(limits))


def test_a_ring_is_never_larger_than_its_limit() -> None:
    limits = plain(session="5000/hour", user="1500/hour")
    burst(limits, 1500)
    assert [slots for _, slots, _ in rings(limits)] == [2048, 1500, 2048]


def test_a_ring_gives_back_what_a_burst_took() -> None:
    limits = plain(session="5000/hour", user="5000/hour")
    burst(limits, 5000)
    limits.admit(T0 + 3_600_000, "u", "a", "s")
    assert all(slots <= 4 for _, slots, _ in rings(limits))


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), max_size=60), st.integers(1, 90))
def test_a_ring_follows_the_requests_that_count_up_and_down(bursts: list[tuple[int, int]], most: int) -> None:
    limits = Limits(Limit(most, 1), Limit(10**6, 3600), Limit(10**6, 3600))
    now = T0
    for gap, count in bursts:
        now += gap
        for _ in range(count):
            try:
                limits.admit(now, "u", "a", "s")
            except RateLimited:
                break
        size, slots, _ = next(rings(limits))
        assert slots <= max(4 * size + 4, 4)
        assert slots <= most


# --- restart


def test_a_clean_restart_goes_on_with_the_windows_as_they_were() -> None:
    limits = plain()
    burst(limits, 60)
    restarted = plain()
    restarted.restore(limits.saved(), lambda _session: "a")
    assert refusal(restarted, T0 + 1000, "u", "a", "s").wait_ms == 59_000
    assert restarted.admit(T0 + 1000, "u", "a", "t")[1].remaining == 939
    assert next_empty_at(restarted) == T0 + 60_000


def test_a_lowered_limit_counts_what_was_admitted_under_the_old_one() -> None:
    limits = plain()
    for n in range(10):
        limits.admit(T0 + n * 1000, "u", "a", "s")
    lower = plain(session="3/minute")
    lower.restore(limits.saved(), lambda _session: "a")
    refused = refusal(lower, T0 + 10_000, "u", "a", "s")
    assert (refused.wait_ms, refused.quotas[0].remaining) == (
        57_000,
        0,
    )  # until the eighth of the ten is gone


def test_a_raised_limit_has_room_at_once() -> None:
    limits = plain(session="2/minute")
    burst(limits, 2)
    higher = plain(session="3/minute")
    higher.restore(limits.saved(), lambda _session: "a")
    assert higher.admit(T0, "u", "a", "s")[0].remaining == 0


def test_a_restored_session_keeps_its_agents_own_limit() -> None:
    own = {"vip": (Limit(2, 1), None)}
    limits = plain(overrides=own)
    limits.admit(T0, "u", "vip", "s")
    restarted = plain(overrides=own)
    restarted.restore(limits.saved(), lambda _session: "vip")
    assert next_empty_at(restarted) == T0 + 1000


def test_windows_of_sessions_that_are_gone_are_not_restored() -> None:
    limits = plain()
    burst(limits, 3)
    restarted = plain()
    restarted.restore(limits.saved(), lambda _session: None)
    assert {save.scope for save in restarted.saved()} == {"user", "agent"}


def test_saving_gives_every_window_with_its_instants_oldest_first() -> None:
    limits = plain(session="3/minute")
    for n in (0, 1, 2, 60_000, 60_001):  # the ring has gone round
        limits.admit(T0 + n, "u", "a", "s")
    saved: dict[str, Sequence[int]] = {save.scope: save.admitted_at for save in limits.saved()}
    assert saved["session"] == (T0 + 2, T0 + 60_000, T0 + 60_001)
    assert saved["user"] == saved["agent"] == (T0, T0 + 1, T0 + 2, T0 + 60_000, T0 + 60_001)


# --- reading a limit


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("60/minute", Limit(60, 60)),
        ("1000/hour", Limit(1000, 3600)),
        ("1/second", Limit(1, 1)),
        ("999999999/hour", Limit(999_999_999, 3600)),
    ],
)
def test_a_limit_is_a_count_a_slash_and_a_unit(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "60/",
        "/minute",
        "0/minute",
        "060/minute",
        "-1/minute",
        "+1/minute",
        "1.5/minute",
        "1e3/hour",
        "1_000/hour",
        "60/minutes",
        "60/Minute",
        "60/day",
        "60 / minute",
        " 60/minute",
        "60/minute ",
        "60/minute\n",
        "60/minute/hour",
        "\u0666\u0660/minute",  # digits, but not ASCII
        "1000000000/hour",  # more digits than anybody means
    ],
)
def test_anything_else_is_no_limit_and_the_error_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write COUNT/second, COUNT/minute or COUNT/hour"):
        Limit.parse(text)
