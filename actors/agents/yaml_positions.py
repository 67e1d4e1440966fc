"""YAML files to plain values, with the position of every key and item. It refuses what hides or multiplies.

Refused are duplicate keys, keys that are not plain, aliases (a few lines of them stand for gigabytes), deep nesting and
tags for anything but plain values. It knows nothing of what the values mean, and raises no errors but for files that
cannot be read: what is wrong is given with its position, so that everything can be told at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml
from yaml.constructor import SafeConstructor

FILE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 30

_PLAIN = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")

Where: TypeAlias = tuple[str | int, ...]
"""The way to a part of a document: keys and numbers of items."""


class Position(NamedTuple):
    """Counted from 1, as editors do."""

    line: int
    column: int


class Problem(NamedTuple):
    at: Position
    where: Where
    message: str


class Document(NamedTuple):
    """A file's value, as far as it makes one, where its parts stand, and what is wrong with it."""

    value: Any
    positions: dict[Where, Position]
    problems: list[Problem]

    def problem(self, where: Where, message: str) -> Problem:
        return Problem(nearest(self.positions, where), where, message)


def text_of(path: Path, error: type[Exception]) -> str:
    """The text of a file. Raises `error` when it cannot be read, is too long or is no text."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise error(f"{path}: is longer than {FILE_BYTES_MAX} bytes")
        return data.decode("utf-8-sig")
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror}") from None
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        raise error(f"{path}:{line}: is not UTF-8 text") from None


def read(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Document:
    """The one document in `text`. Problems are given, not raised; with a problem of syntax the value is None.

    `loader` decides which words are numbers, booleans or dates.
    """
    document = Document(None, {}, [])
    try:
        problem = _unbounded(text, loader)
        node = None if problem else yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        node, problem = None, _syntax(text, error)
    if problem is not None:
        document.problems.append(problem)
    if node is None:
        return document
    return document._replace(value=_value(node, (), document))


def nearest(positions: Mapping[Where, Position], where: Where) -> Position:
    """Where that part stands, or the nearest part around it that is written out."""
    while where not in positions and where:
        where = where[:-1]
    return positions.get(where, Position(1, 1))


def show(where: Where) -> str:
    """`steps[3].expect.body` of a place."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def _unbounded(text: str, loader: type[yaml.SafeLoader]) -> Problem | None:
    """An alias, or nesting too deep to be walked through."""
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            return Problem(_start(event), (), f"the alias *{event.anchor} is not allowed: write it out")
        if depth > DEPTH_MAX:
            return Problem(_start(event), (), f"nests deeper than {DEPTH_MAX} levels")
    return None


def _syntax(text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return Problem(_place(error.problem_mark), (), f"is not YAML: {error.problem or error.context}")
    line = text.count("\n", 0, getattr(error, "position", 0)) + 1
    return Problem(Position(line, 1), (), "has a character that YAML does not allow")


def _start(node: Any) -> Position:
    return _place(node.start_mark)


def _place(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _value(node: yaml.Node, where: Where, document: Document) -> Any:
    document.positions.setdefault(where, _start(node))
    tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
    if tag not in _PLAIN:
        message = f"has the tag {tag}, which is not allowed"
        document.problems.append(Problem(_start(node), where, message))
        return None
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, where, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*where, n), document) for n, item in enumerate(node.value)]
    try:
        return SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        message = f"cannot be read as {tag}: put it in quotes if it is text"
        document.problems.append(Problem(_start(node), where, message))
        return None


def _mapping(node: yaml.MappingNode, where: Where, document: Document) -> dict[str, Any]:
    """Keys are text as it is written: `201: 60` has a key that YAML takes for a number."""
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(Problem(_start(key_node), where, "has a key that is not text"))
            continue
        key = str(key_node.value)
        if key in values:
            first = document.positions[*where, key].line
            message = f"is there twice, first in line {first}"
            document.problems.append(Problem(_start(key_node), (*where, key), message))
        else:
            document.positions[*where, key] = _start(key_node)
            values[key] = _value(value_node, (*where, key), document)
    return values
