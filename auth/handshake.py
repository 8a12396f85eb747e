"""Is this browser signed in? What its cookies say, and when Clerk has to be asked (the handshake).

Session tokens live for a minute, so that whoever comes back brings an expired one. A page visit is
then sent to Clerk's frontend API, which answers with fresh cookies on the way back. The states and
their names are those of Clerk's SDKs for a primary domain (clerk/javascript, packages/backend).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

from auth.cookies import (
    DEV_BROWSER,
    SessionCookies,
    any_session,
    names_of,
    number,
    session_cookies,
    unverified,
)
from auth.errors import (
    CallNeededError,
    InvalidTokenError,
    ProviderUnavailableError,
    UnknownKeyError,
    UntimelyTokenError,
)
from auth.tokens import SessionClaims, TokenVerifier

API_VERSION = "2026-05-12"  # of Clerk's API whose answers we read
HANDSHAKE, NONCE = "__clerk_handshake", "__clerk_handshake_nonce"
# What Clerk adds to an address on the way back, under its names of today and of yesterday.
CLERKS_OWN = {HANDSHAKE, NONCE, DEV_BROWSER, "__dev_session", "__clerk_help"}


@dataclass(frozen=True, slots=True)
class BrowserRequest:
    """What a browser sends along; `url` is the address that it sees, with scheme and host."""

    url: str
    cookies: Mapping[str, str]
    method: str = "GET"
    accept: str = ""
    destination: str = ""  # Sec-Fetch-Dest

    @property
    def is_for_a_document(self) -> bool:
        """Whether a person waits for a page, so that a detour by redirection does no harm."""
        if self.method != "GET":
            return False
        if self.destination:
            return self.destination in ("document", "iframe")
        return self.accept.startswith("text/html")

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the address."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def clean_url(self) -> str:
        """The address without what Clerk has added to it."""
        parts = urlsplit(self.url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        kept = [(name, value) for name, value in given if name not in CLERKS_OWN]
        return urlunsplit(parts._replace(query=urlencode(kept)))


@dataclass(frozen=True, slots=True)
class HandshakeDecision:
    """Signed in with `claims`, sent elsewhere to `location`, or signed out for a `reason`."""

    reason: str = ""
    claims: SessionClaims | None = None
    location: str | None = None
    set_cookies: tuple[str, ...] = ()
    is_loop: bool = False

    def after(self, set_cookies: tuple[str, ...]) -> "HandshakeDecision":
        """The same, with further cookies to set before its own."""
        return replace(self, set_cookies=(*set_cookies, *self.set_cookies))


def expired_cookie(name: str) -> str:
    """The directive that takes a cookie out of the browser."""
    return f"{name}=; Path=/; Max-Age=0"


log = structlog.get_logger(__name__)

# RFC 6265, section 4.1.1: what a value may hold without misleading anybody who reads it.
DIRECTIVE = re.compile(r"([^=;\s]+)=([\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*)(;[\x20-\x7e]*)?")
# What cannot be a nonce is never asked about: unreserved characters of an address (RFC 3986), few.
NONCE_FORM = re.compile(r"[A-Za-z0-9._~=-]{1,256}")


@dataclass(frozen=True, slots=True)
class HandshakeAnswers:
    """Reads answers for one instance; `exchange` asks the Backend API what a nonce stands for."""

    verifier: TokenVerifier
    suffix: str | None
    is_development: bool
    exchange: Callable[[str], list[str]] | None = field(default=None, repr=False)

    def directives(self, visit: BrowserRequest, *, may_call: bool = True) -> tuple[str, ...] | None:
        """The cookies to set, or None where no good answer was brought.

        An address may be made up by another site, so that only development instances, which have no
        other way, read it there: in production it would sign users in as somebody else. Raises
        CallNeededError where only Clerk can tell and `may_call` is False.
        """
        place = visit.query if self.is_development else visit.cookies
        token, nonce = place.get(HANDSHAKE), place.get(NONCE)
        try:
            if nonce and self.exchange is not None and NONCE_FORM.fullmatch(nonce):
                if not may_call:
                    raise CallNeededError("a nonce")
                return self._ours(self.exchange(nonce))
            if not token:
                return None
            return self._ours(self.verifier.directives(token, may_fetch=may_call))
        except (InvalidTokenError, ProviderUnavailableError) as err:
            log.warning("handshake_refused", reason=str(err))
            return None

    def _ours(self, directives: list[str]) -> tuple[str, ...]:
        """Only cookies that keep a session, and the end of those that brought the answer.

        Nothing else is Clerk's to set on our site.
        """
        known = names_of(self.suffix) | {HANDSHAKE, NONCE}
        return tuple(
            directive
            for directive in directives
            if (found := DIRECTIVE.fullmatch(directive)) and found[1] in known
        )


def cookies_after(jar: Mapping[str, str], directives: tuple[str, ...]) -> dict[str, str]:
    """The browser's cookies as they will be."""
    pairs = (directive.partition(";")[0].partition("=") for directive in directives)
    return {**jar, **{name: value for name, _, value in pairs}}


