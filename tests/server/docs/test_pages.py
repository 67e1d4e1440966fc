"""All pages look alike: there is one head, one set of colours, and each page only adds its own."""

import pytest

from tests import ROOT
from tests.calls import ROOMS
from vigil.server.docs import pages

SHARED = ("server/docs/page.html", "scenarios/reports/report.html")
TEMPLATES = sorted(
    file.relative_to(ROOT).as_posix() for room in ROOMS for file in (ROOT / room).rglob("*.html")
)


@pytest.mark.parametrize("template", [name for name in TEMPLATES if not name.endswith("/figure.html")])
def test_every_page_extends_the_shared_one_and_has_no_head_of_its_own(template: str) -> None:
    text = (ROOT / template).read_text()
    if template == SHARED[0]:
        assert text.count("<!doctype html>") == 1
    else:
        assert any(text.startswith(f'{{% extends "{shared}" %}}') for shared in SHARED)
        assert "<head>" not in text
        assert "<style>" not in text


def test_what_utf8_cannot_carry_becomes_a_question_mark() -> None:
    html = pages.render("server/docs/welcome.html", links=[], base="\ud800", version="1")
    assert "localhost:3000?" in html


def test_what_stands_in_a_page_is_allowed_by_its_policy_and_nothing_else_is() -> None:
    page = pages.with_policy("<style>a{}</style><script>b()</script>")
    assert page.policy.count("'sha256-") == 2
    assert "default-src 'none'" in page.policy
