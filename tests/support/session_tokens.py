"""Session tokens for tests: valid and invalid ones, with the keys that sign them."""

import base64
import functools
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from auth.jwks import KeySet
from auth.tokens import TokenVerifier

NOW = int(datetime(2026, 3, 10, 12, 0, tzinfo=UTC).timestamp())
ISSUER = "https://clerk.example.com"
PARTY = "https://app.example.com"
KID = "ins_1"

Sign = Callable[[bytes], bytes]


class StoppedClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW, tz)


@functools.cache
def key_of(owner: str) -> rsa.RSAPrivateKey:
    """The owner's private key, generated once because it is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_set() -> Mapping[str, Any]:
    public = RSAAlgorithm.to_jwk(key_of("issuer").public_key(), as_dict=True)
    return {"keys": [{**public, "kid": KID}]}


def verifier(*, issuer: str | None = ISSUER) -> TokenVerifier:
    return TokenVerifier(KeySet(key_set), issuer, frozenset({PARTY}), clock=lambda: float(NOW))


def signed_by_issuer(data: bytes) -> bytes:
    return key_of("issuer").sign(data, padding.PKCS1v15(), hashes.SHA256())


def signed_by_other_key(data: bytes) -> bytes:
    return key_of("other").sign(data, padding.PKCS1v15(), hashes.SHA256())


def signed_with_public_key(data: bytes) -> bytes:
    public = key_of("issuer").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(pem, data, hashlib.sha256)


def unsigned(data: bytes) -> bytes:
    return b""


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def compact(header: object, payload: object, sign: Sign) -> str:
    """A JWS built by hand, because PyJWT refuses to build invalid ones."""
    data = b".".join(base64url(json.dumps(part).encode()) for part in (header, payload))
    return (data + b"." + base64url(sign(data))).decode()


def token(sign: Sign = signed_by_issuer, *, without: str = "", **changes: object) -> str:
    """A valid token with these changes: header names change the header, all others the claims."""
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
