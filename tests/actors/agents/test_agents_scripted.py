"""The scripted kind: rules, and seeded delays and failures in virtual time."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.actors.agents.talk import SESSION, WALL_MS, Talk, agent_of, loaded, message
from tests.measure import examples
from vigil.actors.agents import catalogue
from vigil.actors.agents.base import Agent
from vigil.actors.agents.catalogue import CatalogueError
from vigil.actors.agents.scripted import Delay, Failures
from vigil.actors.core.errors import AgentFailed

ANYTHING = {"reply": "Hm."}


def scripted(tmp_path: Path, *rules: Mapping[str, Any], **fields: Any) -> Agent:
    return agent_of(loaded(tmp_path, kind="scripted", rules=[*rules], **fields))


async def answer(agent: Agent, content: str) -> str:
    return (await agent.reply(Talk(content).turn)).content


# --- rules


async def test_the_first_rule_that_fits_answers(tmp_path: Path) -> None:
    agent = scripted(
        tmp_path,
        {"match": r"(?i)order (\d+)", "reply": "First $1."},
        {"contains": "REFUND", "reply": "Second."},
        {"contains": "order", "reply": "Third."},
        ANYTHING,
    )
    said = {text: await answer(agent, text) for text in ("Order 7 refund", "a refund order", "order?", "Hi")}
    assert list(said.values()) == ["First 7.", "Second.", "Third.", "Hm."]


async def test_a_reply_can_use_the_message_the_user_and_what_matched(tmp_path: Path) -> None:
    rule = {"match": r"from (?P<city>\w+)( by \w+)?", "reply": "$user: ${city}s, $0,$1,$2; $message; 5 $$"}
    agent = scripted(tmp_path, rule, ANYTHING)
    assert await answer(agent, "I come from Rome!") == (
        "user-456: Romes, from Rome,Rome,; I come from Rome!; 5 $"
    )


async def test_what_a_message_says_is_never_a_template(tmp_path: Path) -> None:
    agent = scripted(tmp_path, {"match": "(.*)", "reply": "$1|$message"}, ANYTHING)
    tricky = "$user {0.__class__} ${message} %s $"
    assert await answer(agent, tricky) == f"{tricky}|{tricky}"


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([{"reply": "$1"}], "$1, which the rule does not give"),
        ([{"match": "(a)", "reply": "$2"}, ANYTHING], "$2, which the rule does not give"),
        ([{"match": "(a)", "contains": "b", "reply": "c"}, ANYTHING], "match or contains, not both"),
        ([{"reply": "5 $"}], "write $$ for a dollar sign"),
        ([{"match": "(a", "reply": "b"}, ANYTHING], "is not a regular expression"),
        ([{"match": "a", "reply": "b"}], "the last of the rules"),
        ([ANYTHING, ANYTHING], "the last of the rules"),
        ([], "must have at least 1 item"),
        ([{"reply": []}], "must have at least 1 item"),
        ([{"reply": "a", "delay_ms": {"min": 5, "max": 4}}], "min <= median <= max"),
        ([{"reply": "a", "delay_ms": {"min": 5, "max": 9, "median": 10}}], "min <= median <= max"),
        ([{"reply": "a", "failures": {"fail": 0.6, "hang": 0.6}}], "must not add up to more than 1"),
    ],
)
def test_a_script_that_could_not_be_played_is_refused_when_it_is_read(
    tmp_path: Path, rules: list[Any], told: str
) -> None:
    with pytest.raises(CatalogueError) as error:
        scripted(tmp_path, *rules)
    assert told in str(error.value)


# --- pieces


@examples(60)
@given(st.text(min_size=1, max_size=60).filter(lambda text: "$" not in text and text.isprintable()))
def test_an_answer_is_said_in_words_that_make_up_the_whole(tmp_path_factory: Any, text: str) -> None:
    agent = scripted(tmp_path_factory.mktemp("a"), {"reply": text})
    talk = Talk("Hi")
    reply = trio.run(agent.reply, talk.turn, clock=MockClock(autojump_threshold=0))
    assert "".join(talk.said) == reply.content == text
    assert len(talk.said) == max(1, len(text.split()))


# --- time


async def test_delays_pass_before_the_answer_and_before_each_word(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    agent = scripted(
        tmp_path,
        {"reply": "one two three"},
        delay_ms={"min": 1000, "max": 1000},
        piece_delay_ms={"min": 250, "max": 250},
    )
    said_at: list[float] = []
    started = trio.current_time()
    await agent.reply(Talk("Hi").turn._replace(say=lambda _: said_at.append(trio.current_time() - started)))
    assert said_at == pytest.approx([1.25, 1.5, 1.75])


async def test_a_rules_own_delay_and_failures_come_before_the_agents(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    always_fails = {"delay_ms": {"min": 9000, "max": 9000}, "failures": {"fail": 1}}
    own = {"reply": "a", "delay_ms": {"min": 10, "max": 10}, "failures": {}}
    agent = scripted(tmp_path, own | {"contains": "a"}, {"reply": "b"}, **always_fails)
    started = trio.current_time()
    assert await answer(agent, "a") == "a"
    assert trio.current_time() - started == pytest.approx(0.01)
    with pytest.raises(AgentFailed):
        await answer(agent, "b")


@examples(50)
@given(st.integers(0, 2**32))
def test_a_delay_stays_between_its_bounds_and_around_its_median(seed: int) -> None:
    stream = Random(seed)
    drawn = sorted(Delay(min=300, max=9000, median=1000).draw_s(stream) for _ in range(99))
    assert drawn[0] >= 0.3
    assert drawn[-1] <= 9.0
    assert 0.7 < drawn[49] < 1.4
    assert all(0.2 <= Delay(min=200, max=900).draw_s(stream) <= 0.9 for _ in range(99))


# --- failures


async def test_a_failure_is_agent_failed(tmp_path: Path) -> None:
    with pytest.raises(AgentFailed):
        await answer(scripted(tmp_path, ANYTHING, failures={"fail": 1}), "Hi")


async def test_a_crash_is_a_bug_as_bugs_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        await answer(scripted(tmp_path, ANYTHING, failures={"crash": 1}), "Hi")


async def test_a_hang_lasts_until_the_turns_time_is_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    talk = Talk("Hi")
    with trio.move_on_after(86_400) as scope:
        await scripted(tmp_path, ANYTHING, failures={"hang": 1}).reply(talk.turn)
    assert scope.cancelled_caught
    assert talk.said == []


def test_failures_are_as_frequent_as_they_say() -> None:
    failures, stream = Failures(fail=0.5, hang=0.2, crash=0.1), Random(1)
    drawn = [failures.draw(stream) for _ in range(10_000)]
    shares = {what: drawn.count(what) / 10_000 for what in ("fail", "hang", "crash", None)}
    assert shares == pytest.approx({"fail": 0.5, "hang": 0.2, "crash": 0.1, None: 0.2}, abs=0.02)


# --- the same again


def play(tmp_path: Path, seed: int, order: list[int]) -> dict[int, tuple[str, float]]:
    """What 30 sessions hear and when, their turns started in this order, all at once."""
    file = tmp_path / "agents.yaml"
    rule = {"reply": ["a b", "c d", "e f"], "delay_ms": {"max": 60_000, "median": 800}}
    agents = [{"id": "helper", "kind": "scripted", "rules": [rule], "piece_delay_ms": {"max": 500}}]
    file.write_text(json.dumps({"seed": seed, "agents": agents}))
    agent = agent_of(catalogue.load(file, {}, wall=lambda: WALL_MS)["helper"])
    heard: dict[int, tuple[str, float]] = {}

    async def one(number: int) -> None:
        started = trio.current_time()
        turn = Talk(message("Hi", number), session=SESSION._replace(id=f"session-{number}")).turn
        reply = await agent.reply(turn)
        heard[number] = (reply.content, round(trio.current_time() - started, 6))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in order:
                nursery.start_soon(partial(one, number))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return heard


def test_a_conversation_goes_the_same_way_whatever_else_happens(tmp_path: Path) -> None:
    forth, back = play(tmp_path, 7, list(range(30))), play(tmp_path, 7, list(range(29, -1, -1)))
    alone = play(tmp_path, 7, [11])
    assert forth == back
    assert alone[11] == forth[11]
    assert len(set(forth.values())) == 30


def test_another_seed_is_another_story(tmp_path: Path) -> None:
    assert play(tmp_path, 7, [1, 2, 3]) != play(tmp_path, 8, [1, 2, 3])
