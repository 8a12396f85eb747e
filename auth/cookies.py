"""Clerk's cookies and parameters in a browser's request: its session, and handshake results.

There are session cookies with the instance's suffix, and older ones without it.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

from auth.errors import CallNeededError, InvalidTokenError, ProviderUnavailableError
from auth.tokens import TokenVerifier, time_claim, unverified_claims

log = structlog.get_logger(__name__)

SESSION = "__session"
CLIENT_UAT = "__client_uat"  # when the browser's client signed in, by Clerk's clock
DEV_BROWSER = "__clerk_db_jwt"
REFRESH = "__refresh"
HANDSHAKE, NONCE = "__clerk_handshake", "__clerk_handshake_nonce"
# Query parameters that Clerk adds to a URL when it redirects back, older names included.
CLERK_PARAMETERS = {HANDSHAKE, NONCE, DEV_BROWSER, "__dev_session", "__clerk_help"}
# RFC 6265, section 4.1.1: the characters of a value that all parsers read alike.
DIRECTIVE = re.compile(r"([^=;\s]+)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)(;[\x20-\x7e]*)?")
# Only possible nonces are exchanged: at most 256 unreserved characters of a URL (RFC 3986).
NONCE_PATTERN = re.compile(r"[A-Za-z0-9._~=-]{1,256}")


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

    @property
    def issued_at(self) -> float:
        """When the session token was issued, without its verification; 0 if that is unknown."""
        return time_claim(unverified_claims(self.session).get("iat"))


def cookie_suffix(publishable_key: str) -> str:
    """Return the suffix of this instance's cookies (Clerk's `getCookieSuffix`)."""
    digest = hashlib.sha1(publishable_key.encode(), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode()[:8]


def session_cookie_names(suffix: str | None) -> frozenset[str]:
    """Return the names of all session cookies that Clerk sets for this site."""
    bases = (SESSION, CLIENT_UAT, DEV_BROWSER, REFRESH)
    endings = ("", f"_{suffix}") if suffix else ("",)
    return frozenset(base + ending for base in bases for ending in endings)


def any_session(jar: Mapping[str, str]) -> str:
    """Return a session token with any suffix; blank if there is none."""
    return next((v for name, v in jar.items() if name.startswith(f"{SESSION}_") and v), "")


@dataclass(frozen=True, slots=True)
class BrowserRequest:
    """The parts of a request that the handshake reads; `url` is absolute as the browser sees it.

    `is_for_document`: the browser loads a page, so that it follows a redirect. `may_call`: Clerk
    may be called for it; without that a needed call raises CallNeededError.
    """

    url: str
    cookies: Mapping[str, str]
    method: str = "GET"
    is_for_document: bool = False
    headers: Iterable[tuple[str, str]] = field(default=(), repr=False)
    may_call: bool = True

    @property
    def origin(self) -> str:
        """The scheme and host of the URL."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def query(self) -> dict[str, str]:
        """The query parameters of the URL."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def clean_url(self) -> str:
        """The URL without Clerk's query parameters."""
        parts = urlsplit(self.url)
        parameters = parse_qsl(parts.query, keep_blank_values=True)
        kept = [(name, value) for name, value in parameters if name not in CLERK_PARAMETERS]
        return urlunsplit(parts._replace(query=urlencode(kept)))


