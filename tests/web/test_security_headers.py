"""The security headers of all responses."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from core.config import Config
from tests.support.types import Browser
from tests.support.users import BOB
from web.responses import HEADERS, security_headers

KEY = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"  # the key of clerk.example.com
KEYS = {
    "clerk_publishable_key": KEY,
    "clerk_secret_key": "sk_live_x",
    "secret_key": "x" * 32,
    "database_url": "postgresql://127.0.0.1:1/none",
}


def policy_of(client: FlaskClient, path: str) -> dict[str, str]:
    return parsed(client.get(path).headers["Content-Security-Policy"])


def parsed(policy: str) -> dict[str, str]:
    return dict(part.split(" ", 1) for part in policy.split("; "))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A client of the app in production."""
    folder = tmp_path_factory.mktemp("production")
    config = Config.model_validate({"app_env": "production", "instance_path": folder, **KEYS})
    return create_app(config).test_client()


def test_every_route_sends_the_headers(app: Flask, client: FlaskClient) -> None:
    paths = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]

    for path in [*paths, "/nada", "/api/nada", "/static/theme.css"]:
        with client.get(path) as response:
            headers = response.headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, path
        assert "default-src 'none'" in headers["Content-Security-Policy"], path


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ],
)
def test_header_has_its_value(client: FlaskClient, header: str, value: str) -> None:
    assert client.get("/nada").headers[header] == value


def test_images_are_allowed_from_any_origin_and_base_uri_is_none(client: FlaskClient) -> None:
    policy = policy_of(client, "/nada")

    assert (policy["img-src"], policy["base-uri"]) == ("'self' data: http: https:", "'none'")


@pytest.mark.parametrize("directive", ["script-src", "style-src", "connect-src"])
def test_scripts_styles_and_connections_are_same_origin(
    client: FlaskClient, directive: str
) -> None:
    assert policy_of(client, "/nada")[directive] == "'self'"


def test_framing_is_forbidden_except_for_the_session_page(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    ancestors = [policy_of(browser, p)["frame-ancestors"] for p in ("/dashboard", "/session")]

    assert ancestors == ["'none'", "'self'"]


def test_framing_header_for_old_browsers_is_sent(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    values = [browser.get(p).headers["X-Frame-Options"] for p in ("/dashboard", "/session")]

    assert values == ["DENY", "SAMEORIGIN"]


def test_forms_in_development_may_submit_to_loopback(client: FlaskClient) -> None:
    expected = "'self' http://127.0.0.1:* http://localhost:*"

    assert policy_of(client, "/nada")["form-action"] == expected


@pytest.mark.parametrize(
    ("settings", "sources"),
    [
        (
            {"clerk_publishable_key": KEY, "clerk_frontend_api_url": "https://id.example"},
            "'self' https://accounts.example.com https://id.example",
        ),
        (
            {"clerk_publishable_key": KEY},
            "'self' https://accounts.example.com https://clerk.example.com",
        ),
    ],
)
def test_forms_and_frames_are_restricted_to_the_configured_clerk(
    settings: dict[str, str], sources: str
) -> None:
    headers = dict(security_headers(Config.model_validate(settings)))

    policy = parsed(headers["Content-Security-Policy"])

    assert (policy["form-action"], policy["frame-src"]) == (sources, sources)


def test_forms_and_frames_are_allowed_for_clerk(production: FlaskClient) -> None:
    policy = policy_of(production, "/nada")

    expected = "'self' https://accounts.example.com https://clerk.example.com"
    assert (policy["form-action"], policy["frame-src"]) == (expected, expected)


def test_production_sends_strict_transport_security(
    production: FlaskClient, client: FlaskClient
) -> None:
    values = [c.get("/nada").headers.get("Strict-Transport-Security") for c in (production, client)]

    assert values == ["max-age=31536000", None]


def test_templates_have_no_inline_code_or_style() -> None:
    pages = {p.name: p.read_text() for p in Path("templates").glob("*.html")}
    inline = ("style=", "<style", "onclick", "javascript:", "|safe", "| safe")

    assert [name for name, page in pages.items() if any(word in page for word in inline)] == []
    assert all('<script type="module" src=' in p for p in pages.values() if "<script" in p)
