"""Verify Clerk's session tokens and handshake tokens, and read identities from their claims."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import jwt
from jwt import PyJWK
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAlgorithmError,
    InvalidIssuerError,
    InvalidSignatureError,
    InvalidSubjectError,
    MissingRequiredClaimError,
    PyJWTError,
)
from jwt.types import Options

from auth.errors import (
    AuthReason,
    CallNeededError,
    InvalidTokenError,
    KeysUnavailableError,
    TokenReason,
    TokenTimeError,
)
from auth.identity import Identity, clean_email, clean_name, clean_url
from auth.jwks import KeySet

LEEWAY_SECONDS = 5
CACHED_TOKENS = 4_096  # each is valid for a minute and takes about three kilobytes
CACHED_HEADERS = 64  # an issuer has one for each of its keys
LONGEST_TOKEN = 16_384  # characters; more than browsers and servers accept in one header
# A handshake token is read at once; a clock that is slightly slow must not cause a redirect loop.
HANDSHAKE_OPTIONS = {"verify_iss": False, "verify_iat": False, "verify_nbf": False}
DEEPEST = 500  # levels; Clerk's documents have about five, and recursion ends at a thousand
LONGEST_SUBJECT = 64  # users.clerk_id
SESSION_ID = re.compile(r"[A-Za-z0-9_]{1,100}")  # it becomes part of a URL
MACHINE_SUBJECT_PREFIX = "mch_"  # Clerk's machine tokens are signed with the same key
SENTINELS = {"null", "none", "undefined", "nil"}  # sent by broken clients instead of an id
MAX_TIME = 253_402_300_799  # of the year 9999
TIME_CLAIMS = ("iat", "nbf", "exp")
UNKNOWN_ACTOR = "unknown"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\s]")

# Clerk writes the class of a token into its protected header. Instances without a fixed class use
# the second value, older ones send none.
SESSION_CATEGORIES = {None, "cl_B7d4PD111AAA", "cl_I7d4PD111III"}
# Clerk's names for PyJWT's errors; every other error means that the token cannot be read.
REASONS: dict[type[Exception], TokenReason] = {
    InvalidSignatureError: TokenReason.INVALID_SIGNATURE,
    InvalidAlgorithmError: TokenReason.INVALID_ALGORITHM,
    InvalidIssuerError: TokenReason.INVALID_ISSUER,
    InvalidSubjectError: TokenReason.VERIFICATION_FAILED,
    MissingRequiredClaimError: TokenReason.VERIFICATION_FAILED,
}


@dataclass(frozen=True, slots=True, eq=False)
class SessionClaims:
    """The claims of a token with verified signature and times; created by this module only.

    `impersonator` is the id of the account that acts for the subject (claim `act`), None for the
    subject. A claim without a usable id is an impersonation as well.
    """

    subject: str
    values: Mapping[str, Any]
    impersonator: str | None = None


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Verifies session tokens of one issuer (docs/reference/contract.md#who-is-asking).

    `proxy_issuer` is a second accepted issuer: the address of a proxy of the frontend API. `clock`
    is the time of day in seconds. Threads may share a verifier.
    """

    keys: KeySet
    issuer: str | None
    authorized_parties: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.time
    proxy_issuer: str | None = None
    _verify_cached: Any = field(init=False, repr=False, compare=False)
    _issuers: list[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A final slash is ignored on both sides.
        plain = [each.rstrip("/") for each in (self.issuer, self.proxy_issuer) if each is not None]
        issuers = [form for each in plain for form in (each, f"{each}/")]
        object.__setattr__(self, "_issuers", issuers or None)
        object.__setattr__(self, "_verify_cached", lru_cache(CACHED_TOKENS)(self._verify))

    def is_issued_elsewhere(self, issuer: object) -> bool:
        """Whether tokens with this `iss` belong to another instance."""
        return self._issuers is not None and issuer not in self._issuers

    def verify(self, token: str, *, may_fetch: bool = True) -> SessionClaims:
        """Return the claims of a valid token.

        A signature is verified once in a process; its key and its time are checked at every call.
        Raises InvalidTokenError for an invalid token (TokenTimeError if only its time is
        wrong), and KeysUnavailableError when it cannot be verified. Raises CallNeededError when
        the issuer's keys must be fetched and `may_fetch` is False.
        """
        claims: SessionClaims
        claims, key, until = self._verify_cached(token, may_fetch)
        if not self.keys.is_current(key):  # the issuer has published new keys since
            self._verify_cached.cache_clear()
            claims, _, until = self._verify_cached(token, may_fetch)
        if until <= self.clock():
            raise TokenTimeError(AuthReason.SESSION_EXPIRED)
        return claims

    def directives(self, handshake: str, *, may_fetch: bool = True) -> list[str]:
        """Return the Set-Cookie values of a handshake token; raises as `verify` does.

        It must have the class of a session token: tokens of other classes may contain values that a
        client has chosen.
        """
        claims, _ = self._decode(handshake, may_fetch=may_fetch, **HANDSHAKE_OPTIONS)
        directives = claims.get("handshake")
        if not isinstance(directives, list):
            raise InvalidTokenError("not a handshake")
        return [directive for directive in directives if isinstance(directive, str)]

    def session_id(self, token: str, *, may_fetch: bool = False) -> str | None:
        """Return the session id of a token of this instance, even an expired one; else None."""
        options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            claims, _ = self._decode(token, may_fetch=may_fetch, require=["sid"], **options)
        except (InvalidTokenError, KeysUnavailableError, CallNeededError):
            return None
        sid = claims["sid"]
        return sid if isinstance(sid, str) and SESSION_ID.fullmatch(sid) else None

    def _verify(
        self,
        token: str,
        may_fetch: bool,  # noqa: FBT001 - a key of the cache
    ) -> tuple[SessionClaims, PyJWK, int]:
        """Return the claims, the key that signed them, and their expiry in seconds of the epoch."""
        claims, key = self._decode(token, may_fetch=may_fetch, require=["exp", "sub"])
        party = claims.get("azp")
        is_listed = isinstance(party, str) and party in self.authorized_parties
        if self.authorized_parties and not is_listed:  # of another origin, or without one
            raise InvalidTokenError("another authorized party", TokenReason.INVALID_PARTY)
        if claims.get("sts") == "pending":  # signed in, but with required Clerk tasks left
            raise InvalidTokenError("an unfinished session")
        until = int(claims["exp"]) + LEEWAY_SECONDS
        subject, actor = checked_subject(claims.get("sub")), claims.get("act")
        impersonator = None if actor is None else _impersonator(actor)
        return SessionClaims(subject, claims, impersonator), key, until

    def _decode(
        self, token: str, *, may_fetch: bool, **options: Any
    ) -> tuple[dict[str, Any], PyJWK]:
        if len(token) > LONGEST_TOKEN:
            raise InvalidTokenError("too long")
        defaults = {"verify_aud": False, "verify_iss": self._issuers is not None}
        try:
            header = _header(token.partition(".")[0])
            if header.get("cat") not in SESSION_CATEGORIES or header.get("typ", "JWT") != "JWT":
                raise InvalidTokenError("a token of another class", AuthReason.TYPE_MISMATCH)
            key = self.keys.key(str(header.get("kid")), may_fetch=may_fetch)
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=["RS256"],
                issuer=self._issuers,
                leeway=LEEWAY_SECONDS,
                options=cast(Options, {**defaults, **options}),
            )
        except ExpiredSignatureError as err:
            raise TokenTimeError(AuthReason.SESSION_EXPIRED) from err
        except ImmatureSignatureError as err:
            raise TokenTimeError(self._early_reason(token)) from err
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as err:
            # PyJWT lets some malformed input escape as a plain ValueError (advisories of 2026).
            reason = REASONS.get(type(err), TokenReason.INVALID)
            raise InvalidTokenError(type(err).__name__, reason) from err
        _check_times(claims)
        if is_too_deep(claims):
            raise InvalidTokenError("nested too deep")
        return claims, key

    def _early_reason(self, token: str) -> AuthReason:
        """Return which time is wrong: PyJWT has one error for a future `nbf` and `iat`."""
        not_before = time_claim(unverified_claims(token).get("nbf"))
        is_early = not_before > self.clock() + LEEWAY_SECONDS
        return AuthReason.SESSION_NOT_YET_VALID if is_early else AuthReason.SESSION_FROM_THE_FUTURE


