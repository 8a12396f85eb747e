"""Clerk's Backend API and its published keys over HTTP: one request a method, bounded.

Nothing here decides whether a call may be made: that is `auth/provider_calls.py`, through which
every call of the app goes.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urljoin

from auth.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnknownUserError,
    UnusableAnswerError,
)
from auth.handshake import API_VERSION
from auth.provider_calls import CALL_SECONDS
from core.bounded_http import Answer, BoundedClient, NotDecodableError, TooLargeError

PAGE_SECONDS = 30.0  # of five hundred users, for a command
DEFAULT_REST_SECONDS = 10.0  # Clerk counts in windows of ten seconds
LARGEST_ANSWER_BYTES = 1_000_000
LARGEST_PAGE_BYTES = 32_000_000
LARGEST_KEY_SET_BYTES = 256_000
MOST_REDIRECTS = 3  # of the address of the keys

KEY_REFUSED = (401, 403)
REDIRECTS = (301, 302, 303, 307, 308)
ELSEWHERE = (404, *range(300, 400))  # a 404 that is not Clerk's, or a way to another address
OUTAGES = (408, *range(500, 600))
# Answers with these codes are about one user of a page, who makes the whole page unreadable.
NOT_JSON, TOO_LARGE = "not_json", "too_large"

Document = Mapping[str, Any]


class ClerkClient:
    """Calls Clerk with an instance's secret key; shared by threads.

    Every method raises ProviderUnavailableError where no user can be asked about, and
    UnusableAnswerError for an answer that says nothing usable.
    """

    def __init__(self, secret_key: str | None, api_url: str, jwks_url: str | None = None) -> None:
        self._secret_key = secret_key
        self._jwks_url = jwks_url
        self._api = BoundedClient(f"{api_url.rstrip('/')}/v1")
        self._keys = BoundedClient(jwks_url) if jwks_url else None

    def user(self, clerk_id: str) -> Document:
        """Return one user as Clerk describes it; raises UnknownUserError as well."""
        return _object(_json(self._call("GET", f"/users/{quote(clerk_id, safe='')}")))

    def users(self, offset: int, limit: int) -> list[object]:
        """Return users in the order of their creation; an entry may be anything."""
        params: dict[str, str | int] = {"limit": limit, "offset": offset, "order_by": "+created_at"}
        found = _json(
            self._call("GET", "/users", params, seconds=PAGE_SECONDS, most_bytes=LARGEST_PAGE_BYTES)
        )
        if not isinstance(found, list):
            raise ProviderUnavailableError("not a list of users")
        return found

    def end_session(self, session_id: str) -> None:
        """Revoke a session; raises UnknownUserError for one that Clerk does not know."""
        self._call("POST", f"/sessions/{quote(session_id, safe='')}/revoke")

    def handshake_cookies(self, nonce: str) -> list[str]:
        """Return the cookies that a nonce stands for; raises UnknownUserError as well."""
        answer = self._call("GET", "/clients/handshake_payload", {"nonce": nonce})
        directives = _object(_json(answer)).get("directives")
        return [d for d in directives if isinstance(d, str)] if isinstance(directives, list) else []

    def key_set(self) -> Document:
        """Return the published keys, a JSON Web Key Set (RFC 7517)."""
        return self.dated_key_set()[0]

    def dated_key_set(self) -> tuple[Document, str | None]:
        """Return the published keys and the time of day of their host, as its header says."""
        answer = self._published()
        return _object(_json(answer)), answer.headers.get("date")

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        seconds: float = CALL_SECONDS,
        most_bytes: int = LARGEST_ANSWER_BYTES,
    ) -> Answer:
        """Make a request with the secret key; raises for every status but 200."""
        headers = {
            "Authorization": f"Bearer {self._secret_key}",
            "Clerk-API-Version": API_VERSION,
        }
        answer = _requested(
            self._api,
            method,
            path,
            params=params,
            headers=headers,
            seconds=seconds,
            most_bytes=most_bytes,
        )
        _raise_for_status(answer)
        return answer

    def _published(self) -> Answer:
        client = self._keys
        if client is None or self._jwks_url is None:
            raise ProviderUnavailableError("the address of the keys is not set")
        url = self._jwks_url
        for _ in range(1 + MOST_REDIRECTS):
            answer = _requested(
                client, "GET", "", seconds=CALL_SECONDS, most_bytes=LARGEST_KEY_SET_BYTES
            )
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or location is None:
                break
            url = urljoin(url, location)
            client = BoundedClient(url)
        if answer.status != 200:
            raise ProviderUnavailableError(f"status {answer.status}: check the address of the keys")
        return answer


def _requested(client: BoundedClient, method: str, path: str, **how: Any) -> Answer:
    try:
        return client.request(method, path, **how)
    except TooLargeError as err:
        raise UnusableAnswerError(TOO_LARGE) from err
    except NotDecodableError as err:
        raise UnusableAnswerError("not_decodable") from err
    except Exception as err:  # whatever the client raises, Clerk could not be asked
        raise ProviderUnavailableError(type(err).__name__) from err


def _raise_for_status(answer: Answer) -> None:
    """Raise what the status means, unless it is 200."""
    status = answer.status
    if status == 404 and _is_clerks(answer):
        raise UnknownUserError("nothing of that id")
    unavailable = _unavailable(status, answer.headers.get("retry-after"))
    if unavailable is not None:
        raise unavailable
    if status != 200:
        raise UnusableAnswerError(str(status))


def _unavailable(status: int, retry_after: str | None) -> ProviderUnavailableError | None:
    """The error for a status that concerns every user; None for one about this user."""
    if status == 429:
        return RateLimitedError(_rest_seconds(retry_after))
    if status in KEY_REFUSED:
        return SecretKeyRefusedError(status)
    if status in ELSEWHERE:
        return ProviderUnavailableError(f"status {status}: check CLERK_API_URL")
    return ProviderUnavailableError(f"status {status}") if status in OUTAGES else None


def _is_clerks(answer: Answer) -> bool:
    """Whether Clerk says «not found», and not an address at which there is nothing."""
    try:
        return "errors" in _object(_json(answer))
    except UnusableAnswerError:
        return False


def _json(answer: Answer) -> object:
    try:
        found: object = json.loads(answer.body)
    except (ValueError, RecursionError) as err:
        raise UnusableAnswerError(NOT_JSON) from err
    return found


def _object(found: object) -> Document:
    if not isinstance(found, dict):
        raise UnusableAnswerError("not_an_object")
    return found


def _rest_seconds(value: str | None) -> float:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    try:
        return max(0.0, float(value or DEFAULT_REST_SECONDS))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return DEFAULT_REST_SECONDS
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
