"""The index against a sorted list, and what it touches to answer (spec section 1, "List")."""

import math
import tracemalloc
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedList

from tests.measure import examples
from vigil.actors.indexes.session_index import FEW, SessionIndex, merged


class Listed(NamedTuple):
    created_at: int
    session_id: str
    agent_id: str
    user_id: str


def matching(listed: list[Listed], agent_id: str | None, user_id: str | None) -> list[Listed]:
    """The definition: filter, then sort newest first and ties by ascending id."""
    found = [
        one
        for one in listed
        if (agent_id is None or one.agent_id == agent_id) and (user_id is None or one.user_id == user_id)
    ]
    return sorted(found, key=lambda one: (-one.created_at, one.session_id))


def filled(listed: list[Listed]) -> SessionIndex:
    index = SessionIndex()
    for one in listed:
        index.add(*one)
    return index


def check(index: SessionIndex, listed: list[Listed], offset: int = 0, limit: int = 5) -> None:
    """Every filter there is, and filters that match nothing."""
    for agent_id in (None, "a1", "a2", "nobody"):
        for user_id in (None, "u1", "u2", "nobody"):
            expected = matching(listed, agent_id, user_id)
            ids = [one.session_id for one in expected]
            assert index.count(agent_id, user_id) == len(expected)
            assert index.page(agent_id, user_id, offset=offset, limit=limit) == ids[offset : offset + limit]
            assert list(merged((index,), agent_id, user_id)) == [one[:2] for one in expected]


entries = st.builds(
    Listed,
    st.integers(0, 9),
    st.uuids().map(str),
    st.sampled_from(["a1", "a2", "a3"]),
    st.sampled_from(["u1", "u2", "u3"]),
)
sets = st.lists(entries, max_size=40, unique_by=lambda one: one.session_id)


@examples(100)
@given(
    sets,
    st.randoms(use_true_random=False),
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from([1, 2, 256]),
)
def test_it_lists_and_counts_like_a_sorted_list_as_sessions_come_and_go(
    listed: list[Listed], random: Any, offset: int, limit: int, few: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vigil.actors.indexes.session_index.FEW", few
        )  # so that users grow out of their plain lists
        index = filled(listed)
        check(index, listed, offset, limit)
        left = list(listed)
        random.shuffle(left)
        while left:
            index.remove(*left.pop())
            if len(left) % 7 == 0:
                check(index, left, offset, limit)
        for one in listed:
            index.add(*one)
        check(index, listed, offset, limit)


@examples(60)
@given(sets, st.integers(1, 4))
def test_live_and_expired_sessions_merge_into_one_order(listed: list[Listed], every: int) -> None:
    expired = [one for n, one in enumerate(listed) if n % every == 0]
    indexes = (filled([one for one in listed if one not in expired]), filled(expired))
    for agent_id, user_id in ((None, None), ("a1", None), (None, "u1"), ("a1", "u1")):
        expected = [one[:2] for one in matching(listed, agent_id, user_id)]
        assert list(merged(indexes, agent_id, user_id)) == expected


def test_newest_come_first_and_ties_by_ascending_id() -> None:
    index = filled([Listed(5, "b", "a1", "u1"), Listed(9, "z", "a2", "u1"), Listed(5, "a", "a3", "u2")])
    assert index.page(offset=0, limit=9) == ["z", "a", "b"]
    assert index.page(offset=1, limit=1) == ["a"]
    assert index.page(offset=3, limit=9) == []


def test_an_empty_index_lists_and_counts_nothing() -> None:
    index = SessionIndex()
    check(index, [])
    assert list(merged(())) == []


@pytest.mark.parametrize(
    "other", [(2, "s", "a", "u"), (1, "t", "a", "u"), (1, "s", "b", "u"), (1, "s", "a", "v")]
)
@pytest.mark.parametrize("crowd", [0, 3 * FEW])
def test_removing_what_was_not_added_so_is_a_key_error_and_changes_nothing(
    other: tuple[int, str, str, str], crowd: int
) -> None:
    listed = [Listed(1, "s", "a", "u"), *(Listed(0, f"x{n}", "a", "u") for n in range(crowd))]
    index = filled(listed)
    with pytest.raises(KeyError):
        index.remove(*other)
    assert index.count() == index.count("a") == index.count("a", "u") == index.count(None, "u") == crowd + 1