def _check_times(claims: Mapping[str, Any]) -> None:
    """Refuse times outside the years 1970 to 9999, which would raise errors where they are used.

    PyJWT reads numbers out of texts and booleans as well (RFC 7519, section 2: NumericDate).
    """
    for value in (claims[name] for name in TIME_CLAIMS if name in claims):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= MAX_TIME:
            raise InvalidTokenError("a time out of range")


def is_too_deep(document: object) -> bool:
    """Whether a JSON document has more than `DEEPEST` levels; takes linear time.

    Parsers of Python versions differ in what they refuse.
    """
    level = [document]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for part in level
            if isinstance(part, dict | list)
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True


def _impersonator(actor: object) -> str:
    try:
        return checked_subject(actor.get("sub") if isinstance(actor, dict) else None)
    except InvalidTokenError:
        return UNKNOWN_ACTOR


@lru_cache(CACHED_HEADERS)
def _header(segment: str) -> Mapping[str, Any]:
    """Decode the header of a token; all tokens signed with one key have the same header."""
    header = jwt.get_unverified_header(f"{segment}..")
    if is_too_deep(header):
        raise InvalidTokenError("nested too deep")
    return header


def checked_subject(subject: object) -> str:
    """Return the subject if it can be a user id; raises InvalidTokenError.

    The rules are those of docs/reference/contract.md#who-is-asking.
    """
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise InvalidTokenError("unusable subject", TokenReason.VERIFICATION_FAILED)
    if subject.lower() in SENTINELS or CONTROL.search(subject):
        raise InvalidTokenError("unusable subject", TokenReason.VERIFICATION_FAILED)
    if subject.startswith(MACHINE_SUBJECT_PREFIX):
        raise InvalidTokenError("a machine, not a user", AuthReason.TYPE_MISMATCH)
    return subject


def unverified_claims(token: str) -> Mapping[str, Any]:
    """Return the claims of a token without verifying it; empty if it cannot be decoded."""
    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (PyJWTError, ValueError, TypeError, RecursionError):
        return {}
    return claims


def time_claim(value: object) -> float:
    """Return a time claim, or 0 if it is not a number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


@lru_cache(CACHED_TOKENS)
def identity_from_claims(claims: SessionClaims) -> Identity:
    """Return the identity of the optional claims; missing or unusable ones are «not known».

    Only the boolean `true` verifies an address (docs/reference/contract.md#who-is-asking). Values
    such as `"true"` and `1` mean an unverified address. A token with name, address and
    `email_verified` makes the call to the Backend API unnecessary.
    """
    values, issued_at = claims.values, claims.values.get("iat")
    name, email = clean_name(values.get("name")), clean_email(values.get("email"))
    has_verification = email is not None and "email_verified" in values
    is_verified = values["email_verified"] is True if has_verification else None
    return Identity(
        clerk_id=claims.subject,
        name=name,
        email=email,
        email_verified=is_verified,
        image_url=clean_url(values.get("image_url")),
        is_complete=None not in (name, email, is_verified),
        as_of=None if issued_at is None else datetime.fromtimestamp(issued_at, UTC),
    )
