"""The session of a request: a bearer token, or the session cookies of a browser."""

import structlog
from flask import g, request

from auth.cookies import SESSION, BrowserRequest
from auth.errors import (
    InvalidTokenError,
    ProviderUnavailableError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from auth.tokens import SessionClaims
from web.errors import HttpError, SessionLoopError, UnauthenticatedError
from web.services import services
from web.urls import is_same_origin

log = structlog.get_logger(__name__)

API_PREFIXES = ("/api/", "/webhooks/")
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
PAGE_DESTINATIONS = ("document", "iframe")  # of `Sec-Fetch-Dest`: the browser loads a page
MAX_TOKENS_READ = 2  # the suffixed cookie and the plain one; each signature costs time


def authenticate(*, may_call: bool) -> SessionClaims | str:
    """Return the session's claims, or the URL of Clerk's handshake to redirect the browser to.

    Raises UnauthenticatedError without a valid session, and SessionLoopError for a browser that
    keeps returning from Clerk without one. Raises CallNeededError where only a call to Clerk can
    decide and `may_call` is False.
    """
    token = bearer_token()
    if token is None:
        decision = services().handshakes.resolve(_browser_request(may_call=may_call))
    else:
        try:
            return services().verifier.verify(token, may_fetch=may_call)
        except InvalidTokenError:
            browser_request = _browser_request(may_call=may_call)
            decision = services().handshakes.resolve_bearer(browser_request, token)
    g.set_cookies = decision.set_cookies
    if decision.location is not None:
        return decision.location
    if decision.claims is None:
        log.info("session_refused", reason=decision.reason, error=decision.detail or None)
        error_class = SessionLoopError if decision.is_loop else UnauthenticatedError
        raise error_class(decision.reason)
    return decision.claims


def end_session() -> None:
    """End the browser's session at Clerk; otherwise the next handshake would sign it in again.

    The token may have expired if Clerk has signed it. Logging out here does not depend on Clerk's
    answer.
    """
    sessions = services().session_calls
    session_id = services().handshakes.session_id(request.cookies) if sessions else None
    if sessions is None or session_id is None:
        return
    try:
        sessions.end(session_id)
    except (ProviderUnavailableError, UnknownAtProviderError, UnusableAnswerError) as err:
        log.warning("session_not_ended", reason=str(err))


def expired_session_id() -> str | None:
    """Return the id of the session in the request's token, if our issuer has signed it."""
    cookies = [value for name, value in request.cookies.items() if _is_session_cookie(name)]
    tokens = [token for token in (bearer_token(), *cookies) if token]
    session_ids = (services().verifier.session_id(token) for token in tokens[:MAX_TOKENS_READ])
    return next((each for each in session_ids if each), None)


def check_origin() -> None:
    """Reject a write with a session cookie that did not come from this site (CSRF)."""
    if bearer_token() is None and has_session_cookie() and not is_same_origin():
        raise HttpError("csrf_failed", "a write with a session cookie comes from another site")


def has_session_cookie() -> bool:
    """Whether the request brings a session token in a cookie, valid or not."""
    return any(map(_is_session_cookie, request.cookies))


def bearer_token() -> str | None:
    """Return the request's bearer token, if any; browsers never send one by themselves."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def is_api_path(path: str) -> bool:
    """Whether the path belongs to the API, whose answers are documents instead of pages."""
    return path.startswith(API_PREFIXES)


def _browser_request(*, may_call: bool) -> BrowserRequest:
    """Return the parts that decide; an API request loads no page, even if opened in a browser."""
    destination = request.headers.get("Sec-Fetch-Dest")
    if destination:
        is_for_document = destination in PAGE_DESTINATIONS
    else:
        is_for_document = request.headers.get("Accept", "").startswith("text/html")
    return BrowserRequest(
        request.url,
        request.cookies,
        request.method,
        is_for_document and request.method == "GET" and not is_api_path(request.path),
        request.headers,
        may_call,
    )


def _is_session_cookie(cookie: str) -> bool:
    return cookie == SESSION or cookie.startswith(f"{SESSION}_")