def test_users_and_agents_without_sessions_leave_nothing_behind() -> None:
    listed = [Listed(n, str(n), f"agent {n % 7}", f"user {n % 3}") for n in range(6 * FEW)]
    index = filled(listed)
    for one in listed:
        index.remove(*one)
    assert (len(index._users), index._all._agents, index.count()) == (0, {}, 0)


# --- what it costs, in entries touched and comparisons made


class Steps:
    """How many entries were read and how many ids compared."""

    def __init__(self) -> None:
        self.touched = 0
        self.compared = 0


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Counts every entry that an ordered list hands out."""
    counted = Steps()

    class CountingList(SortedList):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Any]:
            for entry in super().__iter__():
                counted.touched += 1
                yield entry

    monkeypatch.setattr("vigil.actors.indexes.session_index.SortedList", CountingList)
    return counted


POPULATION = 20_000
AGENTS = 20


def crowd() -> list[Listed]:
    """One user has half of them, the others one each."""
    return [
        Listed(n // 3, f"{n:08}", f"agent {n % AGENTS}", "heavy" if n % 2 else f"user {n}")
        for n in range(POPULATION)
    ]


@pytest.mark.parametrize("agent_id", [None, "agent 1"])
@pytest.mark.parametrize("user_id", [None, "heavy", "user 40"])
@pytest.mark.parametrize(("offset", "limit"), [(0, 50), (300, 50), (0, 1)])
def test_a_page_touches_offset_plus_limit_entries_and_one_for_each_agent(
    steps: Steps, agent_id: str | None, user_id: str | None, offset: int, limit: int
) -> None:
    index = filled(crowd())
    steps.touched = 0
    index.page(agent_id, user_id, offset=offset, limit=limit)
    assert steps.touched <= offset + limit + AGENTS


def test_a_page_of_two_merged_indexes_touches_no_more_than_twice_as_many(steps: Steps) -> None:
    listed = crowd()
    indexes = (filled(listed[::2]), filled(listed[1::2]))
    steps.touched = 0
    rows = merged(indexes)
    for _ in range(50):
        next(rows)
    assert steps.touched <= 50 + 2 * AGENTS


def test_counting_touches_nothing_whatever_the_filter(steps: Steps) -> None:
    index = filled(crowd())
    steps.touched = 0
    counts = [index.count(*which) for which in ((), ("agent 1",), (None, "heavy"), ("agent 1", "heavy"))]
    assert counts == [POPULATION, POPULATION // AGENTS, POPULATION // 2, POPULATION // AGENTS]
    assert steps.touched == 0


def test_listing_stays_cheap_when_the_newest_have_all_gone(steps: Steps) -> None:
    listed = crowd()
    index = filled(listed)
    for one in reversed(listed[1:]):
        index.remove(*one)
    steps.touched = 0
    assert index.page(offset=0, limit=50) == [listed[0].session_id]
    assert steps.touched <= 1 + AGENTS


def test_adding_and_removing_compare_a_logarithm_of_the_population() -> None:
    steps = Steps()

    class Instant(int):
        """Compared as an int, and counted."""

        def __neg__(self) -> "Instant":
            return Instant(-int(self))

        def __eq__(self, other: object) -> bool:
            steps.compared += 1
            return int(self) == other

        def __lt__(self, other: int) -> bool:
            return int(self) < int(other)

        __hash__ = int.__hash__

    listed = [one._replace(created_at=Instant(one.created_at)) for one in crowd()]
    index = filled(listed)
    steps.compared = 0
    for one in listed[::100]:
        index.remove(*one)
        index.add(*one)
    operations = 2 * len(listed[::100])
    assert 0 < steps.compared <= operations * 4 * math.log2(POPULATION)


def test_a_session_of_a_user_with_no_other_takes_less_than_400_bytes() -> None:
    listed = [one._replace(user_id=f"user {n}") for n, one in enumerate(crowd())]
    tracemalloc.start()
    try:
        index = filled(listed)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.count() == POPULATION
    assert used / POPULATION < 400
