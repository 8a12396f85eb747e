"""The HTTP interface of the development identity provider: sign-in page, keys, users, handshakes.

Development only. Its responses equal Clerk's, so that the same code handles both.
"""

from secrets import compare_digest
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue

from auth.clerk_calls import RefreshRequest
from auth.cookies import DEV_BROWSER, HANDSHAKE, NONCE, SESSION
from auth.errors import InvalidTokenError, RefreshRefusedError, UnknownAtProviderError
from auth.tokens import identity_from_claims
from blueprints.api.auth import local_path
from core.config import is_loopback
from dev.fake_clerk import (
    DEMO_USERS,
    FRONTEND_PATH,
    Browser,
    DevIdentityProvider,
    DevSessions,
    DevUser,
    demo_user,
    new_demo_user,
)
from web.access_policy import public_unlimited
from web.errors import HttpError, UnauthenticatedError
from web.services import services
from web.session import bearer_token
from web.urls import is_same_origin, safe_urlsplit

local_clerk = Blueprint("local_clerk", __name__, url_prefix=FRONTEND_PATH)

LOOPBACK = {"127.0.0.1", "localhost", "::1"}  # apps under development
# Headers that only proxies add; the client may then be another machine.
PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
MAX_PAGE_SIZE = 500


@local_clerk.before_request
def refuse_other_sites() -> None:
    """Reject requests from other machines and sites: this provider can sign in an admin.

    A page of another site could reach it by a DNS name for this machine, or by a form. Another
    machine could reach a server on other addresses, or a proxy. Raises HttpError.
    """
    if safe_urlsplit(request.host_url).hostname not in LOOPBACK:
        raise HttpError("not_found", "the development identity provider has loopback names only")
    is_forwarded = any(name in request.headers for name in PROXY_HEADERS)
    client = request.environ.get("REMOTE_ADDR") or "localhost"  # a Unix socket has no address
    if is_forwarded or not is_loopback(client):
        raise HttpError("not_found", "the development identity provider serves this machine only")
    if request.method == "POST" and "Origin" in request.headers and not is_same_origin():
        raise HttpError("csrf_failed", "the form comes from another site")


@local_clerk.get("/sign-in")
@public_unlimited
def sign_in() -> ResponseReturnValue:
    """Show a button for each demo user, and a form for another user."""
    target = _return_url(request.args.get("redirect_url"))
    return render_template("sign_in.html", demo_users=DEMO_USERS, redirect_url=target)


@local_clerk.post("/sign-in")
@public_unlimited
def enter() -> ResponseReturnValue:
    """Sign the chosen user in and redirect the browser to its destination."""
    form = request.form
    user = demo_user(form.get("pessoa", ""))
    if user is None:
        name, email = (form.get(field, "").strip() or None for field in ("nome", "email"))
        is_verified = "verificado" in form
        user = new_demo_user(DevUser("", name, email, email_verified=is_verified))
    browser = _sessions().browser(request.cookies.get(DEV_BROWSER))
    browser = _sessions().sign_in(browser, user)
    target = _return_url(form.get("redirect_url"))
    if urlsplit(target).netloc:  # another site identifies its browsers by this parameter
        target = _with_parameter(target, DEV_BROWSER, browser.id)
    response = redirect(target, code=303)
    for directive in _sessions().directives(browser, request.host_url.rstrip("/")):
        response.headers.add("Set-Cookie", directive)
    return response


@local_clerk.get("/v1/client/handshake")
@public_unlimited
def handshake() -> ResponseReturnValue:
    """Redirect the browser back with fresh cookies for the site, or with a nonce for them."""
    parts = safe_urlsplit(request.args.get("redirect_url", ""))
    if parts.scheme not in ("http", "https") or not _is_development_host(parts.hostname):
        raise HttpError("not_found", "a handshake ends on a site under development")
    browser = _sessions().browser(request.args.get(DEV_BROWSER))
    if browser.clerk_id is None and parts.netloc == request.host:
        browser = _sign_in_by_token(browser)
    origin = f"{parts.scheme}://{parts.netloc}"
    if request.args.get("format") == "nonce":
        answer = (NONCE, _sessions().new_nonce(browser, origin))
    else:
        answer = (HANDSHAKE, _sessions().handshake_token(browser, origin))
    return redirect(_with_parameter(parts.geturl(), *answer), code=307)


