"""The session that a request brings along: a bearer token, or the cookies of a browser."""

import structlog
from flask import Response, g, request

from auth.cookies import SESSION
from auth.errors import (
    InvalidTokenError,
    ProviderUnavailableError,
    UnknownUserError,
    UnusableAnswerError,
)
from auth.handshake import BrowserRequest, HandshakeDecision
from auth.tokens import SessionClaims
from web.errors import CsrfError, SessionLoopError, UnauthenticatedError
from web.problem_responses import is_api_path
from web.services import services
from web.urls import is_from_our_pages

log = structlog.get_logger(__name__)

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
MOST_TOKENS_READ = 2  # the suffixed cookie and the other one; each signature costs time
PROGRAM = "empty"  # Sec-Fetch-Dest of what is no page


def authenticate(*, may_call: bool) -> SessionClaims | str:
    """Who is asking, or the address to send the browser to, because only Clerk can tell.

    Raises UnauthenticatedError where no user is signed in, SessionLoopError for a browser that was
    sent to Clerk again and again in vain, and CallNeededError where only a call to Clerk can tell
    and `may_call` is False.
    """
    token = _bearer()
    if token is not None:
        return _verified(token, may_call=may_call)
    frontend_api = services().frontend_api(request.host_url)
    verdict = services().handshakes.resolve(_visit(), frontend_api, may_call=may_call)
    g.set_cookies = verdict.set_cookies
    if verdict.location is not None:
        return verdict.location
    if verdict.claims is None:
        raise _refusal(verdict)
    return verdict.claims


def end_session() -> None:
    """End the browser's session at Clerk, or its next handshake would sign it in again.

    The token may have expired; what matters is that Clerk has signed it. Signing out here does not
    depend on Clerk's answer.
    """
    sessions = services().session_calls
    session_id = services().handshakes.session_id(request.cookies) if sessions else None
    if sessions is None or session_id is None:
        return
    try:
        sessions.end(session_id)
    except (ProviderUnavailableError, UnknownUserError, UnusableAnswerError) as err:
        log.warning("session_not_ended", reason=str(err))


def expired_session_id() -> str | None:
    """The id of the session whose token the request brings, if our issuer has signed it."""
    cookies = [value for name, value in request.cookies.items() if _is_session(name)]
    tokens = [token for token in (_bearer(), *cookies) if token]
    found = (services().verifier.session_id(token) for token in tokens[:MOST_TOKENS_READ])
    return next((each for each in found if each), None)


def send_cookies(response: Response) -> None:
    """Give the browser what Clerk wants it to hold."""
    for directive in g.pop("set_cookies", ()):
        response.headers.add("Set-Cookie", directive)


def is_bearer() -> bool:
    """Whether a program shows who it is; no browser does so by itself."""
    return _bearer() is not None


def check_origin() -> None:
    """Refuse a write that another site made the browser send along with our cookie."""
    if request.method in SAFE_METHODS or is_bearer() or not _holds_session():
        return
    if not is_from_our_pages():
        raise CsrfError("a cookie alone does not prove who wrote this")


def _bearer() -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def _verified(token: str, *, may_call: bool) -> SessionClaims:
    try:
        return services().verifier.verify(token, may_fetch=may_call)
    except InvalidTokenError as err:
        log.info("session_refused", reason=str(err))
        raise UnauthenticatedError("the session token is not valid") from err


def _visit() -> BrowserRequest:
    return BrowserRequest(
        url=request.url,
        cookies=request.cookies,
        method=request.method,
        accept=request.headers.get("Accept", ""),
        destination=_destination(),
    )


def _destination() -> str:
    """Who waits for the answer; the API is for programs, also where a browser looks at it."""
    return PROGRAM if is_api_path(request.path) else request.headers.get("Sec-Fetch-Dest", "")


def _refusal(verdict: HandshakeDecision) -> UnauthenticatedError:
    log.info("session_refused", reason=verdict.reason)
    refusal = SessionLoopError if verdict.is_loop else UnauthenticatedError
    return refusal(verdict.reason)


def _holds_session() -> bool:
    return any(_is_session(name) for name in request.cookies)


def _is_session(cookie: str) -> bool:
    return cookie == SESSION or cookie.startswith(f"{SESSION}_")
