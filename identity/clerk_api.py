"""Clerk's Backend API through Clerk's own client: users as Clerk describes them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkBaseError, GetUserListRequest, NoResponseError

from identity.errors import ProviderUnavailableError, RateLimitedError, UnknownUserError

TIMEOUT_SECONDS = 2.0
DEFAULT_WAIT_SECONDS = 10.0  # Clerk counts in windows of ten seconds

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
        """One user. Raises UnknownUserError, RateLimitedError or ProviderUnavailableError."""
        try:
            return _document(self._users.get(user_id=quote(clerk_id, safe="")))
        except (ClerkBaseError, NoResponseError, httpx.HTTPError) as err:
            return _object(_readable_answer(err))

    def users(self, offset: int, limit: int) -> list[Document]:
        """Users in the order of their creation; raises as `user` does."""
        asked = GetUserListRequest(offset=offset, limit=limit, order_by="+created_at")
        try:
            return [_document(user) for user in self._users.list(request=asked)]
        except (ClerkBaseError, NoResponseError, httpx.HTTPError) as err:
            found = _readable_answer(err)
        if not isinstance(found, list):
            raise ProviderUnavailableError("not a list of users")
        return [user for user in found if isinstance(user, dict)]

    def end(self, session_id: str) -> None:
        """End a session; raises as `user` does."""
        try:
            self._sessions.revoke(session_id=session_id)
        except (ClerkBaseError, NoResponseError, httpx.HTTPError) as err:
            _readable_answer(err)

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
        directives = _object(_json(answer.text)).get("directives")
        return [d for d in directives if isinstance(d, str)] if isinstance(directives, list) else []


def _document(user: Any) -> Document:
    found: Document = user.model_dump(mode="json")
    return found


def _readable_answer(err: Exception) -> object:
    """What was answered after all, or the error in our own words.

    The client refuses an answer that lacks any of the many fields it knows; few concern us.
    """
    if isinstance(err, ClerkBaseError):
        if err.status_code == 200:
            return _json(err.body)
        if err.status_code == 404 and _is_clerks(err.body):
            raise UnknownUserError("nobody of that id") from err
        if err.status_code == 429:
            raise RateLimitedError(_retry_after(err.headers.get("Retry-After"))) from err
        raise ProviderUnavailableError(f"status {err.status_code}") from err
    raise ProviderUnavailableError(type(err).__name__) from err


def _is_clerks(body: str) -> bool:
    """Whether it is Clerk that says «not found», and not just some address that is not there."""
    try:
        return "errors" in _object(_json(body))
    except ProviderUnavailableError:
        return False


def _json(body: str) -> object:
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise ProviderUnavailableError("not JSON") from err
    return found


def _object(found: object) -> Document:
    if not isinstance(found, dict):
        raise ProviderUnavailableError("not a user")
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
