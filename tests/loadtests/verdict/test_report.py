"""The report is one file that needs nothing else, shows what was found, and lets nobody write into it."""

import re
from datetime import UTC, datetime

from selectolax.lexbor import LexborHTMLParser

from tests.loadtests.verdict.test_verdict import EXACT, MEASURED, NOTHING, OVER, RUN
from vigil.loadtests.oracle.findings import Limits
from vigil.loadtests.oracle.oracle import Oracle
from vigil.loadtests.verdict.percentiles import Measurements
from vigil.loadtests.verdict.report import html
from vigil.loadtests.verdict.thresholds import parse
from vigil.loadtests.verdict.verdict import Ending, Generator, Verdict

MADE_AT = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)


def texts(verdict: Verdict, selector: str) -> list[str]:
    """What stands in the page wherever the selector matches."""
    return [node.text(strip=True) for node in LexborHTMLParser(html(verdict, MADE_AT)).css(selector)]


def test_the_page_needs_no_network_and_no_script() -> None:
    found = html(Verdict(RUN, OVER, MEASURED, []), MADE_AT)
    assert "<script" not in found
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", found)
    assert not re.search(r"@import|url\(", found)


def test_the_page_says_what_held_and_what_did_not() -> None:
    assert texts(Verdict(RUN, EXACT, MEASURED, []), "h1, .problems") == ["Held"]
    word, problems = texts(Verdict(RUN, OVER, MEASURED, [parse("p50<1us")]), "h1, .problems")
    assert word == "Failed"
    assert "61 admitted within one minute" in problems
    assert "threshold p50<1us" in problems


def test_each_limit_that_was_used_has_a_plot_of_its_fullest_window() -> None:
    assert texts(Verdict(RUN, EXACT, MEASURED, []), "figure h3") == [
        "Rate",
        "Response time",
        "Refusals",
        "Session limit 60/minute",
        "User limit 1000/hour",
        "Agent limit 5000/hour",
    ]


def test_a_run_without_samples_has_a_page_too() -> None:
    verdict = Verdict(RUN, NOTHING, Measurements(), [], Generator(unreachable="connection refused"))
    word, *figures = texts(verdict, "h1, .nothing")
    assert word == "Target not reachable"
    assert figures == ["Nothing was measured."] * 2


def test_what_servers_and_people_say_is_text() -> None:
    evil = '<script>alert("x")</script>'
    measured = Measurements()
    measured.record(1.0, evil, 0.1, 0.1)
    run = RUN._replace(target=evil)
    oracle = Oracle(Limits())
    found = html(Verdict(run, oracle.judge(), measured, [], Generator(errors={evil: 2})), MADE_AT)
    assert "<script" not in found
    assert found.count("&lt;script&gt;") >= 3


def test_a_limit_that_was_not_reached_has_another_colour_than_one_that_held() -> None:
    verdict = Verdict(RUN, EXACT, MEASURED, [])
    assert set(texts(verdict, "td.good-text")) == {"held"}
    assert set(texts(verdict, "td.open-text, li .open-text")) == {"not reached", "none was looked for"}


def test_an_incomplete_run_has_its_own_word_and_colour() -> None:
    run = RUN._replace(ending=Ending(planned_s=40.0, signal=2))
    assert texts(Verdict(run, EXACT, MEASURED, []), "h1 .open") == ["Incomplete"]
    assert texts(Verdict(run, EXACT, MEASURED, []), "h1 .held, h1 .failed") == []


def test_the_page_draws_no_percentiles_through_seconds_without_an_answer() -> None:
    measured = Measurements()
    for second in (0.0, 1.0, 2.0, 7.0, 8.0):
        measured.record(second, "send", 0.1, 0.1)
    measured.goes_on(11.0)
    verdict = Verdict(RUN, NOTHING, measured, [])
    lines = [path.attributes["d"] for path in LexborHTMLParser(html(verdict, MADE_AT)).css("path.three")]
    assert lines[0] is not None
    assert lines[0].count("M") == 2
    assert measured.duration_s() == 12