def expired_handshake_cookies(jar: Mapping[str, str]) -> tuple[str, ...]:
    """The directives that take an answer out of the browser, so that it is read once."""
    return tuple(expired_cookie(name) for name in (HANDSHAKE, NONCE) if name in jar)


REDIRECT_COUNT = "__clerk_redirect_count"
MOST_REDIRECTS = 3
REDIRECT_COUNT_TTL_SECONDS = 10  # a loop goes round faster, a person who tries again does not
UNTIMELY = {"session-token-expired", "session-token-nbf", "session-token-iat-in-the-future"}


@dataclass(frozen=True, slots=True)
class HandshakeService:
    """Judges visits to one instance; `clock` is the time of day in seconds."""

    verifier: TokenVerifier
    returns: HandshakeAnswers
    clock: Callable[[], float]

    def resolve(
        self, visit: BrowserRequest, frontend_api: str | None, *, may_call: bool = True
    ) -> HandshakeDecision:
        """Decide about a visit that brings no bearer token.

        Without a frontend API, and for programs, there is no detour: a token counts or does not.
        Raises KeysUnavailableError when no token can be checked, and CallNeededError when only a
        call to Clerk can tell and `may_call` is False.
        """
        if frontend_api is None or not visit.is_for_a_document:
            return self._resolve_program(visit, may_call=may_call)
        directives = self.returns.directives(visit, may_call=may_call)
        if directives is None:
            return self._resolve_page(visit, frontend_api, visit.cookies, may_call=may_call)
        if self.returns.is_development:
            return HandshakeDecision("handshake-returned", None, visit.clean_url, directives)
        # In production the answer came in a cookie, and what it sets counts at once.
        jar = cookies_after(visit.cookies, directives)
        verdict = self._resolve_page(visit, frontend_api, jar, may_call=may_call)
        return verdict.after((*directives, *expired_handshake_cookies(visit.cookies)))

    def _cookies(self, jar: Mapping[str, str]) -> SessionCookies:
        own = self.returns
        issuer = self.verifier.issuer
        return session_cookies(
            jar, own.suffix, issuer, is_development=own.is_development, now=self.clock()
        )

    def session_id(self, jar: Mapping[str, str]) -> str | None:
        """The id of the session that a browser's cookies show, whatever the time of its token.

        None where Clerk has signed none of them; two tokens are looked at, at most.
        """
        shown = (self._cookies(jar).session, any_session(jar))
        tokens = [token for token in dict.fromkeys(shown) if token]
        found = (self.verifier.session_id(token, may_fetch=True) for token in tokens)
        return next((each for each in found if each), None)

    def _resolve_program(self, visit: BrowserRequest, *, may_call: bool) -> HandshakeDecision:
        """A program brings one good token; only a later sign-out or sign-in ends it."""
        cookies = self._cookies(visit.cookies)
        if not cookies.session:
            cookies = replace(cookies, session=any_session(visit.cookies))
        if not cookies.session:
            return HandshakeDecision("session-token-and-uat-missing")
        if cookies.client_uat and not 0 < cookies.signed_in_since <= _issued_at(cookies):
            return HandshakeDecision("session-token-iat-before-client-uat")
        return self._resolve_token(cookies, may_call=may_call)

    def _resolve_page(
        self, visit: BrowserRequest, frontend_api: str, jar: Mapping[str, str], *, may_call: bool
    ) -> HandshakeDecision:
        cookies = self._cookies(jar)
        reason = self._dev_browser_reason(visit, cookies) or _session_reason(cookies)
        if reason is not None:
            return self._redirect_to_clerk(visit, frontend_api, cookies, reason)
        verdict = self._resolve_token(cookies, may_call=may_call)
        if verdict.reason in UNTIMELY:
            return self._redirect_to_clerk(visit, frontend_api, cookies, verdict.reason)
        if cookies.session and verdict.claims is None:
            return _with_redirect_count(
                visit, verdict
            )  # Clerk would only send them back with the same token
        return verdict.after(
            (expired_cookie(REDIRECT_COUNT),) if REDIRECT_COUNT in visit.cookies else ()
        )

    def _dev_browser_reason(self, visit: BrowserRequest, cookies: SessionCookies) -> str | None:
        """A development instance, on another site than ours, knows browsers by a mark of ours."""
        if not self.returns.is_development:
            return None
        if DEV_BROWSER in visit.query:
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
            # Keys are rotated while people are away; what is over anyway can only be renewed.
            is_over = 0 < number(unverified(cookies.session).get("exp")) < self.clock()
            return HandshakeDecision("session-token-expired" if is_over else "jwk-kid-mismatch")
        except InvalidTokenError as err:
            return HandshakeDecision(f"token-invalid: {err}")

    def _redirect_to_clerk(
        self, visit: BrowserRequest, frontend_api: str, cookies: SessionCookies, reason: str
    ) -> HandshakeDecision:
        """Send the browser to Clerk, to come back with what it lacks."""
        question = {
            "redirect_url": visit.clean_url,
            "__clerk_api_version": API_VERSION,
            "suffixed_cookies": str(cookies.are_suffixed).lower(),
            "__clerk_hs_reason": reason,
        }
        browser = visit.query.get(DEV_BROWSER) or cookies.dev_browser
        if self.returns.is_development and browser:
            question[DEV_BROWSER] = browser
        location = f"{frontend_api.rstrip('/')}/v1/client/handshake?{urlencode(question)}"
        return _with_redirect_count(visit, HandshakeDecision(reason, location=location))


