"""Clerk's handshake: decide from a browser's cookies whether it is signed in.

Session tokens are valid for a minute, so that a returning browser sends an expired one. A page
request is then redirected to Clerk's frontend API, which redirects back with fresh cookies. The
states and their names are those of Clerk's SDKs for a primary domain (clerk/javascript,
packages/backend).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

from auth.cookies import (
    CLIENT_UAT,
    DEV_BROWSER,
    SESSION,
    SessionCookies,
    any_session,
    session_cookie_names,
    session_cookies,
    time_claim,
    unverified_claims,
)
from auth.errors import (
    CallNeededError,
    InvalidTokenError,
    ProviderUnavailableError,
    UnknownKeyError,
    UntimelyTokenError,
)
from auth.tokens import SessionClaims, TokenVerifier

API_VERSION = "2026-05-12"  # of Clerk's API
HANDSHAKE, NONCE = "__clerk_handshake", "__clerk_handshake_nonce"
SUFFIXED_COOKIES = (f"{SESSION}_", f"{CLIENT_UAT}_")
# Query parameters that Clerk adds to a URL when it redirects back, older names included.
CLERK_PARAMETERS = {HANDSHAKE, NONCE, DEV_BROWSER, "__dev_session", "__clerk_help"}


@dataclass(frozen=True, slots=True)
class BrowserRequest:
    """The parts of a request that the handshake reads; `url` is absolute as the browser sees it."""

    url: str
    cookies: Mapping[str, str]
    method: str = "GET"
    accept: str = ""
    destination: str = ""  # Sec-Fetch-Dest

    @property
    def is_for_document(self) -> bool:
        """Whether the browser loads a page, so that a redirect can be followed."""
        if self.method != "GET":
            return False
        if self.destination:
            return self.destination in ("document", "iframe")
        return self.accept.startswith("text/html")

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
class HandshakeDecision:
    """Signed in with `claims`, redirected to `location`, or signed out for a `reason`."""

    reason: str = ""
    claims: SessionClaims | None = None
    location: str | None = None
    set_cookies: tuple[str, ...] = ()
    is_loop: bool = False

    def with_cookies_before(self, set_cookies: tuple[str, ...]) -> "HandshakeDecision":
        """Return this decision with more cookies to set before its own."""
        return replace(self, set_cookies=(*set_cookies, *self.set_cookies))


def delete_cookie(name: str) -> str:
    """Return the Set-Cookie value that deletes a cookie."""
    return f"{name}=; Path=/; Max-Age=0"


log = structlog.get_logger(__name__)

# RFC 6265, section 4.1.1: the characters of a value that all parsers read alike.
DIRECTIVE = re.compile(r"([^=;\s]+)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)(;[\x20-\x7e]*)?")
# Only possible nonces are exchanged: at most 256 unreserved characters of a URL (RFC 3986).
NONCE_PATTERN = re.compile(r"[A-Za-z0-9._~=-]{1,256}")


@dataclass(frozen=True, slots=True)
class HandshakeReader:
    """Reads handshake results of one instance; `exchange` trades a nonce for cookies."""

    verifier: TokenVerifier
    suffix: str | None
    is_development: bool
    exchange: Callable[[str], list[str]] | None = field(default=None, repr=False)

    def directives(
        self, request: BrowserRequest, *, may_call: bool = True
    ) -> tuple[str, ...] | None:
        """Return the Set-Cookie values of a handshake result; None without a valid result.

        Another site can choose the URL of a request. In production the result is therefore read
        from cookies only, or a link could sign users in to the account of an attacker. Development
        instances have no other way than the URL. Raises CallNeededError where a call to Clerk is
        needed and `may_call` is False.
        """
        values = request.query if self.is_development else request.cookies
        token, nonce = values.get(HANDSHAKE), values.get(NONCE)
        try:
            if nonce and self.exchange is not None and NONCE_PATTERN.fullmatch(nonce):
                if not may_call:
                    raise CallNeededError("a nonce")
                return self._allowed(self.exchange(nonce))
            if not token:
                return None
            return self._allowed(self.verifier.directives(token, may_fetch=may_call))
        except (InvalidTokenError, ProviderUnavailableError) as err:
            log.warning("handshake_refused", reason=str(err))
            return None

    def _allowed(self, directives: list[str]) -> tuple[str, ...]:
        """Return the directives for session and handshake cookies; Clerk may set no others here."""
        known = session_cookie_names(self.suffix) | {HANDSHAKE, NONCE}
        return tuple(
            directive
            for directive in directives
            if (found := DIRECTIVE.fullmatch(directive)) and found[1] in known
        )


def cookies_after(jar: Mapping[str, str], directives: tuple[str, ...]) -> dict[str, str]:
    """Return the browser's cookies after these directives."""
    pairs = (directive.partition(";")[0].partition("=") for directive in directives)
    return {**jar, **{name: value for name, _, value in pairs}}


