"""Clerk's handshake: decide from a browser's cookies whether it is signed in.

Session tokens are valid for a minute, so that a returning browser sends an expired one. With a
refresh cookie it is renewed by one call to the Backend API. Otherwise a page request is redirected
to Clerk's frontend API, which redirects back with fresh cookies. The states and their names are
those of Clerk's SDKs for a primary domain (clerk/javascript, packages/backend).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode, urljoin

import structlog

from auth.clerk_calls import RefreshRequest
from auth.cookies import (
    CLIENT_UAT,
    DEV_BROWSER,
    HANDSHAKE,
    NONCE,
    SESSION,
    BrowserRequest,
    HandshakeReader,
    SessionCookies,
    any_session,
    delete_cookie,
    session_token_of,
)
from auth.errors import (
    AuthReason,
    CallNeededError,
    InvalidTokenError,
    RefreshReason,
    RefreshRefusedError,
    TokenTimeError,
    UnknownKeyError,
)
from auth.tokens import SessionClaims, TokenVerifier, time_claim, unverified_claims

log = structlog.get_logger(__name__)

API_VERSION = "2026-05-12"  # of Clerk's API
LONGEST_SENT_TOKEN = 4_096  # characters in a URL; browsers keep no longer cookies
SUFFIXED_COOKIES = (f"{SESSION}_", f"{CLIENT_UAT}_")
REDIRECT_COUNT = "__clerk_redirect_count"
MOST_REDIRECTS = 3
REDIRECT_COUNT_TTL_SECONDS = 10  # a redirect loop is faster, a user who tries again is slower


@dataclass(frozen=True, slots=True)
class HandshakeDecision:
    """Signed in with `claims`, redirected to `location`, or signed out for a `reason`.

    `has_wrong_time`: the token is valid at another time only, so that Clerk can give a new one.
    `detail` describes an invalid token for the log.
    """

    reason: str = ""
    claims: SessionClaims | None = None
    location: str | None = None
    set_cookies: tuple[str, ...] = ()
    is_loop: bool = False
    has_wrong_time: bool = False
    detail: str = ""

    def with_cookies_before(self, set_cookies: tuple[str, ...]) -> "HandshakeDecision":
        """Return this decision with more cookies to set before its own."""
        return replace(self, set_cookies=(*set_cookies, *self.set_cookies))


@dataclass(frozen=True, slots=True)
class HandshakeService:
    """Decides about requests of one Clerk instance.

    `frontend_api` is the address that browsers are redirected to, or a path of this site; without
    it no browser is redirected. `refresh` exchanges an expired token for cookies; None without a
    secret key.
    """

    verifier: TokenVerifier
    reader: HandshakeReader
    refresh: Callable[[RefreshRequest], list[str]] | None = field(default=None, repr=False)
    frontend_api: str = ""

    def resolve(self, request: BrowserRequest) -> HandshakeDecision:
        """Decide about a request without bearer token.

        A program, or a site without a frontend API, is not redirected: its token is valid, renewed
        or not valid. Only a later sign-out or sign-in makes a valid one void. Raises
        KeysUnavailableError when no token can be verified, and CallNeededError when Clerk has to be
        called and may not be.
        """
        if request.is_for_document and self.frontend_api:
            return self._resolve_page(request)
        jar = request.cookies
        if any(name.startswith(SUFFIXED_COOKIES) for name in jar):
            cookies = self.reader.session_cookies(jar)
            if not cookies.session:
                cookies = replace(cookies, session=any_session(jar))
        else:
            cookies = SessionCookies(jar.get(SESSION, ""), jar.get(CLIENT_UAT, ""))
        if not cookies.session:
            return HandshakeDecision(AuthReason.SESSION_AND_UAT_MISSING)
        if cookies.client_uat and not 0 < cookies.signed_in_since <= cookies.issued_at:
            return HandshakeDecision(AuthReason.SESSION_BEFORE_UAT)
        return self._resolve_token(request, cookies)

    def resolve_bearer(self, request: BrowserRequest, token: str) -> HandshakeDecision:
        """Decide about a request with a bearer token; raises as `resolve` does.

        A page whose token is expired or early goes to the handshake, as with a cookie.
        """
        cookies = replace(self.reader.session_cookies(request.cookies), session=token)
        decision = self._resolve_token(request, cookies)
        if decision.has_wrong_time and request.is_for_document and self.frontend_api:
            return self._redirect_to_clerk(request, cookies, decision.reason)
        return decision

    def session_id(self, jar: Mapping[str, str]) -> str | None:
        """Return the id of the session in a browser's cookies, even if its token has expired.

        None where no token was signed by Clerk; at most two tokens are verified.
        """
        candidates = (self.reader.session_cookies(jar).session, any_session(jar))
        tokens = [token for token in dict.fromkeys(candidates) if token]
        session_ids = (self.verifier.session_id(token, may_fetch=True) for token in tokens)
        return next((session_id for session_id in session_ids if session_id), None)

    def _resolve_page(self, request: BrowserRequest) -> HandshakeDecision:
        """Decide by a handshake result, where the request brings one; otherwise by its cookies.

        A result without a session signs the browser out. One with an invalid session leaves the
        decision to the browser's own cookies, which may begin another round.
        """
        directives = self.reader.directives(request)
        if directives is None:
            return self._resolve_cookies(request)
        if self.reader.is_development:
            return HandshakeDecision("handshake-returned", None, request.clean_url, directives)
        # The result is read once.
        used = tuple(delete_cookie(name) for name in (HANDSHAKE, NONCE) if name in request.cookies)
        token = session_token_of(directives)
        if not token:
            return HandshakeDecision(AuthReason.SESSION_MISSING, set_cookies=(*directives, *used))
        try:
            claims = self.verifier.verify(token, may_fetch=request.may_call)
        except InvalidTokenError as err:
            log.warning("handshake_refused", reason=err.reason, error=str(err))
            return self._resolve_cookies(request).with_cookies_before(used)
        return _signed_in(request, HandshakeDecision("", claims, None, (*directives, *used)))

    def _resolve_cookies(self, request: BrowserRequest) -> HandshakeDecision:
        cookies = self.reader.session_cookies(request.cookies)
        reason = self._cookie_reason(request, cookies)
        if reason is not None:
            return self._redirect_to_clerk(request, cookies, reason)
        decision = self._resolve_token(request, cookies)
        if decision.has_wrong_time:
            return self._redirect_to_clerk(request, cookies, decision.reason)
        if cookies.session and decision.claims is None:
            # Clerk would only redirect back with the same token.
            return _with_redirect_count(request, decision)
        return _signed_in(request, decision)

    def _cookie_reason(self, request: BrowserRequest, cookies: SessionCookies) -> str | None:
        """Return why the cookies of a page do not suffice, before the token is verified."""
        since, token = cookies.signed_in_since, cookies.session
        is_development = self.reader.is_development  # the browser id comes from another site
        is_older = token and unverified_claims(token) and cookies.issued_at < since
        reasons = (
            (is_development and DEV_BROWSER in request.query, AuthReason.DEV_BROWSER_SYNC),
            (is_development and not cookies.dev_browser, AuthReason.DEV_BROWSER_MISSING),
            (token and not since, AuthReason.SESSION_WITHOUT_UAT),
            (since and not token, AuthReason.UAT_WITHOUT_SESSION),
            (is_older, AuthReason.SESSION_BEFORE_UAT),
            # Clerk has answered, but the nonce could not be exchanged: ask for a signed answer.
            (not token and self.reader.has_nonce(request), AuthReason.SESSION_AND_UAT_MISSING),
        )
        return next((reason for applies, reason in reasons if applies), None)

    def _resolve_token(self, request: BrowserRequest, cookies: SessionCookies) -> HandshakeDecision:
        """Decide by the session token; an expired one is refreshed where that is possible."""
        if not cookies.session:
            return HandshakeDecision(AuthReason.SESSION_AND_UAT_MISSING)
        try:
            claims = self.verifier.verify(cookies.session, may_fetch=request.may_call)
        except TokenTimeError as err:
            if not err.is_expired:
                return HandshakeDecision(err.reason, has_wrong_time=True)
            return self._refresh(request, cookies)
        except InvalidTokenError as err:
            expires_at = time_claim(unverified_claims(cookies.session).get("exp"))
            if isinstance(err, UnknownKeyError) and 0 < expires_at < self.verifier.clock():
                # Keys are rotated while users are away; an expired token is renewed in any case.
                reason = _refresh_refusal(request, cookies) or RefreshReason.NOT_DECODED
                return _expired_decision(reason)
            return HandshakeDecision(err.reason, detail=str(err))
        return HandshakeDecision(claims=claims)

    def _refresh(self, request: BrowserRequest, cookies: SessionCookies) -> HandshakeDecision:
        """Exchange an expired token for a new one by its refresh cookie, without a redirect.

        The signature of the token is valid. Whatever fails is part of the reason of the redirect.
        """
        reason = _refresh_refusal(request, cookies)
        session_id = self.verifier.session_id(cookies.session)
        if reason is not None or self.refresh is None or session_id is None:
            missing = RefreshReason.NO_SESSION_ID if self.refresh else RefreshReason.NO_CLIENT
            return _expired_decision(reason or missing)
        if not request.may_call:
            raise CallNeededError("a session to refresh")
        refresh_request = RefreshRequest(
            session_id,
            cookies.session,
            cookies.refresh,
            request.origin,
            dict(request.headers),
            are_suffixed=cookies.are_suffixed,
        )
        try:
            directives = self.reader.allowed(self.refresh(refresh_request))
            claims = self.verifier.verify(session_token_of(directives), may_fetch=request.may_call)
        except RefreshRefusedError as err:
            return _expired_decision(err.reason)
        except InvalidTokenError as err:
            log.warning("refresh_refused", reason=err.reason, error=str(err))
            return _expired_decision(RefreshReason.INVALID_SESSION)
        return HandshakeDecision("", claims, None, directives)

    def _redirect_to_clerk(
        self, request: BrowserRequest, cookies: SessionCookies, reason: str
    ) -> HandshakeDecision:
        """Redirect the browser to Clerk, which redirects back with fresh cookies."""
        parameters = {
            "redirect_url": request.clean_url,
            "__clerk_api_version": API_VERSION,
            "suffixed_cookies": str(cookies.are_suffixed).lower(),
            "__clerk_hs_reason": str(reason),
        }
        if self.reader.may_ask_for_nonce(request):
            parameters["format"] = "nonce"
        if cookies.session and len(cookies.session) <= LONGEST_SENT_TOKEN:
            parameters[SESSION] = cookies.session
        browser = request.query.get(DEV_BROWSER) or cookies.dev_browser
        if self.reader.is_development and browser:
            parameters[DEV_BROWSER] = browser
        frontend_api = urljoin(request.url, self.frontend_api).rstrip("/")
        location = f"{frontend_api}/v1/client/handshake?{urlencode(parameters)}"
        return _with_redirect_count(request, HandshakeDecision(reason, location=location))


def _refresh_refusal(request: BrowserRequest, cookies: SessionCookies) -> RefreshReason | None:
    """Return why the token of this request may not be refreshed; None if it may."""
    if request.method != "GET":
        return RefreshReason.NOT_GET
    return None if cookies.refresh else RefreshReason.NO_COOKIE


def _expired_decision(refresh_reason: str) -> HandshakeDecision:
    return HandshakeDecision(
        f"{AuthReason.SESSION_EXPIRED}-refresh-{refresh_reason}", has_wrong_time=True
    )


def _signed_in(request: BrowserRequest, decision: HandshakeDecision) -> HandshakeDecision:
    """Return the decision, with the redirects counted from zero again."""
    has_count = REDIRECT_COUNT in request.cookies
    return decision.with_cookies_before((delete_cookie(REDIRECT_COUNT),) if has_count else ())


def _with_redirect_count(request: BrowserRequest, decision: HandshakeDecision) -> HandshakeDecision:
    """Return the decision with the redirects counted in a cookie; a loop ends signed out."""
    counted = request.cookies.get(REDIRECT_COUNT, "")
    count = int(counted) if counted in map(str, range(1, MOST_REDIRECTS + 1)) else 0
    if count >= MOST_REDIRECTS:
        log.warning("handshake_loop", reason=decision.reason)
        return HandshakeDecision(
            decision.reason, set_cookies=(delete_cookie(REDIRECT_COUNT),), is_loop=True
        )
    attributes = f"Path=/; Max-Age={REDIRECT_COUNT_TTL_SECONDS}; HttpOnly; SameSite=Lax"
    return decision.with_cookies_before((f"{REDIRECT_COUNT}={count + 1}; {attributes}",))
