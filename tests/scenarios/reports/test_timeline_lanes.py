"""Lanes show what happened to a session, and where its deadline fell."""

from dataclasses import replace

import pytest

from tests.scenarios.playing import played
from tests.scenarios.reports.timelines import MINUTE_MS, START_MS, data, marks, parsed
from vigil.scenarios.play.results import EventSeen, Happening, Play
from vigil.scenarios.reports.timeline_lanes import drawing, segments

# --- lanes and marks


def test_a_lane_has_a_row_for_each_device_the_agent_events_and_expectations(talk: Play) -> None:
    (drawn,) = data(parsed(talk))
    lane, service = drawn["lanes"]
    assert (lane["name"], service["name"]) == ("talk", "The service")
    assert lane["rows"] == ["client", "phone", "laptop", "the agent", "events", "expected"]
    assert "ana with agent-123" in lane["about"]


def test_every_exchange_event_and_expectation_is_on_the_page(talk: Play) -> None:
    (drawn,) = data(parsed(talk))
    found = [mark for lane in drawn["lanes"] for mark in lane["marks"]]
    assert len(found) == len(talk.exchanges) + len(talk.events) + len(talk.judged)
    for exchange in talk.exchanges:
        request = ["request", f"{exchange.method} {exchange.target}"]
        assert sum(request in mark["parts"] for mark in found) >= 1


def test_marks_say_what_they_are_and_how_it_went(talk: Play) -> None:
    found = marks(drawing(talk))
    for mark in [
        (0, "client", "create", "good"),
        (0, "client", "listen", "good"),
        (10, "phone", "message", "good"),
        (10, "the agent", "reply", "good"),
        (10, "events", "renewal", "good"),
        (20, "laptop", "heartbeat", "good"),
        (45, "events", "warning", "good"),
        (50, "events", "expiry", "good"),
        (51, "client", "read", "refused"),
        (51, "expected", "expectation", "good"),
    ]:
        assert mark in found


@pytest.mark.parametrize(
    ("status", "state"), [(200, "good"), (404, "error"), (429, "limited"), (503, "error"), (0, "lost")]
)
def test_an_answer_is_marked_by_its_status(talk: Play, status: int, state: str) -> None:
    play = replace(talk, exchanges=(replace(talk.exchanges[0], status=status),), events=(), judged=())
    assert marks(drawing(play)) == [(0, "client", "create", state)]


def test_an_event_that_two_listeners_get_is_one_mark(talk: Play) -> None:
    warning = next(event for event in talk.events if event.type == "sessionExpirationWarning")
    events = (warning, replace(warning, listener="other"))
    (mark,) = drawing(replace(talk, exchanges=(), judged=(), events=events))["lanes"][0]["marks"]
    assert ["heard by", "window, other"] in mark["parts"]


def test_an_answer_with_the_agents_reply_shows_it_when_it_came() -> None:
    script = "- create:\n  as: talk\n- after: 1m\n  send: {content: Hello, transport: http}"
    assert (1, "the agent", "reply", "good") in marks(drawing(played(script)))


def test_expected_events_and_bursts_belong_to_their_session() -> None:
    script = """
    - create: {timeoutConfig: {timeoutMinutes: 10}}
      as: talk
    - listen: talk
    - burst: {count: 3, do: {get: talk}}
      expect: {statuses: {200: 3}}
    - expect_event: {type: sessionExpired, within: 10m}
    """
    (lane,) = drawing(played(script))["lanes"]
    titles = [mark["title"] for mark in lane["marks"]]
    assert {"statuses: held", "event: held"} <= set(titles)


def test_a_play_without_a_session_has_the_service_alone() -> None:
    drawn = drawing(played("- health:\n- create: {agentId: nobody}\n  expect: 404"))
    assert [lane["name"] for lane in drawn["lanes"]] == ["The service"]
    assert (0, "client", "create", "refused") in marks(drawn)


def test_a_play_that_nothing_happened_in_can_be_shown() -> None:
    html = parsed(Play("A title", "Why", "a.yaml", "virtual", "held", "", START_MS, START_MS, 0.0))
    assert data(html)[0]["lanes"] == []


