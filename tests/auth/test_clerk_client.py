"""Clerk's Backend API over a real connection: what is asked, and how each answer is read."""

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

from auth.clerk_client import DEFAULT_REST_SECONDS, ClerkClient
from auth.clerk_users import parse_clerk_user_id
from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnknownUserError,
    UnusableAnswerError,
)
from dev.fake_clerk import clerk_user
from tests.support.users import ALICE, BOB

SECRET_KEY = "sk_test_of_these_tests"
COOKIE = "__session=abc; Path=/"
NOT_FOUND = {"errors": [{"message": "not found", "long_message": "-", "code": "not_found"}]}
NO_OBJECTS: list[object] = [b"", b"<html>", b'{"id":', [], None, BOB.clerk_id, 7]
EMPTY: dict[object, object] = {list: [], dict: {}, bool: False, int: 1}
WAITS = {"7": 7, "0": 0, "-7": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 0} | dict.fromkeys(
    ("in a while", "", None), DEFAULT_REST_SECONDS
)

Call = Callable[[ClerkClient], object]
ASKED: dict[str, tuple[Call, str]] = {
    "user": (lambda api: api.user("user_bob"), "GET /v1/users/user_bob"),
    "users": (lambda api: api.users(4, 2), "GET /v1/users?limit=2&offset=4&order_by=%2Bcreated_at"),
    "end": (lambda api: api.end_session("sess_1"), "POST /v1/sessions/sess_1/revoke"),
    "nonce": (
        lambda api: api.handshake_cookies("a/b"),
        "GET /v1/clients/handshake_payload?nonce=a%2Fb",
    ),
}
every_call = pytest.mark.parametrize("call", [call for call, _ in ASKED.values()], ids=ASKED)


def blank(model: type[BaseModel], **values: object) -> dict[str, Any]:
    """Whatever Clerk's client insists on, left empty but for these values."""
    wanted = {name: f.annotation for name, f in model.model_fields.items() if f.is_required()}
    return {name: EMPTY.get(get_origin(kind) or kind) for name, kind in wanted.items()} | values


PROOF = blank(Otp, object="verification_otp", status="verified", strategy="email_code")
ADDRESS = blank(EmailAddress, object="email_address", email_address=ALICE.email, verification=PROOF)
MINIMAL = clerk_user(BOB)
FULL = blank(User, object="user", id=ALICE.clerk_id, email_addresses=[ADDRESS])


class Clerk(ThreadingHTTPServer):
    """Answers as it was told to, and remembers what it was asked."""

    def will_say(self, document: object, status: int = 200, **headers: str) -> None:
        self.body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.status, self.headers = status, {"Content-Type": "application/json", **headers}
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Clerk

    def do_GET(self) -> None:
        question = self.requestline.removesuffix(" HTTP/1.1")
        self.server.asked.append(f"{question} {self.headers['Authorization']}")
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


@pytest.mark.parametrize(("call", "question"), ASKED.values(), ids=ASKED)
def test_question_bears_the_key(api: ClerkClient, clerk: Clerk, call: Call, question: str) -> None:
    clerk.will_say([])

    with suppress(ProviderUnavailableError, UnusableAnswerError):
        call(api)

    assert clerk.asked == [f"{question} Bearer {SECRET_KEY}"]


def test_user_that_passes_clerks_own_client_arrives_whole(api: ClerkClient, clerk: Clerk) -> None:
    clerk.will_say(FULL)

    found = api.user(ALICE.clerk_id)

    assert found.items() >= FULL.items()
    assert User.model_validate(FULL)


def test_user_that_clerks_own_client_refuses_arrives_as_sent(
    api: ClerkClient, clerk: Clerk
) -> None:
    clerk.will_say(MINIMAL)

    found = api.user(BOB.clerk_id)

    assert found == MINIMAL
    with pytest.raises(ValueError, match="discriminator"):
        User.model_validate(MINIMAL)


def test_user_that_is_not_found_is_unknown(api: ClerkClient, clerk: Clerk) -> None:
    clerk.will_say(NOT_FOUND, 404)

    with pytest.raises(UnknownUserError):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("document", [b"<html>", b"", b"[]", b"{}"], ids=str)
def test_address_that_is_not_there_says_nothing_about_a_user(
    api: ClerkClient, clerk: Clerk, document: bytes
) -> None:
    clerk.will_say(document, 404)

    with pytest.raises(ProviderUnavailableError):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize(("told", "seconds"), WAITS.items())
def test_wait_is_read_from_the_answer(
    api: ClerkClient, clerk: Clerk, told: str | None, seconds: float
) -> None:
    clerk.will_say(NOT_FOUND, 429, **({} if told is None else {"Retry-After": told}))

    assert seconds_to_wait(api) == seconds


def test_wait_may_be_told_as_a_moment(api: ClerkClient, clerk: Clerk) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    clerk.will_say(NOT_FOUND, 429, **{"Retry-After": moment})

    assert seconds_to_wait(api) == pytest.approx(60, abs=10)


def seconds_to_wait(api: ClerkClient) -> float:
    with pytest.raises(RateLimitedError) as caught:
        api.user(BOB.clerk_id)
    return caught.value.seconds


@every_call
@pytest.mark.parametrize("status", [302, 401, 403, 408, 429, 500, 503, 599])
def test_trouble_is_told_after_a_single_question(
    api: ClerkClient, clerk: Clerk, call: Call, status: int
) -> None:
    clerk.will_say(NOT_FOUND, status)

    with pytest.raises(ProviderUnavailableError):
        call(api)

    assert len(clerk.asked) == 1


