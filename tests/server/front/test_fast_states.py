"""The table of a fast connection's states: whole, with one end, and without a state that nobody gets to or leaves."""

from itertools import product

import pytest

from vigil.server.front.fast_connection import FastConnection, FastTlsConnection
from vigil.server.front.fast_states import (
    ASKED,
    CLOSED,
    HANDED_OFF,
    NEW,
    SERVING,
    TRANSITIONS,
    Event,
    NoSuchTransition,
    State,
    after,
)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda one: one.name)
def test_each_event_in_each_state_is_in_the_table_or_refused(state: State, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert after(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(NoSuchTransition, match=f"^{event.name} in state {state.name}$"):
            after(state, event)


def test_every_state_is_reached_from_the_first() -> None:
    reached, left = {NEW}, [NEW]
    while left:
        more = set(TRANSITIONS[left.pop()].values()) - reached
        reached |= more
        left += more
    assert reached == set(State)


@pytest.mark.parametrize("state", list(State), ids=lambda one: one.name)
def test_a_cut_closes_from_every_state(state: State) -> None:
    assert after(state, Event.CUT) is CLOSED


@pytest.mark.parametrize("event", list(Event), ids=lambda one: one.name)
def test_nothing_opens_what_is_closed(event: Event) -> None:
    assert after(CLOSED, event) is CLOSED


@pytest.mark.parametrize("event", sorted(set(Event) - {Event.CUT}), ids=lambda one: one.name)
def test_what_is_handed_off_is_no_longer_served_here(event: Event) -> None:
    with pytest.raises(NoSuchTransition):
        after(HANDED_OFF, event)


def test_every_event_happens_in_some_state_that_is_open() -> None:
    assert {event for state in set(State) - {CLOSED} for event in TRANSITIONS[state]} == set(Event)


@pytest.mark.parametrize("kind", [FastConnection, FastTlsConnection])
def test_a_task_knows_what_to_do_in_every_state_but_those_that_it_never_sees(
    kind: type[FastConnection],
) -> None:
    assert kind._in_task.keys() == set(State) - {SERVING, ASKED, HANDED_OFF, CLOSED}
