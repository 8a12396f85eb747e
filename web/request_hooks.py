"""Request hooks: metrics, rate limits, authentication, the user's profile and the access policy.

They run before every view. The profile is committed before the view starts, so that a view that
fails cannot undo it. A view without an access policy (web/access_policy.py) is closed.
"""

import ipaddress
import random
import re
import time
from functools import cache
from urllib.parse import urlsplit

import structlog
from flask import Response, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from prometheus_client import Counter, Histogram

from auth.errors import CallNeededError, KeysUnavailableError
from auth.tokens import SessionClaims, identity_from_claims
from core import deadlines, metrics
from core.flask_app import LeanResponse
from core.rate_limit import LimitKind
from provisioning.context import FAILED_STATUSES, NOT_REQUIRED, READY, RequestContext
from provisioning.ensure import CHANGES, Outcome
from provisioning.errors import DatabaseUnavailableError, Denial
from web.access_policy import POLICIES, Access, AccessPolicy
from web.errors import (
    AccountDeletedError,
    HttpError,
    ProfileRequiredError,
    SessionLoopError,
    TooManyRequestsError,
    UnauthenticatedError,
)
from web.request_context import context_for_request, flash_user, record_impersonated_write
from web.responses import COMPRESSED_TYPES, FRAMED_ENDPOINT, STATIC, Headers, StaticFiles
from web.services import services
from web.session import (
    SAFE_METHODS,
    authenticate,
    bearer_token,
    check_origin,
    expired_session_id,
    has_session_cookie,
    is_api_path,
)
from web.urls import is_valid_host

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 1.9  # deadline, so that every response comes within two seconds
MAX_HEADER_CHARACTERS = 64 * 1024  # of all headers; gunicorn limits one header to half of it
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DASHBOARD = "pages.dashboard"
LOGIN_CANNOT_HELP = (SessionLoopError, AccountDeletedError)  # a login would end in the same error

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
ROUTE_PARAMETER = re.compile(r"<(?:[^<>]*:)?(\w+)>")

# Some proxies write the port as well: `192.0.2.1:5678`, `[2001:db8::1]:443`.
ADDRESS_WITH_PORT = re.compile(r"\[?([^\[\]]+)\]:\d{1,5}|([\d.]+):\d{1,5}")
MAX_ADDRESS_LENGTH = 64
IPV6_PREFIX_LENGTH = 64  # bits; one household has more IPv6 addresses than version 4 has in all


@cache
def _request_metrics(method: str, rule: str, status: int) -> tuple[Counter, Histogram]:
    route = ROUTE_PARAMETER.sub(r"<\1>", rule)
    requests = metrics.HTTP_REQUESTS.labels(method, route, status)
    return requests, metrics.HTTP_SECONDS.labels(method, route)


def check_rate_limit(session_id: str | None = None) -> None:
    """Count a request without a valid session, by the id of its expired one or by its address.

    Raises TooManyRequestsError above the limit.
    """
    limits = services().rate_limiter
    if session_id is None:
        seconds = limits.hit(LimitKind.ADDRESS, _address_key(request.remote_addr or ""))
    else:
        seconds = limits.hit(LimitKind.USER, session_id)
    if seconds > 0:
        raise TooManyRequestsError(seconds)


def _address_key(address: str) -> str:
    """Return the rate limit's key for an address: IPv4 as it is, IPv6 as its /64 network."""
    match = ADDRESS_WITH_PORT.fullmatch(address)
    host = (match[1] or match[2]) if match else address.strip("[]")
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return f"unknown {address[:MAX_ADDRESS_LENGTH]}"  # Unix socket, or proxy
    if parsed.version == 4:
        return host
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), IPV6_PREFIX_LENGTH), strict=False))


