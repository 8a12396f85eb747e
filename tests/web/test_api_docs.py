"""The page of the API documentation is complete and loads nothing from other sites."""

import re

import pytest
from flask.testing import FlaskClient

from blueprints.api.docs import type_text


@pytest.fixture
def page(client: FlaskClient) -> str:
    """The page as an anonymous browser receives it."""
    response = client.get("/api/docs")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    return response.get_data(as_text=True)


def test_page_contains_every_operation(client: FlaskClient, page: str) -> None:
    paths = (client.get("/api/openapi.json").json or {})["paths"]
    operations = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    assert set(re.findall(r"<strong>([A-Z]+)</strong> <code>(/\S+)</code>", page)) == operations


def test_links_stay_on_the_site(page: str) -> None:
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    ids = re.findall(r'id="([^"]+)"', page)

    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert [link for link in links if link[0] not in "/#"] == []


def test_page_has_no_inline_scripts_or_styles(page: str) -> None:
    assert re.findall(r"<script|<style|style=|\son\w+=", page) == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 12}, "inteiro de 1 a 12"),
        ({"type": "integer", "minimum": 2000}, "inteiro a partir de 2000"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "texto ou null"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Goal"}}, "lista de Goal"),
        ({"type": "string", "enum": ["sim", "nao"]}, "sim · nao"),
        ({"const": "queued", "type": "string"}, "queued"),
        ({}, "qualquer valor"),
    ],
)
def test_types_are_described_in_portuguese(schema: dict[str, object], words: str) -> None:
    assert type_text(schema) == words
