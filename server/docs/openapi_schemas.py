"""The schemas of the OpenAPI document: each body and event of the API once, under a name that a generator can use.

Nothing here knows what an operation is.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from vigil.server.docs.event_schemas import Event, StreamedEvent

Json = dict[str, Any]

_REF = "#/components/schemas/"
_SUFFIX = "Body"  # of answers, in our code; a client's code is better off without
_EVENT = "Event"
_NAMES = {
    "NoBody": "NoBody",
    "SessionStatusBody": "StatusAfterMessage",  # a generator calls the status of a Session SessionStatus
}


class Described(GenerateJsonSchema):
    """In the order that the models have, and without pydantic's titles, which only say the names again."""

    def sort(self, value: Any, parent_key: str | None = None) -> Any:  # noqa: ARG002  the parent's signature
        return value

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def generate_definitions(self, inputs: Any) -> Any:
        schemas, definitions = super().generate_definitions(inputs)
        for definition in definitions.values():
            definition.pop("title", None)
        return schemas, definitions


def schemas_of(shapes: Iterable[Any]) -> tuple[Mapping[Any, Json], Json]:
    """A reference for each of these shapes and for the events, and the definitions that they refer to."""
    mode: JsonSchemaMode = "validation"
    every = dict.fromkeys((*shapes, StreamedEvent, Event))
    adapters = [(shape, mode, TypeAdapter(shape)) for shape in every]
    schemas, rest = TypeAdapter.json_schemas(
        adapters, ref_template=_REF + "{model}", schema_generator=Described
    )
    references = {shape: _renamed(schema) for (shape, _), schema in schemas.items()}
    definitions = {_name(name): _renamed(schema) for name, schema in rest["$defs"].items()}
    definitions[_EVENT] = references[Event]
    return references | {Event: {"$ref": _REF + _EVENT}}, definitions


def _renamed(node: Any) -> Any:
    """The same with the names of clients in its references."""
    if isinstance(node, dict):
        return {key: _renamed(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value) for value in node]
    if isinstance(node, str) and node.startswith(_REF):
        return _REF + _name(node.removeprefix(_REF))
    return node


def _name(name: str) -> str:
    return _NAMES.get(name, name.removesuffix(_SUFFIX))
