"""The JSON Schemas of everything that calls take and answer, made of the types themselves."""

from collections.abc import Iterable
from typing import Any

from openapi_pydantic import Reference, Schema
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from blueprints.queries import Query

WHERE = "#/components/schemas/{model}"

JsonSchema = dict[str, Any]


class ExactSchema(GenerateJsonSchema):
    """Says what the types say: no keys but the named ones, and no made-up titles."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """An answer holds what its type names and nothing else."""
        return super().typed_dict_schema(schema) | {"additionalProperties": False}

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """The same for the values that answers are made of."""
        return super().dataclass_schema(schema) | {"additionalProperties": False}

    def normalize_name(self, name: str) -> str:
        """`Listed[Person]` is a `ListedPerson` wherever brackets are not allowed."""
        return super().normalize_name(name.replace("[", "").replace("]", ""))

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - asked for each
        """A field's name is title enough."""
        return False


class Schemas:
    """Where each type is described; `components` holds the descriptions by name."""

    def __init__(self, types: Iterable[Any]) -> None:
        wanted = {repr(each): each for each in types}
        found, rest = TypeAdapter.json_schemas(
            [(name, "validation", TypeAdapter(each)) for name, each in wanted.items()],
            ref_template=WHERE,
            schema_generator=ExactSchema,
        )
        self.components: dict[str, JsonSchema] = rest.get("$defs", {})
        self._by_type = {name: schema for (name, _), schema in found.items()}

    def of(self, wanted: Any) -> Reference | Schema:
        """The description of a type, or where it stands."""
        return described_by(self._by_type[repr(wanted)])


def described_by(schema: JsonSchema) -> Reference | Schema:
    """A schema as the document holds it."""
    if set(schema) == {"$ref"}:
        return Reference.model_validate(schema)
    return Schema.model_validate(schema)


def fields_of(query: type[Query]) -> dict[str, JsonSchema]:
    """The parameters of a query, by name."""
    schema = TypeAdapter(query).json_schema(schema_generator=ExactSchema)
    fields: dict[str, JsonSchema] = schema["properties"]
    return fields


def number(hint: Any, least: int, most: int | None) -> JsonSchema:
    """A number in an address: what the router lets through, narrowed by what its hint says."""
    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return bounds | TypeAdapter(hint).json_schema()
