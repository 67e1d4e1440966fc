"""The simulation's report is one file that needs nothing else and shows all that came of a run."""

import re
from dataclasses import replace

import pytest
from selectolax.lexbor import LexborHTMLParser

from vigil.scenarios.reports.simulation_page import page
from vigil.scenarios.simulation.faults.plan import Band
from vigil.scenarios.simulation.outcome import Evidence, Exchange, Failure, Outcome, Settings

HOUR_MS = 3_600_000
EVIL = '</code><script>alert("x")</script>'
OUTCOME = Outcome(
    version="1.2.3",
    settings=Settings(seed=42, people=100, hours=2.0, mix="chaos", faults=("crash", "slow-store")),
    violation=None,
    hash="0123456789abcdef",
    virtual_ms=26 * HOUR_MS,
    real_s=2.0,
    requests=5000,
    commits=4000,
    answers={"createSession": {"201": 90, "429": 10}, "heartbeat": {"200": 4895, "lost": 5}},
    limits_hit={"session": 7, "user": 3},
    sessions_begun=90,
    sessions_ended={"ended": 10, "inactivity": 70, "max_duration": 10},
    events={"sessionRenewed": 12},
    bands=(
        Band("crash", 600_000, 610_000),
        Band("slow-store", 3_600_000, 3_900_000),
        Band("crash", 5_000_000, 5_004_000, clean=True),
    ),
    struck={"slow commits": 33},
    people={"chatter": 60, "idle tab": 40},
    live_sessions=tuple(range(120)),
    requests_by_minute={"createSession": [1] * 120, "heartbeat": [40] * 120},
    refusals_by_minute={"createSession": [0] * 119 + [10]},
    lateness_ms={0: 60, 12: 5, 2400: 4, 99_000: 1},
    worst=(
        Exchange(17, 4, "heartbeat", "4c0c", 3_650_000, 61_000, 503),
        Exchange(18, 5, "heartbeat", "ad39", 4_000_000, 5_000, 200),
        Exchange(19, 6, "heartbeat", None, 7_000_000, 4_000, 0),
    ),
)
FAILURE = Failure(
    "3 expiry",
    "a session answers after its end",
    7_003_000,
    (Evidence(OUTCOME.worst[2], "POST /api/messaging/sessions/4c0c/heartbeat {}", '{"status": "active"}'),),
)
NOTHING = replace(
    OUTCOME,
    settings=Settings(seed=1),
    requests=0,
    real_s=0.0,
    answers={},
    limits_hit={},
    sessions_ended={},
    events={},
    bands=(),
    struck={},
    people={},
    live_sessions=(),
    requests_by_minute={},
    refusals_by_minute={},
    lateness_ms={},
    worst=(),
)


def parsed(outcome: Outcome) -> LexborHTMLParser:
    return LexborHTMLParser(page(outcome))


def texts(outcome: Outcome, selector: str) -> list[str]:
    return [" ".join(node.text().split()) for node in parsed(outcome).css(selector)]


def chart(outcome: Outcome, title: str) -> dict[str, str]:
    """The bars of one chart with their figures."""
    for figure in parsed(outcome).css("figure"):
        heading = figure.css_first("h3")
        if heading is not None and heading.text() == title:
            names = [node.text() for node in figure.css("dt")]
            return dict(zip(names, [node.text() for node in figure.css("dd.count")], strict=True))
    raise AssertionError(f"there is no chart {title}")


def test_the_page_needs_no_network_and_no_script() -> None:
    found = page(OUTCOME)
    assert "<script" not in found
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", found)
    assert not re.search(r"@import|url\(|https?://", found)


@pytest.mark.parametrize("outcome", [OUTCOME, NOTHING, replace(OUTCOME, violation=FAILURE)])
def test_every_tag_that_is_opened_is_closed_and_every_id_is_there_once(outcome: Outcome) -> None:
    found = page(outcome)
    for tag in ("figure", "section", "dl", "div", "ul", "span", "p", "table", "svg", "title", "text"):
        assert len(re.findall(rf"<{tag}[\s>]", found)) == len(re.findall(rf"</{tag}>", found)), tag
    ids = re.findall(r'\sid="([^"]*)"', found)
    assert len(ids) == len(set(ids))


def test_the_page_says_that_it_held_and_how_to_run_it_again() -> None:
    assert texts(OUTCOME, "h1") == ["Held"]
    assert texts(OUTCOME, ".again") == [OUTCOME.settings.repro]
    (header,) = texts(OUTCOME, "header > p")
    for part in ("Seed 42", "100 people (chaos)", "2 hours", "crash, slow-store", "1.2.3", OUTCOME.hash):
        assert part in header


def test_a_run_that_was_cut_down_says_to_whom_and_when() -> None:
    settings = replace(OUTCOME.settings, only=(3, 8), until_ms=HOUR_MS)
    (again,) = texts(replace(OUTCOME, settings=settings), ".again")
    assert again.endswith("# only people 3, 8; until 01:00")