def before_request() -> ResponseReturnValue | None:
    """Prepare every request before its view.

    1. Set the deadline and the request id.
    2. Check headers, host, body type and origin.
    3. Authenticate the user and apply the rate limit.
    4. Load or ensure the request context.
    5. Enforce the access policy.
    """
    g.started = time.monotonic()
    deadlines.set_for_request(REQUEST_SECONDS)
    request_id, environ = request.headers.get("X-Request-ID", ""), request.environ
    if not REQUEST_ID.fullmatch(request_id):
        # Not a secret: the system's random source would release the GIL to another thread.
        request_id = f"{random.getrandbits(128):032x}"  # nosec B311
    g.request_id = request_id
    structlog.contextvars.bind_contextvars(request_id=request_id)
    # Also in sum: many Cookie headers arrive joined into one.
    if sum(len(environ[n]) for n in environ if n.startswith("HTTP_")) > MAX_HEADER_CHARACTERS:
        raise HttpError("payload_too_large", "the headers are too large in sum")
    if not is_valid_host(request.host):
        raise HttpError("invalid_host", "the Host header has no valid name")
    if request.endpoint is None:
        check_rate_limit()
        _load_cached_context()
        return _redirect_without_trailing_slash()  # None: the router's 404 or 405 follows
    policy = POLICIES.get(current_app.view_functions[request.endpoint])
    if policy is None:
        log.error("view_without_policy", endpoint=request.endpoint)
        raise HttpError("forbidden", "this view has no access policy")
    has_body = environ.get("CONTENT_LENGTH", "0").strip("0") or "HTTP_TRANSFER_ENCODING" in environ
    if has_body and is_api_path(request.path) and not request.is_json:
        raise HttpError("unsupported_media_type", "the API reads JSON only")
    if request.method not in SAFE_METHODS:
        check_origin()
    if policy.access is not Access.PUBLIC:
        return _authorize(policy)
    if not policy.unlimited:
        check_rate_limit()
    return None


def after_request(
    files: StaticFiles, default: Headers, framed: Headers, response: LeanResponse
) -> Response:
    """Complete every response; the headers are those of `security_headers`.

    1. Compress pages and static files.
    2. Add the security headers, the request id and the session's cookies.
    3. Forbid caching of personal responses.
    4. Count it; the labels come from fixed tables, which bounds them.
    """
    endpoint = request.endpoint
    if endpoint == STATIC and response.status_code in (200, 304):
        files.prepare(response)
    if response.mimetype in COMPRESSED_TYPES:
        response = files.compress(response)
    response.constant_headers = framed if endpoint == FRAMED_ENDPOINT else default
    response.headers["X-Request-ID"] = g.request_id
    for cookie in g.pop("set_cookies", ()):  # of Clerk's handshake
        response.headers.add("Set-Cookie", cookie)
    # A personal page must not be shown to another user by a proxy or the back button. A cached
    # redirect to the handshake would loop.
    if "context" in g or response.status_code == 307:
        response.headers["Cache-Control"] = "no-store"
    method = request.method if request.method in METHODS else "other"
    rule = request.url_rule.rule if request.url_rule else "unknown"
    requests, seconds = _request_metrics(method, rule, response.status_code)
    requests.inc()
    seconds.observe(time.monotonic() - g.started)
    return response


def teardown_request(_: BaseException | None) -> None:
    """Clear the thread's log context and deadline before its next request."""
    structlog.contextvars.clear_contextvars()
    deadlines.set_for_request(None)


