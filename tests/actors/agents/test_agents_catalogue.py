"""The catalogue: what a file can say, and that every mistake is told with its line and field."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import ROOT
from tests.actors.agents.talk import WALL_MS, Talk
from tests.measure import examples
from vigil.actors.agents import catalogue
from vigil.actors.agents.base import AgentEntry
from vigil.actors.agents.catalogue import CatalogueError
from vigil.actors.agents.echo import EchoAgent
from vigil.actors.agents.providers.model import ModelAgent
from vigil.actors.agents.scripted import ScriptedAgent
from vigil.actors.agents.webhook import WebhookAgent
from vigil.actors.core.quotas import Limit
from vigil.actors.core.records import TimeoutPatch

EXAMPLE = ROOT / "docs" / "agents.example.yaml"
FULL = """\
agents:
  - id: helper
    name: Helper of all
    kind: echo
    session_limit: 120/minute
    agent_limit: 9/second
    turn_timeout_s: 2.5
    timeoutConfig:
      timeoutMinutes: 10
      autoRenew: false
      maxDurationMinutes: 60
      warningThresholdMinutes: 2
  - {id: silent, kind: none}
"""


def load(path: Path, environ: Mapping[str, str] | None = None) -> Mapping[str, AgentEntry]:
    return catalogue.load(path, environ or {}, wall=lambda: WALL_MS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agents.yaml"


def complaints(file: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
    """The lines of the error, without the file's name."""
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CatalogueError) as error:
        load(file, environ)
    return str(error.value).replace(f"{file}:", "").split("\n")


# --- what a file can say


def test_an_entry_says_everything_about_its_agent(file: Path) -> None:
    file.write_text(FULL)
    entry = load(file)["helper"]
    assert isinstance(entry.agent, EchoAgent)
    assert entry == AgentEntry(
        "helper",
        "Helper of all",
        entry.agent,
        TimeoutPatch(10, False, 60, 2),
        Limit(120, 60),
        Limit(9, 1),
        2.5,
    )


def test_what_an_entry_leaves_out_is_the_default(file: Path) -> None:
    file.write_text(FULL)
    assert load(file)["silent"] == AgentEntry("silent", "silent", None)


def test_fields_may_be_left_empty(file: Path) -> None:
    file.write_text("agents:\n- id: a\n  kind: none\n  timeoutConfig:\n  session_limit:\n")
    assert load(file)["a"] == AgentEntry("a", "a", None)


def test_agents_keep_their_order(file: Path) -> None:
    file.write_text("agents:\n" + "".join(f"  - {{id: a{n}, kind: none}}\n" for n in (3, 1, 2)))
    assert list(load(file)) == ["a3", "a1", "a2"]


async def test_without_a_file_there_is_one_demo_agent_that_echoes() -> None:
    agents = catalogue.demo()
    assert list(agents) == ["agent-123"]
    agent = agents["agent-123"].agent
    assert agent is not None
    talk = Talk("Hi")
    assert (await agent.reply(talk.turn)).content == "Hi"
    assert talk.said == ["Hi"]
    await catalogue.close(agents)


# --- the example in the docs


async def test_the_example_loads_as_it_is() -> None:
    agents = load(EXAMPLE)
    assert list(agents) == ["assistant", "agent-123", "notes", "helpdesk"]
    agent = agents["assistant"].agent
    assert isinstance(agent, ModelAgent)
    assert agent.kind == "openai"
    assert isinstance(agents["helpdesk"].agent, ScriptedAgent)
    await catalogue.close(agents)


