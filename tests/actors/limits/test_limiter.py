"""The rules of the limits, one by one (spec section 7); restarts; how a limit is written."""

from collections.abc import Sequence

import pytest

from tests.actors.limits.asking import T0, burst, next_empty_at, plain, refusal
from vigil.actors.core.quotas import Limit, Quota


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
