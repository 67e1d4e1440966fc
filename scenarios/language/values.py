"""What models of the script language are made of: strict mappings, mappings that may be one word, names.

It knows no verb and no expectation.
"""

import re
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False, hide_input_in_errors=True)


class Api(Strict):
    """Field names are the API's own: timeout_minutes is written timeoutMinutes."""

    model_config = ConfigDict(alias_generator=to_camel)


class Short(Strict):
    """A mapping that may be written as one word or text: the value of the field that `short` names."""

    short: ClassVar[str] = ""
    short_type: ClassVar[str] = "string"  # of JSON Schema

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: object) -> object:
        if value is None:
            return {}
        return {cls.short: value} if cls.short and not isinstance(value, dict | BaseModel) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        others = [{"type": [cls.short_type, "null"] if cls.short else "null"}]
        long = dict(schema)
        schema.clear()
        schema.update({"title": long.get("title", ""), "anyOf": [long, *others]})
        return schema


def _is_name(text: str) -> str:
    if re.fullmatch(_NAME, text, re.ASCII) is None:
        raise PydanticCustomError(
            "name", "must be a name of letters, digits, _ and -, not beginning with a digit"
        )
    return text


Name = Annotated[str, AfterValidator(_is_name)]
