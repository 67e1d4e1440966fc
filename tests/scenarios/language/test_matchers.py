"""Each matcher: what it takes, what it does not take."""

from typing import Any

import pytest

from vigil.scenarios.language.expectations import Matcher
from vigil.scenarios.language.matchers import Moment, judge, judge_header
from vigil.scenarios.language.paths import MISSING, NoValue, fill, look

START = 1_795_338_000_000  # 2026-11-22T09:00:00.000Z
NAMES = {"talk": {"expiresAt": "2026-11-22T09:30:00.000Z", "n": 5}, "id": "abc"}
EXACT = Moment(START, START + 60_000, 0, NAMES)
LOOSE = EXACT._replace(tolerance_ms=6000)


def held(value: Any, moment: Moment = EXACT, **matcher: Any) -> bool:
    return judge(Matcher.model_validate(matcher), value, moment).held


@pytest.mark.parametrize(
    ("value", "matcher"),
    [
        (5, {"equals": 5}),
        (5, {"equals": 5.0}),
        ("abc", {"equals": "${id}"}),
        (5, {"equals": "${talk.n}"}),
        ([1, {"a": True}], {"equals": [1, {"a": True}]}),
        (None, {"equals": None}),
        (404, {"one_of": [200, 404]}),
        (None, {"present": True}),
        (MISSING, {"absent": True}),
        ("2026-11-22T09:30:00.000Z", {"time": "start+30m"}),
        ("2026-11-22T09:01:00.000Z", {"time": "now"}),
        ("2026-11-22T09:25:00.000Z", {"time": "${talk.expiresAt}-5m"}),
        (START + 1, {"time": "start+1ms"}),
        (1_800_000, {"approx": "30m"}),
        ("56", {"approx_s": "55s1ms"}),
        (55, {"approx_s": "55s"}),
        ([1, 2], {"length": 2}),
        ("abc", {"length": 3}),
        ('"session";r=59;t=60', {"regex": '"session";r=59'}),
        (4, {"less": 5}),
        (6, {"greater": "${talk.n}"}),
        ("2026-11-22T09:29:59.999Z", {"less": "${talk.expiresAt}"}),
        ("2026-11-22T09:00:00.001Z", {"greater": "start"}),
        (5, {"greater": 4, "less": 6}),
    ],
)
def test_a_matcher_holds(value: Any, matcher: dict[str, Any]) -> None:
    assert held(value, **matcher)


@pytest.mark.parametrize(
    ("value", "matcher"),
    [
        (True, {"equals": 1}),
        (0, {"equals": False}),
        ("5", {"equals": 5}),
        (MISSING, {"equals": None}),
        ([1, 2], {"equals": [1]}),
        ({"a": 1, "b": 2}, {"equals": {"a": 1}}),
        (500, {"one_of": [200, 404]}),
        (MISSING, {"present": True}),
        (None, {"absent": True}),
        ("2026-11-22T09:30:00.001Z", {"time": "start+30m"}),
        ("2026-11-22T09:29:59.999Z", {"time": "start+30m"}),
        ("soon", {"time": "start"}),
        (None, {"time": "start"}),
        (MISSING, {"time": "start"}),
        (1_800_001, {"approx": "30m"}),
        ("1800000x", {"approx": "30m"}),
        (55, {"approx_s": "55s1ms"}),
        (57, {"approx_s": "55s1ms"}),
        (True, {"approx": "1ms"}),
        (5, {"length": 1}),
        ([1], {"length": 2}),
        ("abd", {"regex": "abc"}),
        (5, {"regex": "5"}),
        (5, {"less": 5}),
        (5, {"greater": 5}),
        ("x", {"less": 5}),
        (MISSING, {"less": 5}),
        ("2026-11-22T09:30:00.000Z", {"less": "${talk.expiresAt}"}),
        (5, {"greater": 4, "less": 5}),
    ],
)
def test_a_matcher_does_not_hold(value: Any, matcher: dict[str, Any]) -> None:
    assert not held(value, **matcher)


@pytest.mark.parametrize(("away_ms", "holds"), [(6000, True), (-6000, True), (6001, False), (-6001, False)])
def test_times_may_be_off_by_the_tolerance_and_no_more(away_ms: int, holds: bool) -> None:
    assert held(START + away_ms, LOOSE, time="start") is holds
    assert held(60_000 + away_ms, LOOSE, approx="1m") is holds


def test_whole_seconds_may_be_off_by_the_tolerance_beyond_their_rounding() -> None:
    assert [seconds for seconds in range(40, 70) if held(seconds, LOOSE, approx_s="55s")] == [*range(49, 62)]


def test_a_header_is_compared_as_text() -> None:
    assert judge_header(Matcher(equals=60), "60", EXACT).held
    assert judge_header(Matcher(less=61), "60", EXACT).held
    assert not judge_header(Matcher(equals=60), "6", EXACT).held


def test_a_finding_says_what_was_expected_and_what_came_in_both_clocks() -> None:
    finding = judge(Matcher(time="start+30m"), "2026-11-22T09:31:00.000Z", LOOSE)
    assert finding.expected == "2026-11-22T09:30:00.000Z (start+30m, give or take 6s)"
    assert judge(Matcher(time="start+30m"), "2026-11-22T09:31:00.000Z", EXACT).came == (
        "2026-11-22T09:31:00.000Z (start+31m)"
    )
    assert judge(Matcher(one_of=[1, 2]), MISSING, EXACT)[1:] == ("one of [1, 2]", "nothing")
    assert len(judge(Matcher(equals=1), "x" * 100_000, EXACT).came) < 400


def test_a_name_without_a_value_is_a_finding_and_no_crash() -> None:
    finding = judge(Matcher(equals="${talk.nothing}"), 5, EXACT)
    assert not finding.held
    assert finding.expected == "${talk.nothing} has no value"


# --- paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", 1),
        ("list[0].id", "x"),
        ("list[-1].id", "y"),
        ("list[*].id", ["x", "y"]),
        ("list[2]", MISSING),
        ("list[*].only", MISSING),
        ("a.b.c", MISSING),
        ("a[0]", MISSING),
        ("list.id", MISSING),
        ("none", None),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, found: object) -> None:
    value = {"a": {"b": 1}, "list": [{"id": "x", "only": 1}, {"id": "y"}], "none": None}
    assert look(value, path) == found


def test_a_text_that_is_one_name_becomes_the_value_itself_and_others_hold_its_text() -> None:
    assert fill({"a": ["${talk.n}", "page ${talk.n} of ${id}", 7]}, NAMES) == {"a": [5, "page 5 of abc", 7]}
    with pytest.raises(NoValue, match=r"\$\{who\} has no value"):
        fill("${who}", NAMES)
