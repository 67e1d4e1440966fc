"""The timeline is one file that holds all plays, shows where deadlines fell, and lets nobody write into it."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.scenarios.playing import played
from vigil.scenarios.play.results import (
    EventSeen,
    Exchange,
    Happening,
    Judged,
    Play,
    SessionSeen,
    StepPlayed,
)
from vigil.scenarios.reports.timeline import page
from vigil.scenarios.reports.timeline_lanes import MARKS_MAX, TEXT_MAX, drawing, segments
from vigil.server.api.wire_time import iso

MINUTE_MS = 60_000
START_MS = 1_795_338_000_000
EVIL = "</script><script>alert('x')</script><!-- <b>&"

TALK = """
- create: {userId: ana}
  as: talk
- listen: talk
  as: window
- at: 10m
  send: Hello
  device: phone
- at: 20m
  heartbeat: talk
  device: laptop
- at: 51m
  get: talk
  expect: {status: 410, body: {details.reason: inactivity}}
- health:
"""


@pytest.fixture(scope="module")
def talk() -> Play:
    return played(TALK)


def parsed(*plays: Play) -> LexborHTMLParser:
    return LexborHTMLParser(page(plays))


def data(html: LexborHTMLParser) -> list[dict[str, Any]]:
    """What the script in the page draws, as it reads it."""
    return [json.loads(node.text()) for node in html.css('script[type="application/json"]')]


def texts(html: LexborHTMLParser, selector: str) -> list[str]:
    return [" ".join(node.text().split()) for node in html.css(selector)]


def marks(drawn: dict[str, Any], lane: int = 0) -> list[tuple[int, str, str, str]]:
    """(minute, row, kind, state) of all in a lane."""
    found = drawn["lanes"][lane]
    return [
        (mark["at"] // MINUTE_MS, found["rows"][mark["row"]], mark["kind"], mark["state"])
        for mark in found["marks"]
    ]


# --- the page


def test_the_page_needs_no_network(talk: Play) -> None:
    found = page([talk])
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", found)
    assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org/2000/svg)", found)


def test_every_tag_that_is_opened_is_closed_and_every_id_is_there_once(talk: Play) -> None:
    found = page([talk, talk])
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", found, flags=re.S)
    for tag in ("details", "section", "dl", "div", "main", "ul", "ol", "span", "summary", "p"):
        assert len(re.findall(rf"<{tag}[\s>]", body)) == len(re.findall(rf"</{tag}>", body)), tag
    ids = re.findall(r'\sid="([^"]*)"', body)
    assert len(ids) == len(set(ids))


def test_failed_plays_come_first_and_are_open(talk: Play) -> None:
    failed = replace(talk, verdict="failed", title="It failed")
    html = parsed(talk, replace(talk, verdict="skipped", title="Skipped"), failed)
    assert texts(html, ".play h2") == ["It failed", talk.title, "Skipped"]
    assert texts(html, ".play[open] h2") == ["It failed"]
    assert texts(html, "h1") == ["1 failed, 1 held, 1 skipped"]


def test_a_failure_says_where_what_was_expected_and_what_came() -> None:
    html = parsed(played("- create:\n  as: talk\n- get: talk\n  expect: {body: {userId: ben}}"))
    (failure,) = texts(html, ".failure")
    for part in ("test.yaml:7: get talk", "body.userId", '"ben"', '"user-456"'):
        assert part in failure
    assert ("expectation", "failed") in [(kind, state) for _, _, kind, state in marks(data(html)[0])]


def test_what_can_be_searched_is_titles_reasons_files_and_sessions(talk: Play) -> None:
    (entry,) = parsed(replace(talk, title="Loud TITLE", why="Because", file="a/file.yaml")).css(".play")
    text = entry.attributes["data-text"]
    assert text is not None
    for word in ("loud title", "because", "a/file.yaml", "talk"):
        assert word in text


def test_the_page_of_no_plays_says_so() -> None:
    html = parsed()
    assert texts(html, "h1") == ["Nothing was played"]
    assert not html.css(".play")


def test_a_skipped_play_shows_its_reason_and_no_drawing() -> None:
    html = parsed(Play("A title", "Why", "a.yaml", "", "skipped", "it needs a crash", 0, 0, 0.0))
    assert "Skipped: it needs a crash" in texts(html, ".inside p")
    assert data(html) == []


# --- contents are text


def test_what_people_write_never_becomes_markup() -> None:
    exchange = Exchange(
        START_MS, START_MS, 0, EVIL, EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL}, 200, ((EVIL, EVIL),), EVIL
    )
    play = Play(
        *(EVIL, EVIL, EVIL, EVIL, "failed", EVIL, START_MS, START_MS + 1, 0.0),
        sessions=(SessionSeen(EVIL, EVIL, EVIL, EVIL, START_MS, START_MS + 1),),
        steps=(StepPlayed(0, None, 1, EVIL, EVIL, EVIL, EVIL, START_MS, START_MS, False),),
        exchanges=(exchange,),
        events=(EventSeen(START_MS, 0, EVIL, EVIL, EVIL, 1, START_MS, EVIL),),
        happenings=(Happening(START_MS, 0, "agent", EVIL),),
        judged=(Judged(START_MS, 0, 1, EVIL, False, EVIL, EVIL),),
    )
    html = parsed(play)
    assert len(html.css("script")) == 2  # the data and the page's own
    assert not html.css("b")
    (drawn,) = data(html)
    assert drawn["lanes"][0]["name"] == EVIL
    assert texts(html, ".play h2") == [EVIL]


def test_text_that_utf_8_cannot_carry_does_no_harm(talk: Play) -> None:
    html = page([replace(talk, title="half a \ud83d pair")])
    assert "half a ? pair" in html
    assert html.encode()


def test_numbers_that_json_does_not_have_reach_the_page_as_text(talk: Play) -> None:
    exchange = replace(talk.exchanges[0], request={"size": float("nan")})
    (drawn,) = data(parsed(replace(talk, exchanges=(exchange,))))
    assert ["body", '{\n "size": NaN\n}'] in drawn["lanes"][0]["marks"][0]["parts"]


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


# --- much


def flood(count: int, failed: int | None = None) -> Play:
    """A play of so many requests, one a second; `failed` is the step that did not hold."""
    exchanges = tuple(
        Exchange(
            *(START_MS + 1000 * n, START_MS + 1000 * n, n, "talk", "", "get", "GET", "/api", None, 200),
            headers=(("x-request-id", str(n)),),
            answer={"content": "x" * (20_000 if n == 0 else 200), "expiresAt": iso(START_MS + MINUTE_MS)},
        )
        for n in range(count)
    )
    judged = tuple(
        Judged(START_MS + 1000 * n, n, 1, "status", n != failed, "200", "200") for n in range(count)
    )
    steps = tuple(
        StepPlayed(n, None, n, "get", "get talk", "talk", "", START_MS, START_MS, n != failed)
        for n in range(count)
    )
    ended = START_MS + 1000 * count
    session = SessionSeen("talk", "4c0c", "agent-123", "ana", START_MS, ended)
    return Play(
        *("A flood", "Why", "flood.yaml", "virtual", "held", "", START_MS, ended, 1.0),
        sessions=(session,),
        steps=steps,
        exchanges=exchanges,
        judged=judged,
    )


def test_a_flood_keeps_the_page_small_and_the_page_says_what_is_left_out() -> None:
    html = page([flood(10_000)])
    assert len(html) < 2_000_000
    (said,) = re.findall(r"too long to be drawn whole: (.*?) of its middle", html)
    assert said == f"{10_000 - MARKS_MAX} requests, {10_000 - MARKS_MAX} expectations"


def test_what_failed_in_the_middle_of_a_flood_is_kept() -> None:
    found = drawing(flood(5000, failed=2500))["lanes"][0]["marks"]
    assert [mark["kind"] for mark in found if mark["step"] == 2500] == ["read", "expectation"]
    assert [mark["state"] for mark in found if mark["step"] == 2500] == ["good", "failed"]


def test_a_long_body_is_cut_and_says_so() -> None:
    (mark, _) = drawing(flood(1))["lanes"][0]["marks"]
    answer = dict(mark["parts"])["answer"]
    assert len(answer) < TEXT_MAX + 100
    assert answer.endswith("characters left out)")


def test_many_plays_are_drawn_when_they_are_opened() -> None:
    html = parsed(*[flood(1)] * 40)
    assert len(html.css(".play")) == 40
    assert len(html.css(".play[open]")) == 1


# --- refusals that the script wants

REFUSED = """
- create: {userId: ana}
  as: talk
