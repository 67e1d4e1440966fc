"""Paths into JSON values (`messages[0].content`), and texts with `${name.path}` in them."""

import json
import re
from collections.abc import Mapping
from typing import Any

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "nothing"})()

_STEP = re.compile(r"\[(?P<index>-?\d+|\*)\]|\.?(?P<key>[^.\[\]]+)")
_USED = re.compile(r"\$\{\s*(?P<name>[A-Za-z_][A-Za-z0-9_-]*)(?P<path>[^{}]*?)\s*\}")


class NoValue(Exception):
    """A `${...}` that stands for nothing: an earlier answer did not have that part."""


def look(value: Any, path: str) -> Any:
    """What stands at `path`, or MISSING. `[*]` is the list of what the rest of the path finds in each item."""
    match = _STEP.match(path)
    if match is None:
        return value
    rest = path[match.end() :]
    if match["index"] == "*":
        found = [look(item, rest) for item in value] if isinstance(value, list) else [MISSING]
        return MISSING if any(one is MISSING for one in found) else found
    inner = _inside(value, match)
    return MISSING if inner is MISSING else look(inner, rest)


def _inside(value: Any, step: re.Match[str]) -> Any:
    try:
        if step["index"] is not None:
            return value[int(step["index"])] if isinstance(value, list) else MISSING
        return value[step["key"]] if isinstance(value, dict) else MISSING
    except (IndexError, KeyError):
        return MISSING


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    """`value` with every `${name.path}` replaced. A text that is nothing else becomes the value itself.

    Raises NoValue.
    """
    if isinstance(value, str):
        whole = _USED.fullmatch(value)
        return _value(whole, names) if whole else _USED.sub(lambda part: _text(_value(part, names)), value)
    if isinstance(value, list):
        return [fill(item, names) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in value.items()}
    return value


def names_used(value: Any) -> set[str]:
    """The names that `fill` would need."""
    if isinstance(value, str):
        return {match["name"] for match in _USED.finditer(value)}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(names_used, parts))


def _value(part: re.Match[str], names: Mapping[str, Any]) -> Any:
    value = look(names[part["name"]], part["path"]) if part["name"] in names else MISSING
    if value is MISSING:
        raise NoValue(f"{part[0]} has no value")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
