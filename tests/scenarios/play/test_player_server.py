"""What a script does to the server and its agents, and what is kept of a play."""

import json
import os
import subprocess
import sys

import pytest

from tests.scenarios.play.plays import LONG, MINUTE_MS
from tests.scenarios.playing import played
from vigil.scenarios.play.results import as_json, trace
from vigil.scenarios.virtual.in_process import KEY

# --- what is done to the server


def test_a_crash_keeps_what_was_acknowledged_and_breaks_what_was_under_way() -> None:
    steps = """
    - create:
      as: talk
    - listen: talk
    - send: Hello
    - restart: {how: crash, down: 10m}
    - get: talk
      expect: {body: {expiresAt: {time: start+30m}}}
    - expect_event: closed
      expect: {body: {data.code: 1006}}
    - history: talk
      expect: {body: {"messages[*].content": [Hello, Hello]}}
    """
    play = played(steps)
    assert play.verdict == "held", play.failures
    assert [(one.what, one.at_ms - play.started_ms) for one in play.happenings] == [
        ("crashed", 0),
        ("up again", 600_000),
    ]


def test_a_clean_stop_says_so_to_those_who_listen_and_can_change_settings() -> None:
    steps = """
    - create:
    - listen:
    - restart: {how: clean, settings: {agents: [{id: other, kind: echo}], limits: {session: 2/minute}}}
    - expect_event: {type: closed, next: true}
      expect: {body: {data.code: 1001}}
    - create: {agentId: agent-123}
      expect: {status: 404, body: {code: AGENT_NOT_FOUND}}
    - create: {agentId: other}
    - burst: {count: 3, do: {heartbeat: }}
      expect: {statuses: {200: 2, 429: 1}}
    """
    play = played(steps)
    assert play.verdict == "held", play.failures


def test_a_request_that_gets_no_answer_has_the_status_0() -> None:
    steps = """
    - create:
    - agent: {agent-123: hanging}
    - parallel:
        asking: [{send: {content: Hi, transport: http}, expect: 0}]
        crashing: [{wait: 5s}, {restart: {how: crash, down: 1m}}]
        calling: [{wait: 30s}, {get: , expect: 0}]
    """
    play = played(steps)
    assert play.verdict == "held", play.failures


@pytest.mark.parametrize(
    ("behaviour", "status", "after_s"),
    [
        ("well", 201, 0),
        ("{slow: 20s}", 201, 20),
        ("failing", 502, 0),
        ("hanging", 504, 60),
        ("{slow: 2m}", 504, 60),
    ],
)
def test_an_agent_behaves_as_the_script_says(behaviour: str, status: int, after_s: int) -> None:
    steps = f"""
    - create:
    - agent: {{agent-123: {behaviour}}}
    - send: {{content: Hi, transport: http}}
      expect: {status}
    - agent: {{agent-123: well}}
    - send: {{content: Hi, transport: http}}
    """
    play = played(steps)
    assert play.verdict == "held", play.failures
    assert play.ended_ms - play.started_ms == after_s * 1000


def test_settings_reach_the_server() -> None:
    settings = """
    limits: {session: 2/minute}
    defaults: {timeoutMinutes: 10, autoRenew: false, warningThresholdMinutes: 2}
    tombstoneMinutes: 5
    contentPolicy: "off"
    agents: [{id: notes, kind: none, timeoutConfig: {maxDurationMinutes: 60}}]
    """
    steps = """
    - create: {agentId: notes}
      expect: {body: {maxExpiresAt: {time: start+1h}, expiresAt: {time: start+10m}}}
    - send: <script>alert(1)</script>
    - get:
      expect: {headers: {RateLimit: {regex: '"session";r=0'}}}
    - at: 14m
      get:
      expect: 410
    - at: 15m
      get:
      expect: 404
    """
    play = played(steps, _dedented(settings))
    assert play.verdict == "held", play.failures


# --- what is kept of a play


def test_no_key_and_no_token_is_in_what_is_kept() -> None:
    steps = """
    - create:
      as: talk
    - send: "my token is ${talk.sessionToken} and the key ${key}"
    - get:
      raw: {query: "token=${talk.sessionToken}"}
      expect: {status: 200, body: {sessionToken: "${talk.sessionToken}"}}
    """
    play = played(steps)
    kept = json.dumps(as_json(play))
    assert play.verdict == "failed"
    assert play.exchanges[0].answer["sessionToken"] == "***"
    assert "my token is *** and the key ***" in kept
    assert KEY not in kept
    assert f"{play.sessions[0].session_id}." not in kept


def test_steps_inside_others_know_where_they_belong() -> None:
    play = played("- create:\n- repeat: {times: 2, do: [{name: the beat, heartbeat: }]}")
    assert [(step.parent, step.verb, step.label) for step in play.steps] == [
        (None, "create", "create session-1"),
        (None, "repeat", "repeat 2 times"),
        (1, "heartbeat", "the beat"),
        (1, "heartbeat", "the beat"),
    ]


def test_every_run_of_a_script_of_hours_leaves_the_same_trace() -> None:
    code = "import sys; from tests.scenarios import playing; from tests.scenarios.play.plays import LONG\n"
    code += (
        "from vigil.scenarios.play.results import trace; sys.stdout.buffer.write(trace(playing.played(LONG)))"
    )
    here = played(LONG)
    assert here.verdict == "held", here.failures
    assert here.ended_ms - here.started_ms > 3 * 60 * MINUTE_MS
    elsewhere = subprocess.run(
        [sys.executable, "-c", f"import logging, structlog\n{_QUIET}\n{code}"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    ).stdout
    assert elsewhere == trace(here) == trace(played(LONG))


_QUIET = "structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))"


def _dedented(text: str) -> str:
    return "\n".join(line[4:] for line in text.strip("\n").splitlines())
