"""The development identity provider serves developers of this machine, and no other site."""

import pytest
from flask.testing import FlaskClient

SIGN_IN = "/local-clerk/sign-in"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_loopback_names_are_served(client: FlaskClient, host: str) -> None:
    assert client.get(SIGN_IN, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.example.com", "10.0.0.1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_names_are_not(client: FlaskClient, host: str, method: str) -> None:
    answer = client.open(SIGN_IN, method=method, headers={"Host": host}, data={"pessoa": "admin"})

    assert (answer.status_code, "Set-Cookie" in answer.headers) == (404, False)


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost:9999"])
def test_form_of_another_site_signs_nobody_in(client: FlaskClient, origin: str) -> None:
    answer = client.post(SIGN_IN, headers={"Origin": origin}, data={"pessoa": "admin"})

    assert (answer.status_code, "__session" in str(answer.headers)) == (403, False)
