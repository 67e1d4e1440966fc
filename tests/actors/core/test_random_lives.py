"""Random lives of sessions go as the model says."""

from hypothesis import event, given
from hypothesis import strategies as st

from tests.actors.core.model import Model, commands, configs, tell, waits
from tests.actors.core.sessions import T0
from tests.measure import examples
from vigil.actors.core.commands import Command, Tick
from vigil.actors.core.events import Event
from vigil.actors.core.expiry import due_at, expires_at
from vigil.actors.core.lifecycle import begin, step
from vigil.actors.core.records import Session, State, TimeoutConfig, Tombstone


class Life:
    """A session driven as its actor drives it: stepped by commands, and by a tick at each instant it is due."""

    def __init__(self, config: TimeoutConfig) -> None:
        done = begin(Session(1, "s", "a", "u", "c", "{}", T0, T0, T0, config))
        self.state: State = done.state
        self.events: list[Event] = list(done.events)

    def next(self) -> int | None:
        return due_at(self.state) if isinstance(self.state, Session) else None

    def do(self, command: Command, now: int) -> bool:
        done = step(self.state, command, now)
        self.state = done.state
        self.events += done.events
        return done.refusal is None


def run_until(life: Life, model: Model, now: int, until: int) -> int:
    """Let everything fall due that does before `until`. Gives the last instant."""
    while (due := life.next()) is not None and due < until:
        assert due == model.next()
        assert due >= now, "an instant was missed"
        now = due
        life.do(Tick(), now)
        model.tick(now)
        assert life.next() is None or life.next() > now, "the actor would spin"  # type: ignore[operator]
    return now


def compare(life: Life, model: Model) -> None:
    assert [told for event in life.events if (told := tell(event))] == model.told
    assert [event.id for event in life.events] == list(range(1, len(life.events) + 1))
    if isinstance(life.state, Session):
        session = life.state
        assert not model.ended
        assert (expires_at(session), session.renewal_count) == (model.deadline(), model.renewals)
        assert (session.last_activity, session.renewed_at) == (model.active, model.renewed)
        assert session.event_id == len(life.events)
    elif isinstance(life.state, Tombstone):
        tombstone = life.state
        assert (tombstone.reason, tombstone.expires_at) == (model.ended, model.deadline())
        assert (tombstone.last_activity, tombstone.renewal_count) == (model.active, model.renewals)
    else:
        assert model.ended == "deleted"


def instant(life: Life, now: int, wait: int | str) -> int:
    due = life.next()
    if isinstance(wait, int):
        return now + wait
    return now if due is None else max(now, due + {"just before": -1, "at": 0, "just after": 1}[wait])


@examples(400)
@given(configs, st.lists(st.tuples(waits, commands, st.booleans()), max_size=25))
def test_random_lives_go_as_the_model_says_to_the_millisecond(
    config: TimeoutConfig, moves: list[tuple[int | str, Command, bool]]
) -> None:
    """Expiry, renewals, warnings: each event at its exact instant, whether a tie's timer or command is first."""
    life, model, now = Life(config), Model(*config), T0
    model.arm(now)
    model.tick(now)
    compare(life, model)
    for wait, command, timer_first in moves:
        until = instant(life, now, wait)
        run_until(life, model, now, until + timer_first)
        now = until
        assert life.do(command, now) is model.do(command, now)
        compare(life, model)
    event(f"ended: {model.ended or 'by itself, after all commands'}")
    run_until(life, model, now, now + 10**12)
    compare(life, model)
    assert not isinstance(life.state, Session)
