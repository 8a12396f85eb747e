"""What a request may cost at Clerk: charged first, one call at most, and never much of a wait."""

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from flask.testing import FlaskClient
from jwt.algorithms import RSAAlgorithm

from dev.databases import app_on
from dev.fake_clerk import clerk_user
from dev.servers import eventually
from tests.support.users import BOB

ISSUER = "https://clerk.example.com"
LIVE = f"pk_live_{b64encode(b'clerk.example.com$').decode()}"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PAGE = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}
OURS = {"Origin": "http://localhost"}
PER_MINUTE = 30
PUBLIC = {**RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "ins_1", "use": "sig"}


class Clerk(ThreadingHTTPServer):
    """Counts what it is asked; `slow` are the beginnings of paths that it answers in drops."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[str] = []
        self.slow: tuple[str, ...] = ()
        self.ended = threading.Event()
        self.directives: list[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, beginning: str) -> list[str]:
        return [call for call in self.calls if call.startswith(beginning)]


class Handler(BaseHTTPRequestHandler):
    server: Clerk

    def do_GET(self) -> None:
        self.server.calls.append(self.path)
        status, document = self.found()
        body = json.dumps(document).encode()
        self.send_response(status)
        self.end_headers()
        with suppress(OSError):
            if self.path.startswith(self.server.slow or ("-",)):
                while not self.server.ended.wait(0.05):
                    self.wfile.write(b" ")
            self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def found(self) -> tuple[int, Any]:
        if self.path == "/jwks.json":
            return 200, {"keys": [PUBLIC]}
        if self.path.startswith("/v1/users/"):
            return 200, clerk_user(BOB)
        if self.path.startswith("/v1/sessions/"):
            return 200, {"object": "session"}
        if self.server.directives is not None:
            return 200, {"directives": self.server.directives}
        return 404, {"errors": [{"code": "resource_not_found"}]}

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def clerk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clerk]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Clerk() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def limits() -> dict[str, int]:
    return {}


@pytest.fixture
def app(
    tmp_path: Path, copy_database: Callable[[str], str], clerk: Clerk, limits: dict[str, int]
) -> Iterator[Flask]:
    """An app of a production instance."""
    settings = {
        "clerk_publishable_key": LIVE,
        "clerk_secret_key": "sk_live_x",
        "clerk_api_url": clerk.url,
        "clerk_jwks_url": f"{clerk.url}/jwks.json",
        **limits,
    }
    with app_on(tmp_path, copy_database(f"calls_{tmp_path.name}"), **settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client(use_cookies=False)  # the tests write the header themselves


def token(session_id: str = "sess_1", *, kid: str = "ins_1", age: int = 0) -> str:
    now = int(time.time()) - age
    claims = {"sub": BOB.clerk_id, "sid": session_id, "iss": ISSUER, "iat": now, "exp": now + 60}
    return jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": kid})


def bearer(**how: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(**how)}"}


def visit(client: FlaskClient, nonce: str) -> int:
    """The status of a page for an anonymous browser that brings a nonce."""
    headers = {**PAGE, "Cookie": f"__clerk_handshake_nonce={nonce}"}
    return client.get("/dashboard", headers=headers).status_code


@pytest.mark.parametrize("limits", [{"rate_limit_per_minute": PER_MINUTE}])
def test_request_that_is_refused_costs_no_call(client: FlaskClient, clerk: Clerk) -> None:
    statuses = [visit(client, f"nonce_{number}") for number in range(4 * PER_MINUTE)]

    served = len(statuses) - statuses.count(429)
    assert served < 2 * PER_MINUTE
    assert len(clerk.calls) <= served


def test_nonces_use_up_a_share_of_the_calls_only(client: FlaskClient, clerk: Clerk) -> None:
    began = time.monotonic()

    statuses = [visit(client, f"nonce_{number}") for number in range(300)]
    nonces = len(clerk.calls)
    answer = client.get("/api/mentorados/me", headers=bearer())

    assert 429 not in statuses
    assert nonces <= 50 + 5 * (time.monotonic() - began) + 1
    assert (answer.json or {})["nome_completo"] == BOB.name


def test_refused_nonce_is_not_asked_about_again(client: FlaskClient, clerk: Clerk) -> None:
    for _ in range(20):
        visit(client, "made_up")

    assert len(clerk.asked("/v1/clients")) == 1


# Werkzeug reads a quoted value, and the octal numbers in it.
@pytest.mark.parametrize(
    "nonce", ["a/b", "x" * 300, '"a b"', "a%00", "..%2f..", '"\\303\\241"', "a?b", "{}"]
)
def test_what_cannot_be_a_nonce_costs_no_call(
    client: FlaskClient, clerk: Clerk, nonce: str
) -> None:
    visit(client, nonce)

    assert clerk.asked("/v1/clients") == []


def test_good_nonce_signs_in_at_once(client: FlaskClient, clerk: Clerk) -> None:
    clerk.directives = [f"__session={token()}; Path=/", "__client_uat=1; Path=/"]

    assert visit(client, "good") == 200


def test_slow_nonces_keep_no_user_from_signing_in(
    app: Flask, client: FlaskClient, clerk: Clerk
) -> None:
    clerk.slow = ("/v1/clients",)

    with ThreadPoolExecutor(8) as pool:
        visits = [
            pool.submit(visit, app.test_client(use_cookies=False), f"nonce_{n}") for n in range(8)
        ]
        assert eventually(lambda: len(clerk.asked("/v1/clients")) == 2)
        answer = client.get("/api/mentorados/me", headers=bearer())

    assert (answer.json or {})["nome_completo"] == BOB.name
    assert {each.result() for each in visits} == {302}


@pytest.mark.parametrize("limits", [{"rate_limit_per_minute": PER_MINUTE}])
def test_forged_key_of_a_refused_request_costs_no_call(client: FlaskClient, clerk: Clerk) -> None:
    client.get("/api/auth/me", headers=bearer())
    before = list(clerk.calls)
    for number in range(2 * PER_MINUTE):
        client.get("/api/auth/me", headers={"Authorization": f"Bearer guess{number}"})

    answer = client.get("/api/auth/me", headers=bearer(kid="forged"))

    assert (answer.status_code, clerk.calls) == (429, before)


@pytest.mark.parametrize("limits", [{"rate_limit_per_minute": PER_MINUTE}])
def test_flood_before_any_key_is_known_keeps_no_user_out(client: FlaskClient) -> None:
    for _ in range(2 * PER_MINUTE):
        client.get("/api/auth/me")

    assert client.get("/api/auth/me", headers=bearer()).status_code == 200


def sign_out(client: FlaskClient, cookies: dict[str, str]) -> int:
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return client.post("/logout", headers={**OURS, "Cookie": header}).status_code


def test_forty_cookies_end_one_session(client: FlaskClient, clerk: Clerk) -> None:
    old = {f"__session_{n:08d}": token(f"sess_{n}", age=3600) for n in range(40)}

    status = sign_out(client, {"__session": token("sess_own"), "__client_uat": "1", **old})

    assert (status, clerk.asked("/v1/sessions")) == (303, ["/v1/sessions/sess_own/revoke"])


def test_old_cookies_alone_end_one_session_at_most(client: FlaskClient, clerk: Clerk) -> None:
    sign_out(client, {f"__session_{n:08d}": token(f"sess_{n}", age=3600) for n in range(40)})

    assert len(clerk.asked("/v1/sessions")) <= 1


def test_expired_session_is_ended_as_well(client: FlaskClient, clerk: Clerk) -> None:
    sign_out(client, {"__session": token("sess_own", age=3600), "__client_uat": "1"})

    assert clerk.asked("/v1/sessions") == ["/v1/sessions/sess_own/revoke"]


def test_same_session_is_ended_once(client: FlaskClient, clerk: Clerk) -> None:
    for _ in range(10):
        sign_out(client, {"__session": token("sess_own")})

    assert len(clerk.asked("/v1/sessions")) == 1


def test_sign_out_does_not_wait_for_a_slow_provider(client: FlaskClient, clerk: Clerk) -> None:
    clerk.slow = ("/v1/sessions",)
    client.get("/api/auth/me", headers=bearer())
    began = time.monotonic()

    status = sign_out(client, {"__session": token("sess_own")})

    assert (status, time.monotonic() - began < 2.0) == (303, True)


def test_keys_in_drops_are_a_coded_answer_in_time(client: FlaskClient, clerk: Clerk) -> None:
    clerk.slow = ("/jwks.json",)
    began = time.monotonic()

    answer = client.get("/api/auth/me", headers=bearer())

    assert (answer.status_code, (answer.json or {})["code"]) == (503, "provisioning_unavailable")
    assert time.monotonic() - began < 2.0


def test_forged_tokens_hold_no_user_while_keys_come_in_drops(
    app: Flask, client: FlaskClient, clerk: Clerk
) -> None:
    client.get("/api/auth/me", headers=bearer())
    clerk.slow = ("/jwks.json",)

    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        forged = [
            pool.submit(app.test_client().get, "/api/auth/me", headers=bearer(kid=f"forged_{n}"))
            for n in range(8)
        ]
        answer = client.get("/api/auth/me", headers=bearer())
        waited = time.monotonic() - began
        statuses = {each.result().status_code for each in forged}
        ended = time.monotonic() - began

    assert (answer.status_code, waited < 2.0) == (200, True)
    assert (statuses, ended < 2.0) == ({401}, True)


def test_answer_about_a_user_in_drops_keeps_no_first_login(
    client: FlaskClient, clerk: Clerk
) -> None:
    clerk.slow = ("/v1/users",)
    began = time.monotonic()

    answer = client.get("/api/mentorados/me", headers=bearer())

    assert (answer.status_code, time.monotonic() - began < 2.0) == (200, True)
