"""Malformed URLs and hosts of requests are refused."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

BROKEN = ("//[", "http://[::1", "//\u2100.example", "http://127.0.0.1:99999/", "http://127.0.0.1]/")


@pytest.mark.parametrize("url", BROKEN)
def test_login_replaces_a_malformed_url_by_the_dashboard(client: FlaskClient, url: str) -> None:
    response = client.get("/login", query_string={"next": url})

    assert response.location == "/local-clerk/sign-in?redirect_url=/dashboard"


@pytest.mark.parametrize("url", BROKEN)
def test_development_provider_does_not_redirect_to_a_malformed_url(
    client: FlaskClient, url: str
) -> None:
    parameters = {"redirect_url": url}

    sign_in = client.post("/local-clerk/sign-in", data={"pessoa": "admin", **parameters})
    handshake = client.get("/local-clerk/v1/client/handshake", query_string=parameters)

    assert (sign_in.status_code, sign_in.location) == (303, "/dashboard")
    assert handshake.status_code == 404


def test_non_ascii_key_of_the_development_provider_is_refused(client: FlaskClient) -> None:
    response = client.get("/local-clerk/v1/users", headers={"Authorization": "Bearer ção"})

    assert response.status_code == 401


@pytest.mark.parametrize("host", ["[", "a b", "a..b", "a" * 64, "127.0.0.1:99999", ""])
@pytest.mark.parametrize("path", ["/", "/dashboard", "/nada", "/api/auth/me"])
def test_malformed_host_is_refused_everywhere(app: Flask, path: str, host: str) -> None:
    client = app.test_client(use_cookies=False)  # a cookie jar would parse the host

    response = client.get(path, headers={"Host": host, "Accept": "text/html"})

    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert response.json is not None
    assert response.json["code"] == "invalid_host"
