"""A scenario file as a script, with the position of every part; what is wrong in it, with line and column.

YAML is taken plainly: no aliases, no tags, no duplicate keys, `yes` and dates are text. What a script may say is
the models' business, and whether its steps go together that of `checks`.
"""

import re
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from yaml.constructor import SafeConstructor

from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language import checks
from vigil.scenarios.language.checks import Where, close_to
from vigil.scenarios.language.script import Script

FILE_BYTES_MAX = 1024 * 1024
DEPTH_MAX = 30


class Position(NamedTuple):
    """Counted from 1, as editors do."""

    line: int
    column: int


class Problem(NamedTuple):
    at: Position
    where: Where
    message: str


class Located(NamedTuple):
    """A script, its file, and where its parts stand."""

    script: Script
    file: Path
    positions: Mapping[Where, Position]

    def position(self, where: Where) -> Position:
        """Where that part stands, or the nearest part around it that is written out."""
        return _position(self.positions, where)


class BadScript(ScenarioError):
    """A script that cannot be played. The text has a line for each thing that is wrong: file, line, column, what."""

    example = """\
title: Silence ends a session after its timeout
why: Nobody's conversation may stay for ever.
steps:
  - create: {userId: ana, timeoutConfig: {timeoutMinutes: 30}}
    as: talk
  - at: 30m
    get: talk
    expect: {status: 410}"""


def load(path: Path) -> Located:
    """The script of one file. Raises BadScript."""
    return parse(_text(path), path)


def parse(text: str, path: Path) -> Located:
    """The script in `text`, which is called `path` in errors. Raises BadScript."""
    reader = _Reader()
    try:
        values = reader.read(text)
    except yaml.YAMLError as error:
        raise _bad(path, [_syntax(text, error)]) from None
    if reader.problems:
        raise _bad(path, reader.problems)
    try:
        located = Located(Script.model_validate(values), path, reader.positions)
    except ValidationError as error:
        # Not chained: a validator's traceback says nothing that these lines do not.
        raise _bad(path, [_problem(reader.positions, fault) for fault in _faults(error)]) from None
    faults = [Problem(located.position(fault.where), *fault) for fault in checks.faults(located.script)]
    if faults:
        raise _bad(path, faults)
    return located


def scripts_of(paths: Iterable[Path]) -> list[Path]:
    """The files meant by `paths`: a directory stands for all *.yaml in it. Raises BadScript."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not inside:
            raise BadScript(f"{path}: has no *.yaml files")
        found += inside
    return found


def show(where: Where) -> str:
    """`steps[3].expect.body` of a place."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise BadScript(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadScript(f"{path}:{line}: is not UTF-8 text") from None
    if len(data) > FILE_BYTES_MAX:
        raise BadScript(f"{path}: is longer than {FILE_BYTES_MAX} bytes")
    return text


def _bad(path: Path, problems: Iterable[Problem]) -> BadScript:
    lines = [
        f"{path}:{at.line}:{at.column}: {show(where)}{': ' if where else ''}{message}"
        for at, where, message in sorted(problems, key=attrgetter("at"))
    ]
    return BadScript("\n".join(lines))


# --- YAML


class _Loader(yaml.SafeLoader):
    """Booleans are true and false; dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regex)
        for tag, regex in rules
        if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(?:true|false)$"), list("tf"))

_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null")
)


class _Reader:
    """Walks the nodes of one document, noting where they stand and what is wrong."""

    def __init__(self) -> None:
        self.positions: dict[Where, Position] = {}
        self.problems: list[Problem] = []

    def read(self, text: str) -> Any:
        """Raises YAMLError."""
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                self._note(event, (), f"the alias *{event.anchor} is not allowed: write it out")
                return None
            if depth > DEPTH_MAX:
                self._note(event, (), f"nests deeper than {DEPTH_MAX} levels")
                return None
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else self._value(node, ())

    def _value(self, node: yaml.Node, where: Where) -> Any:
        self.positions.setdefault(where, _start(node))
        if node.tag not in _PLAIN:
            self._note(node, where, f"has the tag {node.tag}, which is not allowed")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*where, n)) for n, item in enumerate(node.value)]
        return self._scalar(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)  # 201: 60 has a key that YAML takes for a number
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, where, "has a key that is not text")
            elif key in values:
                first = self.positions[*where, key].line
                self._note(key_node, (*where, key), f"is there twice, first in line {first}")
            else:
                self.positions[*where, key] = _start(key_node)
                values[key] = self._value(value_node, (*where, key))
        return values

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        try:
            return SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self._note(node, where, "cannot be read: put it in quotes if it is text")
            return None

    def _note(self, node: yaml.Node | yaml.Event, where: Where, message: str) -> None:
        self.problems.append(Problem(_start(node), where, message))


def _start(node: Any) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax(text: str, error: yaml.YAMLError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return Problem(
            Position(mark.line + 1, mark.column + 1), (), f"is not YAML: {error.problem or error.context}"
        )
    position = getattr(error, "position", 0)
    at = Position(text.count("\n", 0, position) + 1, 1)
    return Problem(at, (), "has a character that YAML does not allow")


def _position(positions: Mapping[Where, Position], where: Where) -> Position:
    while where not in positions and where:
        where = where[:-1]
    return positions.get(where, Position(1, 1))


# --- what the models refuse


def _faults(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _problem(positions: Mapping[Where, Position], fault: ErrorDetails) -> Problem:
    where = fault["loc"]
    return Problem(_position(positions, where), where, _message(fault))


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return f"is not a field here{close_to(str(fault['loc'][-1]), _names_at(fault['loc'][:-1]))}"
    plain = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "string_pattern_mismatch":
        return "is not a path like messages[0].content"
    return _MESSAGES.get(fault["type"]) or re.sub(r"^(Input|String|List|Dictionary) should", "must", plain)


_MESSAGES = {
    "missing": "is missing",
    "string_type": "must be text: put it in quotes",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list: begin each item with -",
}


def _names_at(where: Where) -> list[str]:
    """The fields of the model at that place."""
    model: Any = Script
    for part in where:
        model = _inside(model, part)
    return [field.alias or name for name, field in model.model_fields.items()]


def _inside(kind: Any, part: str | int) -> Any:
    """The type that stands at `part` of a value of `kind`: of models, lists and mappings."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _bare(next(f.annotation for name, f in kind.model_fields.items() if part in (f.alias, name)))
    return _bare(get_args(kind)[-1])


def _bare(kind: Any) -> Any:
    """Without Annotated and None."""
    while True:
        args = [arg for arg in get_args(kind) if arg is not type(None)]
        if hasattr(kind, "__metadata__") or (args and len(args) < len(get_args(kind))):
            kind = args[0]
        else:
            return kind
