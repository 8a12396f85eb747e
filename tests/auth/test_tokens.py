"""Session tokens: the good ones pass, and each bad one is refused for the one thing wrong."""

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from auth.errors import InvalidTokenError, KeysUnavailableError
from auth.jwks import KeySet
from auth.tokens import TokenVerifier

MOMENT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NOW = int(MOMENT.timestamp())
ISSUER = "https://clerk.example.com"
PARTY = "https://app.example.com"
KID = "ins_1"

Make = Callable[[], str]
Sign = Callable[[bytes], bytes]


class StoppedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW, tz)


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.api_jwt.datetime", StoppedClock)


@functools.cache
def key_of(owner: str) -> rsa.RSAPrivateKey:
    """The owner's private key, made once; making one is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_set() -> Mapping[str, Any]:
    public = RSAAlgorithm.to_jwk(key_of("issuer").public_key(), as_dict=True)
    return {"keys": [{**public, "kid": KID}]}


def verifier(*, issuer: str | None = ISSUER) -> TokenVerifier:
    return TokenVerifier(KeySet(key_set), issuer, frozenset({PARTY}), clock=lambda: float(NOW))


def by_issuer(data: bytes) -> bytes:
    return key_of("issuer").sign(data, padding.PKCS1v15(), hashes.SHA256())


def by_stranger(data: bytes) -> bytes:
    return key_of("stranger").sign(data, padding.PKCS1v15(), hashes.SHA256())


def by_public_key_as_secret(data: bytes) -> bytes:
    public = key_of("issuer").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(pem, data, hashlib.sha256)


def by_nobody(data: bytes) -> bytes:
    return b""


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def compact(header: object, payload: object, sign: Sign) -> str:
    """A JWS made by hand, since PyJWT refuses to make the bad ones."""
    data = b".".join(base64url(json.dumps(part).encode()) for part in (header, payload))
    return (data + b"." + base64url(sign(data))).decode()


def token(sign: Sign = by_issuer, *, without: str = "", **changes: object) -> str:
    """A good token but for what is changed: the names of the header go there, others are claims."""
    header: dict[str, object] = {"alg": "RS256", "typ": "JWT", "kid": KID}
    claims: dict[str, object] = {
        "sub": "user_1",
        "iss": ISSUER,
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 60,
        "azp": PARTY,
    }
    in_header = {"alg", "typ", "kid", "cat", "crit"}
    header |= {name: value for name, value in changes.items() if name in in_header}
    claims |= {name: value for name, value in changes.items() if name not in in_header}
    header, claims = ({k: v for k, v in p.items() if k != without} for p in (header, claims))
    return compact(header, claims, sign)


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

# Beside each token stands the reason for the log, so that none is refused for something else.
REFUSED: dict[str, tuple[str, Make]] = {
    "empty": ("DecodeError", lambda: ""),
    "garbage": ("DecodeError", lambda: "not.a.token"),
    "one part": ("unknown key id", lambda: "eyJhbGciOiJSUzI1NiJ9"),
    "lone surrogate": ("UnicodeEncodeError", lambda: "\ud800"),
    "too long": ("too long", lambda: token(pad="x" * 16_384)),
    "signature of other content": (
        "InvalidSignatureError",
        lambda: token(lambda data: by_issuer(data + b"x")),
    ),
    "not signed": ("InvalidSignatureError", lambda: token(by_nobody)),
    "alg none": ("InvalidAlgorithmError", lambda: token(by_nobody, alg="none")),
    "HS256 by the public key": (
        "InvalidAlgorithmError",
        lambda: token(by_public_key_as_secret, alg="HS256"),
    ),
    "other key under a known kid": ("InvalidSignatureError", lambda: token(by_stranger)),
    "unknown kid": ("unknown key id", lambda: token(kid="ins_2")),
    "no kid": ("unknown key id", lambda: token(without="kid")),
    "kid is a number": ("InvalidTokenError", lambda: token(kid=1)),
    "crit": ("InvalidTokenError", lambda: token(crit=["exp"])),
    "typ of an access token": ("another class", lambda: token(typ="at+jwt")),
    "another class": ("another class", lambda: token(cat="cl_B7d4PD222AAA")),
    "class is a list": ("TypeError", lambda: token(cat=["cl_B7d4PD111AAA"])),
    "payload is a list": (
        "DecodeError",
        lambda: compact({"alg": "RS256", "kid": KID}, ["user_1"], by_issuer),
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
def test_good_token_is_accepted(make: Make) -> None:
    assert verifier().verify(make()).subject.startswith("u")


@pytest.mark.parametrize(("reason", "make"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_token_is_refused(reason: str, make: Make) -> None:
    with pytest.raises(InvalidTokenError, match=reason):
        verifier().verify(make())


def test_claims_are_those_that_the_token_says() -> None:
    claims = verifier().verify(token(sub="user_bia", email="bia@example.com"))

    assert (claims.subject, claims.values["email"]) == ("user_bia", "bia@example.com")


def test_issuer_that_nobody_named_is_not_checked() -> None:
    claims = verifier(issuer=None).verify(token(iss="https://clerk.example.org"))

    assert claims.subject == "user_1"


def test_party_is_not_checked_where_none_is_listed() -> None:
    of_any = replace(verifier(), authorized_parties=frozenset())

    claims = of_any.verify(token(azp="https://any.example.com"))

    assert claims.subject == "user_1"


def test_token_that_cannot_be_checked_is_not_called_invalid() -> None:
    unpublished = TokenVerifier(KeySet(dict), ISSUER)

    with pytest.raises(KeysUnavailableError):
        unpublished.verify(token())
