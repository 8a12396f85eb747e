"""The gate: who is asking, which profile is theirs, and may they enter here?

Runs before every view. What it guarantees is committed before the view starts, so that a view that
fails cannot undo it. A view that does not state who may enter (web/access_policy.py) is closed.
"""

import ipaddress
import random
import re
import time
from functools import cache
from urllib.parse import urlsplit

import structlog
from flask import Flask, Response, current_app, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from prometheus_client import Counter, Histogram

from auth.errors import CallNeededError
from auth.tokens import SessionClaims
from core import deadlines, metrics
from core.rate_limit import LimitKind
from provisioning.context import READY, UNDECIDED, RequestContext
from provisioning.ensure import CHANGES
from provisioning.errors import Denial
from web.access_policy import Access, AccessPolicy, policy_of
from web.errors import (
    AccountDeletedError,
    ForbiddenError,
    HeadersTooLargeError,
    InvalidHostError,
    ProfileRequiredError,
    SessionLoopError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
)
from web.problem_responses import is_api_path, reference
from web.request_context import context_for_request, flash_user
from web.services import services
from web.session import authenticate, check_origin, expired_session_id, is_bearer, send_cookies
from web.urls import has_valid_host

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
CONVERTER = re.compile(r"<(?:[^<>]*:)?(\w+)>")


def register_metrics_hooks(app: Flask) -> None:
    """Have every request counted under its route; to be registered before the gate."""
    app.before_request(_start)
    app.after_request(_count)


def _start() -> None:
    g.started = time.monotonic()


def _count(response: Response) -> Response:
    """Labels come from tables of ours, never from what was sent, of which there is no end."""
    method = request.method if request.method in METHODS else "other"
    rule = request.url_rule.rule if request.url_rule else "unknown"
    requests, seconds = _counters(method, rule, response.status_code)
    requests.inc()
    seconds.observe(time.monotonic() - g.started)
    return response


@cache
def _counters(method: str, rule: str, status: int) -> tuple[Counter, Histogram]:
    route = CONVERTER.sub(r"<\1>", rule)
    requests = metrics.HTTP_REQUESTS.labels(method, route, status)
    return requests, metrics.HTTP_SECONDS.labels(method, route)


WITH_PORT = re.compile(r"\[?([^\[\]]+)\]:\d{1,5}|([\d.]+):\d{1,5}")
LONGEST_ADDRESS = 64
IPV6_HOME = 64  # bits; a single home holds more IPv6 addresses than there are of version 4


def check_rate_limit(purse: LimitKind, who: str) -> None:
    """Count a request of theirs; raises TooManyRequestsError for one too many."""
    seconds = services().rate_limiter.hit(purse, who)
    if seconds > 0:
        raise TooManyRequestsError(seconds)


def check_address_rate_limit() -> None:
    """Count a request of somebody who has not shown who they are; raises as `charge` does."""
    check_rate_limit(LimitKind.ADDRESS, _origin(request.remote_addr or ""))


def _origin(address: str) -> str:
    """The address, or for version 6 the network that one household is given.

    Some proxies write the port as well: `192.0.2.1:5678`, `[2001:db8::1]:443`.
    """
    match = WITH_PORT.fullmatch(address)
    host = (match[1] or match[2]) if match else address.strip("[]")
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return f"unknown {address[:LONGEST_ADDRESS]}"  # a socket file, or what a proxy makes up
    if parsed.version == 4:
        return host
    mapped = parsed.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(parsed), IPV6_HOME), strict=False))


log = structlog.get_logger(__name__)

REQUEST_SECONDS = 1.9  # whatever is slow, a coded answer comes within two (CONTRACT section 8)
HOPELESS = (SessionLoopError, AccountDeletedError)  # signing in again would only come back here
LARGEST_HEADERS = 64 * 1024  # characters, of all headers; one alone may have half of it
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def before_request() -> ResponseReturnValue | None:
    """Before every request: name it, find out who asks, guarantee their profile, let them in."""
    deadlines.begin(REQUEST_SECONDS)
    g.request_id = _request_id()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    _check_header_size()
    if not has_valid_host():
        raise InvalidHostError("no server has such a name")
    if request.endpoint is None:
        check_address_rate_limit()
        return _without_final_slash()  # else no such route: the router's 404 or 405 follows
    stance = policy_of(current_app.view_functions[request.endpoint])
    if stance is None:
        log.error("view_without_stance", endpoint=request.endpoint)
        raise ForbiddenError("this view does not state who may enter")
    _check_body_type()
    check_origin()
    if stance.access is not Access.PUBLIC:
        return _authorize(stance)
    if not stance.unlimited:
        check_address_rate_limit()
    return None