def expired_handshake_cookies(jar: Mapping[str, str]) -> tuple[str, ...]:
    """Return the directives that delete a handshake result, so that it is read once."""
    return tuple(delete_cookie(name) for name in (HANDSHAKE, NONCE) if name in jar)


REDIRECT_COUNT = "__clerk_redirect_count"
MOST_REDIRECTS = 3
REDIRECT_COUNT_TTL_SECONDS = 10  # a redirect loop is faster, a user who tries again is slower
UNTIMELY_REASONS = {"session-token-expired", "session-token-nbf", "session-token-iat-in-the-future"}


@dataclass(frozen=True, slots=True)
class HandshakeService:
    """Decides about requests of one Clerk instance; `clock` is the time of day in seconds."""

    verifier: TokenVerifier
    reader: HandshakeReader
    clock: Callable[[], float]

    def resolve(
        self, request: BrowserRequest, frontend_api: str | None, *, may_call: bool = True
    ) -> HandshakeDecision:
        """Decide about a request without bearer token.

        Without a frontend API, and for programs, there is no redirect: the token is valid or not.
        Raises KeysUnavailableError when no token can be verified, and CallNeededError when a call
        to Clerk is needed and `may_call` is False.
        """
        if frontend_api is None or not request.is_for_document:
            return self.resolve_program(request.cookies, may_call=may_call)
        directives = self.reader.directives(request, may_call=may_call)
        if directives is None:
            return self._resolve_page(request, frontend_api, request.cookies, may_call=may_call)
        if self.reader.is_development:
            return HandshakeDecision("handshake-returned", None, request.clean_url, directives)
        # In production the result came in a cookie, and its cookies count at once.
        jar = cookies_after(request.cookies, directives)
        decision = self._resolve_page(request, frontend_api, jar, may_call=may_call)
        return decision.with_cookies_before(
            (*directives, *expired_handshake_cookies(request.cookies))
        )

    def _cookies(self, jar: Mapping[str, str]) -> SessionCookies:
        instance = self.reader
        issuer = self.verifier.issuer
        return session_cookies(
            jar, instance.suffix, issuer, is_development=instance.is_development, now=self.clock()
        )

    def session_id(self, jar: Mapping[str, str]) -> str | None:
        """Return the id of the session in a browser's cookies, even if its token has expired.

        None where no token was signed by Clerk; at most two tokens are verified.
        """
        candidates = (self._cookies(jar).session, any_session(jar))
        tokens = [token for token in dict.fromkeys(candidates) if token]
        session_ids = (self.verifier.session_id(token, may_fetch=True) for token in tokens)
        return next((session_id for session_id in session_ids if session_id), None)

    def resolve_program(
        self, jar: Mapping[str, str], *, may_call: bool = True
    ) -> HandshakeDecision:
        """Decide by one token; only a later sign-out or sign-in makes a valid one void.

        Raises as `resolve` does.
        """
        if any(name.startswith(SUFFIXED_COOKIES) for name in jar):
            cookies = self._cookies(jar)
            if not cookies.session:
                cookies = replace(cookies, session=any_session(jar))
        else:
            cookies = SessionCookies(jar.get(SESSION, ""), jar.get(CLIENT_UAT, ""))
        if not cookies.session:
            return HandshakeDecision("session-token-and-uat-missing")
        if cookies.client_uat and not 0 < cookies.signed_in_since <= _issued_at(cookies):
            return HandshakeDecision("session-token-iat-before-client-uat")
        return self._resolve_token(cookies, may_call=may_call)

    def _resolve_page(
        self, request: BrowserRequest, frontend_api: str, jar: Mapping[str, str], *, may_call: bool
    ) -> HandshakeDecision:
        cookies = self._cookies(jar)
        reason = self._dev_browser_reason(request, cookies) or _session_reason(cookies)
        if reason is not None:
            return self._redirect_to_clerk(request, frontend_api, cookies, reason)
        decision = self._resolve_token(cookies, may_call=may_call)
        if decision.reason in UNTIMELY_REASONS:
            return self._redirect_to_clerk(request, frontend_api, cookies, decision.reason)
        if cookies.session and decision.claims is None:
            # Clerk would only redirect back with the same token.
            return _with_redirect_count(request, decision)
        return decision.with_cookies_before(
            (delete_cookie(REDIRECT_COUNT),) if REDIRECT_COUNT in request.cookies else ()
        )

    def _dev_browser_reason(self, request: BrowserRequest, cookies: SessionCookies) -> str | None:
        """Return why a development instance, on another site, must set or read its browser id."""
        if not self.reader.is_development:
            return None
        if DEV_BROWSER in request.query:
            return "dev-browser-sync"
        return None if cookies.dev_browser else "dev-browser-missing"

    def _resolve_token(self, cookies: SessionCookies, *, may_call: bool) -> HandshakeDecision:
        if not cookies.session:
            return HandshakeDecision("session-token-and-uat-missing")
        try:
            return HandshakeDecision(
                claims=self.verifier.verify(cookies.session, may_fetch=may_call)
            )
        except UntimelyTokenError as err:
            return HandshakeDecision(err.reason)
        except UnknownKeyError:
            # Keys are rotated while users are away; an expired token is renewed in any case.
            is_expired = (
                0 < time_claim(unverified_claims(cookies.session).get("exp")) < self.clock()
            )
            return HandshakeDecision("session-token-expired" if is_expired else "jwk-kid-mismatch")
        except InvalidTokenError as err:
            return HandshakeDecision(f"token-invalid: {err}")

    def _redirect_to_clerk(
        self, request: BrowserRequest, frontend_api: str, cookies: SessionCookies, reason: str
    ) -> HandshakeDecision:
        """Redirect the browser to Clerk, which redirects back with fresh cookies."""
        parameters = {
            "redirect_url": request.clean_url,
            "__clerk_api_version": API_VERSION,
            "suffixed_cookies": str(cookies.are_suffixed).lower(),
            "__clerk_hs_reason": reason,
        }
        browser = request.query.get(DEV_BROWSER) or cookies.dev_browser
        if self.reader.is_development and browser:
            parameters[DEV_BROWSER] = browser
        location = f"{frontend_api.rstrip('/')}/v1/client/handshake?{urlencode(parameters)}"
        return _with_redirect_count(request, HandshakeDecision(reason, location=location))


