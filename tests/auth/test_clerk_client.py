"""Clerk's Backend API over a real connection: which request is sent, how each answer is read."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, get_origin

import pytest
from clerk_backend_api.models import EmailAddress, Otp, User
from pydantic import BaseModel

from auth.clerk_calls import RefreshRequest
from auth.clerk_client import DEFAULT_RETRY_AFTER_SECONDS, ClerkClient
from auth.clerk_users import parse_clerk_user_id
from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    RefreshRefusedError,
    SecretKeyRefusedError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from auth.handshake import API_VERSION
from dev.fake_clerk import clerk_user
from tests.support.users import ALICE, BOB

SECRET_KEY = "sk_test_of_these_tests"
COOKIE = "__session=abc; Path=/"
NOT_FOUND = {"errors": [{"message": "not found", "long_message": "-", "code": "not_found"}]}
NOT_OBJECTS: list[object] = [b"", b"<html>", b'{"id":', [], None, BOB.clerk_id, 7]
EMPTY_VALUES: dict[object, object] = {list: [], dict: {}, bool: False, int: 1}
WAITS = {"7": 7, "0": 0, "-7": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 0} | dict.fromkeys(
    ("in a while", "", None), DEFAULT_RETRY_AFTER_SECONDS
)

Call = Callable[[ClerkClient], object]
REQUESTS: dict[str, tuple[Call, str]] = {
    "user": (lambda api: api.user("user_bob"), "GET /v1/users/user_bob"),
    "users": (lambda api: api.users(4, 2), "GET /v1/users?limit=2&offset=4&order_by=%2Bcreated_at"),
    "end": (lambda api: api.end_session("sess_1"), "POST /v1/sessions/sess_1/revoke"),
    "nonce": (
        lambda api: api.handshake_cookies("a/b"),
        "GET /v1/clients/handshake_payload?nonce=a%2Fb",
    ),
}
every_call = pytest.mark.parametrize("call", [call for call, _ in REQUESTS.values()], ids=REQUESTS)


def minimal_document(model: type[BaseModel], **values: object) -> dict[str, Any]:
    """A document with all required fields of Clerk's model, empty except for these values."""
    required = {name: f.annotation for name, f in model.model_fields.items() if f.is_required()}
    return {
        name: EMPTY_VALUES.get(get_origin(kind) or kind) for name, kind in required.items()
    } | values


PROOF = minimal_document(Otp, object="verification_otp", status="verified", strategy="email_code")
ADDRESS = minimal_document(
    EmailAddress, object="email_address", email_address=ALICE.email, verification=PROOF
)
MINIMAL = clerk_user(BOB)
FULL = minimal_document(User, object="user", id=ALICE.clerk_id, email_addresses=[ADDRESS])


class Clerk(ThreadingHTTPServer):
    """Sends the response that the test has set and records the requests."""

    def set_response(self, document: object, status: int = 200, **headers: str) -> None:
        self.body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.status, self.headers = status, {"Content-Type": "application/json", **headers}
        self.requests: list[str] = []
        self.versions: list[str | None] = []
        self.bodies: list[Any] = []


class Handler(BaseHTTPRequestHandler):
    server: Clerk

    def do_GET(self) -> None:
        request_line = self.requestline.removesuffix(" HTTP/1.1")
        self.server.requests.append(f"{request_line} {self.headers['Authorization']}")
        self.server.versions.append(self.headers["Clerk-API-Version"])
        if self.headers["Content-Length"]:
            length = int(self.headers["Content-Length"])
            self.server.bodies.append(json.loads(self.rfile.read(length) or "null"))
        self.send_response(self.server.status)
        for header in self.server.headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_POST(self) -> None:
        self.do_GET()


@pytest.fixture(scope="module")
def clerk() -> Iterator[Clerk]:
    with pytest.MonkeyPatch.context() as patch, Clerk(("127.0.0.1", 0), Handler) as server:
        patch.setenv("no_proxy", "127.0.0.1")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def api(clerk: Clerk) -> ClerkClient:
    return ClerkClient(SECRET_KEY, f"http://127.0.0.1:{clerk.server_port}/")


@pytest.mark.parametrize(("call", "request_line"), REQUESTS.values(), ids=REQUESTS)
def test_request_carries_the_secret_key(
    api: ClerkClient, clerk: Clerk, call: Call, request_line: str
) -> None:
    clerk.set_response([])

    with suppress(ProviderUnavailableError, UnusableAnswerError):
        call(api)

    assert clerk.requests == [f"{request_line} Bearer {SECRET_KEY}"]


REFRESH = RefreshRequest(
    "sess_1",
    "expired.token",
    "rt_1",
    "https://app.example.com",
    {"User-Agent": "Firefox", "Cookie": "other=1", "Authorization": "Bearer x"},
    are_suffixed=True,
)


