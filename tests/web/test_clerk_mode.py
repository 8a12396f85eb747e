"""With Clerk's settings, tokens of the issuer are accepted and the development provider is off."""

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask.testing import FlaskClient
from jwt.algorithms import RSAAlgorithm

from tests.support.apps import create_app_on

PUBLISHABLE_KEY = "pk_test_aGFwcHktZm94LTEuY2xlcmsuYWNjb3VudHMuZGV2JA"
ISSUER = "https://happy-fox-1.clerk.accounts.dev"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class KeyServer(BaseHTTPRequestHandler):
    """Publishes the public half of KEY."""

    def do_GET(self) -> None:
        public = RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"keys": [{**public, "kid": "ins_1", "use": "sig"}]}).encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def jwks_url() -> Iterator[str]:
    """The URL of the issuer's published keys."""
    with ThreadingHTTPServer(("127.0.0.1", 0), KeyServer) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


@pytest.fixture
def client(
    tmp_path: Path, copy_database: Callable[[str], str], jwks_url: str
) -> Iterator[FlaskClient]:
    """A client of an app that trusts Clerk, on a database of its own."""
    settings = {"clerk_publishable_key": PUBLISHABLE_KEY, "clerk_jwks_url": jwks_url}
    with create_app_on(tmp_path, copy_database(f"clerk_{tmp_path.name}"), **settings) as app:
        yield app.test_client()


def bearer(**claims: Any) -> dict[str, str]:
    now = int(time.time())
    values = {"sub": "user_1", "iss": ISSUER, "iat": now, "exp": now + 60, **claims}
    token = jwt.encode(values, KEY, algorithm="RS256", headers={"kid": "ins_1"})
    return {"Authorization": f"Bearer {token}"}


def test_token_of_the_issuer_is_accepted(client: FlaskClient) -> None:
    response = client.get("/api/admin/sweeps", headers=bearer(sub="user_2"))

    assert response.status_code == 403


@pytest.mark.parametrize("claims", [{"iss": "https://evil.example"}, {"exp": 1}, {"sub": "null"}])
def test_other_tokens_are_refused(client: FlaskClient, claims: dict[str, Any]) -> None:
    assert client.get("/api/admin/sweeps", headers=bearer(**claims)).status_code == 401


def test_anonymous_browser_is_redirected_to_the_account_portal(client: FlaskClient) -> None:
    response = client.get("/login?next=/dashboard")

    assert response.location == (
        "https://happy-fox-1.accounts.dev/sign-in?redirect_url=http%3A%2F%2Flocalhost%2Fdashboard"
    )


def test_development_identity_provider_is_off(client: FlaskClient) -> None:
    assert client.get("/local-clerk/sign-in").status_code == 404


def test_unreachable_issuer_is_a_503(tmp_path: Path, template_url: str) -> None:
    settings = {
        "clerk_publishable_key": PUBLISHABLE_KEY,
        "clerk_jwks_url": "http://127.0.0.1:1/jwks.json",
    }
    with create_app_on(tmp_path, template_url, **settings) as app:
        response = app.test_client().get("/api/auth/me", headers=bearer())

    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize("has_asked", [False, True])
def test_unknown_address_is_a_404_while_the_issuer_is_unreachable(
    tmp_path: Path, template_url: str, *, has_asked: bool
) -> None:
    settings = {
        "clerk_publishable_key": PUBLISHABLE_KEY,
        "clerk_jwks_url": "http://127.0.0.1:1/jwks.json",
    }
    with create_app_on(tmp_path, template_url, **settings) as app:
        client = app.test_client()
        if has_asked:  # further requests ask no more for a while
            client.get("/api/auth/me", headers=bearer())
        token = bearer()["Authorization"].removeprefix("Bearer ")
        client.set_cookie("__session", token)
        client.set_cookie("__client_uat", "1")
        client.set_cookie("__clerk_db_jwt", "dvb_1")

        assert client.get("/nowhere", headers={"Accept": "text/html"}).status_code == 404
