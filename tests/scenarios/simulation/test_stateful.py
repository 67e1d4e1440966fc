"""Hypothesis looks for a short life of a few sessions that contradicts the model, and makes it shorter still.

The rules only write down what is to be done; when an example is complete, all of it is done to a real server in
virtual time, and the model judges each answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any, ClassVar

import orjson
import pytest
import trio
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.measure import examples
from tests.scenarios.breakages import broken
from tests.scenarios.model.driver import People, Store
from tests.scenarios.simulation.bugs import BUGS
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.core.quotas import Limit
from vigil.scenarios.model import AgentRules, Model, ModelSettings
from vigil.scenarios.model.observed import Violation
from vigil.scenarios.virtual import determinism
from vigil.scenarios.virtual.in_process import START_MS, InProcessServer, virtual_plan

AGENTS = {"echo": AgentEntry("echo", "Echo", EchoAgent()), "mute": AgentEntry("mute", "Mute", None)}
RULES = ModelSettings(
    START_MS, {"echo": AgentRules(), "mute": AgentRules("none")}, session_limit=(4, 60), user_limit=(12, 3600)
)
STEPS_MAX = 12
PHASES = (Phase.generate, Phase.shrink)  # an explanation takes longer than all the rest

Do = Callable[["World"], Awaitable[None]]


class World:
    """One server, the model that watches it, and the sessions in the order in which they were to begin."""

    def __init__(self, people: People, store: Store) -> None:
        self.people = people
        self.store = store
        self.sessions: list[str | None] = []  # None: it was refused


async def create(world: World, *, agent: str, config: Mapping[str, Any], key: str | None) -> None:
    body = {"agentId": agent, "userId": "ann", "timeoutConfig": config}
    answer = await world.people.ask("createSession", None, body, key=key)
    created = orjson.loads(answer.body) if answer is not None and answer.status == 201 else {}
    world.sessions.append(created.get("sessionId"))
    if created:
        world.people.tokens[created["sessionId"]] = created["sessionToken"]


async def ask(world: World, *, operation: str, session: int, body: Any = None, **more: Any) -> None:
    id_ = world.sessions[session]
    if id_ is not None:
        await world.people.ask(operation, id_, body, **more)


async def ask_twice_at_once(world: World, *, operations: tuple[str, str], session: int) -> None:
    async with trio.open_nursery() as nursery:
        for operation in operations:
            body = {"content": "at once"} if operation == "sendMessage" else None
            nursery.start_soon(partial(ask, world, operation=operation, session=session, body=body))


async def wait(_world: World, *, ms: int) -> None:
    await trio.sleep(ms / 1000)


async def restart(world: World, *, crash: bool) -> None:
    server, model = world.people.server, world.people.model
    (model.crashed if crash else model.stopped)(server.now)
    await server.restart(crash=crash, down_s=1)
    model.restarted(server.now, clean=not crash)


def live(steps: list[Do]) -> None:
    """Do all of it. Raises Violation."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            store = Store()
            plan = virtual_plan(
                store=store, agents=AGENTS, session_limit=Limit(4, 60), user_limit=Limit(12, 3600)
            )
            server = InProcessServer(plan, nursery)
            await server.start()
            world = World(People(server, Model(RULES), Random(0)), store)
            for step in steps:
                await step(world)
            await trio.sleep(60)
            world.people.model.finish(server.now)
            await server.stop()

    try:
        determinism.run(main)
    except ExceptionGroup as group:
        violations = group.subgroup(Violation)
        if violations is None:
            raise
        raise _first(violations) from None


def _first(group: BaseExceptionGroup[Violation]) -> Violation:
    one = group.exceptions[0]
    return _first(one) if isinstance(one, BaseExceptionGroup) else one


