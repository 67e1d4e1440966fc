"""Data against a request model: the model, or everything that is wrong with the data, in words for people.

The models in `server.input.schemas` define what is valid; nothing here knows any of them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError, with_config
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

PROBLEMS_MAX = 100  # so many are listed, the rest are counted
NAME_SHOWN_MAX = 64  # characters of a client's own name that are repeated in an error

Model = TypeVar("Model", bound=BaseModel)


@with_config(extra="forbid")
class Problem(TypedDict):
    """One thing that is wrong with a request; the path is empty when it is the request as a whole."""

    path: str
    message: str


class Invalid(Exception):
    """The request breaks rules of spec section 2: `errors` lists them, of very many the first."""

    def __init__(self, errors: list[Problem]) -> None:
        first = f"{errors[0]['path'] or 'the request'} {errors[0]['message']}"
        super().__init__(first if len(errors) == 1 else f"{first}; details.errors has the others")
        self.errors = errors[:PROBLEMS_MAX]
        if len(errors) > PROBLEMS_MAX:
            self.errors.append(Problem(path="", message=f"has more problems than these {PROBLEMS_MAX}"))


def validate_body(model: type[Model], data: object) -> Model:
    """Read parsed JSON as `model`. A request that needs no body is `{}`. Raises Invalid."""
    try:
        # `model_validate` without its options
        valid: Model = model.__pydantic_validator__.validate_python(data)
    except ValidationError as error:
        raise Invalid(_problems(error)) from None
    return valid


def validate_query(model: type[Model], pairs: Sequence[tuple[str, str]]) -> Model:
    """Read a decoded query string, names and values in their order, as `model`. Raises Invalid."""
    times = Counter(name for name, _ in pairs)
    problems = [_problem((name,), "is given more than once") for name in times if times[name] > 1]
    try:
        query = model.model_validate(dict(pairs))
    except ValidationError as error:
        raise Invalid(problems + _problems(error)) from None
    if problems:
        raise Invalid(problems)
    return query


_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must not contain whitespace or control characters",
    "too_long": "must have at most {max_length} items",
}


def _problems(error: ValidationError) -> list[Problem]:
    """What is wrong, in words; a few more than are listed will do."""
    errors = error.errors(include_url=False)[: PROBLEMS_MAX + 1]
    return [problem for details in errors for problem in _problems_of(details)]


def _problems_of(details: ErrorDetails) -> list[Problem]:
    location, context = details["loc"], details.get("ctx", {})
    if "parts" in context:
        parts = context["parts"][: PROBLEMS_MAX + 1]
        return [_problem((*location, *path), message) for path, message in parts]
    if details["input"] is None and details["type"].endswith("_type"):
        return [_problem(location, "must not be null")]
    words = _WORDS.get(details["type"])
    return [_problem(location, words.format(**context) if words else details["msg"])]


def _problem(location: Sequence[int | str], message: str) -> Problem:
    """`("attachments", 0, "url")` is at `attachments[0].url`; a client's own long name is cut."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{_name(step)}" for step in location)
    return Problem(path="".join(steps).removeprefix("."), message=message)


def _name(step: str) -> str:
    return step[:NAME_SHOWN_MAX] or '""'
