"""When a replay lets commits be done: when what waited for them was taken up, and not before."""

from typing import Any

import pytest

from vigil.scenarios.replay.timing import Timing
from vigil.scenarios.replay.trace import Recorded, RecordedBeginning, RecordedTurn, Start, Trace

SESSION = "00000000-0000-4000-8000-000000000001"
START = Start.model_construct(time_scale=1.0)


def heartbeat(order: int, now: int, taken: int, done: int, event: int = 3) -> Recorded:
    told: dict[str, Any] = {"now": now, "order": order, "taken": taken, "done": done, "event": event}
    return Recorded.model_construct(operation="heartbeat", target=f"/{SESSION}/heartbeat", **told)


TURN = RecordedTurn.model_construct(session=SESSION, to=10, at=40, event=2, done=100)


def timing(*heartbeats: Recorded, begun: int | None = None) -> Timing:
    beginnings = (
        [] if begun is None else [RecordedBeginning.model_construct(session=SESSION, to=20, begun=begun)]
    )
    return Timing(Trace(START, {}, heartbeats, [TURN], beginnings, []))


@pytest.mark.parametrize(
    ("heartbeats", "begun", "done"),
    [
        pytest.param([], None, 100, id="nothing waits"),
        pytest.param([(60, 102)], None, 102, id="one waits, and the clock was looked at twice"),
        pytest.param([(60, 103), (70, 103)], None, 103, id="two wait"),
        pytest.param([(60, 900), (70, 900)], None, 900, id="two wait, on a machine that stands still"),
        pytest.param([(103, 103)], None, 100, id="one comes when it is done"),
        pytest.param([(60, 900)], None, 100, id="one has a body that comes late"),
        pytest.param([(60, 102)], 101, 100, id="one waits for the beginning of the next turn"),
        pytest.param([(60, 102)], 300, 102, id="the next turn's beginning waits for it"),
    ],
)
def test_a_commit_is_done_when_what_waited_for_it_is_taken_up(
    heartbeats: list[tuple[int, int]], begun: int | None, done: int
) -> None:
    waiting = [heartbeat(n, now, taken, 1000) for n, (now, taken) in enumerate(heartbeats)]
    of_trace = timing(*waiting, begun=begun)
    committed = of_trace.committed(SESSION, TURN.at)
    assert round(committed) == done
    for one in waiting:
        is_waiting = one.taken == done
        assert (of_trace.told(one) < committed) == (is_waiting and one.now < done)


def test_what_waits_for_the_beginning_of_a_turn_is_taken_up_when_that_is_committed() -> None:
    one = heartbeat(1, 60, 152, 1000)
    of_trace = timing(one, begun=150)
    assert of_trace.told(one) < of_trace.begun(SESSION, 20, 100) < 152.5
    assert round(of_trace.begun(SESSION, 20, 100)) == 152


def test_what_is_taken_up_at_once_is_told_in_the_order_of_its_events() -> None:
    first, second = heartbeat(2, 60, 103, 200, event=3), heartbeat(1, 50, 103, 200, event=4)
    of_trace = timing(second, first)
    assert of_trace.told(first) < of_trace.told(second) < of_trace.committed(SESSION, TURN.at)


def test_a_request_that_comes_in_the_millisecond_in_which_it_is_taken_up_with_others_comes_in_time() -> None:
    early, late = heartbeat(1, 60, 103, 200), heartbeat(2, 103, 103, 200)
    of_trace = timing(early, late)
    assert of_trace.told(late) == of_trace.asked(late) < of_trace.committed(SESSION, TURN.at) < 103.5
