"""Addresses that came with a request are taken apart only where they can be."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

BROKEN = ("//[", "http://[::1", "//\u2100.example", "http://127.0.0.1:99999/", "http://127.0.0.1]/")


@pytest.mark.parametrize("address", BROKEN)
def test_sign_in_leads_to_the_dashboard_instead_of_nowhere(
    client: FlaskClient, address: str
) -> None:
    answer = client.get("/login", query_string={"next": address})

    assert answer.location == "/local-clerk/sign-in?redirect_url=/dashboard"


@pytest.mark.parametrize("address", BROKEN)
def test_stand_in_sends_nobody_to_a_broken_address(client: FlaskClient, address: str) -> None:
    where = {"redirect_url": address}

    entered = client.post("/local-clerk/sign-in", data={"pessoa": "admin", **where})
    asked = client.get("/local-clerk/v1/client/handshake", query_string=where)

    assert (entered.status_code, entered.location) == (303, "/dashboard")
    assert asked.status_code == 404


def test_key_of_the_stand_in_may_be_guessed_in_any_alphabet(client: FlaskClient) -> None:
    answer = client.get("/local-clerk/v1/users", headers={"Authorization": "Bearer ção"})

    assert answer.status_code == 401


@pytest.mark.parametrize("host", ["[", "a b", "a..b", "a" * 64, "127.0.0.1:99999", ""])
@pytest.mark.parametrize("path", ["/", "/dashboard", "/nada", "/api/auth/me"])
def test_host_that_is_none_is_refused_everywhere(app: Flask, path: str, host: str) -> None:
    client = app.test_client(use_cookies=False)  # a jar would have to know the host

    answer = client.get(path, headers={"Host": host, "Accept": "text/html"})

    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert answer.json is not None
    assert answer.json["code"] == "invalid_host"
