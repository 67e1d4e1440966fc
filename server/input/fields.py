"""The values that requests are made of, as annotated types: spec section 2, one rule a type.

Each type validates strictly (nothing is converted, clamped or trimmed) and says the same in JSON Schema.
Which request has which of them, and under what name, is in `server.input.schemas`.
"""

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError
from typing_extensions import TypeAliasType

METADATA_BYTES_MAX = 16_384
METADATA_LEVELS_MAX = 5
CONTENT_MAX = 10_000
HTTP_URL_MAX = 2_048
DATA_URL_MAX = 65_536
INT64_MAX = 2**63 - 1  # the largest number that the store compares with

ID_PATTERN = r"^[^\s\u0000-\u001f\u007f-\u009f]+$"


def compact(value: object) -> str:
    """Compact JSON text, integers of any size as they are."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class NeverNull:
    """On `X | None`: None says that the field was not sent, and null on the wire is refused."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(get_args(source)[0])


T = TypeVar("T")
Path = tuple[int | str, ...]  # to a value inside others: ("a", 0, "b") is a[0].b
Absent = Annotated[T | None, NeverNull()]


def _whole(value: object) -> object:
    """5.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _from_digits(value: str) -> int:
    """Twenty digits are out of every range already."""
    if not (value.isascii() and value.isdigit()):
        raise PydanticCustomError("digits", "must be a whole number, written in the digits 0 to 9")
    return int(value.lstrip("0")[:20] or "0")


def _not_blank(value: str) -> str:
    if value.isspace():
        raise PydanticCustomError("blank", "must not be only whitespace")
    return value


WHOLE = BeforeValidator(_whole)  # on an int: a JSON integer
DIGITS = BeforeValidator(_from_digits)  # on an int: ASCII digits of a query
Int64 = Annotated[int, Field(ge=0, le=INT64_MAX), DIGITS]
Id = Annotated[str, Field(min_length=1, max_length=128, pattern=ID_PATTERN)]
Content = Annotated[
    str,
    Field(min_length=1, max_length=CONTENT_MAX, json_schema_extra={"pattern": r"\S"}),
    AfterValidator(_not_blank),
]


def _metadata(value: object) -> str:
    """Check a metadata object and give its compact JSON text."""
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "must be an object")
    if problems := _metadata_problems(value):
        raise PydanticCustomError("parts", "has parts that are not allowed", {"parts": problems})
    text = compact(value)
    size = len(text.encode())
    if size > METADATA_BYTES_MAX:
        raise PydanticCustomError(
            "metadata_size",
            "must be at most {most} bytes as compact JSON, and is {size}",
            {"most": METADATA_BYTES_MAX, "size": size},
        )
    return text


def _metadata_problems(metadata: dict[str, Any]) -> list[tuple[Path, str]]:
    """Where below the metadata object something is null or too deep, and which."""
    problems: list[tuple[Path, str]] = []
    containers: list[tuple[Path, dict[str, Any] | list[Any]]] = [((), metadata)]
    for path, container in containers:  # grows on the way
        if len(path) == METADATA_LEVELS_MAX:
            problems.append((path, f"is deeper than {METADATA_LEVELS_MAX} levels"))
            continue
        for step, value in container.items() if isinstance(container, dict) else enumerate(container):
            if value is None:
                problems.append(((*path, step), "must not be null"))
            elif isinstance(value, dict | list):
                containers.append(((*path, step), value))
    return problems


_Scalar = str | float | bool
MetadataLevel5 = TypeAliasType("MetadataLevel5", _Scalar | dict[str, _Scalar] | list[_Scalar])
MetadataLevel4 = TypeAliasType("MetadataLevel4", _Scalar | dict[str, MetadataLevel5] | list[MetadataLevel5])
MetadataLevel3 = TypeAliasType("MetadataLevel3", _Scalar | dict[str, MetadataLevel4] | list[MetadataLevel4])
MetadataLevel2 = TypeAliasType("MetadataLevel2", _Scalar | dict[str, MetadataLevel3] | list[MetadataLevel3])

# An object on the wire, its compact JSON text in Python
Metadata = Annotated[str, BeforeValidator(_metadata, json_schema_input_type=dict[str, MetadataLevel2])]


def _any_case(word: str) -> str:
    """A pattern for the word in upper and lower case: JSON Schema's patterns know no flags."""
    return "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in word)


_GAP = r"\s\u0000-\u001f\u007f-\u009f"  # whitespace and control characters, for a character class
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 (the standards call it that)
_HTTP_URL = (
    rf"^{_any_case('http')}[sS]?://"
    rf"([^{_GAP}/?#@\\]*@)?"
    rf"([^{_GAP}/?#@:\[\]\\]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{{0,5}})?"
    rf"([/?#][^{_GAP}]*)?$"
)
_DATA_TYPE = (
    rf"({_any_case('image')}/(?!{_any_case('svg')}){_TOKEN}"
    rf"|({_any_case('audio')}|{_any_case('video')})/{_TOKEN}"
    rf"|{_any_case('text/plain')})"
)
_DATA_URL = rf"^{_any_case('data')}:{_DATA_TYPE}(;[^{_GAP},]*)?,[^{_GAP}]*$"


def _url_check(pattern: str, most: int, what: str) -> Callable[[str], str]:
    matcher = re.compile(pattern)

    def check(value: str) -> str:
        if len(value) > most:
            raise PydanticCustomError("url_length", "must have at most {most} characters", {"most": most})
        if matcher.fullmatch(value) is None:
            raise PydanticCustomError("url", "{what}", {"what": what})
        return value

    return check


_http_url = _url_check(_HTTP_URL, HTTP_URL_MAX, "must be an http or https URL with a host, or a data: URL")
_data_url = _url_check(
    _DATA_URL, DATA_URL_MAX, "must be of an image (not SVG), audio, video or text/plain type, as a data: URL"
)


def _url(value: str) -> str:
    return (_data_url if value[:5].lower() == "data:" else _http_url)(value)


Url = Annotated[
    str,
    AfterValidator(_url),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": HTTP_URL_MAX, "pattern": _HTTP_URL},
                {"type": "string", "maxLength": DATA_URL_MAX, "pattern": _DATA_URL},
            ]
        }
    ),
]
