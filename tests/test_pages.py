"""SECURITY.md, CONTRIBUTING.md and the glossary name files and tests that are there."""

import re

import pytest

from tests import ROOT

PAGES = ("SECURITY.md", "CONTRIBUTING.md", "docs/glossary.md", "docs/private-names.md")
PATH = re.compile(r"`((?:actors|server|scenarios|loadtests|tests|docs|src)/[\w./-]*)`")
TEST = re.compile(r"`(tests/[\w/]+\.py)` `(test_\w+)`")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    named = PATH.findall((ROOT / page).read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/private-names.md"])
def test_every_test_that_a_page_cites_is_in_its_file(page: str) -> None:
    cited = TEST.findall((ROOT / page).read_text())
    assert cited
    lacking = [name for file, name in cited if f"def {name}(" not in (ROOT / file).read_text()]
    assert lacking == []


def test_the_glossary_defines_each_word_once() -> None:
    words = re.findall(r"^\| ([\w ,]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(words) == len(set(words)) > 50
