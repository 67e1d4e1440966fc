"""What a setting may be: readers of single values, as typed. What is said of a bad one is `settings_loading`'s."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    PlainValidator,
)
from pydantic_settings import NoDecode

from vigil.actors.core.quotas import Limit
from vigil.server.http.addresses import UNIX
from vigil.server.input import origins


def _limit(value: object) -> Limit:
    return value if isinstance(value, Limit) else Limit.parse(str(value))


def _listed(value: str | Iterable[str]) -> Iterable[str]:
    """What was typed once for each, or stands in a variable with commas."""
    return re.split(r"\s*,\s*", value.strip()) if isinstance(value, str) else value


def read_hosts(value: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_host, _listed(value)))


def _host(text: str) -> str:
    if text.startswith(UNIX) and text != UNIX:
        return text
    name = text[1:-1] if _IN_BRACKETS.fullmatch(text) else text
    if _HOST.fullmatch(name) is None or name == UNIX:
        raise ValueError("not a host")
    return name


def read_root_path(text: str) -> str:
    path = text.rstrip("/")
    if _ROOT_PATH.fullmatch(path) is None:
        raise ValueError("not a path")
    return path


def read_origins(value: str | Iterable[str]) -> tuple[str, ...]:
    """Origins as browsers send them, from a list or from a text with commas."""
    return tuple(map(_origin, _listed(value)))


def _origin(text: str) -> str:
    found = origins.origin(text)
    if found is None:
        raise ValueError("not an origin")
    return found


def read_api_key(value: object) -> object:
    if isinstance(value, str) and _API_KEY.fullmatch(value) is None:
        raise ValueError("not a key")
    return value


def as_typed(text: str) -> Any:
    """A default written as a person would type it, to be validated like that."""
    return text


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("an empty path would be the current directory")
    return value


_IN_BRACKETS = re.compile(r"\[[^\[\]]*:[^\[\]]*\]")
_HOST = re.compile(r"[^\s/,\[\]]+")
_ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_API_KEY = re.compile(r"[A-Za-z0-9._~-]{16,}", re.ASCII)
STORE = r"^(memory:|sqlite:[^:].*)$"

NamedPath = Annotated[Path, BeforeValidator(_not_empty)]
RateLimit = Annotated[Limit, NoDecode, PlainValidator(_limit)]
