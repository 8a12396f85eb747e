"""Session tokens: valid ones are accepted, and each invalid one is refused for one reason."""

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest

from auth.errors import InvalidTokenError, KeysUnavailableError
from auth.jwks import KeySet
from auth.tokens import TokenVerifier
from tests.support.session_tokens import (
    ISSUER,
    KID,
    NOW,
    compact,
    signed_by_issuer,
    signed_by_other_key,
    signed_with_public_key,
    token,
    unsigned,
    verifier,
)

pytestmark = pytest.mark.usefixtures("stopped_clock")

Make = Callable[[], str]


ACCEPTED: dict[str, Make] = {
    "usual": token,
    "expired within the leeway": lambda: token(exp=NOW - 4),
    "valid from within the leeway": lambda: token(nbf=NOW + 5),
    "issued within the leeway": lambda: token(iat=NOW + 5),
    "without nbf": lambda: token(without="nbf"),
    "without typ": lambda: token(without="typ"),
    "an audience": lambda: token(aud="https://elsewhere.example.com"),
    "class session": lambda: token(cat="cl_B7d4PD111AAA"),
    "class left open": lambda: token(cat="cl_I7d4PD111III"),
    "longest subject": lambda: token(sub="u" * 64),
}

# Each token has the reason of the log, so that none is refused for another one.
REFUSED: dict[str, tuple[str, Make]] = {
    "empty": ("DecodeError", lambda: ""),
    "garbage": ("DecodeError", lambda: "not.a.token"),
    "one part": ("unknown key id", lambda: "eyJhbGciOiJSUzI1NiJ9"),
    "lone surrogate": ("UnicodeEncodeError", lambda: "\ud800"),
    "too long": ("too long", lambda: token(pad="x" * 16_384)),
    "signature of other content": (
        "InvalidSignatureError",
        lambda: token(lambda data: signed_by_issuer(data + b"x")),
    ),
    "not signed": ("InvalidSignatureError", lambda: token(unsigned)),
    "alg none": ("InvalidAlgorithmError", lambda: token(unsigned, alg="none")),
    "HS256 by the public key": (
        "InvalidAlgorithmError",
        lambda: token(signed_with_public_key, alg="HS256"),
    ),
    "other key under a known kid": ("InvalidSignatureError", lambda: token(signed_by_other_key)),
    "unknown kid": ("unknown key id", lambda: token(kid="ins_2")),
    "no kid": ("unknown key id", lambda: token(without="kid")),
    "kid is a number": ("InvalidTokenError", lambda: token(kid=1)),
    "crit": ("InvalidTokenError", lambda: token(crit=["exp"])),
    "typ of an access token": ("another class", lambda: token(typ="at+jwt")),
    "another class": ("another class", lambda: token(cat="cl_B7d4PD222AAA")),
    "class is a list": ("TypeError", lambda: token(cat=["cl_B7d4PD111AAA"])),
    "payload is a list": (
        "DecodeError",
        lambda: compact({"alg": "RS256", "kid": KID}, ["user_1"], signed_by_issuer),
    ),
    "expired beyond the leeway": ("session-token-expired", lambda: token(exp=NOW - 5)),
    "without exp": ("MissingRequiredClaimError", lambda: token(without="exp")),
    "exp is a word": ("DecodeError", lambda: token(exp="tomorrow")),
    "exp is endless": ("DecodeError|OverflowError", lambda: token(exp=float("inf"))),
    "valid from later": ("session-token-nbf", lambda: token(nbf=NOW + 6)),
    "issued later": ("session-token-iat-in-the-future", lambda: token(iat=NOW + 6)),
    "other issuer": ("InvalidIssuerError", lambda: token(iss="https://clerk.example.org")),
    "without issuer": ("MissingRequiredClaimError", lambda: token(without="iss")),
    "no party": ("another authorized party", lambda: token(without="azp")),
    "party null": ("another authorized party", lambda: token(azp=None)),
    "issued before the epoch": ("a time out of range", lambda: token(iat=-1e18)),
    "other party": ("another authorized party", lambda: token(azp="https://evil.example.com")),
    "without subject": ("MissingRequiredClaimError", lambda: token(without="sub")),
    "subject is a number": ("InvalidSubjectError", lambda: token(sub=7)),
    **{
        f"subject {name}": ("unusable subject", functools.partial(token, sub=subject))
        for name, subject in {
            "empty": "",
            "blank": " ",
            "null": "null",
            "None": "None",
            "undefined": "undefined",
            "of 65 characters": "u" * 65,
            "of 10 kB": "u" * 10_000,
            "with NUL": "user\x00",
            "with newline": "user_1\n",
            "with DEL": "user\x7f",
            "with lone surrogate": "user\ud800",
        }.items()
    },
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_valid_token_is_accepted(make: Make) -> None:
    assert verifier().verify(make()).subject.startswith("u")


@pytest.mark.parametrize(("reason", "make"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_token_is_refused(reason: str, make: Make) -> None:
    with pytest.raises(InvalidTokenError, match=reason):
        verifier().verify(make())


def test_claims_are_those_of_the_token() -> None:
    claims = verifier().verify(token(sub="user_bia", email="bia@example.com"))

    assert (claims.subject, claims.values["email"]) == ("user_bia", "bia@example.com")


def test_issuer_is_not_checked_without_setting() -> None:
    claims = verifier(issuer=None).verify(token(iss="https://clerk.example.org"))

    assert claims.subject == "user_1"


PROXY = "https://app.example.com/__clerk"


@pytest.mark.parametrize("issuer", [ISSUER, f"{ISSUER}/", PROXY, f"{PROXY}/"])
def test_tokens_behind_a_proxy_may_name_the_instance_or_the_proxy(issuer: str) -> None:
    behind_proxy = replace(verifier(), proxy_issuer=f"{PROXY}/")

    assert behind_proxy.verify(token(iss=issuer)).subject == "user_1"
    with pytest.raises(InvalidTokenError, match="InvalidIssuerError"):
        behind_proxy.verify(token(iss="https://clerk.example.org"))


def test_party_is_not_checked_without_setting() -> None:
    any_party = replace(verifier(), authorized_parties=frozenset())

    claims = any_party.verify(token(azp="https://any.example.com"))

    assert claims.subject == "user_1"


def test_token_is_not_invalid_while_keys_are_unavailable() -> None:
    without_keys = TokenVerifier(KeySet(dict), ISSUER)

    with pytest.raises(KeysUnavailableError):
        without_keys.verify(token())
