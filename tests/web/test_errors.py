"""Errors: one shape for programs, one page for people, nothing technical for anybody."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.errors import OperationalError as DriverError
from sqlalchemy.exc import OperationalError

from provisioning.errors import NeedsAttentionError, ProvisioningUnavailableError
from tests.cast import BOB
from tests.fixtures import Browser, Sign

MEMBERS = {"type", "title", "status", "code", "detail", "request_id"}


def gone(*_: object, **__: object) -> None:
    """The database went away under a statement."""
    raise OperationalError(
        "SELECT secret", {}, DriverError("server closed"), connection_invalidated=True
    )


def test_unknown_api_path_is_a_problem_document(client: FlaskClient) -> None:
    answer = client.get("/api/nada")

    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
    assert answer.json is not None
    assert set(answer.json) == MEMBERS


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


def test_passing_failure_is_a_503_that_says_when_to_try_again(
    client: FlaskClient, sign: Sign, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ProvisioningUnavailableError

    monkeypatch.setattr("guarantee.Guarantee.provide", fail)

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

    monkeypatch.setattr("guarantee.Guarantee.provide", fail)

    answer = client.get("/api/mentorados/me", headers=sign(BOB))

    assert answer.json is not None
    assert (answer.status_code, answer.json["code"]) == (409, "provisioning_needs_attention")


@pytest.mark.parametrize("path", ["/dashboard", "/api/mentorados/me/overview"])
def test_lost_database_is_a_503_and_shows_no_sql(
    browser_of: Browser, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("blueprints.own.read_overview", gone)

    answer = browser_of(BOB).get(path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "secret" not in answer.get_data(as_text=True)


def test_unforeseen_error_is_a_500_page_without_a_trace(
    app: Flask, browser_of: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("blueprints.own.read_overview", stumble)
    monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)

    answer = browser_of(BOB).get("/dashboard")

    assert (answer.status_code, "Algo deu errado" in answer.get_data(as_text=True)) == (500, True)
    assert "secret" not in answer.get_data(as_text=True)


def test_support_link_carries_the_reference(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = app.extensions["house"]
    config = house.config.model_copy(update={"support_url": "https://ajuda.example/?a=1"})
    monkeypatch.setattr("blueprints.answers.house", lambda: type("H", (), {"config": config}))

    answer = client.get("/nada", headers={"X-Request-ID": "ref-12345678"})

    assert "https://ajuda.example/?a=1&amp;ref=ref-12345678" in answer.get_data(as_text=True)
