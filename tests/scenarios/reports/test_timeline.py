"""The timeline is one file that holds all plays, whatever stands in them, and lets nobody write into it."""

import re
from dataclasses import replace

from tests.scenarios.playing import played
from tests.scenarios.reports.timelines import MINUTE_MS, START_MS, data, marks, parsed, texts
from vigil.scenarios.play.results import EventSeen, Exchange, Happening, Judged, Play, SessionSeen, StepPlayed
from vigil.scenarios.reports.timeline import page
from vigil.scenarios.reports.timeline_lanes import MARKS_MAX, TEXT_MAX, drawing
from vigil.server.api.wire_time import iso

EVIL = "</script><script>alert('x')</script><!-- <b>&"


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
