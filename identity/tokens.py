"""Is this a session token of our Clerk instance? Checked to the letter, or refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from identity.errors import InvalidTokenError
from identity.keys import KeySet

LEEWAY_SECONDS = 5
LONGEST_TOKEN = 16_384  # characters; more than any browser or server lets through in one header
LONGEST_SUBJECT = 64  # users.clerk_id
SENTINELS = {"null", "none", "undefined", "nil"}  # what broken clients send instead of an id
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\s]")

# Clerk stamps the class of a token into its protected header; instances that leave the class open
# use the second value, older ones send none.
SESSION_CATEGORIES = {None, "cl_B7d4PD111AAA", "cl_I7d4PD111III"}


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """What a token says whose signature and times are verified; only this module makes one."""

    subject: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Checks session tokens of one issuer (CONTRACT section 3)."""

    keys: KeySet
    issuer: str | None
    authorized_parties: frozenset[str] = frozenset()

    def verify(self, token: str) -> SessionClaims:
        """Return what a valid token says.

        Raises InvalidTokenError for every other one, whatever is wrong with it, and
        KeysUnavailableError when it cannot be told.
        """
        if len(token) > LONGEST_TOKEN:
            raise InvalidTokenError("too long")
        try:
            claims = self._decode(token)
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as err:
            # PyJWT lets some malformed input escape as a plain ValueError (advisories of 2026).
            raise InvalidTokenError(type(err).__name__) from err
        self._check_party(claims.get("azp"))
        return SessionClaims(_checked_subject(claims.get("sub")), claims)

    def _decode(self, token: str) -> dict[str, Any]:
        header = jwt.get_unverified_header(token)
        if header.get("cat") not in SESSION_CATEGORIES or header.get("typ", "JWT") != "JWT":
            raise InvalidTokenError("a token of another class")
        key = self.keys.key(str(header.get("kid")))
        return jwt.decode(
            token,
            key.key,
            algorithms=["RS256"],
            issuer=self.issuer,
            leeway=LEEWAY_SECONDS,
            options={
                "require": ["exp", "sub"],
                "verify_iss": self.issuer is not None,
                "verify_aud": False,
            },
        )

    def _check_party(self, party: object) -> None:
        if party and self.authorized_parties and party not in self.authorized_parties:
            raise InvalidTokenError("another authorized party")


def _checked_subject(subject: object) -> str:
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise InvalidTokenError("unusable subject")
    if subject.lower() in SENTINELS or CONTROL.search(subject):
        raise InvalidTokenError("unusable subject")
    return subject
