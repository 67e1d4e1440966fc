"""Bytes of a request body to a Python value, refusing all that JSON parsers take in silence (spec section 2).

It knows nothing of what the value means.
"""

from email.message import Message
from math import isinf

import jiter

MAX_DEPTH = 32  # arrays and objects inside each other, the outermost being the first

_MESSAGE_MAX = 200
_SHOWN_MAX = 64  # characters of a client's own header that are repeated in an error
_HARMLESS = frozenset((str, int, bool, type(None)))  # neither nested nor infinite


class BadJson(Exception):
    """The body is not strict JSON. The text says where and why, at most 200 characters of it."""


def parse(body: bytes) -> object:
    """The one JSON value that `body` holds.

    Raises BadJson for an empty body, anything but UTF-8, a byte order mark, a duplicate key, a lone
    surrogate, NaN and Infinity, a number that overflows to infinity, an integer of more than 4300 digits,
    and nesting deeper than 32.
    """
    if not body:
        raise BadJson("The body is empty: send a JSON object")
    try:
        value: object = jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError as error:
        raise BadJson(f"The body is not valid JSON: {error}"[:_MESSAGE_MAX]) from None
    if not isinstance(value, dict) or not _HARMLESS.issuperset(map(type, value.values())):
        _check(value)
    return value


def wrong_type(content_type: str) -> str | None:
    """What a Content-Type header says other than `application/json` in UTF-8; parameters but charset are ignored."""
    if not content_type:
        return "it has no Content-Type"
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset("utf-8")
    if header.get_content_type() != "application/json":
        return f"its Content-Type is {content_type[:_SHOWN_MAX]!r}"
    return None if charset in ("utf-8", "utf8") else f"its charset is {charset[:_SHOWN_MAX]!r}"


def wrong_encoding(encodings: str) -> str | None:
    """What a Content-Encoding header says other than `identity`."""
    named = [name for name in (part.strip() for part in encodings.split(",")) if name]
    wrong = next((name for name in named if name.lower() != "identity"), None)
    return None if wrong is None else f"its Content-Encoding is {wrong[:_SHOWN_MAX]!r}"


def _check(value: object) -> None:
    """Refuse infinities and deep nesting, going down one level of the whole value at a time."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = _below(level)
        if not level:
            return
    _below(level)
    if any(isinstance(item, dict | list) for item in level):
        raise BadJson(f"The body nests deeper than {MAX_DEPTH} levels")


def _below(level: list[object]) -> list[object]:
    """What is directly inside the arrays and objects of one level."""
    inside: list[object] = []
    for item in level:
        if isinstance(item, dict):
            inside.extend(item.values())
        elif isinstance(item, list):
            inside.extend(item)
        elif isinstance(item, float) and isinf(item):
            raise BadJson("The body has a number too large to hold: it overflows to infinity")
    return inside
