"""What a scenario file may say, and what it is told when it says something else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests import ROOT
from tests.scenarios.playing import HEAD, script
from vigil.scenarios.language import durations, reading
from vigil.scenarios.language.reading import BadScript
from vigil.scenarios.language.script import VERBS, schema

ROOT = ROOT
LIBRARY = sorted((ROOT / "scenarios" / "library").glob("*.yaml"))
PAGE = (ROOT / "docs" / "scenarios.md").read_text()
EXAMPLES = re.findall(r"<!-- scenario -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)


def refusal(text: str) -> str:
    with pytest.raises(BadScript) as caught:
        reading.parse(text, Path("test.yaml"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("4m30s", 270_000),
        ("3h02m", 10_920_000),
        ("1d", 86_400_000),
        ("0s", 0),
        ("1.5s", 1500),
    ],
)
def test_a_duration_reads_as_people_say_it(text: str, ms: int) -> None:
    assert durations.parse(text) == ms


@pytest.mark.parametrize("text", ["", "5", "5 m", "30s4m", "1m1m", "-5s", "0.1ms", "31d", "5x", 5, None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        durations.parse(text)


@given(st.integers(min_value=0, max_value=2_592_000_000))
def test_a_duration_that_is_shown_reads_as_the_same(ms: int) -> None:
    assert durations.parse(durations.show(ms)) == ms


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("- sned: Hello", "test.yaml:4:5: steps[0].sned: is not a field here: did you mean send?"),
        (
            "- create: {agentid: x}",
            "test.yaml:4:14: steps[0].create.agentid: is not a field here: did you mean",
        ),
        (
            "- create:\n  expect: {body: {renewalCount: {grater: 5}}}",
            "test.yaml:5:36: steps[0].expect.body.renewalCount.grater: is not a field here: did you mean greater?",
        ),
        ("- create:\n  at: 10", "test.yaml:5:5: steps[0].at: 10 is not a duration: write 4m30s"),
        ("- at: 1m", "steps[0]: has no verb: a step needs exactly one of create, send"),
        ("- create:\n  list:", "steps[0]: has create and list: a step needs exactly one of"),
        (
            "- create:\n  expect: {body: {a b: 1}}",
            "test.yaml:5:21: steps[0].expect.body.a b.[key]: is not a path",
        ),
        ("- create:\n  expect: {body: {expiresAt: {time: soon}}}", "must be a time like start+30m"),
        ("- create:\n  expect: {body: {x: {regex: '('}}}", "is no regular expression"),
        ("- create:\n  expect: {body: {x: {}}}", "must say what is expected: equals, one_of"),
        ("- create:\n  at: 1m\n  after: 1m", "must not have both at and after"),
        ("- wait: 1m\n  save: {x: y}", "save means nothing to wait"),
        ("- create:\n  expect: {statuses: {'201': 1}}", "expect.statuses means nothing to create"),
        ("- create:\n- send: x\n  raw: {json: 1, body: x}", "must not have both json and body"),
        ("- restart: hard", "steps[0].restart.how: must be 'crash' or 'clean'"),
    ],
)
def test_a_mistake_is_told_with_file_line_column_and_what_was_expected(steps: str, told: str) -> None:
    with pytest.raises(BadScript) as caught:
        script(steps)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (
            '- create:\n  as: talk\n- send: "${tlak.sessionId}"',
            "${tlak} is not known yet: did you mean talk?",
        ),
        (
            '- send: "${later.id}"\n- send: x\n  as: later',
            "test.yaml:4:5: steps[0]: ${later} is not known yet",
        ),
        (
            "- create:\n  as: talk\n- get: tolk",
            "steps[1].get: there is no session tolk yet: did you mean talk?",
        ),
        ("- create:\n  as: talk\n- send: Hi\n  as: hi\n- get: hi", "there is no session hi yet"),
        ("- expect_event: {listener: phone}", "there is no listener phone yet"),
        (
            "- wait: 1s\n  at: 5m\n- wait: 1s\n  at: 4m",
            "test.yaml:7:5: steps[1].at: comes before the step at 5m",
        ),
        ("- repeat: {times: 2, do: [{wait: 1s, at: 5m}]}", "played again: say after"),
        ("- burst: {count: 2, do: {wait: 1s}}", "steps[0].burst.do: must be a request: one of create"),
        ("- agent: {nobody: failing}", "is no agent of this script: expected one of agent-123"),
    ],
)
def test_steps_that_do_not_go_together_are_refused_before_anything_is_played(steps: str, told: str) -> None:
    with pytest.raises(BadScript) as caught:
        script(steps)
    assert told in str(caught.value)


def test_only_an_echo_can_be_spoiled() -> None:
    with pytest.raises(BadScript, match="is of the kind none: only an echo can be spoiled"):
        script("- agent: {notes: failing}", "agents: [{id: notes, kind: none}]")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("limits: {session: lots}", "is not a limit: write COUNT/second"),
        (
            "defaults: {timeoutMinutes: 4}",
            "settings.defaults.timeoutMinutes: must be greater than or equal to 5",
        ),
        ("agents: [{id: a, kind: openai}]", "must have a kind out of echo, none, scripted"),
        ("agents: [{id: a, kind: echo, nmae: A}]", "settings.agents[0]: nmae: Extra inputs"),
        ("tombstones: 5", "settings.tombstones: is not a field here: did you mean tombstoneMax"),
    ],
)
def test_a_setting_that_no_server_would_take_is_refused(settings: str, told: str) -> None:
    with pytest.raises(BadScript) as caught:
        script("- create:", settings)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "test.yaml:1:5: is not YAML"),
        (f"{HEAD}steps: &all\n  - wait: 1s\nmore: *all\n", "test.yaml:5:7: the alias *all is not allowed"),
        (f"{HEAD}steps:\n  - wait: 1s\n    wait: 2s\n", "is there twice, first in line 4"),
        (f"{HEAD}steps: !!python/name:os.system\n", "which is not allowed"),
        (HEAD + "steps: " + "[" * 40 + "]" * 40, "nests deeper than 30 levels"),
        ("", "must be a mapping"),
        ("\x00", "has a character that YAML does not allow"),
        ("title: Short\nwhy: x\nsteps: []\n", "test.yaml:1:1: title: "),
    ],
)
def test_a_file_that_is_no_script_is_refused_with_the_place(text: str, told: str) -> None:
    assert told in refusal(text)


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    told = refusal(f"{HEAD}steps:\n  - sned: x\n  - at: 5\n    wait: 1s\nsetings: {{}}\n").splitlines()
    assert [line.split(":")[1] for line in told] == ["4", "5", "7"]


def test_words_that_yaml_would_take_for_something_else_stay_text() -> None:
    located = script("- send: {content: yes, metadata: {day: 2026-11-22, on: off, yes: true}}")
    assert located.script.steps[0].action.content == "yes"
    assert located.script.steps[0].action.metadata == {"day": "2026-11-22", "on": "off", "yes": True}


def test_a_file_that_is_not_there_and_a_directory_without_scripts_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadScript, match=r"nowhere\.yaml: cannot be read: No such file"):
        reading.load(tmp_path / "nowhere.yaml")
    with pytest.raises(BadScript, match=r"has no \*\.yaml files"):
        reading.scripts_of([tmp_path])


def test_a_verb_may_be_written_as_one_word_or_none() -> None:
    steps = script(
        "- create:\n  as: talk\n- send: Hi\n- heartbeat: talk\n- renew:\n- restart: crash"
    ).script.steps
    assert [step.verb for step in steps] == ["create", "send", "heartbeat", "renew", "restart"]
    assert [steps[1].action.content, steps[2].action.session, steps[4].action.how] == ["Hi", "talk", "crash"]


# --- the schema, and the page


SCHEMA: Any = schema()


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_schema_for_editors_takes_every_script_of_the_library(path: Path) -> None:
    values = yaml.load(path.read_text(), Loader=reading._Loader)  # noqa: S506  a SafeLoader
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(values)))


def test_the_schema_is_one_and_names_every_verb_and_refuses_what_is_none() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    document = {"title": "A title of it", "why": "because of it"}
    assert validator.is_valid({**document, "steps": [{"create": None}, {"send": "Hi", "expect": 429}]})
    assert not validator.is_valid({**document, "steps": [{"sned": "Hi"}]})
    assert not validator.is_valid({**document, "steps": [{"send": "Hi", "get": None}]})
    assert SCHEMA["$defs"]["Step"]["properties"].keys() >= VERBS.keys()


def test_every_verb_and_matcher_of_the_schema_says_what_it_does() -> None:
    for name in ("Create", "Send", "Listen", "ExpectEvent", "Restart", "Matcher", "Raw"):
        assert '"description"' in json.dumps(SCHEMA["$defs"][name]), name


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.partition("\n")[0])
def test_every_script_of_the_page_can_be_read(text: str) -> None:
    reading.parse(text, Path("scenarios.md"))


def test_the_page_shows_every_verb() -> None:
    shown = {step.verb for text in EXAMPLES for step in reading.parse(text, Path("page")).script.steps}
    assert shown == VERBS.keys()
