"""What browsers are told to refuse, on every answer."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from core.config import Config
from tests.support.types import Browser
from tests.support.users import BOB
from web.security_headers import HEADERS, register_headers

KEY = "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k"  # of clerk.example.com
KEYS = {
    "clerk_publishable_key": KEY,
    "clerk_secret_key": "sk_live_x",
    "secret_key": "x" * 32,
    "database_url": "postgresql://127.0.0.1:1/none",
}


def policy_of(client: FlaskClient, path: str) -> dict[str, str]:
    header = client.get(path).headers["Content-Security-Policy"]
    return dict(part.split(" ", 1) for part in header.split("; "))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """The app as strangers meet it."""
    folder = tmp_path_factory.mktemp("production")
    config = Config.model_validate({"app_env": "production", "instance_path": folder, **KEYS})
    return create_app(config).test_client()


def test_every_route_answers_with_the_headers(app: Flask, client: FlaskClient) -> None:
    paths = [rule.rule for rule in app.url_map.iter_rules() if not rule.arguments]

    for path in [*paths, "/nada", "/api/nada", "/static/theme.css"]:
        with client.get(path) as answer:
            sent = answer.headers
        assert {name: sent.get(name) for name in HEADERS} == HEADERS, path
        assert "default-src 'none'" in sent["Content-Security-Policy"], path


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ],
)
def test_browsers_are_told_to_be_careful(client: FlaskClient, header: str, value: str) -> None:
    assert client.get("/nada").headers[header] == value


def test_photos_may_come_from_anywhere_and_addresses_stay_ours(client: FlaskClient) -> None:
    policy = policy_of(client, "/nada")

    assert (policy["img-src"], policy["base-uri"]) == ("'self' data: http: https:", "'none'")


@pytest.mark.parametrize("directive", ["script-src", "style-src", "connect-src"])
def test_code_and_styles_come_from_here_alone(client: FlaskClient, directive: str) -> None:
    assert policy_of(client, "/nada")[directive] == "'self'"


def test_nobody_may_frame_us_but_for_the_renewal_of_a_session(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    ancestors = [policy_of(browser, p)["frame-ancestors"] for p in ("/dashboard", "/session")]

    assert ancestors == ["'none'", "'self'"]


def test_browsers_that_know_no_policy_are_told_about_frames_too(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    told = [browser.get(p).headers["X-Frame-Options"] for p in ("/dashboard", "/session")]

    assert told == ["DENY", "SAMEORIGIN"]


def test_forms_under_development_may_lead_to_this_machine(client: FlaskClient) -> None:
    ours = "'self' http://127.0.0.1:* http://localhost:*"

    assert policy_of(client, "/nada")["form-action"] == ours


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        (
            {"clerk_publishable_key": KEY, "clerk_frontend_api_url": "https://id.example"},
            "'self' https://id.example",
        ),
        (
            {"clerk_publishable_key": KEY},
            "'self' https://accounts.example.com https://clerk.example.com",
        ),
    ],
)
def test_forms_and_frames_may_lead_nowhere_but_to_the_clerk_in_use(
    settings: dict[str, str], places: str
) -> None:
    app = Flask(__name__)
    register_headers(app, Config.model_validate(settings))

    policy = policy_of(app.test_client(), "/nada")

    assert (policy["form-action"], policy["frame-src"]) == (places, places)


def test_forms_and_frames_may_lead_to_clerk(production: FlaskClient) -> None:
    policy = policy_of(production, "/nada")

    ours = "'self' https://accounts.example.com https://clerk.example.com"
    assert (policy["form-action"], policy["frame-src"]) == (ours, ours)


def test_production_insists_on_encryption(production: FlaskClient, client: FlaskClient) -> None:
    told = [c.get("/nada").headers.get("Strict-Transport-Security") for c in (production, client)]

    assert told == ["max-age=31536000", None]


def test_templates_hold_no_inline_code_or_style() -> None:
    pages = {p.name: p.read_text() for p in Path("templates").glob("*.html")}
    inline = ("style=", "<style", "onclick", "javascript:", "|safe", "| safe")

    assert [name for name, page in pages.items() if any(word in page for word in inline)] == []
    assert all('<script type="module" src=' in p for p in pages.values() if "<script" in p)
