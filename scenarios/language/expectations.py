"""What a script may expect: matchers of values, and what must come back of a step.

What a matcher finds is `matchers`'.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vigil.scenarios.language import durations
from vigil.scenarios.language.durations import Duration
from vigil.scenarios.language.values import Short, Strict

_SAVED = r"\$\{[^{}]+\}"


_TIME = rf"(?:start|now|{_SAVED})(?:\s*[+-]\s*{durations.PATTERN})?"


def _is_time(text: str) -> str:
    if re.fullmatch(_TIME, text, re.ASCII) is None:
        raise PydanticCustomError("time", "must be a time like start+30m, now or ${saved}-5s")
    return text


def _is_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise PydanticCustomError("regex", "is no regular expression: {why}", {"why": str(error)}) from None
    return text


def _matcher(value: object) -> object:
    return value if isinstance(value, dict | BaseModel) else {"equals": value}


TimeText = Annotated[
    str, AfterValidator(_is_time), Field(examples=["start+30m", "now", "${talk.expiresAt}-5m"])
]


Regex = Annotated[str, AfterValidator(_is_regex)]


BodyPath = Annotated[
    str, Field(pattern=r"^[^.\[\]\s]+(\.[^.\[\]\s]+|\[(\d+|-\d+|\*)\])*$", examples=["messages[0].content"])
]


class Matcher(Strict):
    """What a value has to be. All that is said must hold. A plain value instead of this mapping means `equals`."""

    equals: Annotated[Any, Field(description="exactly this JSON value")] = None
    one_of: Annotated[list[Any] | None, Field(min_length=1, description="one of these values")] = None
    present: Annotated[Literal[True] | None, Field(description="it is there, whatever it is")] = None
    absent: Annotated[Literal[True] | None, Field(description="it is not there")] = None
    time: Annotated[
        TimeText | None,
        Field(
            description="this instant: `start` (of the script), `now` (when the request was sent, or the event "
            "came) or ${saved}, plus or minus a duration; to the millisecond in virtual time"
        ),
    ] = None
    approx: Annotated[
        Duration | None,
        Field(
            description="a number of milliseconds that is this duration; to the millisecond in virtual time"
        ),
    ] = None
    approx_s: Annotated[
        Duration | None, Field(description="likewise a number of whole seconds, rounded up (Retry-After)")
    ] = None
    length: Annotated[int | None, Field(ge=0, description="a text, list or mapping of this length")] = None
    regex: Annotated[Regex | None, Field(description="a text in which this regular expression is found")] = (
        None
    )
    less: Annotated[Any, Field(description="less than this number, or before this time")] = None
    greater: Annotated[Any, Field(description="greater than this number, or after this time")] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError(
                "empty", f"must say what is expected: {', '.join(Matcher.model_fields)}"
            )
        return self


Expected = Annotated[Matcher, BeforeValidator(_matcher, json_schema_input_type=Matcher | Any)]


class Expect(Short):
    """What must come back. Without it a step expects its operation to succeed: silence is not "anything goes"."""

    short: ClassVar[str] = "status"
    short_type: ClassVar[str] = "integer"

    status: Annotated[Expected | None, Field(description="the status, 201 or {one_of: [200, 404]}")] = None
    headers: Annotated[dict[str, Expected], Field(description="headers by name, in any case")] = {}
    body: Annotated[
        dict[BodyPath, Expected],
        Field(description="parts of the JSON body (or event) by path: messages[0].content, messages[*].id"),
    ] = {}
    statuses: Annotated[
        dict[str, int] | None, Field(description="of a burst: how many answers had which status, all of them")
    ] = None
