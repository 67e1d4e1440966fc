"""JUnit files say what held, what failed and what was skipped."""

from xml.etree.ElementTree import Element, fromstring

from vigil.scenarios.reports.junit import Case, junit


def parsed(text: str) -> Element:
    return fromstring(text)  # noqa: S314  our own


def test_cases_are_counted_and_told() -> None:
    text = junit(
        "vigil replay",
        [
            Case("one", 0.25),
            Case("two", 0.5, failure="expected 201\ncame 429"),
            Case("three", 0, skipped="why"),
            Case("four", 0, error="it could not be found out"),
        ],
    )
    suite = parsed(text)
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "0.750",
    }
    failure = suite.find("testcase[2]/failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("expected 201", "expected 201\ncame 429")
    skipped = suite.find("testcase[3]/skipped")
    assert skipped is not None
    assert skipped.get("message") == "why"
    error = suite.find("testcase[4]/error")
    assert error is not None
    assert error.get("message") == "it could not be found out"


def test_what_xml_cannot_carry_is_replaced() -> None:
    assert parsed(junit("s", [Case("a\x00b", 0)])).find("testcase[@name='a?b']") is not None
