"""What the player does with a script, in virtual time: when, how often, and what it makes of silence."""

from pathlib import Path

import pytest

from tests.scenarios.language.test_script import EXAMPLES
from tests.scenarios.play.plays import MINUTE_MS, began, only_failure
from tests.scenarios.playing import played, run_virtual
from vigil.scenarios.language import reading
from vigil.scenarios.virtual.in_process import START_MS


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
