"""Malformed contents with a valid signature, and deep or broken JSON, cause no internal error."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from flask import Flask
from flask.testing import FlaskClient
from jwt.algorithms import RSAAlgorithm
from svix.webhooks import Webhook

from tests.support.apps import create_app_on

PUBLISHABLE_KEY = "pk_test_aGFwcHktZm94LTEuY2xlcmsuYWNjb3VudHMuZGV2JA"
ISSUER = "https://happy-fox-1.clerk.accounts.dev"
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
DEEP = "[" * 3_000 + "]" * 3_000
DEEP_OBJECT = '{"a":' * 3_000 + "1" + "}" * 3_000
# Values of a claim as JSON; none of them is a valid time of a token.
INVALID_TIMES = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1",
    "-1e18",
    "1e18",
    "253402300800",
    "9" * 400,
    "9" * 5_000,
    "true",
    "false",
    "null",
    '"now"',
    '""',
    '"1700000000"',
    "[]",
    "{}",
    "[1]",
    DEEP,
    DEEP_OBJECT,
]
MALFORMED = ["NaN", "1e400", "9" * 400, "true", "null", '"\\ud800"', '"\\u0000"', "[]", "{}", DEEP]


class KeyServer(BaseHTTPRequestHandler):
    """Publishes the document that a test sets."""

    document: bytes = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.document)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def valid_key_set() -> bytes:
    public = RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return json.dumps({"keys": [{**public, "kid": "ins_1", "use": "sig"}]}).encode()


@pytest.fixture(scope="module")
def jwks_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), KeyServer) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


@pytest.fixture(scope="module")
def settings(jwks_url: str) -> dict[str, object]:
    return {
        "clerk_publishable_key": PUBLISHABLE_KEY,
        "clerk_jwks_url": jwks_url,
        "clerk_webhook_secret": SECRET,
    }


@pytest.fixture(scope="module")
def trusting_app(
    tmp_path_factory: pytest.TempPathFactory,
    copy_database: Callable[[str], str],
    settings: dict[str, object],
) -> Iterator[Flask]:
    """An app that trusts the key of these tests."""
    KeyServer.document = valid_key_set()
    folder = tmp_path_factory.mktemp("nonsense")
    with create_app_on(folder, copy_database("nonsense"), **settings) as app:
        yield app


@pytest.fixture
def client(trusting_app: Flask) -> FlaskClient:
    return trusting_app.test_client()


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def signed(payload: str, header: str = '{"alg":"RS256","kid":"ins_1","typ":"JWT"}') -> str:
    """A token with exactly these texts and a valid signature."""
    parts = encoded(header.encode()) + b"." + encoded(payload.encode())
    signature = KEY.sign(parts, padding.PKCS1v15(), hashes.SHA256())
    return (parts + b"." + encoded(signature)).decode()


def claims(**changes: str) -> str:
    """The claims of a session as JSON, some of them replaced by other JSON."""
    now = int(time.time())
    defaults = {"sub": '"user_1"', "sid": '"sess_1"', "iss": json.dumps(ISSUER)}
    values = {**defaults, "iat": str(now), "nbf": str(now), "exp": str(now + 60), **changes}
    return "{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}"


def statuses(client: FlaskClient, token: str) -> tuple[int, int]:
    """The status of an API request and of a page request with this token."""
    api = client.get("/api/auth/me", headers={"Authorization": f"Bearer {token}"})
    cookies = {"Cookie": f"__session={token}; __client_uat=1"}
    return api.status_code, client.get("/dashboard", headers=cookies).status_code


def test_valid_token_is_accepted(client: FlaskClient) -> None:
    assert statuses(client, signed(claims()))[0] == 200


@pytest.mark.parametrize("value", INVALID_TIMES, ids=lambda value: value[:12])
@pytest.mark.parametrize("name", ["iat", "exp", "nbf"])
def test_token_with_an_impossible_time_is_refused(
    client: FlaskClient, name: str, value: str
) -> None:
    api, page = statuses(client, signed(claims(**{name: value})))

    assert api == 401
    assert page in (303, 307, 302, 401)


@pytest.mark.parametrize("value", MALFORMED, ids=lambda value: value[:12])
@pytest.mark.parametrize(
    "name",
    [
        "sub",
        "iss",
        "azp",
        "sid",
        "sts",
        "email",
        "email_verified",
        "name",
        "image_url",
        "aud",
        "jti",
        "act",
        "fva",
        "v",
        "unknown",
    ],
)
def test_token_with_a_malformed_claim_causes_no_internal_error(
    client: FlaskClient, name: str, value: str
) -> None:
    api, page = statuses(client, signed(claims(**{name: value})))

    assert api in (200, 401)
    assert page < 500


@pytest.mark.parametrize(
    "payload", [DEEP, DEEP_OBJECT, "null", "1", '"x"', "[]", "{", "", "NaN", "\ufeff{}"], ids=ascii
)
def test_token_without_claims_is_refused(client: FlaskClient, payload: str) -> None:
    assert statuses(client, signed(payload))[0] == 401


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        "null",
        "[]",
        "{",
        '{"alg":"RS256"}',
        '{"alg":"none","kid":"ins_1"}',
        '{"alg":["RS256"],"kid":"ins_1"}',
        '{"alg":"RS256","kid":{"a":1}}',
        '{"alg":null}',
        '{"alg":"RS256","kid":"ins_1","cat":[]}',
        '{"alg":"RS256","kid":"ins_1","typ":{}}',
        '{"alg":"RS256","kid":"ins_1","crit":["x"]}',
        '{"alg":"RS256","kid":"ins_1","b64":false}',
        f'{{"alg":"RS256","kid":"ins_1","x":{DEEP}}}',
        f'{{"alg":"RS256","kid":"{"k" * 5000}"}}',
    ],
    ids=lambda header: header[:40],
)
def test_token_with_a_malformed_header_is_refused(client: FlaskClient, header: str) -> None:
    assert statuses(client, signed(claims(), header))[0] == 401


@pytest.mark.parametrize(
    "payload",
    [
        DEEP,
        DEEP_OBJECT,
        "null",
        "[]",
        "{}",
        *(
            f'{{"handshake":{value}}}'
            for value in (*MALFORMED, "1", '"x"', "[null,1,{}]", f"[{DEEP}]")
        ),
        *(
            f'{{"handshake":["__session=x"],"{n}":{v}}}'
            for n in ("exp", "iat", "nbf")
            for v in INVALID_TIMES
        ),
        json.dumps({"handshake": ["__session=a\r\nX: y", "\ud800", "=", ";;;", "x" * 9000]}),
    ],
    ids=lambda payload: payload[:50],
)
def test_malformed_handshake_causes_no_internal_error(client: FlaskClient, payload: str) -> None:
    accept = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}

    response = client.get(
        "/dashboard", query_string={"__clerk_handshake": signed(payload)}, headers=accept
    )

    assert response.status_code < 500
    assert "X" not in response.headers


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        DEEP_OBJECT,
        f'{{"nome_completo":{DEEP}}}',
        '{"nome_completo":NaN}',
        "{",
        "\xff",
        '{"faturamento":1e400}',
        '{"faturamento":' + "9" * 5_000 + "}",
        '{"faturamento":true}',
        '{"faturamento":-Infinity}',
        '{"nome_completo":"\\ud800"}',
        '{"observacoes":"\\u0000"}',
        '"x"',
        "[]",
        "1",
        "null",
        '{"faturamento":1,"faturamento":[]}',
    ],
    ids=lambda body: body[:30],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/api/mentorados/me"), ("PUT", "/api/mentorados/me/metricas/2026/1")],
)
def test_malformed_body_is_refused(client: FlaskClient, method: str, path: str, body: str) -> None:
    headers = {"Authorization": f"Bearer {signed(claims())}"}

    response = client.open(
        path, method=method, data=body, content_type="application/json", headers=headers
    )

    assert 400 <= response.status_code < 500


def post_webhook(client: FlaskClient, body: str, **changes: str) -> int:
    now = datetime.now(UTC)
    headers = {
        "svix-id": "msg_1",
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(SECRET).sign("msg_1", now, body),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    response = client.post(
        "/webhooks/clerk", data=body.encode(), headers=headers, content_type="application/json"
    )
    return response.status_code


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        DEEP_OBJECT,
        f'{{"type":"user.updated","data":{DEEP}}}',
        "{",
        "",
        "\ufeff{}",
        f'{{"type":"user.updated","data":{{"id":"user_9","unsafe_metadata":{DEEP_OBJECT}}}}}',
    ],
    ids=lambda body: body[:40],
)
def test_unreadable_webhook_is_refused(client: FlaskClient, body: str) -> None:
    assert post_webhook(client, body) == 400


@pytest.mark.parametrize(
    "value", [*MALFORMED[:-1], "-1", "1e18", "9" * 5_000], ids=lambda v: v[:12]
)
@pytest.mark.parametrize(
    "name",
    [
        "id",
        "first_name",
        "image_url",
        "primary_email_address_id",
        "email_addresses",
        "external_accounts",
        "updated_at",
        "username",
    ],
)
def test_webhook_with_a_malformed_field_causes_no_internal_error(
    client: FlaskClient, name: str, value: str
) -> None:
    defaults = {"id": '"user_9"', "updated_at": "1700000000000", name: value}
    data = ",".join(f'"{key}":{part}' for key, part in defaults.items())

    assert post_webhook(client, f'{{"type":"user.updated","data":{{{data}}}}}') in (200, 400)


@pytest.mark.parametrize(
    "changes",
    [
        *({"svix_timestamp": value} for value in ("nan", "inf", "1e400", "-1", "9" * 400, "٣", "")),
        *({"svix_timestamp": value} for value in ("9" * 5_000, "true", "[]", "1.5", "\xff")),
        *({"svix_signature": value} for value in ("", ",", "v1,", "v1,é", "v1,=", " " * 500, "v1")),
        *({"svix_id": value} for value in ("", "é", "m" * 9_000)),
    ],
    ids=lambda changes: ascii(changes)[:40],
)
def test_malformed_signature_header_is_refused(
    client: FlaskClient, changes: dict[str, str]
) -> None:
    headers = {n: v.encode().decode("latin-1") for n, v in changes.items()}

    assert post_webhook(client, '{"type":"user.created","data":{}}', **headers) == 400


@pytest.mark.parametrize(
    "document",
    [
        DEEP,
        DEEP_OBJECT,
        "",
        "{",
        "null",
        "[]",
        "1",
        '{"keys":null}',
        '{"keys":{}}',
        '{"keys":1}',
        '{"keys":[null,1,"x",[],{}]}',
        '{"keys":[NaN]}',
        f'{{"keys":[{DEEP}]}}',
        f'{{"keys":{DEEP}}}',
        *(
            f'{{"keys":[{{"kty":"RSA","kid":"ins_1","n":{n},"e":"AQAB"}}]}}'
            for n in ('""', "1", "null", '"!"', '"é"', '"AA"', "[]", "9" * 5_000)
        ),
        '{"keys":[{"kty":"RSA","kid":"ins_1","n":"AQAB","e":"AA"}]}',
        '{"keys":[{"kty":"oct","kid":"ins_1","k":"AA"}]}',
        '{"keys":[{"kty":"EC","kid":"ins_1","crv":"P-256","x":"AA","y":"AA"}]}',
        "\xff\xfe",
    ],
    ids=lambda document: ascii(document)[:50],
)
def test_malformed_key_set_causes_no_internal_error(
    tmp_path: Path, template_url: str, settings: dict[str, object], document: str
) -> None:
    KeyServer.document = document.encode("latin-1", "replace")
    try:
        with create_app_on(tmp_path, template_url, **settings) as app:
            codes = statuses(app.test_client(), signed(claims()))
            doctor = app.test_cli_runner().invoke(args=["doctor"])
    finally:
        KeyServer.document = valid_key_set()

    assert codes[0] in (401, 503)
    assert codes[1] in (302, 303, 307, 401, 503)
    assert type(doctor.exception) is SystemExit
