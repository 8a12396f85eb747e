"""An HTTP client of Clerk's Backend API and published keys; each method makes one call.

It does not decide whether a call may be made. `auth/provider_calls.py` does, and every call of the
app goes through it.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urljoin

from auth.clerk_calls import RefreshRequest
from auth.errors import (
    NOT_JSON,
    TOO_LARGE,
    ProviderUnavailableError,
    RateLimitedError,
    RefreshRefusedError,
    SecretKeyRefusedError,
    UnknownAtProviderError,
    UnusableAnswerError,
)
from auth.handshake import API_VERSION
from auth.provider_calls import CALL_SECONDS, PAGE_SECONDS
from core.bounded_http import BoundedClient, NotDecodableError, Response, TooLargeError

DEFAULT_RETRY_AFTER_SECONDS = 10.0  # Clerk counts in windows of ten seconds
MAX_ANSWER_BYTES = 1_000_000
MAX_PAGE_BYTES = 32_000_000
MAX_KEY_SET_BYTES = 256_000
MAX_REDIRECTS = 3  # of the address of the keys

KEY_REFUSED = (401, 403)
REDIRECTS = (301, 302, 303, 307, 308)
WRONG_URL = (404, *range(300, 400))  # a 404 that is not from Clerk, or a redirect
OUTAGES = (408, *range(500, 600))
VERSION_HEADER = {"Clerk-API-Version": API_VERSION}
ERROR_CODE = re.compile(r"[a-z0-9_-]{1,64}")
# They are sent as tokens, or belong to other programs on the same domain.
WITHHELD_HEADERS = ("cookie", "authorization")

Document = Mapping[str, Any]


class ClerkClient:
    """Calls Clerk with an instance's secret key; shared by threads.

    Every method raises ProviderUnavailableError where no user can be looked up, and
    UnusableAnswerError for a response that cannot be used.
    """

    def __init__(self, secret_key: str | None, api_url: str, jwks_url: str | None = None) -> None:
        self._headers = {"Authorization": f"Bearer {secret_key}", **VERSION_HEADER}
        self._jwks_url = jwks_url
        self._api = BoundedClient(f"{api_url.rstrip('/')}/v1")
        self._keys = BoundedClient(jwks_url) if jwks_url else None

    def user(self, clerk_id: str) -> Document:
        """Return Clerk's user document; raises UnknownAtProviderError as well."""
        return _as_object(self._call("GET", f"/users/{quote(clerk_id, safe='')}"))

    def users(self, offset: int, limit: int) -> list[object]:
        """Return user documents in the order of creation; entries are not validated."""
        params: dict[str, str | int] = {"limit": limit, "offset": offset, "order_by": "+created_at"}
        found = _parse_json(
            self._call("GET", "/users", params, seconds=PAGE_SECONDS, max_bytes=MAX_PAGE_BYTES)
        )
        if not isinstance(found, list):
            raise ProviderUnavailableError("not a list of users")
        return found

    def end_session(self, session_id: str) -> None:
        """Revoke a session; raises UnknownAtProviderError for one that Clerk does not know."""
        self._call("POST", f"/sessions/{quote(session_id, safe='')}/revoke")

    def handshake_cookies(self, nonce: str) -> list[str]:
        """Exchange a nonce for cookies; raises UnknownAtProviderError as well."""
        answer = self._call("GET", "/clients/handshake_payload", {"nonce": nonce})
        return _texts(_as_object(answer).get("directives"))

    def refresh_session(self, request: RefreshRequest) -> list[str]:
        """Exchange an expired session token for cookies; raises RefreshRefusedError as well."""
        headers = {
            name: [value]
            for name, value in request.headers.items()
            if name.lower() not in WITHHELD_HEADERS
        }
        answer = self._call(
            "POST",
            f"/sessions/{quote(request.session_id, safe='')}/refresh",
            {"suffixed_cookies": "true"} if request.are_suffixed else None,
            may_fail=True,
            body={
                "format": "cookie",
                "expired_token": request.expired_token,
                "refresh_token": request.refresh_token,
                "request_origin": request.origin,
                "request_headers": headers,
            },
        )
        code = _error_code(answer)
        if 400 <= answer.status < 500 and answer.status != 429 and code is not None:
            raise RefreshRefusedError(code)
        _raise_for_status(answer)
        return _texts(_as_object(answer).get("cookies"))

    def key_set(self) -> Document:
        """Return the published keys, a JSON Web Key Set (RFC 7517)."""
        return self.dated_key_set()[0]

    def dated_key_set(self) -> tuple[Document, str | None]:
        """Return the published keys and the `Date` header of their host."""
        client, url = self._keys, self._jwks_url
        if client is None or url is None:
            raise ProviderUnavailableError("the address of the keys is not set")
        for _ in range(1 + MAX_REDIRECTS):
            answer = _send(client, "GET", headers=VERSION_HEADER, max_bytes=MAX_KEY_SET_BYTES)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or location is None:
                break
            url = urljoin(url, location)
            client = BoundedClient(url)
        if answer.status != 200:
            raise ProviderUnavailableError(f"status {answer.status}: check the address of the keys")
        return _as_object(answer), answer.headers.get("date")

    def instance_key_set(self) -> Document:
        """Return the keys of the instance to which the secret key belongs."""
        return _as_object(self._call("GET", "/jwks"))

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        may_fail: bool = False,
        **options: Any,
    ) -> Response:
        """Make a request with the secret key; raises an error for every status but 200."""
        answer = _send(self._api, method, path, params=params, headers=self._headers, **options)
        if not may_fail:
            _raise_for_status(answer)
        return answer