def _authorize(policy: AccessPolicy) -> ResponseReturnValue | None:
    """Authenticate the user, apply the rate limit, set `g.context`, and enforce the policy."""
    try:
        claims_or_url = _authenticate_rate_limited()
        if isinstance(claims_or_url, str):
            return redirect(claims_or_url, code=307)
        claims = claims_or_url
        limits, contexts = services().rate_limiter, services().provisioning.contexts
        kind = LimitKind.ENSURE if policy.fresh else LimitKind.USER
        keys = () if policy.fresh else contexts.keys(claims.subject)
        seconds, cached = limits.hit_and_read(kind, claims.subject, keys)
        if seconds > 0:
            raise TooManyRequestsError(seconds)
        services().activity.note_use()
        g.claims = claims
        g.context = context_for_request(claims, cached, skips_cache=policy.fresh)
    except UnauthenticatedError as err:
        # In a frame Clerk's sign-in page would not load.
        is_framed = request.headers.get("Sec-Fetch-Dest") == "iframe"
        if _is_page_request() and not is_framed and not isinstance(err, LOGIN_CANNOT_HELP):
            return redirect(url_for("auth.login", next=_requested_path()))
        raise
    if claims.impersonator is not None:
        g.impersonator = claims.impersonator
        structlog.contextvars.bind_contextvars(impersonator=claims.impersonator)
    context: RequestContext = g.context
    if context.outcome in CHANGES and context.status == READY and bearer_token() is None:
        is_created = context.outcome == Outcome.CREATED
        flash_user("Perfil criado!" if is_created else "Encontramos seu cadastro. Boas-vindas!")
    if request.endpoint == DASHBOARD and context.status == NOT_REQUIRED:
        return redirect(url_for("console.overview"), code=303)  # an admin without a profile
    if policy.access is not Access.SIGNED_IN:
        _check_access(policy.access, context)
    if claims.impersonator is not None and request.method not in SAFE_METHODS:
        record_impersonated_write(claims.impersonator)
    return None


def _authenticate_rate_limited() -> SessionClaims | str:
    """Return the session's claims, or the URL to redirect to; count requests without claims.

    An expired session is counted by its id, so that users behind one address do not share one
    limit. Other requests without claims are counted by address. A request that needs a call to
    Clerk is counted before the call, so that a rejected one causes none.
    """
    found: SessionClaims | str | CallNeededError | UnauthenticatedError
    try:
        found = authenticate(may_call=False)
    except (CallNeededError, UnauthenticatedError) as err:
        found = err
    if isinstance(found, SessionClaims):
        return found
    check_rate_limit(expired_session_id())
    if isinstance(found, CallNeededError):
        return authenticate(may_call=True)
    if isinstance(found, UnauthenticatedError):
        raise found
    return found


def _check_access(access: Access, context: RequestContext) -> None:
    if access is Access.MENTORADO and context.status != READY:
        raise ProfileRequiredError(context.status)
    if access is Access.ADMIN and not context.is_admin:
        # Where the ensure call has failed, the role is not known either.
        if context.status in (Denial.USER_BLOCKED, *FAILED_STATUSES):
            raise ProfileRequiredError(context.status)
        raise HttpError("forbidden", "for admins only")


def _redirect_without_trailing_slash() -> ResponseReturnValue | None:
    """Redirect `/dashboard/` to `/dashboard`, if there is such a route; otherwise return None."""
    path = f"/{request.path.strip('/')}"  # one leading slash, so that it never names another host
    router = current_app.url_map.bind("")
    if not request.path.endswith("/") or path == "/" or not router.test(path, request.method):
        return None
    query = request.query_string.decode("ascii", "ignore")
    return redirect(f"{path}?{query}" if query else path, code=308)


def _load_cached_context() -> None:
    """Set `g.context` for the menu of a page that does not exist, if the user's is cached."""
    if not (_is_page_request() and has_session_cookie()):
        return
    try:
        claims = authenticate(may_call=False)
        if isinstance(claims, SessionClaims) and claims.impersonator is None:
            contexts, now = services().provisioning.contexts, services().now()
            context = contexts.get(identity_from_claims(claims), now)
            if context is not None:
                g.context = context
    except (UnauthenticatedError, CallNeededError, KeysUnavailableError, DatabaseUnavailableError):
        return
    finally:
        g.pop("set_cookies", None)  # of a handshake that does not take place


def _is_page_request() -> bool:
    return request.method in ("GET", "HEAD") and not is_api_path(request.path)


def _requested_path() -> str:
    parts = urlsplit(request.full_path)
    return parts.path + (f"?{parts.query}" if parts.query else "")
