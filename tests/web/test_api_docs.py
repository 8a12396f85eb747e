"""The description of the API as a page: everything on it, and nothing from elsewhere."""

import re

import pytest
from flask.testing import FlaskClient

from blueprints.api.docs import kind


@pytest.fixture
def page(client: FlaskClient) -> str:
    """The page as everybody gets it."""
    answer = client.get("/api/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    return answer.get_data(as_text=True)


def test_every_call_is_on_the_page(client: FlaskClient, page: str) -> None:
    paths = (client.get("/api/openapi.json").json or {})["paths"]
    calls = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    assert set(re.findall(r"<strong>([A-Z]+)</strong> <code>(/\S+)</code>", page)) == calls


def test_every_link_leads_to_something_of_ours(page: str) -> None:
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    ids = re.findall(r'id="([^"]+)"', page)

    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert [link for link in links if link[0] not in "/#"] == []


def test_nothing_runs_or_is_styled_inline(page: str) -> None:
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
def test_values_are_told_in_words(schema: dict[str, object], words: str) -> None:
    assert kind(schema) == words
