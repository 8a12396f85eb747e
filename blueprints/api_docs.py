"""The API's own description, for programs as a document and for people as a page."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, cast

from flask import Blueprint, Flask, current_app, render_template

from blueprints.api_page import sections, shapes
from blueprints.described import described
from blueprints.openapi import document_of
from blueprints.stance import public

api_docs = Blueprint("api_docs", __name__, url_prefix="/api")

EXTENSION = "neon-description"

Document = dict[str, Any]


def register_description(app: Flask) -> None:
    """Have the app describe itself, once and when it is first asked to."""
    app.extensions[EXTENSION] = cache(partial(_document, app))


@api_docs.get("/openapi.json")
@public
@described()
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
    document = document_of(app)
    told = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"openapi": document.openapi, **_in_whole_numbers(told)}


def _in_whole_numbers(told: Any) -> Any:
    """Bounds as they were: on their way through the document all have become fractions."""
    if isinstance(told, dict):
        return {name: _in_whole_numbers(value) for name, value in told.items()}
    if isinstance(told, list):
        return [_in_whole_numbers(value) for value in told]
    return int(told) if isinstance(told, float) else told