def test_the_time_that_the_server_was_down_is_marked() -> None:
    script = "- create:\n- at: 1m\n  restart: {how: crash, down: 2m}\n- agent: {agent-123: failing}"
    drawn = drawing(played(script))
    assert drawn["downs"] == [[MINUTE_MS, 3 * MINUTE_MS]]
    said = [happening["text"] for happening in drawn["happenings"]]
    assert said == ["crashed, to be down for 2m", "up again", "agent agent-123: failing"]


def test_a_server_that_stays_down_is_down_to_the_end(talk: Play) -> None:
    crash = Happening(talk.started_ms + MINUTE_MS, 0, "crashed", "2m")
    assert drawing(replace(talk, happenings=(crash,)))["downs"] == [[MINUTE_MS, 51 * MINUTE_MS]]


# --- deadlines


def test_the_time_remaining_falls_as_time_passes_and_jumps_at_renewals(talk: Play) -> None:
    found = segments(talk, talk.sessions[0].session_id)
    in_minutes = [tuple(part / MINUTE_MS for part in segment) for segment in found]
    assert in_minutes == [(0, 10, 30, 20), (10, 20, 30, 20), (20, 50, 30, 0)]


def test_the_lane_of_an_expired_session_says_so_though_nobody_listened(talk: Play) -> None:
    drawn = drawing(replace(talk, events=()))
    assert drawn["lanes"][0]["over"] == {"at": 50 * MINUTE_MS, "how": "expired"}


def test_the_line_ends_where_the_session_is_ended() -> None:
    play = played("- create:\n  as: talk\n- at: 5m\n  end: talk\n- at: 9m\n  get: talk\n  expect: 404")
    lane = drawing(play)["lanes"][0]
    assert lane["over"] == {"at": 5 * MINUTE_MS, "how": "ended"}
    assert lane["segments"] == [[0, 5 * MINUTE_MS, 30 * MINUTE_MS, 25 * MINUTE_MS]]


def test_the_line_ends_where_a_listener_hears_that_somebody_else_ended_the_session(talk: Play) -> None:
    at_ms = talk.started_ms + 30 * MINUTE_MS
    ended = EventSeen(at_ms, 1, "window", "talk", "sessionEnded", 9, at_ms, {})
    lane = drawing(replace(talk, events=(ended,)))["lanes"][0]
    assert lane["over"] == {"at": 30 * MINUTE_MS, "how": "ended"}


def test_of_several_changes_at_one_instant_the_last_holds() -> None:
    script = """
    - create:
      as: talk
    - at: 5m
      retime: {timeoutMinutes: 60}
    - retime: {timeoutMinutes: 20}
    - at: 6m
      get: talk
    """
    play = played(script)
    last = segments(play, play.sessions[0].session_id)[-1]
    assert last == (5 * MINUTE_MS, 6 * MINUTE_MS, 15 * MINUTE_MS, 14 * MINUTE_MS)


def test_an_answer_that_is_given_again_moves_no_deadline() -> None:
    script = """
    - create:
      as: talk
    - send: {content: Hello, idempotencyKey: one}
    - at: 5m
      heartbeat: talk
    - at: 6m
      send: {content: Hello, idempotencyKey: one}
    - at: 7m
      get: talk
    """
    play = played(script)
    assert segments(play, play.sessions[0].session_id)[-1][:2] == (5 * MINUTE_MS, 7 * MINUTE_MS)


def test_a_session_that_is_created_twice_with_one_key_has_one_lane() -> None:
    create = "- create: {idempotencyKey: one}\n  as: "
    drawn = drawing(played(f"{create}first\n{create}second\n- get: second"))
    assert [lane["name"] for lane in drawn["lanes"]] == ["first, second"]


@pytest.mark.parametrize("nonsense", ["yesterday", "2026-11-22T09:30:00+01:00", 7, None, {}])
def test_a_time_that_is_none_is_passed_over(talk: Play, nonsense: object) -> None:
    exchanges = (replace(talk.exchanges[3], operation="get", answer={"expiresAt": nonsense}),)
    play = replace(talk, exchanges=exchanges, events=())
    assert len(segments(play, play.sessions[0].session_id)) == 1
