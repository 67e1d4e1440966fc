"""What the player does with a script, in virtual time: when, to whom, how often, and what it makes of the answers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.language.test_script import EXAMPLES
from tests.scenarios.playing import played, run_virtual
from vigil.scenarios.language import reading
from vigil.scenarios.play.results import Play, as_json, trace
from vigil.scenarios.virtual.in_process import KEY, START_MS

MINUTE_MS = 60_000

LONG = """
- create: {userId: ana, timeoutConfig: {timeoutMinutes: 60}}
  as: talk
- listen: talk
- parallel:
    phone:
      - repeat: {times: 9, every: 20m, do: [{send: "From the phone, ${n}"}]}
    laptop:
      - repeat: {times: 17, every: 10m, do: [{heartbeat: talk}]}
- after: 2m
  burst: {count: 70, every: 0s, do: {get: talk}}
  expect: {statuses: {200: 60, 429: 10}}
- at: 3h10m
  get: talk
  expect: 410
"""


def began(play: Play) -> list[int]:
    """When each request was sent, in milliseconds since the start."""
    return [exchange.at_ms - play.started_ms for exchange in play.exchanges]


def only_failure(play: Play) -> tuple[str, str, str]:
    """Of a play that failed for one reason: the expectation, what was expected and what came."""
    (failed,) = play.failures
    assert play.verdict == "failed"
    return failed.expectation, failed.expected, failed.came


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.partition("\n")[0])
def test_every_script_of_the_page_holds(text: str) -> None:
    play = run_virtual(reading.parse(text, Path("scenarios.md")))
    assert play.verdict == "held", play.failures


# --- silence is not "anything goes"


@pytest.mark.parametrize(
    "verb", ["send: Hello", "heartbeat:", "renew:", "get:", "history:", "end:", "listen:"]
)
def test_a_step_that_expects_nothing_expects_its_success(verb: str) -> None:
    assert played(f"- create:\n- {verb}").verdict == "held"
    gone = played(f"- create:\n- end:\n- {verb}")
    assert only_failure(gone)[:2] == (
        "status",
        {"send": "201", "listen": "101"}.get(verb[: verb.index(":")], "200"),
    )


def test_a_step_with_a_body_to_expect_still_expects_its_success() -> None:
    play = played("- create:\n- end:\n- get:\n  expect: {body: {code: SESSION_NOT_FOUND}}")
    assert only_failure(play)[0] == "status"


def test_a_status_that_nobody_expected_is_told_with_its_body() -> None:
    expectation, expected, came = only_failure(played("- create: {agentId: nobody}"))
    assert (expectation, expected) == ("status", "201")
    assert came.startswith("404 {")
    assert "AGENT_NOT_FOUND" in came


def test_the_first_step_that_fails_is_the_last_that_is_played() -> None:
    play = played("- create:\n- get:\n  expect: 404\n- send: never")
    assert [exchange.operation for exchange in play.exchanges] == ["create", "get"]
    assert [step.held for step in play.steps] == [True, False]
    assert play.reason.startswith("status: expected 404, came 200 {")


def test_all_that_a_failing_step_got_wrong_is_told_with_its_line() -> None:
    play = played(
        "- create:\n  expect:\n    body:\n      renewalCount: 1\n      status: expired\n      userId: user-456"
    )
    assert [(failed.line, failed.expectation) for failed in play.failures] == [
        (7, "body.renewalCount"),
        (8, "body.status"),
    ]


def test_a_failure_in_one_branch_ends_the_others() -> None:
    steps = """
    - create:
    - parallel:
        one:
          - after: 1m
            get:
            expect: 404
        two:
          - after: 2m
            send: never
    """
    assert [exchange.operation for exchange in played(steps).exchanges] == ["create", "get"]


# --- time


def test_at_counts_from_the_start_and_after_from_the_end_of_the_step_before() -> None:
    play = played("- create:\n- at: 5m\n  get:\n- wait: 1m\n- after: 10s\n  get:\n- get:")
    assert began(play) == [0, 300_000, 370_000, 370_000]
    assert play.started_ms == START_MS


def test_what_is_due_at_an_instant_has_happened_before_a_step_of_that_instant() -> None:
    steps = """
    - create: {timeoutConfig: {timeoutMinutes: 30, warningThresholdMinutes: 5}}
    - listen:
    - at: 25m
      heartbeat:
    - expect_event: {type: sessionExpirationWarning, next: true, within: 0s}
    - expect_event: {type: sessionRenewed, next: true, within: 0s}
    """
    assert all(played(steps, seed=seed).verdict == "held" for seed in range(5))


def test_a_step_whose_time_has_passed_in_virtual_time_is_a_mistake_of_the_script() -> None:
    play = played("- create:\n- wait: 10m\n- at: 5m\n  get:")
    assert only_failure(play) == ("at", "begins at 5m", "the step before had ended 5m after that")


def test_a_repeat_keeps_its_beat_and_counts_its_rounds() -> None:
    play = played('- create:\n- repeat: {times: 3, every: 10m, do: [{wait: 4m}, {send: "round ${n}"}]}')
    assert began(play) == [0, 4 * MINUTE_MS, 14 * MINUTE_MS, 24 * MINUTE_MS]
    assert [exchange.request["content"] for exchange in play.exchanges[1:]] == [
        "round 1",
        "round 2",
        "round 3",
    ]


def test_branches_run_side_by_side_and_their_names_are_their_devices() -> None:
    steps = """
    - create:
    - parallel:
        phone: [{wait: 1m}, {send: a}, {wait: 2m}, {send: b}]
        laptop: [{wait: 2m}, {send: c}]
    - send: d
    """
    play = played(steps)
    sent = [(exchange.device, exchange.request["content"]) for exchange in play.exchanges[1:]]
    assert sent == [("phone", "a"), ("laptop", "c"), ("phone", "b"), ("", "d")]
    assert began(play)[1:] == [MINUTE_MS, 2 * MINUTE_MS, 3 * MINUTE_MS, 3 * MINUTE_MS]


# --- bursts


def test_a_burst_sends_each_request_when_it_is_due_and_counts_the_answers() -> None:
    steps = """
    - agent: {agent-123: {slow: 50s}}
    - create:
    - burst: {count: 4, every: 20s, do: {send: {content: "number ${n}", transport: http}}}
      expect: {statuses: {201: 3, 429: 1}}
    """
    play = played(steps, "limits: {session: 2/minute}")
    assert play.verdict == "held", play.failures
    sent = sorted((exchange.at_ms - play.started_ms, exchange.status) for exchange in play.exchanges[1:])
    assert sent == [(0, 201), (20_000, 201), (40_000, 429), (60_000, 201)]
    assert only_failure(played(steps, "limits: {session: 3/minute}"))[1:] == ("3 x 201, 1 x 429", "4 x 201")


def test_a_burst_without_counts_expects_each_request_to_succeed() -> None:
    steps = "- create:\n- burst: {count: 3, do: {heartbeat: }}"
    assert played(steps, "limits: {session: 3/minute}").verdict == "held"
    assert only_failure(played(steps, "limits: {session: 2/minute}"))[:2] == ("status", "200")


def test_what_a_request_of_a_burst_expects_is_judged_each_time() -> None:
    steps = """
    - create:
    - burst: {count: 3, do: {get: , expect: {body: {renewalCount: 0}}}}
      expect: {statuses: {200: 3}}
    """
    play = played(steps)
    assert [judged.expectation for judged in play.judged].count("body.renewalCount") == 3


# --- sessions, names, credentials


def test_a_step_without_a_session_is_about_the_one_created_last() -> None:
    steps = """
    - create: {userId: ana}
      as: first
    - create: {userId: ben}
      as: second
    - get:
      expect: {body: {userId: ben}}
    - get: first
      expect: {body: {userId: ana, sessionId: "${first.sessionId}"}}
    """
    play = played(steps)
    assert play.verdict == "held", play.failures
    assert [(seen.name, seen.user_id) for seen in play.sessions] == [("first", "ana"), ("second", "ben")]


def test_a_refused_create_is_not_the_one_created_last() -> None:
    assert played("- create: {userId: ana}\n- create: {userId: ''}\n  expect: 400\n- get:").verdict == "held"


def test_a_step_before_any_session_fails_and_says_so() -> None:
    assert only_failure(played("- get:"))[2] == "there is no session yet"


def test_what_was_saved_can_be_used_and_what_is_not_there_cannot_be_saved() -> None:
    steps = """
    - create:
    - send: Hello
      as: hello
      save: {status: sessionStatus, text: content}
    - send: "${text} again, ${hello.authorId}, ${status.renewalCount} times"
      expect: {body: {content: "Hello again, user-456, 1 times"}}
    - history: {limit: 1, before: "${hello.createdAt}"}
      expect: 400
    """
    assert played(steps).verdict == "held"
    assert (
        only_failure(played("- create:\n  save: {x: nothing.here}"))[2]
        == "there is no nothing.here to save as x"
    )


def test_the_key_the_own_token_or_nothing_lets_one_in() -> None:
    steps = """
    - create:
    - get: {}
      auth: token
    - list:
      auth: token
      expect: 403
    - get: {}
      auth: none
      expect: {status: 401, headers: {WWW-Authenticate: {regex: "^Bearer"}}}
    """
    assert played(steps).verdict == "held"


def test_raw_changes_what_goes_over_the_wire_and_nothing_else() -> None:
    steps = """
    - create:
      as: talk
    - send: Hello
      raw: {body: '{"content": "a", "content": "b"}'}
      expect: 400
    - send: Hello
      raw: {json: {content: Hello, colour: red}}
      expect: {status: 400, body: {"details.errors[0].path": colour}}
    - send: Hello
      raw: {headers: {Content-Type: text/plain}}
      expect: 415
    - send: Hello
      raw: {headers: {Authorization: null}}
      expect: 401
    - send: Hello
      raw: {headers: {Authorization: null, X-API-KEY: "${key}"}}
    - send: Hello
      raw: {body: "[", repeat: 40}
      expect: 400
    - get:
      raw: {path: "/api/messaging/sessions/${talk.sessionId}/", method: GET}
      expect: 404
    - get:
      raw: {method: PUT}
      expect: {status: 405, headers: {Allow: {regex: DELETE}}}
    - history:
      raw: {query: "limit=0&limit=1"}
      expect: 400
    """
    play = played(steps)
    assert play.verdict == "held", play.failures


def test_bad_values_are_sent_as_they_are() -> None:
    steps = """
    - create: {timeoutConfig: {timeoutMinutes: 4}}
      expect: {status: 400, body: {"details.errors[*].path": [timeoutConfig.timeoutMinutes]}}
    - create:
    - retime: {timeoutMinutes: "60"}
      expect: 400
    - history: {limit: many}
      expect: 400
    """
    assert played(steps).verdict == "held"


def test_a_repeated_key_gives_the_same_message() -> None:
    steps = """
    - create:
    - send: {content: once, idempotencyKey: one}
      as: first
    - send: {content: once, idempotencyKey: one}
      expect: {body: {id: "${first.id}"}}
    - send: {content: twice, idempotencyKey: one}
      expect: {status: 422, body: {code: IDEMPOTENCY_KEY_REUSED}}
    """
    assert played(steps).verdict == "held"


def test_an_sse_answer_reads_as_its_events() -> None:
    steps = """
    - create:
    - send: {content: Hi, transport: sse}
      expect:
        body:
          "events[*].event": [userMessage, chunk, agentResponse]
          "events[0].data.content": Hi
          "events[-1].data.isAgent": true
    """
    play = played(steps)
    assert play.verdict == "held", play.failures


# --- events


def test_an_event_is_waited_for_until_the_very_end_of_its_time() -> None:
    steps = "- create:\n- listen:\n- expect_event: {{type: sessionExpired, within: {}}}"
    assert played(steps.format("30m")).verdict == "held"
    assert only_failure(played(steps.format("29m59s999ms"))) == (
        "event",
        "sessionExpired within 29m59s999ms",
        "only sessionExpirationWarning",
    )


def test_an_event_that_was_taken_or_passed_over_does_not_come_again() -> None:
    steps = """
    - create:
    - listen: {lastEventId: 0}
    - send: Hello
    - expect_event: sessionRenewed
    - expect_event: {type: sessionCreated, within: 5s}
    """
    assert only_failure(played(steps))[0] == "event"


def test_the_very_next_event_must_be_it_when_that_is_asked() -> None:
    steps = "- create:\n- listen: {lastEventId: 0}\n- send: Hi\n- expect_event: {type: sessionRenewed, next: true}"
    expectation, expected, came = only_failure(played(steps))
    assert (expectation, expected) == ("event", "next sessionRenewed within 1s")
    assert came.startswith("sessionCreated {")


def test_an_event_that_must_never_come_is_waited_for_all_its_time() -> None:
    steps = (
        "- create:\n- listen:\n- expect_event: {{type: sessionExpirationWarning, never: true, within: {}}}"
    )
    play = played(steps.format("24m59s"))
    assert play.verdict == "held"
    assert play.ended_ms - play.started_ms == 1_499_000
    assert only_failure(played(steps.format("25m")))[1] == "no sessionExpirationWarning within 25m"


def test_parts_of_an_event_are_judged_and_saved() -> None:
    steps = """
    - create:
    - listen:
      as: phone
    - expect_event: {type: sessionExpirationWarning, within: 1h, listener: phone}
      as: warning
      expect: {body: {at: {time: start+25m}, data.minutesRemaining: 5, data.expiresAt: {time: start+30m}}}
    - send: "until ${warning.data.expiresAt}"
    - at: 1h
      get:
      expect: 410
    - expect_event: {type: closed, within: 0s}
      expect: {body: {data.code: 1000}}
    """
    play = played(steps)
    assert play.verdict == "held", play.failures
    assert {event.listener for event in play.events} == {"phone"}


def test_a_refused_listener_is_not_the_one_opened_last() -> None:
    steps = """
    - create:
    - listen: {lastEventId: 0}
    - listen: {lastEventId: x}
      expect: 400
    - expect_event: sessionCreated
    """
    assert played(steps).verdict == "held"


def test_waiting_without_a_listener_and_a_refused_listener_fail() -> None:
    assert only_failure(played("- create:\n- expect_event: closed"))[2].startswith("nobody listens")
    assert played("- create:\n- listen: {lastEventId: x}\n  expect: 400").verdict == "held"


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
    code = (
        "import sys; from tests.scenarios import playing; from tests.scenarios.play.test_player import LONG\n"
    )
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
