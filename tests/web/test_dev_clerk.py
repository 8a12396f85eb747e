"""The development identity provider serves this machine only, and no other site."""

import click
import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from core.config import Config
from dev.fake_clerk import PUBLISHABLE_KEY
from web.startup import (
    Address,
    flask_run_addresses,
    refuse_exposed_development_provider,
)

SIGN_IN = "/local-clerk/sign-in"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_loopback_host_is_served(client: FlaskClient, host: str) -> None:
    assert client.get(SIGN_IN, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.example.com", "10.0.0.1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_host_is_not_found(client: FlaskClient, host: str, method: str) -> None:
    response = client.open(SIGN_IN, method=method, headers={"Host": host}, data={"pessoa": "admin"})

    assert (response.status_code, "Set-Cookie" in response.headers) == (404, False)


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.20", "2001:db8::1", "::ffff:10.0.0.7"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_of_another_machine_is_not_found(
    client: FlaskClient, address: str, method: str
) -> None:
    response = client.open(
        SIGN_IN,
        method=method,
        environ_overrides={"REMOTE_ADDR": address},
        data={"pessoa": "admin"},
    )

    assert (response.status_code, "Set-Cookie" in response.headers) == (404, False)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"]
)
def test_request_through_a_proxy_is_not_found(client: FlaskClient, header: str) -> None:
    response = client.post(SIGN_IN, headers={header: "127.0.0.1"}, data={"pessoa": "admin"})

    assert (response.status_code, "Set-Cookie" in response.headers) == (404, False)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", ""])
def test_request_of_this_machine_is_served(client: FlaskClient, address: str) -> None:
    response = client.get(SIGN_IN, environ_overrides={"REMOTE_ADDR": address})

    assert response.status_code == 200


def exit_message(config: Config, *addresses: Address) -> str | None:
    try:
        refuse_exposed_development_provider(config, addresses)
    except SystemExit as err:
        return str(err.code)
    return None


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.7", "app.example.com"])
def test_server_on_a_public_address_does_not_start(host: str) -> None:
    message = exit_message(Config(), ("127.0.0.1", 8000), (host, 8000))

    assert message is not None
    assert message.startswith(f"neon-dashboard: {host}:8000: without CLERK_PUBLISHABLE_KEY")
    assert "\n" not in message


def test_server_on_loopback_starts() -> None:
    assert exit_message(Config(), ("127.0.0.1", 8000), ("::1", 8000), "/run/neon.sock") is None


def test_server_with_clerk_starts_on_any_address() -> None:
    assert exit_message(Config(clerk_publishable_key=PUBLISHABLE_KEY), ("0.0.0.0", 8000)) is None


@pytest.mark.parametrize(
    ("args", "is_refused"),
    [
        (["run", "--host", "0.0.0.0"], True),
        (["run"], False),
        (["sweep", "--host", "0.0.0.0"], False),
    ],
)
def test_development_server_on_a_public_address_does_not_start(
    args: list[str], is_refused: bool
) -> None:
    """As in `flask run`: the app is loaded inside the command."""

    def load(host: str) -> None:
        refuse_exposed_development_provider(Config(), flask_run_addresses())

    options = [click.Option(["--host"], default="127.0.0.1")]
    commands = [click.Command(name, callback=load, params=[*options]) for name in ("run", "sweep")]
    result = CliRunner().invoke(click.Group("flask", commands), args)

    assert ("without CLERK_PUBLISHABLE_KEY" in str(result.exception)) is is_refused


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost:9999"])
def test_sign_in_form_of_another_site_is_refused(client: FlaskClient, origin: str) -> None:
    response = client.post(SIGN_IN, headers={"Origin": origin}, data={"pessoa": "admin"})

    assert (response.status_code, "__session" in str(response.headers)) == (403, False)
