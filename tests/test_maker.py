"""Every tuple that is given to a function of `maker` has as many values as its record has fields.

`maker` skips the constructor, which would count them, because it is called on every request. So they are counted here,
in the source. A function of `maker` has to be a module's own name and its argument a tuple that is written in place.
"""

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import ROOT
from tests.calls import ROOMS
from vigil.actors.core import records
from vigil.actors.core.records import Anchor, Tombstone


def faults(source: str, names: Mapping[str, Any]) -> list[str]:
    """The uses in `source` that give a wrong number of values, or hide it. `names` are the module's globals."""
    tree = ast.parse(source)
    kinds = dict(_made(tree, names))
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    found = []
    for use in uses:
        if use.id in kinds:
            call, fields = calls.get(id(use)), len(kinds[use.id]._fields)
            given = _length(call.args[0], fields, names) if call else "nobody knows how many"
            if given != fields:
                found.append(f"line {use.lineno}: {use.id} gets {given} of {fields} fields")
    return found


def _made(tree: ast.Module, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each function of `maker` by its name, with the record that it makes."""
    calls = 0
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets
        pairs = zip(_parts(target), _parts(node.value), strict=True) if _is_of_maker(node.value) else ()
        for name, call in pairs:
            assert isinstance(name, ast.Name)
            assert isinstance(call, ast.Call)
            calls += 1
            yield name.id, names[ast.unparse(call.args[0])]
    assert calls == sum(map(_is_call_of_maker, ast.walk(tree))), (
        "a function of maker that is not a module's own name"
    )


def _is_of_maker(value: ast.expr) -> bool:
    return all(map(_is_call_of_maker, _parts(value)))


def _is_call_of_maker(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "maker"


def _parts(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _length(values: ast.expr, fields: int, names: Mapping[str, Any]) -> int | str:
    """Of a tuple as it is written. A starred part of it is a slice of another record of the same kind."""
    if not isinstance(values, ast.Tuple):
        return "nobody knows how many"
    return sum(
        _slice_length(one.value, fields, names) for one in values.elts if isinstance(one, ast.Starred)
    ) + sum(not isinstance(one, ast.Starred) for one in values.elts)


def _slice_length(part: ast.expr, fields: int, names: Mapping[str, Any]) -> int:
    assert isinstance(part, ast.Subscript), ast.unparse(part)
    assert isinstance(part.slice, ast.Slice), ast.unparse(part)
    lower, upper = part.slice.lower, part.slice.upper
    first = names[ast.unparse(lower)] if lower else 0
    return len(range(fields)[first : names[ast.unparse(upper)] if upper else fields])


def users() -> list[ModuleType]:
    """The modules that use `maker`."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    texts = ((file, file.read_text()) for file in files)
    return [_module(file) for file, text in texts if "maker(" in text and "def maker(" not in text]


def _module(file: Path) -> ModuleType:
    path = file.relative_to(ROOT).with_suffix("")
    return importlib.import_module(".".join(("vigil", *path.parts)))


def test_maker_is_found_where_it_is_used() -> None:
    assert "vigil.actors.core.lifecycle" in [module.__name__ for module in users()]


@pytest.mark.parametrize("module", users(), ids=lambda module: module.__name__)
def test_as_many_values_are_given_as_the_record_has_fields(module: ModuleType) -> None:
    assert module.__file__ is not None
    assert faults(Path(module.__file__).read_text(), vars(module)) == []


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("_anchor((1, 2))", None),
        ("_anchor((1,))", "gets 1 of 2"),
        ("_anchor((1, 2, 3))", "gets 3 of 2"),
        ("_anchor(values)", "gets nobody knows how many of 2"),
        ("map(_anchor, values)", "gets nobody knows how many of 2"),
        ("_tombstone((*t[:LAST], 0, 0))", None),
        ("_tombstone((*t[:LAST], 0, *t[LAST:]))", "gets 9 of 8"),
    ],
)
def test_a_value_too_many_or_too_few_is_found(call: str, fault: str | None) -> None:
    source = f"_anchor, _tombstone = maker(Anchor), maker(Tombstone)\ndef f(t): return {call}\n"
    names = {"Anchor": Anchor, "Tombstone": Tombstone, "LAST": Tombstone._fields.index("last_activity")}
    found = faults(source, names)
    assert [fault in one for one in found] == [True] if fault else found == []


def test_a_function_of_maker_inside_a_function_is_an_error_here() -> None:
    with pytest.raises(AssertionError, match="not a module's own name"):
        faults("def f():\n    made = maker(Anchor)\n", {"Anchor": Anchor})


def test_maker_makes_what_the_constructor_makes() -> None:
    assert records.maker(Anchor)((1, 2)) == Anchor(1, 2)
