"""Which of Clerk's cookies count? An instance's own carry a suffix; older ones go without."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

SESSION = "__session"
CLIENT_UAT = "__client_uat"  # since when the browser's client is signed in, by Clerk's clock
DEV_BROWSER = "__clerk_db_jwt"
REFRESH = "__refresh"


@dataclass(frozen=True, slots=True)
class SessionCookies:
    """What the browser holds of our instance; empty where it holds nothing."""

    session: str = ""
    client_uat: str = ""
    dev_browser: str = ""
    are_suffixed: bool = False

    @property
    def signed_in_since(self) -> int:
        """When this browser last signed in, in seconds; 0 for one that is signed out."""
        text = self.client_uat
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def suffix_of(publishable_key: str) -> str:
    """What the cookies of this instance end with (Clerk's `getCookieSuffix`)."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:8]


def session_cookies(
    jar: Mapping[str, str],
    suffix: str | None,
    issuer: str | None,
    *,
    is_development: bool,
    now: float,
) -> SessionCookies:
    """Choose between the two sets, as Clerk's own SDKs do.

    Several apps may share a domain; the suffix keeps them apart. What the contents say of issuer
    and times is not verified here and only tells which set was written later.
    """
    plain = _set_of(jar, "")
    if suffix is None:
        return plain
    suffixed = _set_of(jar, f"_{suffix}")
    counts = _suffixed_counts(plain, suffixed, issuer, is_development=is_development, now=now)
    return suffixed if counts else plain


def names_of(suffix: str | None) -> frozenset[str]:
    """Every cookie by which Clerk keeps a session with us."""
    bases = (SESSION, CLIENT_UAT, DEV_BROWSER, REFRESH)
    endings = ("", f"_{suffix}") if suffix else ("",)
    return frozenset(base + ending for base in bases for ending in endings)


def any_session(jar: Mapping[str, str]) -> str:
    """A session token of whatever suffix: who sends nothing else means it."""
    return next((v for name, v in jar.items() if name.startswith(f"{SESSION}_") and v), "")


def unverified(token: str) -> Mapping[str, Any]:
    """What a token claims, without any check of whether it is true."""
    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (PyJWTError, ValueError, TypeError, RecursionError):
        return {}
    return claims


def number(value: object) -> float:
    """A time claim, or 0 for what is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _set_of(jar: Mapping[str, str], ending: str) -> SessionCookies:
    found = [jar.get(name + ending, "") for name in (SESSION, CLIENT_UAT, DEV_BROWSER)]
    return SessionCookies(found[0], found[1], found[2], are_suffixed=bool(ending))


def _suffixed_counts(
    plain: SessionCookies,
    suffixed: SessionCookies,
    issuer: str | None,
    *,
    is_development: bool,
    now: float,
) -> bool:
    """The one that was written last, by an old version of Clerk's script or by a new one."""
    claims = unverified(plain.session)
    if plain.session and not claims.get("iss"):
        return False  # malformed: better signed out than sent around
    if plain.session and issuer is not None and claims.get("iss") != issuer:
        return True  # another app's, on the same domain
    if not suffixed.client_uat:
        return False
    return _are_as_new(plain, suffixed, is_development=is_development, now=now)


def _are_as_new(
    plain: SessionCookies, suffixed: SessionCookies, *, is_development: bool, now: float
) -> bool:
    suffixed_claims = unverified(suffixed.session)
    if suffixed.client_uat == "0":
        return plain.client_uat == "0"
    if plain.client_uat == "0":
        has_expired = bool(suffixed_claims) and number(suffixed_claims.get("exp")) <= now
        return not (is_development and has_expired)
    claims = unverified(plain.session)
    return number(claims.get("iat")) <= number(suffixed_claims.get("iat"))