@local_clerk.get("/.well-known/jwks.json")
@public_unlimited
def jwks() -> ResponseReturnValue:
    """Return the public keys."""
    return jsonify(_provider().key_set())


@local_clerk.get("/v1/jwks")
@public_unlimited
def instance_jwks() -> ResponseReturnValue:
    """Return the public keys, as the Backend API does."""
    _check_secret()
    return jsonify(_provider().key_set())


@local_clerk.get("/v1/users")
@public_unlimited
def users() -> ResponseReturnValue:
    """Return a page of all users, as the Backend API does."""
    _check_secret()
    offset = request.args.get("offset", 0, type=int)
    limit = request.args.get("limit", 10, type=int)
    return jsonify(_provider().users(max(0, offset), min(limit, MAX_PAGE_SIZE)))


@local_clerk.get("/v1/users/<clerk_id>")
@public_unlimited
def user(clerk_id: str) -> ResponseReturnValue:
    """Return one user, as the Backend API does."""
    _check_secret()
    return jsonify(_provider().user(clerk_id))


@local_clerk.get("/v1/clients/handshake_payload")
@public_unlimited
def handshake_payload() -> ResponseReturnValue:
    """Exchange a nonce for cookies, as the Backend API does."""
    _check_secret()
    return jsonify({"directives": _sessions().exchange_nonce(request.args.get("nonce", ""))})


@local_clerk.post("/v1/sessions/<session_id>/refresh")
@public_unlimited
def refresh(session_id: str) -> ResponseReturnValue:
    """Exchange an expired session token for cookies, as the Backend API does."""
    _check_secret()
    body = request.get_json(silent=True) or {}
    names = ("expired_token", "refresh_token", "request_origin")
    expired, refreshing, origin = (str(body.get(name)) for name in names)
    refresh_request = RefreshRequest(session_id, expired, refreshing, origin, {})
    try:
        cookies = _sessions().refresh(refresh_request)
    except RefreshRefusedError as err:
        return jsonify({"errors": [{"code": err.reason, "message": "refused"}]}), 400
    return jsonify({"object": "cookies", "cookies": cookies})


@local_clerk.post("/v1/sessions/<session_id>/revoke")
@public_unlimited
def revoke(session_id: str) -> ResponseReturnValue:
    """End a session, as the Backend API does."""
    _check_secret()
    _sessions().end(session_id)
    return jsonify({"object": "session", "id": session_id, "status": "revoked"})


@local_clerk.errorhandler(UnknownAtProviderError)
def handle_unknown(err: UnknownAtProviderError) -> ResponseReturnValue:
    """Answer for an unknown user, nonce or session."""
    return jsonify({"errors": [{"code": "resource_not_found", "message": str(err)}]}), 404


def _check_secret() -> None:
    # Compared as bytes, because compare_digest accepts only ASCII texts.
    if not compare_digest((bearer_token() or "").encode(), _provider().secret_key.encode()):
        raise UnauthenticatedError("the secret key of the identity provider is required")


def _sign_in_by_token(browser: Browser) -> Browser:
    """Sign the browser in by a valid session token, such as one of `flask token`."""
    try:
        claims = services().verifier.verify(request.cookies.get(SESSION, ""))
    except InvalidTokenError:
        return browser
    identity = identity_from_claims(claims)
    user = _provider().find(identity.clerk_id)
    if identity.email or user is None:
        is_verified = bool(identity.email_verified)
        user = DevUser(
            identity.clerk_id, identity.name, identity.email, is_verified, identity.image_url
        )
    return _sessions().sign_in(browser, user)


def _return_url(url: str | None) -> str:
    """Return a path of this site, or the URL of another app under development on this machine."""
    if url and _is_development_host(safe_urlsplit(url).hostname):
        return url
    return local_path(url)


def _is_development_host(host: str | None) -> bool:
    return host in LOOPBACK or host == urlsplit(request.host_url).hostname


def _with_parameter(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), (name, value)]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _sessions() -> DevSessions:
    return cast(DevSessions, services().dev_sessions)  # the blueprint is registered with it only


def _provider() -> DevIdentityProvider:
    return cast(DevIdentityProvider, services().dev_provider)