def test_the_example_loads_with_everything_in_it_uncommented(file: Path) -> None:
    file.write_text(re.sub(r"^#(  \S|    \S)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE))
    agents = load(file, {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2", "ORDERS_SECRET": "s"})
    assert len(agents) == 7
    agent = agents["assistant-large"].agent
    assert isinstance(agent, ModelAgent)
    assert agent.kind == "openai"
    assert isinstance(agents["orders"].agent, WebhookAgent)


# --- mistakes


ALL = "echo, none, scripted, openai, openai-responses, anthropic, gemini, ollama, webhook"
HEAD = "agents:\n  - id: a\n    kind: "
OPENAI = HEAD + "openai\n    base_url: http://localhost/v1\n    model: m\n"

MISTAKES: list[tuple[str, list[str]]] = [
    ("", ["1: must be a mapping, with a list under agents"]),
    ("- id: a\n", ["1: must be a mapping, with a list under agents"]),
    ("{}\n", ["1: agents: is missing"]),
    (
        "\nagents: []\n",
        ["2: agents: must have at least 1 item after validation, not 0"],
    ),
    ("agents: echo\n", ["1: agents: must be a valid list"]),
    ("agents:\n  - echo\n", ["2: agents[0]: must be a mapping with id and kind"]),
    (
        f"{HEAD}echo\nagnets: 1\n",
        ["4: agnets: is not a field: did you mean agents?"],
    ),
    (
        f"{HEAD}opnai\n",
        [f"3: agents[0].kind: must be one of {ALL}: did you mean openai?"],
    ),
    (f"{HEAD}[echo]\n", [f"3: agents[0].kind: must be one of {ALL}"]),
    (
        "agents:\n  - id: a\n",
        [f"2: agents[0].kind: must be one of {ALL}"],
    ),
    ("agents:\n\n  - kind: echo\n", ["3: agents[0].id: is missing"]),
    ("agents:\n  - id: 7\n    kind: echo\n", ["2: agents[0].id: must be text: put it in quotes"]),
    (
        "agents:\n  - id: a b\n    kind: echo\n",
        ["2: agents[0].id: must not have whitespace or control characters"],
    ),
    (
        f"agents:\n  - id: {'a' * 129}\n    kind: echo\n",
        ["2: agents[0].id: must have at most 128 characters"],
    ),
    ("agents: [{id: a, kind: echo},{id: a, kind: none}]", ["1: agents[1].id: is the id of agents[0] too"]),
    (f"{HEAD}echo\n  - id: a\n    kind: none\n", ["4: agents[1].id: is the id of agents[0] too"]),
    (f"{HEAD}echo\n    kind: none\n", ["4: agents[0].kind: is there twice, first in line 3"]),
    (
        f"{HEAD}echo\n    turn_timeout: 5\n",
        ["4: agents[0].turn_timeout: is not a field: did you mean turn_timeout_s?"],
    ),
    (f"{HEAD}echo\n    zzz: 5\n", ["4: agents[0].zzz: is not a field"]),
    (f"{HEAD}echo\n    turn_timeout_s: 0\n", ["4: agents[0].turn_timeout_s: must be greater than 0"]),
    (f"{HEAD}echo\n    turn_timeout_s: .inf\n", ["4: agents[0].turn_timeout_s: must be a finite number"]),
    (
        f"{HEAD}echo\n    session_limit: 60/min\n",
        [
            "4: agents[0].session_limit: '60/min' is not a limit: "
            "write COUNT/second, COUNT/minute or COUNT/hour"
        ],
    ),
    (
        f"{HEAD}echo\n    timeoutConfig:\n      timeoutMinutes: 4\n      autoRenew: 1\n      maxDuration: 5\n",
        [
            "5: agents[0].timeoutConfig.timeoutMinutes: must be greater than or equal to 5",
            "6: agents[0].timeoutConfig.autoRenew: must be a valid boolean",
            "7: agents[0].timeoutConfig.maxDuration: is not a field",
        ],
    ),
    (f"{HEAD}echo\n    timeoutConfig: 5\n", ["4: agents[0].timeoutConfig: must be a mapping"]),
    (
        f"{OPENAI}    options: {{stream: false}}\n",
        ["6: agents[0].options: must not have stream: Vigil sets that itself"],
    ),
    (
        f"{OPENAI}    options: {{seen: 2026-11-22}}\n",
        ["6: agents[0].options: must be plain JSON values: put dates in quotes"],
    ),
    (
        f"{HEAD}openai\n    model: m\n    base_url: ftp://h\n",
        ["5: agents[0].base_url: must be an http:// or https:// URL with a host"],
    ),
    (f"{HEAD}openai\n    model: m\n    base_url: http://h:x\n", ["5: agents[0].base_url: is not a URL"]),
    (
        f"{HEAD}openai\n    model: m\n    base_url: http://h?a=1\n",
        ["5: agents[0].base_url: must have no ?query: /chat/completions is put after it"],
    ),
    (f"{HEAD}openai\n    base_url: http://h\n", ["2: agents[0].model: is missing"]),
    ("agents: [\n  {id: a\n", ["3: is not YAML: expected ',' or '}', but got '<stream end>'"]),
    ("agents:\n\t- id: a\n", ["2: is not YAML: found character '\\t' that cannot start any token"]),
    ("a: 1\n---\nb: 2\n", ["2: is not YAML: but found another document"]),
    ("agents: 1\nb: \x01\n", ["2: has a character that YAML does not allow"]),
    ("a: &x {b: 1}\nagents: *x\n", ["2: the alias *x is not allowed: write it out"]),
    (
        "agents:\n- !!python/object:os.system {}\n",
        [
            "2: agents[0]: has the tag python/object:os.system, which is not allowed",
        ],
    ),
    (
        f"{HEAD}!!python/name:os.system x\n",
        [
            "3: agents[0].kind: has the tag python/name:os.system, which is not allowed",
        ],
    ),
    (f"{HEAD}echo\n    [a]: x\n", ["4: agents[0]: has a key that is not text"]),
    (f"{HEAD}echo\n    5: x\n", ["4: agents[0].5: is not a field"]),
    ("a: " + "[" * 1000, ["1: nests deeper than 30 levels"]),
]


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_field(file: Path, text: str, told: list[str]) -> None:
    assert complaints(file, text) == told


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(file: Path) -> None:
    text = f"{HEAD}echo\n    x: 1\n  - id: a\n    kind: openai\n    model: 5\n    model: m\n  - id: b\n    kind: ech\n"
    assert [line.split(": ")[:2] for line in complaints(file, text)] == [
        ["4", "agents[0].x"],
        ["5", "agents[1].id"],
        ["5", "agents[1].base_url"],
        ["8", "agents[1].model"],
        ["10", "agents[2].kind"],
    ]


def test_a_file_that_cannot_be_read_is_told_so(file: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"agents\.yaml: cannot be read: No such file or directory"):
        load(file)
    with pytest.raises(CatalogueError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_is_no_text_is_told_so(file: Path) -> None:
    assert complaints(file, b"a:\n\n \xff") == ["3: is not UTF-8 text"]


def test_a_huge_file_is_not_read(file: Path) -> None:
    assert complaints(file, b"#" * (1024 * 1024 + 1)) == [" is longer than 1048576 bytes"]


def test_a_yaml_bomb_is_refused_and_not_unfolded(file: Path) -> None:
    names = "abcdefghij"
    bomb = "a: &a [x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 20)}]\n" for before, name in pairwise(names)
    )
    assert complaints(file, bomb) == ["2: the alias *a is not allowed: write it out"]


@examples(200)
@given(st.text(max_size=60) | st.text(alphabet="agents: -[]{}&*!|>'\"\n\t1kind", max_size=60))
def test_whatever_a_file_holds_a_bad_one_is_a_catalogue_error(tmp_path_factory: Any, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CatalogueError):
        load(file)


# --- secrets


def test_a_key_that_is_not_set_is_told_by_the_name_of_its_variable(file: Path) -> None:
    assert complaints(file, f"{OPENAI}    api_key_env: MODEL_KEY\n", {"OTHER": "x", "MODEL_KEY": ""}) == [
        "6: agents[0].api_key_env: the environment variable MODEL_KEY is not set"
    ]


def test_a_key_pasted_in_place_of_its_name_is_not_repeated(file: Path) -> None:
    (line,) = complaints(file, f"{OPENAI}    api_key_env: sk-abc123\n")
    assert "must be the name of an environment variable" in line
    assert "sk-abc123" not in line


@pytest.mark.parametrize("key", ["sk-abc\n", "sk abc", "sk-äbc", "sk-\x00"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(file: Path, key: str) -> None:
    (line,) = complaints(file, f"{OPENAI}    api_key_env: MODEL_KEY\n", {"MODEL_KEY": key})
    assert "the environment variable MODEL_KEY has a space, a line end" in line
    assert key not in line


def test_a_password_in_a_url_is_refused_and_not_repeated(file: Path) -> None:
    text = f"{HEAD}webhook\n    url: http://me:pass-word@h/\n    secret_env: S\n"
    (line,) = complaints(file, text, {"S": "x"})
    assert "must have no user, password or #fragment" in line
    assert "pass-word" not in line


def test_the_error_carries_no_trace_of_what_was_read(file: Path) -> None:
    """Tracebacks of chained errors would show the values of the file."""
    file.write_text(f"{OPENAI}    api_key: sk-abc123\n")
    with pytest.raises(CatalogueError) as error:
        load(file)
    assert error.value.__cause__ is None
    assert error.value.__context__ is None or error.value.__suppress_context__
    assert "sk-abc123" not in str(error.value)


# --- vigil agents check


def test_check_gives_a_line_about_each_agent_without_secrets(file: Path) -> None:
    file.write_text(
        "agents:\n"
        "  - {id: a, kind: echo}\n"
        "  - {id: bcd, kind: none}\n"
        "  - {id: c, kind: openai, base_url: 'http://h/v1', model: m, api_key_env: K}\n"
        "  - {id: d, kind: openai, base_url: 'http://h/v1', model: m}\n"
        "  - {id: e, kind: webhook, url: 'http://h/t?token=x', secret_env: K}\n"
        "  - {id: f, kind: scripted, rules: [{reply: Hm.}]}\n"
    )
    assert catalogue.check(file, {"K": "sk-abc123"}) == [
        "a    echo      repeats what it hears",
        "bcd  none      never answers",
        "c    openai    m at http://h/v1, key from K",
        "d    openai    m at http://h/v1, no key",
        "e    webhook   posts to http://h/t, secret from K",
        "f    scripted  1 rule",
    ]


def test_check_tells_the_same_mistakes(file: Path) -> None:
    file.write_text(f"{HEAD}ech\n")
    with pytest.raises(CatalogueError, match=r"agents\.yaml:3: agents\[0\]\.kind: must be one of"):
        catalogue.check(file, {})
