"""Errors: a problem document for API requests, a page for browsers, no technical details."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.http.errors import InvalidChunkSize
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from models import Mentorado
from tests.support.apps import create_app_on
from tests.support.databases import ADMIN_SHUTDOWN, UNDEFINED_COLUMN, fail_queries_of_months
from tests.support.types import Browser, Sign
from tests.support.users import BOB
from web.access_policy import public
from web.services import EXTENSION, Services

MARCH = "/api/mentorados/me/metricas/2026/3"
OVERVIEW = "/api/mentorados/me/overview"
PROBLEM_KEYS = {"type", "title", "status", "code", "detail", "request_id"}


class TornBody(BytesIO):
    """A request body whose second chunk is invalid, as gunicorn reports it."""

    def read(self, *_: object) -> bytes:
        """Fail as gunicorn's reader does."""
        raise InvalidChunkSize(b"zz")


def test_unknown_api_path_is_a_problem_document(client: FlaskClient) -> None:
    response = client.get("/api/nada")

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")
    assert response.json is not None
    assert set(response.json) == PROBLEM_KEYS


def test_path_that_only_starts_like_the_api_returns_a_page(client: FlaskClient) -> None:
    response = client.get("/apis")

    assert (response.status_code, response.mimetype) == (404, "text/html")


@pytest.mark.parametrize(
    ("method", "path", "options", "code"),
    [
        ("DELETE", "/api/auth/me", {}, "method_not_allowed"),
        ("GET", "/api/auth/me", {}, "unauthenticated"),
        ("POST", "/api/auth/ensure", {"data": "x=1"}, "unsupported_media_type"),
        (
            "POST",
            "/api/auth/ensure",
            {"data": b"\xff", "content_type": "text/xml"},
            "unsupported_media_type",
        ),
    ],
)
def test_each_error_has_its_code(
    client: FlaskClient, method: str, path: str, options: dict[str, object], code: str
) -> None:
    response = client.open(path, method=method, **options)  # type: ignore[arg-type] # by table

    assert response.json is not None
    assert response.json["code"] == code


def test_invalid_chunk_is_invalid_input(client: FlaskClient, sign: Sign) -> None:
    headers = {**sign(BOB), "Content-Type": "application/json"}

    response = client.put(
        MARCH,
        input_stream=TornBody(),
        headers=headers,
        environ_overrides={"wsgi.input_terminated": True},
    )

    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (422, "invalid_input")


def test_error_of_a_wrong_method_lists_the_allowed_ones(client: FlaskClient) -> None:
    response = client.delete("/api/auth/me")

    assert response.allow == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", ["/dashboard", OVERVIEW])
def test_lost_connection_is_a_503_without_sql(
    browser_of: Browser, session: Session, path: str
) -> None:
    fail_queries_of_months(session, ADMIN_SHUTDOWN)

    response = browser_of(BOB).get(path)

    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert "secret" not in response.get_data(as_text=True)


def test_page_without_database_reloads_itself(browser_of: Browser, session: Session) -> None:
    fail_queries_of_months(session, ADMIN_SHUTDOWN)

    page = browser_of(BOB).get("/dashboard").text

    assert "Voltamos já" in page
    assert 'http-equiv="refresh"' in page


def test_lost_connection_shows_the_last_overview(browser_of: Browser, session: Session) -> None:
    browser = browser_of(BOB)
    previous = browser.get(OVERVIEW).json or {}
    fail_queries_of_months(session, ADMIN_SHUTDOWN)

    assert browser.get(OVERVIEW).json == {**previous, "read_only": True}
    assert "por enquanto não dá para alterar nada" in browser.get("/dashboard").text


def test_permanent_error_does_not_show_the_last_overview(
    browser_of: Browser, session: Session
) -> None:
    browser = browser_of(BOB)
    browser.get(OVERVIEW)
    fail_queries_of_months(session, UNDEFINED_COLUMN)

    assert browser.get(OVERVIEW).status_code == 500


def test_unexpected_error_is_a_500_page_without_details(tmp_path: Path, template_url: str) -> None:
    @public
    def fail() -> str:
        raise ZeroDivisionError("secret")

    with create_app_on(tmp_path, template_url) as app:
        app.add_url_rule("/failing", view_func=fail)
        response = app.test_client().get("/failing")

    assert (response.status_code, "Algo deu errado" in response.get_data(as_text=True)) == (
        500,
        True,
    )
    assert "secret" not in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://ajuda.example", "https://ajuda.example?ref=ref-12345678"),
        ("https://ajuda.example/?a=1", "https://ajuda.example/?a=1&amp;ref=ref-12345678"),
        ("https://x.example/#faq", "https://x.example/?ref=ref-12345678#faq"),
        ("mailto:a@x.com", "mailto:a@x.com?subject=Refer%C3%AAncia%20ref-12345678"),
        ("mailto:a@x.com?cc=b@x.com", "b@x.com&amp;subject=Refer%C3%AAncia%20ref-12345678"),
    ],
)
def test_support_link_contains_the_reference_code(
    app: Flask,
    client: FlaskClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    link: str,
) -> None:
    config = services.config.model_copy(update={"support_url": url})
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, config=config))

    response = client.get("/nada", headers={"X-Request-ID": "ref-12345678"})

    assert f'{link}"' in response.get_data(as_text=True)


def test_no_support_link_without_setting(client: FlaskClient) -> None:
    assert "data-support" not in client.get("/nada").text


@pytest.mark.parametrize("number", [0, 2_147_483_648])
@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_impossible_id_is_not_found_by_any_method(
    client: FlaskClient, method: str, number: int
) -> None:
    response = client.open(f"/api/admin/mentorados/{number}", method=method)

    assert response.status_code == 404


@pytest.mark.parametrize("path", ["/admin/mentorados/{}", "/api/mentorados/{}/overview"])
def test_profile_deleted_during_a_request_is_not_found(
    console: FlaskClient, connection: Connection, alice: Mentorado, path: str
) -> None:
    deletions = ["DELETE FROM mentorados"]

    def delete_before_the_report(_c: object, _k: object, statement: str, *_: object) -> None:
        if "metricas_mensais" in statement and deletions:
            connection.execute(text(deletions.pop()))

    event.listen(connection, "before_cursor_execute", delete_before_the_report)

    response = console.get(path.format(alice.id))

    assert response.status_code == 404
