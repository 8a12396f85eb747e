"""Browsers at the gate of a production instance: sent to Clerk, let in by it, or turned away."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dev.databases import app_on
from dev.fake_clerk import ISSUER, DevUser
from tests.support.clerk_server import Clerk, clerk_in

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
LIVE_KEY = f"pk_live_{b64encode(b'clerk.example.com$').decode()}"
PAGE = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    """A Clerk that signs what a production instance signs."""
    with clerk_in(tmp_path / "clerk") as clerk:
        clerk.provider.save_user(EVA)
        yield clerk


@pytest.fixture
def proxies() -> int:
    """How many stand in front."""
    return 0


@pytest.fixture
def client(
    tmp_path: Path, copy_database: Callable[[str], str], clerk: Clerk, proxies: int
) -> Iterator[FlaskClient]:
    """A browser of an app with production keys."""
    settings = {name.lower(): value for name, value in clerk.settings.items()}
    keys = {"clerk_publishable_key": LIVE_KEY, "clerk_secret_key": "sk_live_x"}
    live = {**settings, **keys, "trusted_proxies": proxies}
    with app_on(tmp_path, copy_database(f"sessions_{tmp_path.name}"), **live) as app:
        yield app.test_client()


def hold(client: FlaskClient, **cookies: str) -> None:
    for name, value in cookies.items():
        client.set_cookie(name, value)


def session(clerk: Clerk, lifetime_seconds: int = 60) -> str:
    return clerk.provider.token(EVA, lifetime_seconds=lifetime_seconds)


def asked(answer: TestResponse) -> dict[str, list[str]]:
    return parse_qs(urlsplit(answer.location or "").query)


def given(answer: TestResponse) -> set[str]:
    """The names of the cookies that the answer sets."""
    return {cookie.partition("=")[0] for cookie in answer.headers.getlist("Set-Cookie")}


def test_returning_browser_is_sent_to_clerk_and_nobody_keeps_the_way(
    client: FlaskClient, clerk: Clerk
) -> None:
    hold(client, __session=session(clerk, -60), __client_uat="1")

    answer = client.get("/dashboard?aba=metas", headers=PAGE)

    assert (answer.status_code, answer.headers["Cache-Control"]) == (307, "no-store")
    assert (answer.location or "").startswith(f"{clerk.url}/v1/client/handshake?")
    assert asked(answer)["redirect_url"] == ["http://localhost/dashboard?aba=metas"]
    assert asked(answer)["__clerk_hs_reason"] == ["session-token-expired"]


def test_answer_of_clerk_lets_the_browser_in_at_once(client: FlaskClient, clerk: Clerk) -> None:
    cookies = [f"__session={session(clerk)}; Path=/", "__client_uat=1; Path=/", "theme=dark"]
    hold(client, __clerk_handshake=clerk.provider.sign({"handshake": cookies}, 60))

    answer = client.get("/dashboard", headers=PAGE)

    assert (answer.status_code, "Eva Melo" in answer.text) == (200, True)
    assert given(answer) >= {"__session", "__client_uat", "__clerk_handshake"}
    assert "theme" not in given(answer)


def test_answer_that_clerk_did_not_sign_lets_nobody_in(client: FlaskClient, tmp_path: Path) -> None:
    with clerk_in(tmp_path / "stranger") as stranger:
        cookies = [f"__session={session(stranger)}; Path=/", "__client_uat=1; Path=/"]
        forged = stranger.provider.sign({"handshake": cookies, "iss": ISSUER}, 60)
    hold(client, __clerk_handshake=forged)

    answer = client.get("/dashboard", headers=PAGE)

    assert (answer.status_code, "__session" in given(answer)) == (302, False)


def test_fourth_round_in_a_row_is_an_explanation(client: FlaskClient, clerk: Clerk) -> None:
    hold(client, __session=session(clerk, -60), __client_uat="1")

    answers = [client.get("/dashboard", headers=PAGE) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [307, 307, 307, 401]
    assert 'data-code="session_loop"' in answers[-1].text


@pytest.mark.parametrize("destination", ["empty", "document"])
@pytest.mark.parametrize("path", ["/api/auth/me", "/api/mentorados/me"])
def test_call_with_an_old_cookie_is_told_so_whoever_makes_it(
    client: FlaskClient, clerk: Clerk, path: str, destination: str
) -> None:
    hold(client, __session=session(clerk, -60), __client_uat="1")

    answer = client.get(path, headers=PAGE | {"Sec-Fetch-Dest": destination})

    assert (answer.status_code, (answer.json or {})["code"]) == (401, "unauthenticated")


def test_browser_that_signed_out_elsewhere_goes_to_the_sign_in_page(
    client: FlaskClient,
) -> None:
    hold(client, __client_uat="0")

    answer = client.get("/dashboard", headers=PAGE)

    assert (answer.status_code, answer.location) == (302, "/login?next=/dashboard")


@pytest.mark.parametrize(
    ("proxies", "address"),
    [(0, "http://localhost/dashboard"), (1, "https://app.example.com/dashboard")],
)
def test_way_back_is_the_address_that_the_browser_sees(
    client: FlaskClient, clerk: Clerk, address: str
) -> None:
    hold(client, __session=session(clerk, -60), __client_uat="1")
    behind = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com"}

    answer = client.get("/dashboard", headers=PAGE | behind)

    assert asked(answer)["redirect_url"] == [address]
