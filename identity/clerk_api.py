"""Clerk's Backend API through Clerk's own client: users as Clerk describes them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkBaseError, GetUserListRequest

from identity.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    SecretKeyRefusedError,
    UnknownUserError,
    UnusableAnswerError,
)

TIMEOUT_SECONDS = 2.0
DEFAULT_WAIT_SECONDS = 10.0  # Clerk counts in windows of ten seconds
KEY_REFUSED = (401, 403)
ELSEWHERE = (404, *range(300, 400))  # a 404 that is not Clerk's, or a way to another address
OUTAGES = (408, *range(500, 600))
NOT_JSON = "not_json"

Document = Mapping[str, Any]


class ClerkApi:
    """Users and sessions; asks once, and waits two seconds for each step of an answer."""

    def __init__(self, secret_key: str, api_url: str) -> None:
        self._secret_key = secret_key
        self._base = f"{api_url.rstrip('/')}/v1"
        clerk = Clerk(
            bearer_auth=secret_key,
            server_url=self._base,
            retry_config=None,  # whether to ask again is not decided here
            timeout_ms=int(TIMEOUT_SECONDS * 1000),
        )
        # The client loads these parts, which are large, when they are first named: now, and not
        # while the first person is waiting.
        self._users, self._sessions = clerk.users, clerk.sessions

    def user(self, clerk_id: str) -> Document:
        """Return one user as Clerk describes it.

        Raises UnknownUserError, UnusableAnswerError for an answer about this id that says nothing
        usable, and ProviderUnavailableError where no user can be asked about.
        """
        try:
            return _document(self._users.get(user_id=quote(clerk_id, safe="")))
        except Exception as err:  # the client raises whatever its parts raise
            return _object(_refused_answer(err))

    def users(self, offset: int, limit: int) -> list[object]:
        """Return users in the order of their creation, as Clerk describes them; an entry may be
        anything. Raises as `user` does.
        """
        asked = GetUserListRequest(offset=offset, limit=limit, order_by="+created_at")
        try:
            return [_document(user) for user in self._users.list(request=asked)]
        except Exception as err:  # as above
            found = _refused_answer(err)
        if not isinstance(found, list):
            raise ProviderUnavailableError("not a list of users")
        return found

    def end(self, session_id: str) -> None:
        """End a session. Raises UnknownUserError and ProviderUnavailableError."""
        try:
            self._sessions.revoke(session_id=session_id)
        except Exception as err:  # as above
            _answer_about_session(err)

    def handshake(self, nonce: str) -> list[str]:
        """The cookies that a nonce stands for; Clerk's client has no method for it.

        Raises ProviderUnavailableError.
        """
        try:
            answer = httpx.get(
                f"{self._base}/clients/handshake_payload",
                params={"nonce": nonce},
                headers={"Authorization": f"Bearer {self._secret_key}"},
                timeout=TIMEOUT_SECONDS,
            ).raise_for_status()
        except httpx.HTTPError as err:
            raise ProviderUnavailableError(type(err).__name__) from err
        try:
            directives = _object(_json(answer.text)).get("directives")
        except UnusableAnswerError as err:
            raise ProviderUnavailableError(str(err)) from err
        return [d for d in directives if isinstance(d, str)] if isinstance(directives, list) else []


def _document(user: Any) -> Document:
    found: Document = user.model_dump(mode="json")
    return found


def _refused_answer(err: Exception) -> object:
    """Return the body of a 200 that Clerk's client refuses, or raise what the answer means.

    The client refuses a user that lacks any of the many fields it knows; few of them concern us.
    """
    if isinstance(err, ClerkBaseError):
        _raise_for_status(err)
        return _json(err.body)
    if isinstance(err, httpx.DecodingError):
        raise UnusableAnswerError("not_decodable") from err
    raise ProviderUnavailableError(type(err).__name__) from err


def _answer_about_session(err: Exception) -> None:
    """As `_refused_answer`, for an answer of which only the status matters."""
    try:
        _refused_answer(err)
    except UnusableAnswerError as unusable:
        raise ProviderUnavailableError(str(unusable)) from err


def _raise_for_status(err: ClerkBaseError) -> None:
    """Raise what the status means, unless it is 200."""
    status = err.status_code
    if status == 404 and _is_clerks(err.body):
        raise UnknownUserError("nobody of that id") from err
    unavailable = _unavailable(status, err.headers.get("Retry-After"))
    if unavailable is not None:
        raise unavailable from err
    if status != 200:
        raise UnusableAnswerError(str(status)) from err


def _unavailable(status: int, retry_after: str | None) -> ProviderUnavailableError | None:
    """The error for a status that concerns every user; None for one about this user."""
    if status == 429:
        return RateLimitedError(_retry_after(retry_after))
    if status in KEY_REFUSED:
        return SecretKeyRefusedError(status)
    if status in ELSEWHERE:
        return ProviderUnavailableError(f"status {status}: check CLERK_API_URL")
    return ProviderUnavailableError(f"status {status}") if status in OUTAGES else None


def _is_clerks(body: str) -> bool:
    """Whether it is Clerk that says «not found», and not just some address that is not there."""
    try:
        return "errors" in _object(_json(body))
    except UnusableAnswerError:
        return False


def _json(body: str) -> object:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise UnusableAnswerError(NOT_JSON) from err
    return found


def _object(found: object) -> Document:
    if not isinstance(found, dict):
        raise UnusableAnswerError("not_an_object")
    return found


def _retry_after(value: str | None) -> float:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    try:
        return max(0.0, float(value or DEFAULT_WAIT_SECONDS))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return DEFAULT_WAIT_SECONDS
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