MINUTES = st.sampled_from([5, 6, 10, 30])
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "timeoutMinutes": MINUTES,
        "autoRenew": st.booleans(),
        "maxDurationMinutes": st.sampled_from([1, 5, 8, 180]),
        "warningThresholdMinutes": st.sampled_from([1, 5, 60]),
    },
)
KEYS = st.sampled_from([None, None, "one", "two"])
WAITS = st.sampled_from([1, 999, 59_999, 60_000, 299_999, 300_000, 480_000, 1_800_000, 86_400_000])


class Sessions(RuleBasedStateMachine):
    """Writes down a life; `last` is the one that was lived last, which at the end is the shortest that fails."""

    sessions: Bundle[int] = Bundle("sessions")
    last: ClassVar[list[Do]] = []

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Do] = []
        self.begun = 0

    @rule(target=sessions, agent=st.sampled_from(sorted(AGENTS)), config=CONFIG, key=KEYS)
    def create(self, agent: str, config: dict[str, Any], key: str | None) -> int:
        self.steps.append(partial(create, agent=agent, config=config, key=key))
        self.begun += 1
        return self.begun - 1

    @rule(
        session=sessions,
        content=st.sampled_from(["hello", "hullo"]),
        transport=st.sampled_from(["websocket", "http", "sse"]),
        key=KEYS,
    )
    def send(self, session: int, content: str, transport: str, key: str | None) -> None:
        body = {"content": content, "transport": transport}
        self.steps.append(partial(ask, operation="sendMessage", session=session, body=body, key=key))

    @rule(session=sessions, change=CONFIG.filter(bool))
    def retime(self, session: int, change: dict[str, Any]) -> None:
        self.steps.append(partial(ask, operation="updateTimeout", session=session, body=change))

    @rule(
        session=sessions,
        operation=st.sampled_from(["getSession", "heartbeat", "renewSession", "endSession"]),
        lose=st.booleans(),
    )
    def say_no_more_than_its_name(self, session: int, operation: str, lose: bool) -> None:
        self.steps.append(partial(ask, operation=operation, session=session, lose=lose))

    @rule(
        session=sessions, limit=st.integers(1, 3), cursor=st.sampled_from(["", "before", "after"]), ago=WAITS
    )
    def read_back(self, session: int, limit: int, cursor: str, ago: int) -> None:
        async def read(world: World) -> None:
            query = {"limit": limit} | ({cursor: world.people.server.now - ago} if cursor else {})
            await ask(world, operation="getMessages", session=session, query=query)

        self.steps.append(read)

    @rule(session=sessions, one=st.data())
    def two_at_once(self, session: int, one: st.DataObject) -> None:
        names = st.sampled_from(["sendMessage", "heartbeat", "renewSession", "endSession", "getSession"])
        operations = one.draw(st.tuples(names, names))
        self.steps.append(partial(ask_twice_at_once, operations=operations, session=session))

    @rule(ms=WAITS)
    def wait(self, ms: int) -> None:
        self.steps.append(partial(wait, ms=ms))

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        self.steps.append(partial(restart, crash=crash))

    def teardown(self) -> None:
        Sessions.last = self.steps
        live(self.steps)


def search(times: int) -> None:
    run_state_machine_as_test(Sessions, settings=_settings(times))


def _settings(times: int) -> Any:
    wanted = examples(times)
    return type(wanted)(
        parent=wanted, stateful_step_count=STEPS_MAX, phases=PHASES, report_multiple_bugs=False
    )


def test_no_life_of_a_few_sessions_contradicts_the_contract() -> None:
    search(60)


@pytest.mark.parametrize(
    ("bug", "rule", "steps"),
    [
        ("patch-falls-back-to-defaults", "3 updateTimeout", 2),
        ("window-one-too-large", "7 ratelimit", 1),
    ],
)
def test_a_bug_is_found_and_shrunk_to_a_few_steps(bug: str, rule: str, steps: int) -> None:
    with broken(BUGS[bug]), pytest.raises(Violation) as found:
        search(60)
    assert found.value.rule == rule
    assert len(Sessions.last) == steps
