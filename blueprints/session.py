"""The session that a request brings along: a bearer token, or the cookies of a browser."""

import structlog
from flask import Response, g, request

from blueprints.answers import is_api_path
from blueprints.errors import CsrfError, SessionLoopError, UnauthenticatedError
from blueprints.origin import is_from_our_pages
from house import house
from identity.cookies import SESSION
from identity.errors import InvalidTokenError, ProviderUnavailableError, UnknownUserError
from identity.tokens import SessionClaims
from identity.visits import Verdict, Visit

log = structlog.get_logger(__name__)

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
MOST_TOKENS = 2  # the suffixed cookie and the other one; each signature costs time
PROGRAM = "empty"  # Sec-Fetch-Dest of what is no page


def arrive() -> SessionClaims | str:
    """Who is asking, or the address to send the browser to, because only Clerk can tell.

    Raises UnauthenticatedError for whoever is not signed in, SessionLoopError for a browser that
    was sent to Clerk again and again in vain.
    """
    token = _bearer()
    if token is not None:
        return _verified(token)
    verdict = house().handshakes.judge(_visit(), house().frontend_api(request.host_url))
    g.set_cookies = verdict.set_cookies
    if verdict.location is not None:
        return verdict.location
    if verdict.claims is None:
        raise _refusal(verdict)
    return verdict.claims


def end_session() -> None:
    """End the browser's session at Clerk, or its next handshake would sign it in again.

    The token may have expired; what matters is that Clerk has signed it. A provider that is away
    cannot be told, and signing out here must not wait for it.
    """
    end, tokens = house().end_session, [v for k, v in request.cookies.items() if _is_session(k)]
    for session_id in {sid for token in tokens if (sid := house().verifier.session_id(token))}:
        try:
            if end is not None:
                end(session_id)
        except (ProviderUnavailableError, UnknownUserError) as err:
            log.warning("session_not_ended", reason=str(err))


def expired_session_id() -> str | None:
    """The id of the session whose token the request brings, if our issuer has signed it."""
    cookies = [value for name, value in request.cookies.items() if _is_session(name)]
    tokens = [token for token in (_bearer(), *cookies) if token]
    found = (house().verifier.session_id(token) for token in tokens[:MOST_TOKENS])
    return next((each for each in found if each), None)


def hand_out_cookies(response: Response) -> None:
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


def _verified(token: str) -> SessionClaims:
    try:
        return house().verifier.verify(token)
    except InvalidTokenError as err:
        log.info("session_refused", reason=str(err))
        raise UnauthenticatedError("the session token is not valid") from err


def _visit() -> Visit:
    return Visit(
        url=request.url,
        cookies=request.cookies,
        method=request.method,
        accept=request.headers.get("Accept", ""),
        destination=_destination(),
    )


def _destination() -> str:
    """Who waits for the answer; the API is for programs, also where a browser looks at it."""
    return PROGRAM if is_api_path(request.path) else request.headers.get("Sec-Fetch-Dest", "")


def _refusal(verdict: Verdict) -> UnauthenticatedError:
    log.info("session_refused", reason=verdict.reason)
    refusal = SessionLoopError if verdict.is_loop else UnauthenticatedError
    return refusal(verdict.reason)


def _holds_session() -> bool:
    return any(_is_session(name) for name in request.cookies)


def _is_session(cookie: str) -> bool:
    return cookie == SESSION or cookie.startswith(f"{SESSION}_")
