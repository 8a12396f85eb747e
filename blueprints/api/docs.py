"""The API's description, as OpenAPI and as a page."""

from collections.abc import Iterator
from os.path import commonpath
from typing import TYPE_CHECKING, Any

from flask import Blueprint, current_app, render_template

from core.flask_app import LazyModule
from web.access_policy import public
from web.api import api_operation

if TYPE_CHECKING:
    from web import openapi as schema
else:
    schema = LazyModule("web.openapi")

api_docs = Blueprint("api_docs", __name__, url_prefix="/api")

Json = dict[str, Any]

EXTENSION = "neon-description"
ROLE_LABELS = {"admin": "administração", "mentorado": "mentorados", "": "quem entrou na conta"}
TYPE_LABELS = {
    "string": "texto",
    "integer": "inteiro",
    "number": "número",
    "boolean": "verdadeiro ou falso",
    "object": "objeto",
    "null": "null",
}


@api_docs.get("/openapi.json")
@public
@api_operation()
def openapi() -> Json:
    """This document."""
    extensions = current_app.extensions
    if EXTENSION not in extensions:  # built once for an app, on the first use
        extensions[EXTENSION] = schema.build_document(current_app)
    document: Json = extensions[EXTENSION]
    return document


@api_docs.get("/docs")
@public
def docs() -> str:
    """Show the document as a page."""
    document = openapi()
    return render_template(
        "api_docs.html",
        sections=list(sections(document)),
        shapes=document["components"]["schemas"],
        allowed_users=allowed_users,
        describe=describe,
        shape_of=shape_of,
        type_text=type_text,
    )


def sections(document: Json) -> Iterator[tuple[str, str, list[tuple[str, str, Json]]]]:
    """Yield the common path and description of each tag, with its methods, paths, operations."""
    for tag in document["tags"]:
        calls = [
            (method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        paths = [path for _, path, _ in calls]
        common = commonpath(paths).partition("/{")[0]
        yield common if common != "/" else " · ".join(paths), tag["description"], calls


def allowed_users(security: list[Json]) -> str:
    """Return who may call an operation with these security requirements."""
    roles = [role for scheme in security for roles in scheme.values() for role in roles]
    return ROLE_LABELS[roles[0] if roles else ""] if security else "qualquer pessoa"


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
    label = TYPE_LABELS.get(schema.get("type", ""), "qualquer valor")
    if "maximum" in schema:
        return f"{label} de {schema.get('minimum')} a {schema['maximum']}"
    return f"{label} a partir de {schema['minimum']}" if "minimum" in schema else label


def shape_of(schema: Json) -> str | None:
    """Return the name of the schema's object type, directly, as a choice or in a list."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    return next(filter(None, map(shape_of, inner)), None)


def describe(schema: Json) -> str:
    """Return description and default without Markdown's backticks."""
    default = schema.get("default")
    parts = [schema.get("description", ""), "" if default is None else f"default: {default}"]
    return "; ".join(filter(None, parts)).replace("`", "")