def _send(
    client: BoundedClient,
    method: str,
    path: str = "",
    *,
    seconds: float = CALL_SECONDS,
    max_bytes: int = MAX_ANSWER_BYTES,
    **options: Any,
) -> Response:
    """As `BoundedClient.request`, with the errors of this package."""
    try:
        return client.request(method, path, seconds=seconds, max_bytes=max_bytes, **options)
    except TooLargeError as err:
        raise UnusableAnswerError(TOO_LARGE) from err
    except NotDecodableError as err:
        raise UnusableAnswerError("not_decodable") from err
    except Exception as err:  # every error of the HTTP client means that Clerk was not reached
        raise ProviderUnavailableError(type(err).__name__) from err


def _raise_for_status(answer: Response) -> None:
    """Raise the error for the status, unless it is 200; most of them concern all users."""
    status = answer.status
    if status == 404 and _errors(answer) is not None:  # not that of a wrong URL
        raise UnknownAtProviderError("nothing of that id")
    if status == 429:
        raise RateLimitedError(_retry_after_seconds(answer.headers.get("retry-after")))
    if status in KEY_REFUSED:
        raise SecretKeyRefusedError(status)
    if status in WRONG_URL:
        raise ProviderUnavailableError(f"status {status}: check CLERK_API_URL")
    if status in OUTAGES:
        raise ProviderUnavailableError(f"status {status}")
    if status != 200:
        raise UnusableAnswerError(str(status))


def _errors(answer: Response) -> object:
    """Return the errors of a response of Clerk; None for any other response."""
    try:
        return _as_object(answer).get("errors")
    except UnusableAnswerError:
        return None


def _error_code(answer: Response) -> str | None:
    """Return the code of the first error; None where there is none."""
    errors = _errors(answer)
    first = errors[0] if isinstance(errors, list) and errors else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, str) and ERROR_CODE.fullmatch(code) else None


def _parse_json(answer: Response) -> object:
    try:
        found: object = json.loads(answer.body)
    except (ValueError, RecursionError) as err:
        raise UnusableAnswerError(NOT_JSON) from err
    return found


def _as_object(answer: Response) -> Document:
    found = _parse_json(answer)
    if not isinstance(found, dict):
        raise UnusableAnswerError("not_an_object")
    return found


def _texts(found: object) -> list[str]:
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _retry_after_seconds(value: str | None) -> float:
    """Return the seconds to wait from either form of the header (RFC 9110, section 10.2.3)."""
    try:
        return max(0.0, float(value or DEFAULT_RETRY_AFTER_SECONDS))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return DEFAULT_RETRY_AFTER_SECONDS
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