def after_request(response: Response) -> Response:
    """After every request: the answer carries its id, and is not kept where it is personal."""
    response.headers["X-Request-ID"] = reference()
    send_cookies(response)
    # Somebody's own: neither a proxy nor the back button may show it to others, and a browser that
    # keeps a detour would go round for ever.
    if "context" in g or response.status_code == 307:
        response.headers["Cache-Control"] = "no-store"
    return response


def teardown_request(_: BaseException | None) -> None:
    """At the very end: the next request of this thread starts with a clean sheet."""
    structlog.contextvars.clear_contextvars()
    deadlines.end()


def _authorize(stance: AccessPolicy) -> ResponseReturnValue | None:
    try:
        arrived = _authenticate_rate_limited()
        if isinstance(arrived, str):
            return redirect(arrived, code=307)
        check_rate_limit(LimitKind.ENSURE if stance.fresh else LimitKind.USER, arrived.subject)
        g.claims = arrived
        g.context = context_for_request(arrived, is_fresh=stance.fresh)
    except UnauthenticatedError as err:
        if _is_page_visit() and not _is_framed() and not isinstance(err, HOPELESS):
            return redirect(url_for("auth.login", next=_requested_path()))
        raise
    _flash_profile_created(g.context)
    _enforce(stance.access, g.context)
    return None


def _authenticate_rate_limited() -> SessionClaims | str:
    """The session's claims, or where to send the browser; a request without either is counted.

    A session that has expired is counted by its id, so that neighbours behind one address do not
    use up each other's limit; anything else by the address. A request that only a call to Clerk can
    decide is counted before the call, so that one that is refused costs none.
    """
    is_counted = False
    try:
        try:
            arrived = authenticate(may_call=False)
        except CallNeededError:
            _check_rate_limit_without_session()
            is_counted = True
            arrived = authenticate(may_call=True)
    except UnauthenticatedError:
        if not is_counted:
            _check_rate_limit_without_session()
        raise
    if isinstance(arrived, str) and not is_counted:
        _check_rate_limit_without_session()
    return arrived


def _check_rate_limit_without_session() -> None:
    session_id = expired_session_id()
    if session_id is None:
        check_address_rate_limit()
    else:
        check_rate_limit(LimitKind.USER, session_id)


def _enforce(access: Access, context: RequestContext) -> None:
    if access is Access.MENTORADO and context.status != READY:
        raise ProfileRequiredError(context.status)
    if access is Access.ADMIN and not context.is_admin:
        # Of an undecided user the role is not known either.
        if context.status in (Denial.USER_BLOCKED, *UNDECIDED):
            raise ProfileRequiredError(context.status)
        raise ForbiddenError("for admins only")


def _flash_profile_created(context: RequestContext) -> None:
    """Tell the person once, on their first page, that their profile is there."""
    is_new = context.outcome in CHANGES
    if is_new and context.status == READY and not is_bearer():
        flash_user("Perfil criado!")


def _without_final_slash() -> ResponseReturnValue | None:
    """Redirect `/dashboard/` to `/dashboard`, where there is such a route."""
    path = f"/{request.path.strip('/')}"  # one slash at its beginning: never another host
    router = current_app.url_map.bind("")
    if not request.path.endswith("/") or path == "/" or not router.test(path, request.method):
        return None
    query = request.query_string.decode("ascii", "ignore")
    return redirect(f"{path}?{query}" if query else path, code=308)


def _check_header_size() -> None:
    """Refuse headers that are too large in sum; a hundred Cookie headers arrive joined into one."""
    sizes = (len(value) for name, value in request.environ.items() if name.startswith("HTTP_"))
    if sum(sizes) > LARGEST_HEADERS:
        raise HeadersTooLargeError("the headers are too large in sum")


def _check_body_type() -> None:
    if _has_body() and is_api_path(request.path) and not request.is_json:
        raise UnsupportedMediaTypeError("the API reads JSON only")


def _has_body() -> bool:
    sent = request.environ
    return bool(sent.get("CONTENT_LENGTH", "0").strip("0")) or "HTTP_TRANSFER_ENCODING" in sent


def _is_page_visit() -> bool:
    return request.method in ("GET", "HEAD") and not is_api_path(request.path)


def _is_framed() -> bool:
    """Whether the page is for a frame, where no sign-in page would be shown."""
    return request.headers.get("Sec-Fetch-Dest") == "iframe"


def _requested_path() -> str:
    parts = urlsplit(request.full_path)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _request_id() -> str:
    given = request.headers.get("X-Request-ID", "")
    if REQUEST_ID.fullmatch(given):
        return given
    # A name, not a secret: asking the system for chance would hand our turn to another thread.
    return f"{random.getrandbits(128):032x}"  # nosec B311
