"""Browser sessions with a production instance: handshake redirects, sign-in and refusals."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from auth.cookies import cookie_suffix
from dev.fake_clerk import ISSUER, DevUser
from tests.support.apps import create_app_on
from tests.support.clerk_server import Clerk, run_clerk

EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
LIVE_KEY = f"pk_live_{b64encode(b'clerk.example.com$').decode()}"
EXPIRED = "session-token-expired-refresh-non-eligible-no-refresh-cookie"
BEARER_PATHS = ("/dashboard", "/api/auth/me")
PAGE = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def clerk(tmp_path: Path) -> Iterator[Clerk]:
    """A development identity provider that signs for a production instance."""
    with run_clerk(tmp_path / "clerk") as clerk:
        clerk.provider.save_user(EVA)
        yield clerk


@pytest.fixture
def proxies() -> int:
    """The number of trusted proxies."""
    return 0


@pytest.fixture
def client(
    tmp_path: Path, copy_database: Callable[[str], str], clerk: Clerk, proxies: int
) -> Iterator[FlaskClient]:
    """A browser of an app with production keys."""
    settings = {name.lower(): value for name, value in clerk.settings.items()}
    keys = {"clerk_publishable_key": LIVE_KEY}
    live = {**settings, **keys, "trusted_proxies": proxies}
    with create_app_on(tmp_path, copy_database(f"sessions_{tmp_path.name}"), **live) as app:
        yield app.test_client()


def set_cookies(client: FlaskClient, **cookies: str) -> None:
    for name, value in cookies.items():
        client.set_cookie(name, value)


def session_token(clerk: Clerk, lifetime_seconds: int = 60) -> str:
    return clerk.provider.token(EVA, lifetime_seconds=lifetime_seconds)


def redirect_parameters(response: TestResponse) -> dict[str, list[str]]:
    return parse_qs(urlsplit(response.location or "").query)


def cookie_names(response: TestResponse) -> set[str]:
    """The names of the cookies that the response sets."""
    return {cookie.partition("=")[0] for cookie in response.headers.getlist("Set-Cookie")}


def test_expired_session_redirects_to_clerk_without_caching(
    client: FlaskClient, clerk: Clerk
) -> None:
    set_cookies(client, __session=session_token(clerk, -60), __client_uat="1")

    response = client.get("/dashboard?aba=metas", headers=PAGE)

    assert (response.status_code, response.headers["Cache-Control"]) == (307, "no-store")
    assert (response.location or "").startswith(f"{clerk.url}/v1/client/handshake?")
    assert redirect_parameters(response)["redirect_url"] == ["http://localhost/dashboard?aba=metas"]
    assert redirect_parameters(response)["__clerk_hs_reason"] == [EXPIRED]


def test_returning_browser_is_refreshed_without_a_redirect(
    client: FlaskClient, clerk: Clerk
) -> None:
    browser = clerk.sessions.sign_in(clerk.sessions.browser(None), EVA)
    expired = clerk.provider.sign({"sub": EVA.clerk_id, "sid": browser.session_id}, -60)
    set_cookies(client, __session=expired, __client_uat="1")
    client.set_cookie(f"__refresh_{cookie_suffix(LIVE_KEY)}", browser.refresh_token)

    pages = [client.get("/dashboard", headers=PAGE) for _ in range(2)]

    assert [page.status_code for page in pages] == [200, 200]
    assert [("__session" in cookie_names(page)) for page in pages] == [True, False]


def test_refused_refresh_falls_back_to_the_handshake(client: FlaskClient, clerk: Clerk) -> None:
    set_cookies(client, __session=session_token(clerk, -60), __client_uat="1")
    client.set_cookie(f"__refresh_{cookie_suffix(LIVE_KEY)}", "rt_invented")

    response = client.get("/dashboard", headers=PAGE)

    reason = "session-token-expired-refresh-session_refresh_refused"
    assert (response.status_code, redirect_parameters(response)["__clerk_hs_reason"]) == (
        307,
        [reason],
    )


def test_handshake_may_be_answered_by_a_nonce(client: FlaskClient, clerk: Clerk) -> None:
    browser = clerk.sessions.sign_in(clerk.sessions.browser(None), EVA)
    set_cookies(client, __client_uat="1")
    redirected = client.get("/dashboard", headers=PAGE)
    answer = requests.get(
        f"{redirected.location}&__clerk_db_jwt={browser.id}", allow_redirects=False, timeout=10
    )
    [nonce] = parse_qs(urlsplit(answer.headers["Location"]).query)["__clerk_handshake_nonce"]
    set_cookies(client, __clerk_handshake_nonce=nonce)

    response = client.get("/dashboard", headers=PAGE)

    assert (response.status_code, "Eva Melo" in response.text) == (200, True)


def test_page_with_an_expired_bearer_token_goes_to_the_handshake(
    client: FlaskClient, clerk: Clerk
) -> None:
    bearer = {"Authorization": f"Bearer {session_token(clerk, -60)}"}

    statuses = [client.get(path, headers=PAGE | bearer).status_code for path in BEARER_PATHS]

    assert statuses == [307, 401]


def test_handshake_answer_signs_the_browser_in_at_once(client: FlaskClient, clerk: Clerk) -> None:
    cookies = [f"__session={session_token(clerk)}; Path=/", "__client_uat=1; Path=/", "theme=dark"]
    set_cookies(client, __clerk_handshake=clerk.provider.sign({"handshake": cookies}, 60))

    response = client.get("/dashboard", headers=PAGE)

    assert (response.status_code, "Eva Melo" in response.text) == (200, True)
    assert cookie_names(response) >= {"__session", "__client_uat", "__clerk_handshake"}
    assert "theme" not in cookie_names(response)


def test_forged_handshake_answer_signs_nobody_in(client: FlaskClient, tmp_path: Path) -> None:
    with run_clerk(tmp_path / "other") as other_clerk:
        cookies = [f"__session={session_token(other_clerk)}; Path=/", "__client_uat=1; Path=/"]
        forged = other_clerk.provider.sign({"handshake": cookies, "iss": ISSUER}, 60)
    set_cookies(client, __clerk_handshake=forged)

    response = client.get("/dashboard", headers=PAGE)

    assert (response.status_code, "__session" in cookie_names(response)) == (302, False)


def test_fourth_redirect_in_a_row_is_an_error_page(client: FlaskClient, clerk: Clerk) -> None:
    set_cookies(client, __session=session_token(clerk, -60), __client_uat="1")

    responses = [client.get("/dashboard", headers=PAGE) for _ in range(4)]

    assert [response.status_code for response in responses] == [307, 307, 307, 401]
    assert 'data-code="session_loop"' in responses[-1].text


PAGE_LOADS = {
    "in a tab": ("GET", "document", "*/*"),
    "in a frame": ("GET", "iframe", "*/*"),
    "in an old browser": ("GET", "", "text/html,*/*;q=0.8"),
}
OTHER_REQUESTS = {
    "script of a page": ("GET", "empty", "text/html"),
    "API call": ("GET", "", "application/json"),
    "HEAD": ("HEAD", "document", "text/html"),
    "form": ("POST", "document", "text/html"),
}


@pytest.mark.parametrize(
    ("request_headers", "is_redirected"),
    [
        *((each, True) for each in PAGE_LOADS.values()),
        *((each, False) for each in OTHER_REQUESTS.values()),
    ],
    ids=[*PAGE_LOADS, *OTHER_REQUESTS],
)
def test_only_a_browser_that_loads_a_page_is_redirected_to_clerk(
    client: FlaskClient, clerk: Clerk, request_headers: tuple[str, str, str], *, is_redirected: bool
) -> None:
    set_cookies(client, __session=session_token(clerk, -60), __client_uat="1")
    method, destination, accept = request_headers
    headers = {"Sec-Fetch-Dest": destination, "Accept": accept, "Origin": "http://localhost"}

    response = client.open("/perfil", method=method, headers=headers)

    assert (response.status_code == 307) is is_redirected
    assert (response.location or "").startswith(f"{clerk.url}/v1/") is is_redirected


@pytest.mark.parametrize("destination", ["empty", "document"])
@pytest.mark.parametrize("path", ["/api/auth/me", "/api/mentorados/me"])
def test_api_request_with_an_expired_cookie_is_a_401(
    client: FlaskClient, clerk: Clerk, path: str, destination: str
) -> None:
    set_cookies(client, __session=session_token(clerk, -60), __client_uat="1")

    response = client.get(path, headers=PAGE | {"Sec-Fetch-Dest": destination})

    assert (response.status_code, (response.json or {})["code"]) == (401, "unauthenticated")


def test_signed_out_browser_redirects_to_login(
    client: FlaskClient,
) -> None:
    set_cookies(client, __client_uat="0")

    response = client.get("/dashboard", headers=PAGE)

    assert (response.status_code, response.location) == (302, "/login?next=/dashboard")


@pytest.mark.parametrize(
    ("proxies", "url"),
    [(0, "http://localhost/dashboard"), (1, "https://app.example.com/dashboard")],
)
def test_redirect_url_is_the_url_of_the_browser(
    client: FlaskClient, clerk: Clerk, url: str
) -> None:
    set_cookies(client, __session=session_token(clerk, -60), __client_uat="1")
    proxy_headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com"}

    response = client.get("/dashboard", headers=PAGE | proxy_headers)

    assert redirect_parameters(response)["redirect_url"] == [url]
