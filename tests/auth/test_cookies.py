"""Which of the two sets of session cookies is used: the newer one of the own Clerk instance."""

from collections.abc import Callable

import pytest

from auth.cookies import (
    HandshakeReader,
    SessionCookies,
    any_session,
    cookie_suffix,
    session_cookie_names,
)
from auth.tokens import time_claim, unverified_claims
from tests.support.session_tokens import ISSUER, NOW, token, verifier

SUFFIX = "naoXFJnI"
OTHER_ISSUER = "https://clerk.example.org"
PLAIN, SUFFIXED = "plain", "suffixed"

Cookies = dict[str, str]


def plain(session: str = "", uat: object = "") -> Cookies:
    values = {"__session": session, "__client_uat": str(uat), "__clerk_db_jwt": PLAIN}
    return {name: value for name, value in values.items() if value}


def suffixed(session: str = "", uat: object = "") -> Cookies:
    values = {"__session": session, "__client_uat": str(uat), "__clerk_db_jwt": SUFFIXED}
    return {f"{name}_{SUFFIX}": value for name, value in values.items() if value}


def choose(
    cookies: Cookies, *, suffix: str | None = SUFFIX, issuer: str | None = ISSUER, dev: bool = False
) -> SessionCookies:
    return HandshakeReader(verifier(issuer=issuer), suffix, dev).session_cookies(cookies)


# The dev browser cookie shows which set was chosen; the last two columns: production, development.
# fmt: off
CASES: dict[str, tuple[Callable[[], Cookies], str, str]] = {
    "no plain one":
        (lambda: suffixed(token(), NOW), SUFFIXED, SUFFIXED),
    "no suffixed one":
        (lambda: plain(token(), NOW), PLAIN, PLAIN),
    "plain token is malformed":
        (lambda: plain("not.a.token", NOW) | suffixed(token(), NOW), PLAIN, PLAIN),
    "plain token names no issuer":
        (lambda: plain(token(without="iss"), NOW) | suffixed(token(), NOW), PLAIN, PLAIN),
    "plain token is another app's":
        (lambda: plain(token(iss=OTHER_ISSUER), NOW) | suffixed(token(), NOW), SUFFIXED, SUFFIXED),
    "plain token is another app's and newer":
        (lambda: plain(token(iss=OTHER_ISSUER), 1) | suffixed(token(iat=1), 1), SUFFIXED, SUFFIXED),
    "plain token is another app's and alone":
        (lambda: plain(token(iss=OTHER_ISSUER), NOW) | suffixed(), SUFFIXED, SUFFIXED),
    "suffixed token without its uat":
        (lambda: plain(token(), NOW) | suffixed(token()), PLAIN, PLAIN),
    "as old as each other":
        (lambda: plain(token(), NOW) | suffixed(token(), NOW), SUFFIXED, SUFFIXED),
    "plain token is newer":
        (lambda: plain(token(iat=NOW + 1), NOW) | suffixed(token(), NOW), PLAIN, PLAIN),
    "suffixed token is newer":
        (lambda: plain(token(), NOW) | suffixed(token(iat=NOW + 1), NOW), SUFFIXED, SUFFIXED),
    "suffixed token is newer, plain uat is missing":
        (lambda: plain(token()) | suffixed(token(iat=NOW + 1), NOW), SUFFIXED, SUFFIXED),
    "plain token, suffixed uat alone":
        (lambda: plain(token(), NOW) | suffixed(uat=NOW), PLAIN, PLAIN),
    "both uats, no tokens":
        (lambda: plain(uat=NOW) | suffixed(uat=NOW), SUFFIXED, SUFFIXED),
    "signed out by suffix only":
        (lambda: plain(token(), NOW) | suffixed(uat=0), PLAIN, PLAIN),
    "signed out by suffix, plain uat is missing":
        (lambda: plain() | suffixed(uat=0), PLAIN, PLAIN),
    "signed out by both":
        (lambda: plain(uat=0) | suffixed(uat=0), SUFFIXED, SUFFIXED),
    "signed out by the plain one only":
        (lambda: plain(uat=0) | suffixed(token(), NOW), SUFFIXED, SUFFIXED),
    "signed out by the plain one, suffixed token expires now":
        (lambda: plain(uat=0) | suffixed(token(exp=NOW), NOW), SUFFIXED, PLAIN),
    "signed out by the plain one, suffixed token expires soon":
        (lambda: plain(uat=0) | suffixed(token(exp=NOW + 1), NOW), SUFFIXED, SUFFIXED),
    "signed out by the plain one, suffixed token missing":
        (lambda: plain(uat=0) | suffixed(uat=NOW), SUFFIXED, SUFFIXED),
}
# fmt: on


