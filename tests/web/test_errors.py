"""Errors: one shape for programs, one page for people, nothing technical for anybody."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.http.errors import InvalidChunkSize
from psycopg2.errors import OperationalError as DriverError
from sqlalchemy.exc import OperationalError, ProgrammingError

from provisioning.errors import NeedsAttentionError, ProvisioningUnavailableError
from tests.support.types import Browser, Sign
from tests.support.users import BOB

MARCH = "/api/mentorados/me/metricas/2026/3"
OVERVIEW = "/api/mentorados/me/overview"
MEMBERS = {"type", "title", "status", "code", "detail", "request_id"}


def gone(*_: object, **__: object) -> None:
    """The database went away under a statement."""
    raise OperationalError(
        "SELECT secret", {}, DriverError("server closed"), connection_invalidated=True
    )


def broken(*_: object, **__: object) -> None:
    """The statement is wrong, and will be so at the next attempt."""
    raise ProgrammingError("SELECT secret", {}, DriverError("no such column"))


def test_unknown_api_path_is_a_problem_document(client: FlaskClient) -> None:
    answer = client.get("/api/nada")

    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert answer.json is not None
    assert set(answer.json) == MEMBERS


def test_path_that_only_begins_like_the_api_is_a_page(client: FlaskClient) -> None:
    answer = client.get("/apis")

    assert (answer.status_code, answer.mimetype) == (404, "text/html")


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
def test_each_refusal_has_its_code(
    client: FlaskClient, method: str, path: str, options: dict[str, object], code: str
) -> None:
    answer = client.open(path, method=method, **options)  # type: ignore[arg-type] # by table

    assert answer.json is not None
    assert answer.json["code"] == code


def test_body_in_broken_chunks_is_invalid_input(
    client: FlaskClient, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise InvalidChunkSize(b"zz")

    monkeypatch.setattr("flask.Request.get_data", stumble)

    answer = client.put(MARCH, json={"lucro": 1}, headers=sign(BOB))

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_input")


def test_refused_method_is_told_which_ones_there_are(client: FlaskClient) -> None:
    answer = client.delete("/api/auth/me")

    assert answer.allow == {"GET", "HEAD", "OPTIONS"}


def test_passing_failure_is_a_503_that_says_when_to_try_again(
    client: FlaskClient, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ProvisioningUnavailableError

    monkeypatch.setattr("provisioning.service.ProvisioningService.context_for", fail)

    answer = client.get("/api/mentorados/me", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (
        503,
        "provisioning_unavailable",
        "2",
    )


def test_failure_that_the_background_gave_up_on_goes_to_support(
    client: FlaskClient, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NeedsAttentionError

    monkeypatch.setattr("provisioning.service.ProvisioningService.context_for", fail)

    answer = client.get("/api/mentorados/me", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "provisioning_needs_attention")


@pytest.mark.parametrize("path", ["/dashboard", OVERVIEW])
def test_lost_database_is_a_503_and_shows_no_sql(
    browser_of: Browser, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("web.request_context.read_overview", gone)

    answer = browser_of(BOB).get(path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "secret" not in answer.get_data(as_text=True)


def test_page_without_database_comes_back_by_itself(
    browser_of: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.request_context.read_overview", gone)

    page = browser_of(BOB).get("/dashboard").text

    assert "Voltamos já" in page
    assert 'http-equiv="refresh"' in page


def test_lost_database_leaves_the_numbers_that_were_seen_last(
    browser_of: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browser_of(BOB)
    seen = browser.get(OVERVIEW).json or {}
    monkeypatch.setattr("web.request_context.read_overview", gone)

    assert browser.get(OVERVIEW).json == {**seen, "read_only": True}
    assert "por enquanto não dá para alterar nada" in browser.get("/dashboard").text


def test_broken_statement_is_not_hidden_behind_the_numbers_seen_last(
    browser_of: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = browser_of(BOB)
    browser.get(OVERVIEW)
    monkeypatch.setattr("web.request_context.read_overview", broken)

    assert browser.get(OVERVIEW).status_code == 500


def test_unforeseen_error_is_a_500_page_without_a_trace(
    app: Flask, browser_of: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("web.request_context.read_overview", stumble)
    monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)

    answer = browser_of(BOB).get("/dashboard")

    assert (answer.status_code, "Algo deu errado" in answer.get_data(as_text=True)) == (500, True)
    assert "secret" not in answer.get_data(as_text=True)


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
def test_support_link_carries_the_reference(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, url: str, link: str
) -> None:
    services = app.extensions["services"]
    config = services.config.model_copy(update={"support_url": url})
    monkeypatch.setattr("web.problem_responses.services", lambda: type("H", (), {"config": config}))

    answer = client.get("/nada", headers={"X-Request-ID": "ref-12345678"})

    assert f'{link}"' in answer.get_data(as_text=True)


def test_without_an_address_for_support_there_is_no_link(client: FlaskClient) -> None:
    assert "data-support" not in client.get("/nada").text


@pytest.mark.parametrize("number", [0, 2_147_483_648])
@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_address_that_cannot_be_is_not_found_by_any_method(
    client: FlaskClient, method: str, number: int
) -> None:
    answer = client.open(f"/api/admin/mentorados/{number}", method=method)

    assert answer.status_code == 404
