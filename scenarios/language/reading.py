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

from vigil.actors.agents import yaml_positions
from vigil.actors.agents.yaml_positions import Position, Problem, Where, nearest, show, text_of
from vigil.scenarios.errors import ScenarioError
from vigil.scenarios.language import checks
from vigil.scenarios.language.checks import close_to
from vigil.scenarios.language.script import Script


class Located(NamedTuple):
    """A script, its file, and where its parts stand."""

    script: Script
    file: Path
    positions: Mapping[Where, Position]

    def position(self, where: Where) -> Position:
        """Where that part stands, or the nearest part around it that is written out."""
        return nearest(self.positions, where)


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
    return parse(text_of(path, BadScript), path)


def parse(text: str, path: Path) -> Located:
    """The script in `text`, which is called `path` in errors. Raises BadScript."""
    document = yaml_positions.read(text, _Loader)
    if document.problems:
        raise _bad(path, document.problems)
    try:
        located = Located(Script.model_validate(document.value), path, document.positions)
    except ValidationError as error:
        # Not chained: a validator's traceback says nothing that these lines do not.
        raise _bad(
            path, [document.problem(fault["loc"], _message(fault)) for fault in _faults(error)]
        ) from None
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

# --- what the models refuse


def _faults(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


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