def test_a_violation_stands_on_top_with_its_rule_its_time_and_its_evidence() -> None:
    broken = replace(OUTCOME, violation=FAILURE)
    assert texts(broken, "h1") == ["Violated"]
    (said,) = texts(broken, ".problems")
    for part in ("3 expiry", "After 01:56:43", FAILURE.message, "#19 heartbeat of person 6", "no answer"):
        assert part in said
    assert texts(broken, ".problems pre") == [FAILURE.evidence[0].request, FAILURE.evidence[0].answer]
    assert len(parsed(broken).css(".problems svg")) == 1


def test_a_violation_says_what_would_have_been_right_where_that_is_known() -> None:
    expected = {"status": 410, "body.code": "SESSION_EXPIRED"}
    broken = replace(OUTCOME, violation=FAILURE._replace(expected=expected))
    assert texts(broken, ".problems pre")[0] == "status: 410 body.code: SESSION_EXPIRED"


@pytest.mark.parametrize("at_ms", [0, 40 * HOUR_MS])
@pytest.mark.parametrize("outcome", [OUTCOME, NOTHING])
def test_a_violation_before_the_first_request_or_after_the_day_has_a_page(
    outcome: Outcome, at_ms: int
) -> None:
    broken = replace(outcome, violation=FAILURE._replace(at_ms=at_ms, evidence=()))
    assert texts(broken, "h1") == ["Violated"]


def test_every_figure_of_the_run_is_there() -> None:
    facts = dict(
        zip(texts(OUTCOME, ".facts dt"), texts(OUTCOME, ".facts dd"), strict=True),
    )
    assert facts["requests"] == "5 000"
    assert facts["429s"] == "10"
    assert facts["virtual time"] == "26.0 h"
    assert facts["requests/s"] == "2 500"


def test_requests_are_counted_by_operation_and_status() -> None:
    rows = [[cell.text() for cell in row.css("th, td")] for row in parsed(OUTCOME).css("tr")[:3]]
    assert rows == [
        ["operation", "requests", "200", "201", "429", "lost"],
        ["createSession", "100", "0", "90", "10", "0"],
        ["heartbeat", "4 900", "4 895", "0", "0", "5"],
    ]


def test_charts_show_how_sessions_ended_what_faults_did_and_who_took_part() -> None:
    assert chart(OUTCOME, "How sessions ended") == {"ended": "10", "inactivity": "70", "max_duration": "10"}
    assert chart(OUTCOME, "What the faults did") == {"slow commits": "33"}
    assert chart(OUTCOME, "Limits hit") == {"session": "7", "user": "3"}
    assert chart(OUTCOME, "People") == {"chatter": "60", "idle tab": "40"}


def test_lateness_is_counted_in_steps_that_leave_none_out() -> None:
    late = chart(OUTCOME, "Deadlines kept")
    assert late["to the millisecond"] == "60"
    assert (late["below 100ms"], late["below 5s"], late["1m or more"]) == ("5", "4", "1")
    assert sum(map(int, late.values())) == sum(OUTCOME.lateness_ms.values())


def test_faults_are_bands_over_the_day_and_rows_under_it() -> None:
    (drawing,) = parsed(OUTCOME).css(".overview svg")
    rows = [node.text() for node in drawing.css("text.axis")]
    assert {"clean restart", "crash", "slow-store"} <= set(rows)
    assert len(drawing.css("rect.span")) == len(drawing.css("rect.bar")) == len(OUTCOME.bands)


def test_worst_moments_link_to_a_drawing_of_the_time_around_them() -> None:
    html = parsed(OUTCOME)
    links = [node.attributes["href"] for node in html.css("table a")]
    assert links == ["#moment-1", "#moment-1", "#moment-2"]
    first, second = html.css(".moment")
    assert (first.id, second.id) == ("moment-1", "moment-2")
    assert "#17 heartbeat of person 4: 503 after 1m1s" in first.text()
    assert "What was wrong around it: slow-store." in first.text()
    assert "Nothing was wrong around it." in second.text()
    assert len(first.css("rect.bar")) == 2


def test_a_run_in_which_nothing_happened_has_a_page_too() -> None:
    assert texts(NOTHING, "h1") == ["Held"]
    assert "Nobody had to wait." in texts(NOTHING, "p")
    assert texts(NOTHING, ".chart") == []


def test_what_servers_and_people_say_is_text() -> None:
    evidence = Evidence(OUTCOME.worst[0]._replace(operation=EVIL, session=EVIL), EVIL, EVIL)
    broken = replace(
        OUTCOME,
        violation=Failure(EVIL, EVIL, 1000, (evidence,)),
        answers={EVIL: {EVIL: 1}},
        struck={EVIL: 1},
        worst=(evidence.exchange,),
        requests_by_minute={EVIL: [1] * 120},
    )
    found = page(broken)
    assert "<script" not in found
    assert found.count("&lt;script&gt;") >= 8


def test_operations_beyond_the_largest_share_one_colour() -> None:
    many = {f"operation-{n}": [n] * 120 for n in range(1, 9)}
    found = texts(replace(OUTCOME, requests_by_minute=many), ".figures .legend")
    assert found[0] == "operation-8operation-7operation-6operation-5operation-4others"