@every_call
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://-ä-.example", "http://a..b", "ftp://x"]
)
def test_address_that_cannot_be_reached_is_trouble_too(call: Call, url: str) -> None:
    with pytest.raises(ProviderUnavailableError):
        call(ClerkClient(SECRET_KEY, url))


@pytest.mark.parametrize("status", [204, 400, 402, 405, 409, 410, 413, 422, 451])
def test_answer_about_one_user_is_no_outage(api: ClerkClient, clerk: Clerk, status: int) -> None:
    clerk.will_say(NOT_FOUND, status)

    with pytest.raises(UnusableAnswerError) as caught:
        api.user(BOB.clerk_id)

    assert (caught.value.code, len(clerk.asked)) == (str(status), 1)


@pytest.mark.parametrize("status", [400, 410, 422])
@pytest.mark.parametrize("call", [ASKED["end"][0], ASKED["nonce"][0]], ids=["end", "nonce"])
def test_refused_session_or_nonce_is_no_outage(
    api: ClerkClient, clerk: Clerk, call: Call, status: int
) -> None:
    clerk.will_say(NOT_FOUND, status)

    with pytest.raises(UnusableAnswerError):
        call(api)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_is_named(api: ClerkClient, clerk: Clerk, status: int) -> None:
    clerk.will_say(NOT_FOUND, status)

    with pytest.raises(SecretKeyRefusedError, match=f"{status}: CLERK_SECRET_KEY"):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("document", NO_OBJECTS, ids=repr)
def test_answer_that_is_no_object_cannot_be_used(
    api: ClerkClient, clerk: Clerk, document: object
) -> None:
    clerk.will_say(document)

    with pytest.raises(UnusableAnswerError):
        api.user(BOB.clerk_id)


DEEP = b'[{"id": "user_1", "unsafe_metadata": ' + b"[" * 4000 + b"]" * 4000 + b"}]"


@pytest.mark.parametrize(
    "document", [b"<html>", b"[7", b"\xff\xfe", DEEP], ids=lambda d: repr(d[:9])
)
def test_answer_that_cannot_be_parsed_cannot_be_used(
    api: ClerkClient, clerk: Clerk, document: bytes
) -> None:
    clerk.will_say(document)

    with pytest.raises(UnusableAnswerError):
        api.user(BOB.clerk_id)
    with pytest.raises(UnusableAnswerError):
        api.users(0, 2)


def test_answer_that_is_packed_wrongly_cannot_be_used(api: ClerkClient, clerk: Clerk) -> None:
    clerk.will_say(b"no gzip", 200, **{"Content-Encoding": "gzip"})

    with pytest.raises(UnusableAnswerError):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("document", NO_OBJECTS, ids=repr)
def test_nonce_that_is_answered_with_no_object_cannot_be_used(
    api: ClerkClient, clerk: Clerk, document: object
) -> None:
    clerk.will_say(document)

    with pytest.raises(UnusableAnswerError):
        api.handshake_cookies("nonce_1")


def test_answer_that_is_too_large_cannot_be_used(api: ClerkClient, clerk: Clerk) -> None:
    clerk.will_say({"id": BOB.clerk_id, "unsafe_metadata": "x" * 2_000_000})

    with pytest.raises(UnusableAnswerError, match="too_large"):
        api.user(BOB.clerk_id)


@pytest.mark.parametrize("key", ["sk_live_…", "sk_live_\n", "sk_live_\x00", "ß" * 99])
def test_key_that_no_header_can_hold_is_trouble(clerk: Clerk, key: str) -> None:
    clerk.will_say(MINIMAL)
    client = ClerkClient(key, f"http://127.0.0.1:{clerk.server_port}/")

    with pytest.raises(ProviderUnavailableError):
        client.user(BOB.clerk_id)


@pytest.mark.parametrize("answer", [[FULL], [FULL, MINIMAL], []], ids=["full", "mixed", "none"])
def test_users_are_listed(api: ClerkClient, clerk: Clerk, answer: list[dict[str, Any]]) -> None:
    clerk.will_say(answer)

    assert [parse_clerk_user_id(user) for user in api.users(0, 2)] == [
        user["id"] for user in answer
    ]


def test_strange_entries_of_a_list_are_handed_on(api: ClerkClient, clerk: Clerk) -> None:
    clerk.will_say([MINIMAL, 7, None, "user"])

    assert api.users(0, 4) == [MINIMAL, 7, None, "user"]


@pytest.mark.parametrize(
    ("told", "kept"), [([COOKIE, 7], [COOKIE]), ([], []), (None, []), (COOKIE, [])]
)
def test_nonce_brings_cookies(
    api: ClerkClient, clerk: Clerk, told: object, kept: list[str]
) -> None:
    clerk.will_say({"directives": told})

    assert api.handshake_cookies("nonce_1") == kept


@pytest.mark.parametrize("document", [{}, None, "users", 7], ids=str)
def test_list_that_is_none_is_not_the_end_of_the_directory(
    api: ClerkClient, clerk: Clerk, document: object
) -> None:
    clerk.will_say(document)

    with pytest.raises(ProviderUnavailableError):
        api.users(0, 2)


def test_odd_id_stays_one_part_of_the_address(api: ClerkClient, clerk: Clerk) -> None:
    clerk.will_say(NOT_FOUND, 404)

    with pytest.raises(UnknownUserError):
        api.user("../a?b#c")

    assert clerk.asked[-1].startswith("GET /v1/users/..%2Fa%3Fb%23c")