def _with_redirect_count(visit: BrowserRequest, verdict: HandshakeDecision) -> HandshakeDecision:
    """The verdict, unless the browser has just been sent away again and again."""
    rounds = _redirect_count(visit)
    if rounds >= MOST_REDIRECTS:
        log.warning("handshake_loop", reason=verdict.reason)
        return HandshakeDecision(
            verdict.reason, set_cookies=(expired_cookie(REDIRECT_COUNT),), is_loop=True
        )
    attributes = f"Path=/; Max-Age={REDIRECT_COUNT_TTL_SECONDS}; HttpOnly; SameSite=Lax"
    return verdict.after((f"{REDIRECT_COUNT}={rounds + 1}; {attributes}",))


def _session_reason(cookies: SessionCookies) -> str | None:
    """Why the two cookies of a session do not go together; None where they do."""
    since, token = cookies.signed_in_since, cookies.session
    if token and not since:
        return "session-token-but-no-client-uat"
    if since and not token:
        return "client-uat-but-no-session-token"
    if token and unverified(token) and _issued_at(cookies) < since:
        return "session-token-iat-before-client-uat"
    return None


def _issued_at(cookies: SessionCookies) -> float:
    return number(unverified(cookies.session).get("iat"))


def _redirect_count(visit: BrowserRequest) -> int:
    counted = visit.cookies.get(REDIRECT_COUNT, "")
    return int(counted) if counted in map(str, range(1, MOST_REDIRECTS + 1)) else 0
