"""Results as JUnit XML, the form that CI systems read."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring


class Case(NamedTuple):
    """One thing that was tried. With neither failure nor error nor reason to skip, it held.

    An error says why it could not be found out whether it holds.
    """

    name: str
    seconds: float
    failure: str | None = None
    skipped: str | None = None
    error: str | None = None


def junit(suite: str, cases: Sequence[Case]) -> str:
    """The XML document for one suite. What XML cannot carry becomes a question mark."""
    root = Element(
        "testsuite",
        name=_text(suite),
        tests=str(len(cases)),
        failures=str(sum(case.failure is not None for case in cases)),
        errors=str(sum(case.error is not None for case in cases)),
        skipped=str(sum(case.skipped is not None for case in cases)),
        time=f"{sum(case.seconds for case in cases):.3f}",
    )
    for case in cases:
        _add(root, suite, case)
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add(root: Element, suite: str, case: Case) -> None:
    element = SubElement(
        root, "testcase", classname=_text(suite), name=_text(case.name), time=f"{case.seconds:.3f}"
    )
    for kind, told in (("failure", case.failure), ("error", case.error)):
        if told is not None:
            SubElement(element, kind, message=_text(told.partition("\n")[0])).text = _text(told)
    if case.skipped is not None and not len(element):
        SubElement(element, "skipped", message=_text(case.skipped))


def _text(text: str) -> str:
    return "".join(letter if letter >= " " or letter in "\t\n\r" else "?" for letter in text)