- renew: talk
- at: 30m
  get: talk
  expect: {status: 410}
- burst: {count: 3, do: {get: talk}}
  expect: {statuses: {410: 3}}
- get: talk
"""


def test_a_refusal_that_was_expected_is_no_fault_and_one_that_was_not_is() -> None:
    drawn = drawing(played(REFUSED))
    found = [mark for mark in drawn["lanes"][0]["marks"] if mark["title"].startswith("get: ")]
    assert [mark["state"] for mark in found] == ["refused"] * 4 + ["error"]
    assert {mark["title"] for mark in found[:4]} == {"get: 410 SESSION_EXPIRED, as expected"}
    assert found[4]["title"] == "get: 410 SESSION_EXPIRED"


def test_the_legend_explains_what_was_refused_as_expected(talk: Play) -> None:
    found = page([talk])
    assert 'says: "refused, as expected"' in found
    assert re.search(r"\.state-refused \{ --colour: var\(--soft\); \}", found)


def test_a_long_path_cannot_make_the_page_wider_than_a_phone(talk: Play) -> None:
    """What stands beside the verdict may be broken anywhere."""
    found = page([replace(talk, file="x" * 300)])
    assert re.search(r"\.play > summary \{[^}]*minmax\(0, 1fr\)[^}]*overflow-wrap: anywhere", found)
