"""Which of the two sets of cookies counts: the one that was written last, if it is ours."""

from collections.abc import Callable

import pytest

from auth.cookies import (
    SessionCookies,
    any_session,
    names_of,
    number,
    session_cookies,
    suffix_of,
    unverified,
)
from tests.auth.test_tokens import ISSUER, NOW, token

SUFFIX = "naoXFJnI"
STRANGER = "https://clerk.example.org"
PLAIN, SUFFIXED = "plain", "suffixed"

Jar = dict[str, str]


def plain(session: str = "", uat: object = "") -> Jar:
    held = {"__session": session, "__client_uat": str(uat), "__clerk_db_jwt": PLAIN}
    return {name: value for name, value in held.items() if value}


def suffixed(session: str = "", uat: object = "") -> Jar:
    held = {"__session": session, "__client_uat": str(uat), "__clerk_db_jwt": SUFFIXED}
    return {f"{name}_{SUFFIX}": value for name, value in held.items() if value}


def chosen(
    jar: Jar, *, suffix: str | None = SUFFIX, issuer: str | None = ISSUER, dev: bool = False
) -> SessionCookies:
    return session_cookies(jar, suffix, issuer, is_development=dev, now=float(NOW))


# The dev browser's mark tells which set was taken; the last two columns: production, development.
# fmt: off
ROWS: dict[str, tuple[Callable[[], Jar], str, str]] = {
    "no plain one":
        (lambda: suffixed(token(), NOW), SUFFIXED, SUFFIXED),
    "no suffixed one":
        (lambda: plain(token(), NOW), PLAIN, PLAIN),
    "plain token is malformed":
        (lambda: plain("not.a.token", NOW) | suffixed(token(), NOW), PLAIN, PLAIN),
    "plain token names no issuer":
        (lambda: plain(token(without="iss"), NOW) | suffixed(token(), NOW), PLAIN, PLAIN),
    "plain token is another app's":
        (lambda: plain(token(iss=STRANGER), NOW) | suffixed(token(), NOW), SUFFIXED, SUFFIXED),
    "plain token is another app's and newer":
        (lambda: plain(token(iss=STRANGER), 1) | suffixed(token(iat=1), 1), SUFFIXED, SUFFIXED),
    "plain token is another app's and alone":
        (lambda: plain(token(iss=STRANGER), NOW) | suffixed(), SUFFIXED, SUFFIXED),
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


@pytest.mark.parametrize(("make", "expected", "_"), ROWS.values(), ids=ROWS.keys())
def test_set_that_counts_in_production(make: Callable[[], Jar], expected: str, _: str) -> None:
    assert chosen(make()).dev_browser == expected


@pytest.mark.parametrize(("make", "_", "expected"), ROWS.values(), ids=ROWS.keys())
def test_set_that_counts_in_development(make: Callable[[], Jar], _: str, expected: str) -> None:
    assert chosen(make(), dev=True).dev_browser == expected


def test_cookies_are_taken_whole_from_one_set() -> None:
    cookies = chosen(plain("other", 7) | suffixed("ours", 8) | plain(token(iss=STRANGER)))

    assert cookies == SessionCookies("ours", "8", SUFFIXED, are_suffixed=True)


def test_plain_cookies_are_not_called_suffixed() -> None:
    assert chosen(plain("x", 7)) == SessionCookies("x", "7", PLAIN, are_suffixed=False)


def test_instance_without_a_known_suffix_has_plain_cookies() -> None:
    cookies = chosen(plain(token(iss=STRANGER), NOW) | suffixed(token(), NOW), suffix=None)

    assert cookies.dev_browser == PLAIN


def test_token_is_nobody_elses_while_our_issuer_is_unknown() -> None:
    cookies = chosen(plain(token(iss=STRANGER), NOW) | suffixed(token()), issuer=None)

    assert cookies.dev_browser == PLAIN


@pytest.mark.parametrize(
    ("text", "since"),
    [("1773144000", 1773144000), ("1" * 15, 111111111111111), ("1" * 16, 0), ("0", 0), ("", 0)],
)
def test_time_of_sign_in_is_a_number(text: str, since: int) -> None:
    assert SessionCookies(client_uat=text).signed_in_since == since


@pytest.mark.parametrize("text", ["soon", "-1", "+1", "1e9", "1_0", "1 ", "٣", "²"])
def test_what_is_no_number_is_no_time_of_sign_in(text: str) -> None:
    assert SessionCookies(client_uat=text).signed_in_since == 0


# Made by `printf %s KEY | openssl dgst -sha1 -binary | base64 | tr +/ -_ | cut -c1-8`.
@pytest.mark.parametrize(
    ("publishable_key", "suffix"),
    [
        ("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k", "naoXFJnI"),
        ("pk_test_Y2xlcmsuZXhhbXBsZTIuY29tJA==", "1o-KhB5l"),
        ("pk_test_Y2xlcmsuZXhhbXBsZTUuY29tJA==", "xsnecPt_"),
    ],
)
def test_suffix_is_the_one_that_clerk_computes(publishable_key: str, suffix: str) -> None:
    assert suffix_of(publishable_key) == suffix


def test_session_is_kept_by_four_cookies() -> None:
    assert names_of(None) == {"__session", "__client_uat", "__clerk_db_jwt", "__refresh"}


def test_each_of_them_may_carry_our_suffix() -> None:
    suffixed_ones = {"__session_x", "__client_uat_x", "__clerk_db_jwt_x", "__refresh_x"}

    assert names_of("x") == names_of(None) | suffixed_ones


@pytest.mark.parametrize(
    ("jar", "found"),
    [
        ({"__session_a": "", "__session_b": "t"}, "t"),
        ({"__session": "t"}, ""),
        ({"__sessions": "t", "x__session_a": "t"}, ""),
    ],
)
def test_session_of_any_suffix_is_the_first_that_holds_one(jar: Jar, found: str) -> None:
    assert any_session(jar) == found


@pytest.mark.parametrize("text", ["", "a.b.c", "\ud800", "e30.e30", "ÿ.ÿ.ÿ", "e30.W10.e30"])
def test_what_is_no_token_claims_nothing(text: str) -> None:
    assert unverified(text) == {}


def test_expired_token_still_claims_something() -> None:
    assert unverified(token(exp=1, sub="user_bia"))["sub"] == "user_bia"


@pytest.mark.parametrize(
    ("claim", "value"), [(7, 7), (7.5, 7.5), (True, 0), ("7", 0), (None, 0), ([7], 0)]
)
def test_time_claim_is_a_number_or_nothing(claim: object, value: float) -> None:
    assert number(claim) == value