@pytest.mark.parametrize(
    "call",
    [*(call for call, _ in REQUESTS.values()), lambda api: api.refresh_session(REFRESH)],
    ids=[*REQUESTS, "refresh"],
)
def test_request_names_the_api_version(api: ClerkClient, clerk: Clerk, call: Call) -> None:
    clerk.set_response([])

    with suppress(ProviderUnavailableError, UnusableAnswerError):
        call(api)

    assert clerk.versions == [API_VERSION]


def test_request_of_the_keys_names_the_api_version(clerk: Clerk) -> None:
    clerk.set_response({"keys": []})

    ClerkClient(None, "http://-", f"http://127.0.0.1:{clerk.server_port}/jwks.json").key_set()

    assert clerk.versions == [API_VERSION]


def test_refresh_sends_both_tokens_and_no_cookies_of_other_programs(
    api: ClerkClient, clerk: Clerk
) -> None:
    clerk.set_response({"object": "cookies", "cookies": [COOKIE, 7]})

    cookies = api.refresh_session(REFRESH)

    request_line = "POST /v1/sessions/sess_1/refresh?suffixed_cookies=true"
    assert (cookies, clerk.requests) == ([COOKIE], [f"{request_line} Bearer {SECRET_KEY}"])
    assert clerk.bodies == [
        {
            "format": "cookie",
            "expired_token": "expired.token",
            "refresh_token": "rt_1",
            "request_origin": "https://app.example.com",
            "request_headers": {"User-Agent": ["Firefox"]},
        }
    ]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_refused_refresh_has_the_code_of_clerk(api: ClerkClient, clerk: Clerk, status: int) -> None:
    clerk.set_response(NOT_FOUND, status)

    with pytest.raises(RefreshRefusedError, match="not_found"):
        api.refresh_session(REFRESH)


@pytest.mark.parametrize(
    ("document", "status"), [(NOT_FOUND, 500), (NOT_FOUND, 429), (b"<html>", 404), ({}, 401)]
)
def test_outage_of_a_refresh_is_reported_as_such(
    api: ClerkClient, clerk: Clerk, document: object, status: int
) -> None:
    clerk.set_response(document, status)

    with pytest.raises(ProviderUnavailableError):
        api.refresh_session(REFRESH)


@pytest.mark.parametrize("code", [7, None, "", "x" * 65, "a\r\nb", "ç"])
def test_malformed_code_is_not_used_as_a_reason(
    api: ClerkClient, clerk: Clerk, code: object
) -> None:
    clerk.set_response({"errors": [{"code": code}]}, 400)

    with pytest.raises(UnusableAnswerError):
        api.refresh_session(REFRESH)


