"""The settings as rows, read from the model: what help, the table of docs/settings.md and errors say of each."""

from typing import Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from vigil.server.settings.settings import About, Settings


class Setting(NamedTuple):
    """One row of the help and of the table of docs/settings.md. Without a flag only the environment sets it."""

    name: str
    flag: str | None
    env: str
    group: str
    metavar: str
    meaning: str
    allowed: str
    default: str
    choices: tuple[str, ...] = ()


def _setting(name: str, field: FieldInfo) -> Setting:
    about = next(item for item in field.metadata if isinstance(item, About))
    return Setting(
        name,
        f"--{name.replace('_', '-')}" if about.flag else None,
        field.alias or f"VIGIL_{name.upper()}",
        about.group,
        about.metavar,
        about.meaning,
        about.allowed or _allowed(field),
        about.default or _default(field.default),
        _choices(field),
    )


def _choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that can be typed, where there are only some."""
    if field.annotation is bool:
        return ("true", "false")
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _allowed(field: FieldInfo) -> str:
    """What the type and its bounds say."""
    if get_origin(field.annotation) is Literal:
        *others, last = get_args(field.annotation)
        return f"{', '.join(others)} or {last}"
    bounds = {
        bound: getattr(item, bound) for item in field.metadata for bound in _BOUNDS if hasattr(item, bound)
    }
    if not bounds:
        return "a path"
    kind = "whole number" if field.annotation is int else "number"
    low = f"above {bounds['gt']}" if "gt" in bounds else f"from {bounds['ge']}"
    return f"a {kind} {low} to {bounds['le']}"


_BOUNDS = ("gt", "ge", "le")


def _default(value: object) -> str:
    if value is None or value == ():
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


SETTINGS: tuple[Setting, ...] = tuple(_setting(name, field) for name, field in Settings.model_fields.items())
