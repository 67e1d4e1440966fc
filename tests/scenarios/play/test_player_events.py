"""Steps that wait for events, and listeners that were refused."""

from tests.scenarios.play.plays import only_failure
from tests.scenarios.playing import played

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