def test_user_that_clerks_sdk_accepts_is_returned_whole(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response(FULL)

    user = api.user(ALICE.clerk_id)

    assert user.items() >= FULL.items()
    assert User.model_validate(FULL)


def test_user_that_clerks_sdk_refuses_is_returned_as_sent(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response(MINIMAL)

    user = api.user(BOB.clerk_id)

    assert user == MINIMAL
    with pytest.raises(ValueError, match="discriminator"):
        User.model_validate(MINIMAL)


def test_missing_user_is_unknown(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response(NOT_FOUND, 404)

    with pytest.raises(UnknownAtProviderError):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("document", [b"<html>", b"", b"[]", b"{}"], ids=str)
def test_missing_url_is_an_outage_and_no_unknown_user(
    api: ClerkClient, clerk: Clerk, document: bytes
) -> None:
    clerk.set_response(document, 404)

    with pytest.raises(ProviderUnavailableError):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize(("sent", "seconds"), WAITS.items())
def test_waiting_time_is_read_from_the_answer(
    api: ClerkClient, clerk: Clerk, sent: str | None, seconds: float
) -> None:
    clerk.set_response(NOT_FOUND, 429, **({} if sent is None else {"Retry-After": sent}))

    assert seconds_to_wait(api) == seconds


def test_waiting_time_may_be_a_date(api: ClerkClient, clerk: Clerk) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    clerk.set_response(NOT_FOUND, 429, **{"Retry-After": moment})

    assert seconds_to_wait(api) == pytest.approx(60, abs=10)


def seconds_to_wait(api: ClerkClient) -> float:
    with pytest.raises(RateLimitedError) as caught:
        api.user(BOB.clerk_id)
    return caught.value.seconds


@every_call
@pytest.mark.parametrize("status", [302, 401, 403, 408, 429, 500, 503, 599])
def test_outage_is_reported_after_a_single_request(
    api: ClerkClient, clerk: Clerk, call: Call, status: int
) -> None:
    clerk.set_response(NOT_FOUND, status)

    with pytest.raises(ProviderUnavailableError):
        call(api)

    assert len(clerk.requests) == 1


@every_call
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://-ä-.example", "http://a..b", "ftp://x"]
)
def test_unreachable_url_is_an_outage(call: Call, url: str) -> None:
    with pytest.raises(ProviderUnavailableError):
        call(ClerkClient(SECRET_KEY, url))


@pytest.mark.parametrize("status", [204, 400, 402, 405, 409, 410, 413, 422, 451])
def test_answer_about_one_user_is_no_outage(api: ClerkClient, clerk: Clerk, status: int) -> None:
    clerk.set_response(NOT_FOUND, status)

    with pytest.raises(UnusableAnswerError) as caught:
        api.user(BOB.clerk_id)

    assert (caught.value.code, len(clerk.requests)) == (str(status), 1)


@pytest.mark.parametrize("status", [400, 410, 422])
@pytest.mark.parametrize("call", [REQUESTS["end"][0], REQUESTS["nonce"][0]], ids=["end", "nonce"])
def test_refused_session_or_nonce_is_no_outage(
    api: ClerkClient, clerk: Clerk, call: Call, status: int
) -> None:
    clerk.set_response(NOT_FOUND, status)

    with pytest.raises(UnusableAnswerError):
        call(api)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_is_named(api: ClerkClient, clerk: Clerk, status: int) -> None:
    clerk.set_response(NOT_FOUND, status)

    with pytest.raises(SecretKeyRefusedError, match=f"{status}: CLERK_SECRET_KEY"):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("document", NOT_OBJECTS, ids=repr)
def test_answer_that_is_no_object_is_unusable(
    api: ClerkClient, clerk: Clerk, document: object
) -> None:
    clerk.set_response(document)

    with pytest.raises(UnusableAnswerError):
        api.user(BOB.clerk_id)


DEEP = b'[{"id": "user_1", "unsafe_metadata": ' + b"[" * 4000 + b"]" * 4000 + b"}]"


@pytest.mark.parametrize(
    "document", [b"<html>", b"[7", b"\xff\xfe", DEEP], ids=lambda d: repr(d[:9])
)
def test_answer_that_cannot_be_parsed_is_unusable(
    api: ClerkClient, clerk: Clerk, document: bytes
) -> None:
    clerk.set_response(document)

    with pytest.raises(UnusableAnswerError):
        api.user(BOB.clerk_id)
    with pytest.raises(UnusableAnswerError):
        api.users(0, 2)


def test_answer_with_a_wrong_encoding_is_unusable(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response(b"no gzip", 200, **{"Content-Encoding": "gzip"})

    with pytest.raises(UnusableAnswerError):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("document", NOT_OBJECTS, ids=repr)
def test_nonce_answer_that_is_no_object_is_unusable(
    api: ClerkClient, clerk: Clerk, document: object
) -> None:
    clerk.set_response(document)

    with pytest.raises(UnusableAnswerError):
        api.handshake_cookies("nonce_1")


def test_too_large_answer_is_unusable(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response({"id": BOB.clerk_id, "unsafe_metadata": "x" * 2_000_000})

    with pytest.raises(UnusableAnswerError, match="too_large"):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("key", ["sk_live_…", "sk_live_\n", "sk_live_\x00", "ß" * 99])
def test_secret_key_that_no_header_can_hold_is_an_outage(clerk: Clerk, key: str) -> None:
    clerk.set_response(MINIMAL)
    client = ClerkClient(key, f"http://127.0.0.1:{clerk.server_port}/")

    with pytest.raises(ProviderUnavailableError):
        client.user(BOB.clerk_id)


@pytest.mark.parametrize("answer", [[FULL], [FULL, MINIMAL], []], ids=["full", "mixed", "none"])
def test_users_are_listed(api: ClerkClient, clerk: Clerk, answer: list[dict[str, Any]]) -> None:
    clerk.set_response(answer)

    assert [parse_clerk_user_id(user) for user in api.users(0, 2)] == [
        user["id"] for user in answer
    ]


def test_malformed_entries_of_a_list_are_returned(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response([MINIMAL, 7, None, "user"])

    assert api.users(0, 4) == [MINIMAL, 7, None, "user"]


@pytest.mark.parametrize(
    ("sent", "cookies"), [([COOKIE, 7], [COOKIE]), ([], []), (None, []), (COOKIE, [])]
)
def test_nonce_is_exchanged_for_cookies(
    api: ClerkClient, clerk: Clerk, sent: object, cookies: list[str]
) -> None:
    clerk.set_response({"directives": sent})

    assert api.handshake_cookies("nonce_1") == cookies


@pytest.mark.parametrize("document", [{}, None, "users", 7], ids=str)
def test_answer_that_is_no_list_does_not_end_the_directory(
    api: ClerkClient, clerk: Clerk, document: object
) -> None:
    clerk.set_response(document)

    with pytest.raises(ProviderUnavailableError):
        api.users(0, 2)


def test_id_with_special_characters_stays_one_path_segment(api: ClerkClient, clerk: Clerk) -> None:
    clerk.set_response(NOT_FOUND, 404)

    with pytest.raises(UnknownAtProviderError):
        api.user("../a?b#c")

    assert clerk.requests[-1].startswith("GET /v1/users/..%2Fa%3Fb%23c")