def _with_redirect_count(request: BrowserRequest, decision: HandshakeDecision) -> HandshakeDecision:
    """Return the decision with the redirects counted in a cookie; a loop ends signed out."""
    count = _redirect_count(request)
    if count >= MOST_REDIRECTS:
        log.warning("handshake_loop", reason=decision.reason)
        return HandshakeDecision(
            decision.reason, set_cookies=(delete_cookie(REDIRECT_COUNT),), is_loop=True
        )
    attributes = f"Path=/; Max-Age={REDIRECT_COUNT_TTL_SECONDS}; HttpOnly; SameSite=Lax"
    return decision.with_cookies_before((f"{REDIRECT_COUNT}={count + 1}; {attributes}",))


def _session_reason(cookies: SessionCookies) -> str | None:
    """Return why the two cookies of a session do not match; None where they do."""
    since, token = cookies.signed_in_since, cookies.session
    if token and not since:
        return "session-token-but-no-client-uat"
    if since and not token:
        return "client-uat-but-no-session-token"
    if token and unverified_claims(token) and _issued_at(cookies) < since:
        return "session-token-iat-before-client-uat"
    return None


def _issued_at(cookies: SessionCookies) -> float:
    return time_claim(unverified_claims(cookies.session).get("iat"))


def _redirect_count(request: BrowserRequest) -> int:
    counted = request.cookies.get(REDIRECT_COUNT, "")
    return int(counted) if counted in map(str, range(1, MOST_REDIRECTS + 1)) else 0
