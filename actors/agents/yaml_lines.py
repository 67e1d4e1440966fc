"""YAML text to plain values, with the line of every key and item. It refuses what hides or multiplies.

Refused are duplicate keys, keys that are not text, aliases (a few lines of them stand for gigabytes), deep
nesting and tags for anything but plain values. It knows nothing of what the values mean.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import yaml
from yaml.constructor import SafeConstructor

DEPTH_MAX = 20

_PLAIN = ("map", "seq")

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """Something wrong at a line, counted from 1, and at a place in the values."""

    line: int
    path: Path
    message: str


class Document(NamedTuple):
    """A file's value, as far as it makes one, where its parts stand, and what is wrong with it."""

    value: Any
    lines: dict[Path, int]
    problems: list[Problem]

    def line(self, path: Path) -> int:
        """Where `path` stands, or the nearest thing around it that exists."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def read(text: str) -> Document:
    """The one document in `text`. Problems are given, not raised; with a problem of syntax the value is None."""
    document = Document(None, {}, [])
    try:
        problem = _unbounded(text)
        node = None if problem else yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        node, problem = None, _syntax(text, error)
    if problem is not None:
        document.problems.append(problem)
    if node is None:
        return document
    return document._replace(value=_value(node, (), document))


def _unbounded(text: str) -> Problem | None:
    """An alias, or nesting too deep to be walked through."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            return Problem(_line(event), (), f"the alias *{event.anchor} is not allowed: write it out")
        if depth > DEPTH_MAX:
            return Problem(_line(event), (), f"nests deeper than {DEPTH_MAX} levels")
    return None


def _syntax(text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return Problem(error.problem_mark.line + 1, (), f"is not YAML: {error.problem or error.context}")
    position = getattr(error, "position", 0)
    return Problem(text.count("\n", 0, position) + 1, (), "has a character that YAML does not allow")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _tag(node: yaml.Node) -> str:
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def _value(node: yaml.Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, _line(node))
    if isinstance(node, yaml.CollectionNode) and _tag(node) not in _PLAIN:
        document.problems.append(
            Problem(_line(node), path, f"has the tag {_tag(node)}, which is not allowed")
        )
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, n), document) for n, item in enumerate(node.value)]
    return _scalar(node, path, document)


def _mapping(node: yaml.MappingNode, path: Path, document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _scalar(key_node, path, document) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            document.problems.append(Problem(_line(key_node), path, "has a key that is not text"))
        elif key in values:
            first = document.lines[(*path, key)]
            problem = Problem(_line(key_node), (*path, key), f"is there twice, first in line {first}")
            document.problems.append(problem)
        else:
            document.lines[(*path, key)] = _line(key_node)
            values[key] = _value(value_node, (*path, key), document)
    return values


def _scalar(node: yaml.Node, path: Path, document: Document) -> Hashable:
    try:
        value: Hashable = SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        document.problems.append(Problem(_line(node), path, f"cannot be read as {_tag(node)}"))
        return None
    return value
