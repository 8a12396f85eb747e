"""The description of the API as people read it: its calls, fields and answers, told in words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from os.path import commonpath
from typing import Any, cast

from flask import Blueprint, Flask, current_app, render_template

from web.access_policy import public
from web.api import api_operation
from web.openapi import build_document

Json = Mapping[str, Any]

WHO = {"admin": "administração", "mentorado": "mentorados", "": "quem entrou na conta"}
WORDS = {
    "string": "texto",
    "integer": "inteiro",
    "number": "número",
    "boolean": "verdadeiro ou falso",
    "object": "objeto",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One value that is sent or told; `shape` is the name of what it is made of, if anything."""

    name: str
    kind: str
    shape: str | None
    about: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """An object under its name."""

    name: str
    about: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One status: its shape, or the codes of its refusals."""

    status: str
    shape: str | None
    kind: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CallShown:
    """One call, ready to be read."""

    method: str
    path: str
    summary: str
    who: str
    asked: tuple[Field, ...]
    body: tuple[Field, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The calls of one room, under the address that they share."""

    address: str
    about: str
    calls: tuple[CallShown, ...]


def sections(document: Json) -> Iterator[Section]:
    """The calls of the document, room by room."""
    shapes = document["components"]["schemas"]
    for tag in document["tags"]:
        calls = tuple(
            _call(method, path, told, shapes)
            for path, methods in document["paths"].items()
            for method, told in methods.items()
            if tag["name"] in told["tags"]
        )
        yield Section(_address([call.path for call in calls]), tag["description"], calls)


def shapes(document: Json) -> Iterator[Shape]:
    """What calls take and answer, by name."""
    for name, schema in document["components"]["schemas"].items():
        yield Shape(name, _about(schema), fields(schema))


def fields(schema: Json) -> tuple[Field, ...]:
    """What an object holds."""
    required = schema.get("required", ())
    return tuple(
        Field(name, kind(each), shape_of(each), _about(each), name in required)
        for name, each in schema.get("properties", {}).items()
    )


def kind(schema: Json) -> str:
    """What values of this schema look like, in words."""
    if "$ref" in schema:
        return str(shape_of(schema))
    if "anyOf" in schema:
        return " ou ".join(kind(each) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return " · ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"lista de {kind(schema['items'])}"
    if schema.get("format") == "date-time":
        return "data e hora em UTC (ISO 8601)"
    return WORDS.get(schema.get("type", ""), "qualquer valor") + _bounds(schema)


def shape_of(schema: Json) -> str | None:
    """The name of the shape that it refers to, by itself, as a choice or in a list."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    inner = [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]
    return next(filter(None, map(shape_of, inner)), None)


def _about(schema: Json) -> str:
    """Its words, without the marks that only Markdown reads."""
    usual = schema.get("default")
    told = [schema.get("description", ""), "" if usual is None else f"default: {usual}"]
    return "; ".join(filter(None, told)).replace("`", "")


def _bounds(schema: Json) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        return f" de {least} a {most}"
    return "" if least is None else f" a partir de {least}"


def _address(paths: list[str]) -> str:
    shared = commonpath(paths).partition("/{")[0]
    return shared if shared != "/" else " · ".join(paths)


def _call(method: str, path: str, told: Json, shapes: Json) -> CallShown:
    content = told.get("requestBody", {}).get("content", {})
    bodies = [shapes[str(shape_of(media["schema"]))] for media in content.values()]
    return CallShown(
        method.upper(),
        path,
        told["summary"].replace("`", ""),
        _who(told["security"]),
        tuple(_asked(each) for each in told.get("parameters", ())),
        fields(bodies[0]) if bodies else (),
        tuple(_answer(status, each) for status, each in told["responses"].items()),
    )


def _who(security: list[Json]) -> str:
    roles = [role for needed in security for roles in needed.values() for role in roles]
    return WHO[roles[0] if roles else ""] if security else "qualquer pessoa"


def _asked(told: Json) -> Field:
    schema = told["schema"]
    return Field(told["name"], kind(schema), None, _about(schema), told.get("required", False))


def _answer(status: str, told: Json) -> Answer:
    content: dict[str, Json] = told.get("content", {})
    schema: Json = next((media["schema"] for media in content.values()), {})
    if "text/html" in content:
        return Answer(status, None, "página", tuple(told["description"].split(", ")))
    if "allOf" in schema:
        codes = schema["allOf"][1]["properties"]["code"]["enum"]
        return Answer(status, None, "", tuple(codes))
    return Answer(status, shape_of(schema), kind(schema) if schema else "sem conteúdo", ())


api_docs = Blueprint("api_docs", __name__, url_prefix="/api")

EXTENSION = "neon-description"

Document = dict[str, Any]


def register_description(app: Flask) -> None:
    """Have the app describe itself, once and when it is first asked to."""
    app.extensions[EXTENSION] = cache(partial(_document, app))


@api_docs.get("/openapi.json")
@public
@api_operation()
def openapi() -> Document:
    """This description."""
    return description()


@api_docs.get("/docs")
@public
def docs() -> str:
    """The same as a page."""
    document = description()
    return render_template(
        "api_docs.html", sections=list(sections(document)), shapes=list(shapes(document))
    )


def description() -> Document:
    """The description of the app that serves this request."""
    return cast(Callable[[], Document], current_app.extensions[EXTENSION])()


def _document(app: Flask) -> Document:
    document = build_document(app)
    told = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"openapi": document.openapi, **_in_whole_numbers(told)}


def _in_whole_numbers(told: Any) -> Any:
    """Bounds as they were: on their way through the document all have become fractions."""
    if isinstance(told, dict):
        return {name: _in_whole_numbers(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_in_whole_numbers(value) for value in told]
    return int(told) if isinstance(told, float) else told