@pytest.mark.parametrize(("make", "expected", "_"), CASES.values(), ids=CASES.keys())
def test_chosen_set_in_production(make: Callable[[], Cookies], expected: str, _: str) -> None:
    assert choose(make()).dev_browser == expected


@pytest.mark.parametrize(("make", "_", "expected"), CASES.values(), ids=CASES.keys())
def test_chosen_set_in_development(make: Callable[[], Cookies], _: str, expected: str) -> None:
    assert choose(make(), dev=True).dev_browser == expected


def test_all_cookies_come_from_one_set() -> None:
    cookies = choose(plain("other", 7) | suffixed("ours", 8) | plain(token(iss=OTHER_ISSUER)))

    assert cookies == SessionCookies("ours", "8", SUFFIXED, are_suffixed=True)


def test_plain_cookies_are_not_marked_as_suffixed() -> None:
    assert choose(plain("x", 7)) == SessionCookies("x", "7", PLAIN, are_suffixed=False)


def test_instance_without_a_known_suffix_has_plain_cookies() -> None:
    cookies = choose(plain(token(iss=OTHER_ISSUER), NOW) | suffixed(token(), NOW), suffix=None)

    assert cookies.dev_browser == PLAIN


def test_plain_token_is_accepted_while_the_issuer_is_unknown() -> None:
    cookies = choose(plain(token(iss=OTHER_ISSUER), NOW) | suffixed(token()), issuer=None)

    assert cookies.dev_browser == PLAIN


@pytest.mark.parametrize(
    ("text", "since"),
    [("1773144000", 1773144000), ("1" * 15, 111111111111111), ("1" * 16, 0), ("0", 0), ("", 0)],
)
def test_time_of_sign_in_is_a_number(text: str, since: int) -> None:
    assert SessionCookies(client_uat=text).signed_in_since == since


@pytest.mark.parametrize("text", ["soon", "-1", "+1", "1e9", "1_0", "1 ", "٣", "²"])
def test_malformed_time_of_sign_in_is_zero(text: str) -> None:
    assert SessionCookies(client_uat=text).signed_in_since == 0


# Computed with `printf %s KEY | openssl dgst -sha1 -binary | base64 | tr +/ -_ | cut -c1-8`.
@pytest.mark.parametrize(
    ("publishable_key", "suffix"),
    [
        ("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k", "naoXFJnI"),
        ("pk_test_Y2xlcmsuZXhhbXBsZTIuY29tJA==", "1o-KhB5l"),
        ("pk_test_Y2xlcmsuZXhhbXBsZTUuY29tJA==", "xsnecPt_"),
    ],
)
def test_suffix_is_the_one_that_clerk_computes(publishable_key: str, suffix: str) -> None:
    assert cookie_suffix(publishable_key) == suffix


def test_four_cookies_belong_to_a_session() -> None:
    assert session_cookie_names(None) == {
        "__session",
        "__client_uat",
        "__clerk_db_jwt",
        "__refresh",
    }


def test_each_session_cookie_may_have_the_suffix() -> None:
    suffixed_names = {"__session_x", "__client_uat_x", "__clerk_db_jwt_x", "__refresh_x"}

    assert session_cookie_names("x") == session_cookie_names(None) | suffixed_names


@pytest.mark.parametrize(
    ("cookies", "session"),
    [
        ({"__session_a": "", "__session_b": "t"}, "t"),
        ({"__session": "t"}, ""),
        ({"__sessions": "t", "x__session_a": "t"}, ""),
    ],
)
def test_session_of_any_suffix_is_the_first_non_empty_one(cookies: Cookies, session: str) -> None:
    assert any_session(cookies) == session


@pytest.mark.parametrize("text", ["", "a.b.c", "\ud800", "e30.e30", "ÿ.ÿ.ÿ", "e30.W10.e30"])
def test_malformed_token_has_no_claims(text: str) -> None:
    assert unverified_claims(text) == {}


def test_claims_of_an_expired_token_can_be_read() -> None:
    assert unverified_claims(token(exp=1, sub="user_bia"))["sub"] == "user_bia"


@pytest.mark.parametrize(
    ("claim", "value"), [(7, 7), (7.5, 7.5), (True, 0), ("7", 0), (None, 0), ([7], 0)]
)
def test_time_claim_is_a_number_or_zero(claim: object, value: float) -> None:
    assert time_claim(claim) == value
