"""The API's description, as OpenAPI and as a page."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from os.path import commonpath
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, Flask, current_app, render_template

from core.flask_app import LazyModule
from web.access_policy import public
from web.api import api_operation

if TYPE_CHECKING:
    from web import openapi as schema
else:
    schema = LazyModule("web.openapi")

Json = Mapping[str, Any]

ROLE_LABELS = {"admin": "administração", "mentorado": "mentorados", "": "quem entrou na conta"}
PROBLEM = "application/problem+json"
TYPE_LABELS = {
    "string": "texto",
    "integer": "inteiro",
    "number": "número",
    "boolean": "verdadeiro ou falso",
    "object": "objeto",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field or parameter; `shape` is the name of its object type, if any."""

    name: str
    kind: str
    shape: str | None
    description: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """A named object type."""

    name: str
    description: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """One status: its shape, or its error codes."""

    status: str
    shape: str | None
    kind: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One operation as the page shows it."""

    method: str
    path: str
    summary: str
    allowed_users: str
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    responses: tuple[ApiResponse, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The operations of one blueprint, under their common path."""

    address: str
    description: str
    calls: tuple[ApiCall, ...]


def sections(document: Json) -> Iterator[Section]:
    """Yield the operations of the document, by tag."""
    shapes = document["components"]["schemas"]
    for tag in document["tags"]:
        calls = tuple(
            _api_call(method, path, operation, shapes)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        )
        yield Section(_common_path([call.path for call in calls]), tag["description"], calls)


def shapes(document: Json) -> Iterator[Shape]:
    """Yield the object types, by name."""
    for name, schema in document["components"]["schemas"].items():
        yield Shape(name, _description(schema), fields(schema))


def fields(schema: Json) -> tuple[Field, ...]:
    """Return the fields of an object type."""
    required = schema.get("required", ())
    return tuple(
        Field(name, type_text(each), shape_of(each), _description(each), name in required)
        for name, each in schema.get("properties", {}).items()
    )


def type_text(schema: Json) -> str:
    """Return the type of a schema as text."""
    if "$ref" in schema:
        return str(shape_of(schema))
    if "anyOf" in schema:
        return " ou ".join(type_text(each) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return " · ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"lista de {type_text(schema['items'])}"
    if schema.get("format") == "date-time":
        return "data e hora em UTC (ISO 8601)"
    return TYPE_LABELS.get(schema.get("type", ""), "qualquer valor") + _range_text(schema)


def shape_of(schema: Json) -> str | None:
    """Return the name of the schema's object type, directly, as a choice or in a list."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    return next(filter(None, map(shape_of, inner)), None)


def _description(schema: Json) -> str:
    """Return description and default without Markdown's backticks."""
    default = schema.get("default")
    parts = [schema.get("description", ""), "" if default is None else f"default: {default}"]
    return "; ".join(filter(None, parts)).replace("`", "")


def _range_text(schema: Json) -> str:
    minimum, maximum = schema.get("minimum"), schema.get("maximum")
    if maximum is not None:
        return f" de {minimum} a {maximum}"
    return "" if minimum is None else f" a partir de {minimum}"


def _common_path(paths: list[str]) -> str:
    common = commonpath(paths).partition("/{")[0]
    return common if common != "/" else " · ".join(paths)


def _api_call(method: str, path: str, operation: Json, shapes: Json) -> ApiCall:
    content = operation.get("requestBody", {}).get("content", {})
    bodies = [shapes[str(shape_of(media["schema"]))] for media in content.values()]
    return ApiCall(
        method.upper(),
        path,
        operation["summary"].replace("`", ""),
        _allowed_users(operation["security"]),
        tuple(_parameter(each) for each in operation.get("parameters", ())),
        fields(bodies[0]) if bodies else (),
        tuple(_response(status, each) for status, each in operation["responses"].items()),
    )


def _allowed_users(security: list[Json]) -> str:
    roles = [role for scheme in security for roles in scheme.values() for role in roles]
    return ROLE_LABELS[roles[0] if roles else ""] if security else "qualquer pessoa"


def _parameter(parameter: Json) -> Field:
    schema = parameter["schema"]
    return Field(
        parameter["name"],
        type_text(schema),
        None,
        _description(schema),
        parameter.get("required", False),
    )


def _response(status: str, response: Json) -> ApiResponse:
    content: dict[str, Json] = response.get("content", {})
    schema: Json = next((media["schema"] for media in content.values()), {})
    if "text/html" in content:
        return ApiResponse(status, None, "página", tuple(response["description"].split(", ")))
    if PROBLEM in content:
        return ApiResponse(status, None, "", tuple(response["description"].split(", ")))
    return ApiResponse(
        status, shape_of(schema), type_text(schema) if schema else "sem conteúdo", ()
    )


api_docs = Blueprint("api_docs", __name__, url_prefix="/api")

EXTENSION = "neon-description"

Document = dict[str, Any]


def register_api_document(app: Flask) -> None:
    """Register a function that builds the document once, on its first use."""
    app.extensions[EXTENSION] = cache(lambda: schema.build_document(app))


@api_docs.get("/openapi.json")
@public
@api_operation()
def openapi() -> Document:
    """This document."""
    return api_document()


@api_docs.get("/docs")
@public
def docs() -> str:
    """Show the document as a page."""
    document = api_document()
    return render_template(
        "api_docs.html", sections=list(sections(document)), shapes=list(shapes(document))
    )


def api_document() -> Document:
    """Return the document of the current app."""
    return cast(Callable[[], Document], current_app.extensions[EXTENSION])()