@dataclass(frozen=True, slots=True)
class HandshakeReader:
    """Reads the requests of one instance's browsers; `exchange` trades a nonce for cookies.

    `can_exchange` returns whether the budget of calls allows that now.
    """

    verifier: TokenVerifier
    suffix: str | None
    is_development: bool
    exchange: Callable[[str], list[str]] | None = field(default=None, repr=False)
    can_exchange: Callable[[], bool] = field(default=lambda: True, repr=False)

    def session_cookies(self, jar: Mapping[str, str]) -> SessionCookies:
        """Choose between the cookies with and without suffix, as Clerk's SDKs do.

        Several apps may share a domain; the suffix keeps them apart. Issuer and times are not
        verified here; they only decide which set was written later.
        """
        plain = _read_set(jar, "")
        if self.suffix is None:
            return plain
        suffixed = _read_set(jar, f"_{self.suffix}")
        chosen = suffixed if self._is_suffixed_set_current(plain, suffixed) else plain
        return replace(chosen, refresh=jar.get(f"{REFRESH}_{self.suffix}", ""))

    def _is_suffixed_set_current(self, plain: SessionCookies, suffixed: SessionCookies) -> bool:
        """Whether the cookies with suffix count, because they are as new as those without."""
        issuer = unverified_claims(plain.session).get("iss")
        if plain.session and not issuer:
            return False  # malformed: signed out is better than a redirect loop
        if plain.session and self.verifier.is_issued_elsewhere(issuer):
            return True  # of another app on the same domain
        if suffixed.client_uat in ("", "0"):
            return suffixed.client_uat == plain.client_uat == "0"
        if plain.client_uat == "0":
            claims = unverified_claims(suffixed.session)
            has_expired = bool(claims) and time_claim(claims.get("exp")) <= self.verifier.clock()
            return not (self.is_development and has_expired)
        return plain.issued_at <= suffixed.issued_at

    def directives(self, request: BrowserRequest) -> tuple[str, ...] | None:
        """Return the Set-Cookie values of a handshake result; None without a valid result.

        Another site can choose the URL of a request. In production the result is therefore read
        from cookies only, or a link could sign users in to the account of an attacker. Development
        instances have no other way than the URL. Raises CallNeededError where Clerk has to be
        called and may not be.
        """
        values = self._values(request)
        for name, read in ((NONCE, self._from_nonce), (HANDSHAKE, self.verifier.directives)):
            value = values.get(name)
            if not value:
                continue
            try:
                directives = read(value, may_fetch=request.may_call)
            except (InvalidTokenError, ProviderUnavailableError) as err:
                log.warning("handshake_refused", error=str(err))
                continue
            if directives is not None:
                return self.allowed(directives)
        return None

    def may_ask_for_nonce(self, request: BrowserRequest) -> bool:
        """Whether the next handshake may be answered by a nonce.

        Not after a nonce that could not be exchanged, and not without a call left: a signed answer
        needs none.
        """
        return self.exchange is not None and not self.has_nonce(request) and self.can_exchange()

    def has_nonce(self, request: BrowserRequest) -> bool:
        """Whether the request brings a nonce."""
        return NONCE in self._values(request)

    def _values(self, request: BrowserRequest) -> Mapping[str, str]:
        return request.query if self.is_development else request.cookies

    def _from_nonce(self, nonce: str, *, may_fetch: bool) -> list[str] | None:
        if self.exchange is None or not NONCE_PATTERN.fullmatch(nonce):
            return None
        if not may_fetch:
            raise CallNeededError("a nonce")
        return self.exchange(nonce)

    def allowed(self, directives: list[str]) -> tuple[str, ...]:
        """Return the directives for session and handshake cookies; Clerk may set no others here."""
        known = session_cookie_names(self.suffix) | {HANDSHAKE, NONCE}
        return tuple(
            directive
            for directive in directives
            if (found := DIRECTIVE.fullmatch(directive)) and found[1] in known
        )


def _read_set(jar: Mapping[str, str], ending: str) -> SessionCookies:
    found = [jar.get(name + ending, "") for name in (SESSION, CLIENT_UAT, DEV_BROWSER)]
    return SessionCookies(found[0], found[1], found[2], are_suffixed=bool(ending))


def session_token_of(directives: tuple[str, ...]) -> str:
    """Return the session token that these directives set; of several the last, as Clerk's SDKs."""
    pairs = (directive.partition(";")[0].partition("=") for directive in directives)
    tokens = [value for name, _, value in pairs if name.startswith(SESSION)]
    return tokens[-1] if tokens else ""


def delete_cookie(name: str) -> str:
    """Return the Set-Cookie value that deletes a cookie."""
    return f"{name}=; Path=/; Max-Age=0"
