"""docs/private-names.md lists every private name of a library that the product uses, and no others."""

import ast
import re
from pathlib import Path

from tests import ROOT
from tests.calls import ROOMS

ROW = re.compile(r"^\| \w+ \| `(_\w+)` \| ([^|]+) \|", re.MULTILINE)
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit"}  # of named tuples, and of os


def listed() -> dict[str, set[str]]:
    """Each name, with the files that the page says use it."""
    page = (ROOT / "docs" / "private-names.md").read_text()
    return {name: set(re.findall(r"`([\w/]+\.py)`", files)) for name, files in ROW.findall(page)}


def trees() -> dict[str, ast.Module]:
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text()) for file in files}


def private(name: object) -> bool:
    return isinstance(name, str) and bool(re.fullmatch(r"_[A-Za-z]\w*", name)) and name not in PUBLIC


def names_used(tree: ast.Module) -> set[str]:
    """Private attributes and parts of modules, whoever they belong to."""
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(name.name for name in node.names)]
            used |= {part for module in modules for part in module.split(".")}
    return {name for name in used if private(name)}


def names_made(tree: ast.Module) -> set[str]:
    """What the product calls so itself: functions, classes, variables, slots, attributes that it sets."""
    made: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            made.add(node.id if isinstance(node, ast.Name) else node.attr)
    return made


def test_every_private_name_that_the_product_did_not_make_is_on_the_page() -> None:
    every = trees()
    ours = set().union(*map(names_made, every.values()))
    foreign = {(name, file) for file, tree in every.items() for name in names_used(tree) - ours}
    assert [(name, file) for name, file in sorted(foreign) if file not in listed().get(name, set())] == []


def test_every_name_on_the_page_stands_in_the_files_that_it_names() -> None:
    assert len(listed()) > 20
    for name, files in listed().items():
        assert files, name
        for file in files:
            assert re.search(rf"\b{name}\b", Path(ROOT, file).read_text()), f"{name} is not in {file}"
