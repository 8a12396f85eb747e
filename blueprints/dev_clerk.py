"""The stand-in's face: its sign-in page, its keys, users and handshakes, over HTTP.

Development only. What it answers is what Clerk answers, so that the same code meets both.
"""

from secrets import compare_digest
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask import Blueprint, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue

from auth.cookies import DEV_BROWSER, SESSION
from auth.errors import InvalidTokenError, UnknownUserError
from auth.handshake import HANDSHAKE
from auth.tokens import identity_from_claims
from blueprints.api.auth import local_path
from core.config import is_loopback
from dev.fake_clerk import (
    DEMO_USERS,
    Browser,
    DevIdentityProvider,
    DevSessions,
    DevUser,
    demo_user,
    new_demo_user,
)
from web.access_policy import public_unlimited
from web.errors import CsrfError, NotFoundError, UnauthenticatedError
from web.services import services
from web.urls import is_from_our_pages, safe_urlsplit

local_clerk = Blueprint("local_clerk", __name__, url_prefix="/local-clerk")

LOOPBACK = {"127.0.0.1", "localhost", "::1"}  # where apps under development live
# What a proxy adds, and no browser by itself: the client may be any machine then.
OF_PROXIES = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
LONGEST_PAGE = 500


@local_clerk.before_request
def refuse_other_sites() -> None:
    """Serve developers of this machine only: anybody who signs in here may be the admin.

    A page of another site could reach it through a name that it has pointed at this machine, or by
    a form; another machine where a server listens on other addresses, or through a proxy. Raises
    NotFoundError and CsrfError.
    """
    if safe_urlsplit(request.host_url).hostname not in LOOPBACK:
        raise NotFoundError("the development identity provider has loopback names only")
    if not _is_of_this_machine():
        raise NotFoundError("the development identity provider serves this machine only")
    if request.method == "POST" and "Origin" in request.headers and not is_from_our_pages():
        raise CsrfError("a form of another site")


@local_clerk.get("/sign-in")
@public_unlimited
def sign_in() -> ResponseReturnValue:
    """The cast, one button each, and a form for anybody else."""
    target = _target(request.args.get("redirect_url"))
    return render_template("sign_in.html", cast=DEMO_USERS, redirect_url=target)


@local_clerk.post("/sign-in")
@public_unlimited
def enter() -> ResponseReturnValue:
    """Sign that person in and send the browser back to where it wanted to go."""
    person = demo_user(request.form.get("pessoa", "")) or _described()
    browser = _sessions().sign_in(_own_browser(), person)
    target = _target(request.form.get("redirect_url"))
    if urlsplit(target).netloc:  # another site, which knows its browsers by this mark
        target = _with(target, DEV_BROWSER, browser.id)
    response = redirect(target, code=303)
    for directive in _sessions().directives(browser, request.host_url.rstrip("/")):
        response.headers.add("Set-Cookie", directive)
    return response


@local_clerk.get("/v1/client/handshake")
@public_unlimited
def handshake() -> ResponseReturnValue:
    """Send the browser back with fresh cookies for the site that it came from."""
    parts = safe_urlsplit(request.args.get("redirect_url", ""))
    if parts.scheme not in ("http", "https") or not _is_known(parts.hostname):
        raise NotFoundError("a handshake ends on a site under development")
    browser = _sessions().browser(request.args.get(DEV_BROWSER))
    if browser.clerk_id is None and parts.netloc == request.host:
        browser = _adopted(browser)
    answer = _sessions().answer(browser, f"{parts.scheme}://{parts.netloc}")
    return redirect(_with(parts.geturl(), HANDSHAKE, answer), code=307)


@local_clerk.get("/.well-known/jwks.json")
@public_unlimited
def jwks() -> ResponseReturnValue:
    """The public keys of the stand-in."""
    return jsonify(_provider().key_set())


@local_clerk.get("/v1/users")
@public_unlimited
def users() -> ResponseReturnValue:
    """Everybody who ever signed in, as the Backend API lists them."""
    _check_secret()
    offset = request.args.get("offset", 0, type=int)
    limit = request.args.get("limit", 10, type=int)
    return jsonify(_provider().users(max(0, offset), min(limit, LONGEST_PAGE)))


@local_clerk.get("/v1/users/<clerk_id>")
@public_unlimited
def user(clerk_id: str) -> ResponseReturnValue:
    """A user as the Backend API describes them."""
    _check_secret()
    try:
        return jsonify(_provider().user(clerk_id))
    except UnknownUserError as err:
        return jsonify({"errors": [{"code": "resource_not_found", "message": str(err)}]}), 404


@local_clerk.post("/v1/sessions/<session_id>/revoke")
@public_unlimited
def revoke(session_id: str) -> ResponseReturnValue:
    """End a session, as the Backend API does it."""
    _check_secret()
    try:
        _sessions().end(session_id)
    except UnknownUserError as err:
        raise NotFoundError(str(err)) from err
    return jsonify({"object": "session", "id": session_id, "status": "revoked"})


def _is_of_this_machine() -> bool:
    """Whether the connection comes from this machine, and from no proxy; a Unix socket has none."""
    is_forwarded = any(name in request.headers for name in OF_PROXIES)
    client = request.environ.get("REMOTE_ADDR") or ""
    return not is_forwarded and (client == "" or is_loopback(client))


def _check_secret() -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    # Compared as bytes: of texts it takes only ASCII, and a stranger may send anything.
    is_right = compare_digest(key.encode(), _provider().secret_key.encode())
    if scheme.lower() != "bearer" or not is_right:
        raise UnauthenticatedError("the stand-in's secret key is needed")


def _own_browser() -> Browser:
    return _sessions().browser(request.cookies.get(DEV_BROWSER))


def _adopted(browser: Browser) -> Browser:
    """Somebody who brings a good token of ours, as `flask token` makes them, is signed in by it."""
    try:
        claims = services().verifier.verify(request.cookies.get(SESSION, ""))
    except InvalidTokenError:
        return browser
    told = identity_from_claims(claims)
    known = _provider().find(told.clerk_id)
    described = DevUser(
        told.clerk_id, told.name, told.email, bool(told.email_verified), told.image_url
    )
    return _sessions().sign_in(browser, described if told.email or not known else known)


def _described() -> DevUser:
    """The person of the free form."""
    form = request.form
    return new_demo_user(
        DevUser(
            "",
            form.get("nome", "").strip() or None,
            form.get("email", "").strip() or None,
            email_verified="verificado" in form,
        )
    )


def _target(address: str | None) -> str:
    """A path of this site, or a page of another one under development on this machine."""
    if address and _is_known(safe_urlsplit(address).hostname):
        return address
    return local_path(address)


def _is_known(host: str | None) -> bool:
    return host in LOOPBACK or host == urlsplit(request.host_url).hostname


def _with(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), (name, value)]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _sessions() -> DevSessions:
    sessions = services().dev_sessions
    if sessions is None:
        raise NotFoundError("the stand-in is not in service")
    return sessions


def _provider() -> DevIdentityProvider:
    provider = services().dev_provider
    if provider is None:
        raise NotFoundError("the stand-in is not in service")
    return provider
