"""Clerk's session cookies: those with the instance's suffix, or the older ones without it."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

SESSION = "__session"
CLIENT_UAT = "__client_uat"  # when the browser's client signed in, by Clerk's clock
DEV_BROWSER = "__clerk_db_jwt"
REFRESH = "__refresh"


@dataclass(frozen=True, slots=True)
class SessionCookies:
    """The browser's cookies of this Clerk instance; missing ones are empty."""

    session: str = ""
    client_uat: str = ""
    dev_browser: str = ""
    refresh: str = ""  # of the suffixed cookie only, as in Clerk's SDKs
    are_suffixed: bool = False

    @property
    def signed_in_since(self) -> int:
        """When this browser last signed in, in seconds; 0 for one that is signed out."""
        text = self.client_uat
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def cookie_suffix(publishable_key: str) -> str:
    """Return the suffix of this instance's cookies (Clerk's `getCookieSuffix`)."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:8]


def session_cookies(
    jar: Mapping[str, str],
    suffix: str | None,
    is_issued_elsewhere: Callable[[object], bool],
    *,
    is_development: bool,
    now: float,
) -> SessionCookies:
    """Choose between the cookies with and without suffix, as Clerk's SDKs do.

    Several apps may share a domain; the suffix keeps them apart. `is_issued_elsewhere` says whether
    an issuer is that of another instance. Issuer and times are not verified here; they only decide
    which set was written later.
    """
    plain = _read_set(jar, "")
    if suffix is None:
        return plain
    suffixed = _read_set(jar, f"_{suffix}")
    is_suffixed = _is_suffixed_set_current(
        plain, suffixed, is_issued_elsewhere, is_development=is_development, now=now
    )
    chosen = suffixed if is_suffixed else plain
    return replace(chosen, refresh=jar.get(f"{REFRESH}_{suffix}", ""))


def session_cookie_names(suffix: str | None) -> frozenset[str]:
    """Return the names of all session cookies that Clerk sets for this site."""
    bases = (SESSION, CLIENT_UAT, DEV_BROWSER, REFRESH)
    endings = ("", f"_{suffix}") if suffix else ("",)
    return frozenset(base + ending for base in bases for ending in endings)


def any_session(jar: Mapping[str, str]) -> str:
    """Return a session token with any suffix; blank if there is none."""
    return next((v for name, v in jar.items() if name.startswith(f"{SESSION}_") and v), "")


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


def _read_set(jar: Mapping[str, str], ending: str) -> SessionCookies:
    found = [jar.get(name + ending, "") for name in (SESSION, CLIENT_UAT, DEV_BROWSER)]
    return SessionCookies(found[0], found[1], found[2], are_suffixed=bool(ending))


def _is_suffixed_set_current(
    plain: SessionCookies,
    suffixed: SessionCookies,
    is_issued_elsewhere: Callable[[object], bool],
    *,
    is_development: bool,
    now: float,
) -> bool:
    """Whether the cookies with suffix count, because they are as new as those without."""
    claims = unverified_claims(plain.session)
    if plain.session and not claims.get("iss"):
        return False  # malformed: signed out is better than a redirect loop
    if plain.session and is_issued_elsewhere(claims.get("iss")):
        return True  # of another app on the same domain
    if not suffixed.client_uat:
        return False
    return _is_suffixed_set_newer(plain, suffixed, is_development=is_development, now=now)


def _is_suffixed_set_newer(
    plain: SessionCookies, suffixed: SessionCookies, *, is_development: bool, now: float
) -> bool:
    suffixed_claims = unverified_claims(suffixed.session)
    if suffixed.client_uat == "0":
        return plain.client_uat == "0"
    if plain.client_uat == "0":
        has_expired = bool(suffixed_claims) and time_claim(suffixed_claims.get("exp")) <= now
        return not (is_development and has_expired)
    claims = unverified_claims(plain.session)
    return time_claim(claims.get("iat")) <= time_claim(suffixed_claims.get("iat"))
