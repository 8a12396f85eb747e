"""Is this a session token of our Clerk instance? Checked to the letter, or refused."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import jwt
from jwt import PyJWK
from jwt.exceptions import ExpiredSignatureError, ImmatureSignatureError, PyJWTError
from jwt.types import Options

from auth.errors import CallNeededError, InvalidTokenError, KeysUnavailableError, UntimelyTokenError
from auth.identity import Identity, clean_email, clean_name, clean_url
from auth.jwks import KeySet
from auth.nesting import is_too_deep

LEEWAY_SECONDS = 5
CACHED_TOKENS = 4_096  # tokens; each of them lives for a minute, and takes some three kilobytes
HEADERS = 64  # an issuer writes one for each of its keys
LONGEST_TOKEN = 16_384  # characters; more than any browser or server lets through in one header
# An answer is read at once; that our clock is a little behind must send nobody round and round.
OF_AN_ANSWER = {"verify_iss": False, "verify_iat": False, "verify_nbf": False}
LONGEST_SUBJECT = 64  # users.clerk_id
SESSION_ID = re.compile(r"[A-Za-z0-9_]{1,100}")  # it becomes part of an address
MACHINE_SUBJECT_PREFIX = "mch_"  # Clerk's machine tokens are signed with the same key
SENTINELS = {"null", "none", "undefined", "nil"}  # what broken clients send instead of an id
LAST_SECOND = 253_402_300_799  # of the year 9999
TIMES = ("iat", "nbf", "exp")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\s]")

# Clerk stamps the class of a token into its protected header; instances that leave the class open
# use the second value, older ones send none.
SESSION_CATEGORIES = {None, "cl_B7d4PD111AAA", "cl_I7d4PD111III"}


@dataclass(frozen=True, slots=True, eq=False)
class SessionClaims:
    """What a token says whose signature and times are verified; only this module makes one."""

    subject: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says, and under which key and until when (seconds of the epoch) that holds."""

    claims: SessionClaims
    key: PyJWK
    until: float


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Checks session tokens of one issuer (CONTRACT section 3); `clock` is the time of day in
    seconds. Threads may share it.
    """

    keys: KeySet
    issuer: str | None
    authorized_parties: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.time
    _verify_cached: Any = field(init=False, repr=False, compare=False)
    _issuers: list[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A final slash is ignored on both sides.
        plain = None if self.issuer is None else self.issuer.rstrip("/")
        object.__setattr__(self, "_issuers", plain and [plain, f"{plain}/"])
        object.__setattr__(self, "_verify_cached", lru_cache(CACHED_TOKENS)(self._verify))

    def verify(self, token: str, *, may_fetch: bool = True) -> SessionClaims:
        """Return what a valid token says.

        A signature is checked once in a process, its key and its time at every call. Raises
        InvalidTokenError for every other token, whatever is wrong with it (UntimelyTokenError if it
        is nothing but the time), KeysUnavailableError when it cannot be told, and CallNeededError
        when only the issuer could tell and `may_fetch` is False.
        """
        proof: VerifiedToken = self._verify_cached(token, may_fetch)
        if not self.keys.is_current(proof.key):  # the issuer has published others since
            self._verify_cached.cache_clear()
            proof = self._verify_cached(token, may_fetch)
        if proof.until <= self.clock():
            raise UntimelyTokenError("session-token-expired")
        return proof.claims

    def directives(self, handshake: str, *, may_fetch: bool = True) -> list[str]:
        """The cookies to set that a handshake token carries; raises as `verify` does.

        Signed by the issuer and of the session's class: a token of another class could carry what
        somebody else has written into it.
        """
        claims, _ = self._decode(handshake, may_fetch=may_fetch, **OF_AN_ANSWER)
        directives = claims.get("handshake")
        if not isinstance(directives, list):
            raise InvalidTokenError("not a handshake")
        return [directive for directive in directives if isinstance(directive, str)]

    def session_id(self, token: str, *, may_fetch: bool = False) -> str | None:
        """Which session a token of ours belonged to, whatever its time; None for any other."""
        timeless = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            claims, _ = self._decode(token, may_fetch=may_fetch, require=["sid"], **timeless)
        except (InvalidTokenError, KeysUnavailableError, CallNeededError):
            return None
        sid = claims["sid"]
        return sid if isinstance(sid, str) and SESSION_ID.fullmatch(sid) else None

    def _verify(self, token: str, may_fetch: bool) -> VerifiedToken:  # noqa: FBT001 - a key of the cache
        claims, key = self._decode(token, may_fetch=may_fetch, require=["exp", "sub"])
        self._check_party(claims.get("azp"))
        if claims.get("sts") == "pending":  # signed in, but with tasks of Clerk's left to do
            raise InvalidTokenError("an unfinished session")
        until = int(claims["exp"]) + LEEWAY_SECONDS
        return VerifiedToken(SessionClaims(checked_subject(claims.get("sub")), claims), key, until)

    def _decode(
        self, token: str, *, may_fetch: bool, **options: Any
    ) -> tuple[dict[str, Any], PyJWK]:
        if len(token) > LONGEST_TOKEN:
            raise InvalidTokenError("too long")
        try:
            return self._decoded(token, options, may_fetch=may_fetch)
        except ExpiredSignatureError as err:
            raise UntimelyTokenError("session-token-expired") from err
        except ImmatureSignatureError as err:
            raise UntimelyTokenError(self._early_reason(token, options)) from err
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as err:
            # PyJWT lets some malformed input escape as a plain ValueError (advisories of 2026).
            raise InvalidTokenError(type(err).__name__) from err

    def _early_reason(self, token: str, options: Mapping[str, Any]) -> str:
        """PyJWT has one error for a token that is valid later and for one written later."""
        try:
            self._decoded(token, {**options, "verify_iat": False}, may_fetch=False)
        except ImmatureSignatureError:
            return "session-token-nbf"
        return "session-token-iat-in-the-future"

    def _decoded(
        self, token: str, options: Mapping[str, Any], *, may_fetch: bool
    ) -> tuple[dict[str, Any], PyJWK]:
        header = _header(token.partition(".")[0])
        if header.get("cat") not in SESSION_CATEGORIES or header.get("typ", "JWT") != "JWT":
            raise InvalidTokenError("a token of another class")
        key = self.keys.key(str(header.get("kid")), may_fetch=may_fetch)
        usual = {"verify_aud": False, "verify_iss": self.issuer is not None}
        claims = jwt.decode(
            token,
            key.key,
            algorithms=["RS256"],
            issuer=self._issuers,
            leeway=LEEWAY_SECONDS,
            options=cast(Options, {**usual, **options}),
        )
        _check_times(claims)
        if is_too_deep(claims):
            raise InvalidTokenError("nested too deep")
        return claims, key

    def _check_party(self, party: object) -> None:
        """Refuse a token for another origin, and one that does not say for which it is."""
        if not self.authorized_parties:
            return
        if not isinstance(party, str) or party not in self.authorized_parties:
            raise InvalidTokenError("another authorized party")


def _check_times(claims: Mapping[str, Any]) -> None:
    """Refuse times that no clock of an issuer shows; they would be errors where they are used.

    PyJWT reads numbers out of texts and booleans as well (RFC 7519, section 2: NumericDate).
    """
    for moment in (claims[name] for name in TIMES if name in claims):
        is_number = isinstance(moment, int | float) and not isinstance(moment, bool)
        if not is_number or not 0 <= moment <= LAST_SECOND:
            raise InvalidTokenError("a time out of range")


@lru_cache(HEADERS)
def _header(segment: str) -> Mapping[str, Any]:
    """What the first part of a token says; all tokens under one key have the same."""
    header = jwt.get_unverified_header(f"{segment}..")
    if is_too_deep(header):
        raise InvalidTokenError("nested too deep")
    return header


def checked_subject(subject: object) -> str:
    """The id of a person; raises InvalidTokenError for what cannot be one (CONTRACT section 3)."""
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise InvalidTokenError("unusable subject")
    if subject.lower() in SENTINELS or CONTROL.search(subject):
        raise InvalidTokenError("unusable subject")
    if subject.startswith(MACHINE_SUBJECT_PREFIX):
        raise InvalidTokenError("a machine, not a person")
    return subject


@lru_cache(CACHED_TOKENS)
def identity_from_claims(claims: SessionClaims) -> Identity:
    """Read the optional claims; whatever is missing or unusable is «not known».

    Only the boolean `true` verifies an address (CONTRACT section 3): `"true"`, `1` and the like are
    an address that is known not to be verified. A token with a name, an address and a verdict on it
    spares the question to the Backend API.
    """
    values = claims.values
    name, email = clean_name(values.get("name")), clean_email(values.get("email"))
    is_verified = _verdict(values) if email else None
    return Identity(
        clerk_id=claims.subject,
        name=name,
        email=email,
        email_verified=is_verified,
        image_url=clean_url(values.get("image_url")),
        is_complete=None not in (name, email, is_verified),
        as_of=_issued_at(values),
    )


def _verdict(values: Mapping[str, Any]) -> bool | None:
    return values["email_verified"] is True if "email_verified" in values else None


def _issued_at(values: Mapping[str, Any]) -> datetime | None:
    """When the token was written, by the issuer's clock."""
    issued_at = values.get("iat")
    return datetime.fromtimestamp(issued_at, UTC) if isinstance(issued_at, int | float) else None
