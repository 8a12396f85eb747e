"""The user directory: look users up at the identity provider, one call for all waiting requests."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from auth.clerk_client import NOT_JSON, PAGE_SECONDS, TOO_LARGE, Document
from auth.clerk_users import parse_clerk_user
from auth.errors import (
    InvalidTokenError,
    ProviderUnavailableError,
    UnknownAtProviderError,
    UnreadableProfileError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import CALL_SECONDS, ProviderCalls, Share
from auth.tokens import checked_subject

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0  # an answer is shared with lookups of new users that follow within this time
MAX_UNREADABLE_USERS = 16  # users; with more, the whole directory counts as unreadable
# An id with one of these characters, or of dots alone, could change the URL of the call, also when
# it is quoted: some proxies decode it.
FORBIDDEN_IN_ID = re.compile(r"[/\\?#%]|^\.+$")


class UserSource(Protocol):
    """A source of Clerk's user documents."""

    def user(self, clerk_id: str) -> Document:
        """Return a user; raises UnknownAtProviderError as well as the errors of `users`."""

    def users(self, offset: int, limit: int) -> Sequence[object]:
        """Return users by creation; raises UnusableAnswerError and ProviderUnavailableError."""


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """A page of the directory; `size` includes unreadable entries."""

    identities: Sequence[Identity]
    size: int


class UserDirectory:
    """Looks users up; one for an app, shared by its threads."""

    def __init__(self, source: UserSource, calls: ProviderCalls) -> None:
        self._source = source
        self._calls = calls

    @property
    def is_answering(self) -> bool:
        """Whether the latest call of this process to the provider was answered."""
        return self._calls.is_answering

    def look_up(
        self,
        clerk_id: str,
        *,
        wait_seconds: float = CALL_SECONDS,
        is_background: bool = False,
        is_new: bool = False,
    ) -> Identity:
        """Return the provider's complete identity of a user; concurrent lookups share one call.

        For a user who `is_new`, an answer of the last five seconds is good enough. An unknown user
        is a complete identity as well. No call is made for an id that the provider cannot have.
        Background calls have a separate rate. Raises UnusableAnswerError for an unusable answer
        about this user, and ProviderUnavailableError where no user can be looked up.
        """
        if not is_possible_user_id(clerk_id):
            return Identity(clerk_id, is_complete=True)
        try:
            return self._calls.run(
                "user",
                clerk_id,
                partial(self._identity, clerk_id),
                Share.BACKGROUND if is_background else Share.SIGNED_IN,
                wait_seconds=wait_seconds,
                keep_seconds=FRESH_SECONDS if is_new else 0.0,
            )
        except UnknownAtProviderError:
            return Identity(clerk_id, is_complete=True)

    def page(self, offset: int, limit: int) -> DirectoryPage:
        """Return users in the order in which they signed up; raises ProviderUnavailableError.

        One user can make the whole answer unreadable (metadata nested too deep for any parser). The
        page is then requested again in halves, so that the others are not lost.
        """
        try:
            documents = self._calls.run(
                "users",
                (offset, limit),
                partial(self._source.users, offset, limit),
                Share.BACKGROUND,
                wait_seconds=PAGE_SECONDS,
            )
        except UnknownAtProviderError as err:
            raise ProviderUnavailableError("there is no directory at this address") from err
        except UnusableAnswerError as err:
            if err.code not in (NOT_JSON, TOO_LARGE):
                raise ProviderUnavailableError(str(err)) from err
            return self._page_in_halves(offset, limit)
        identities = []
        for document in documents:
            try:
                identities.append(parse_clerk_user(document))
            except UnreadableProfileError:
                log.warning("unreadable_profile")
        return DirectoryPage(identities, len(documents))

    def _page_in_halves(self, offset: int, limit: int) -> DirectoryPage:
        if limit == 1:
            return DirectoryPage([], 1)
        half = limit // 2
        low, high = self.page(offset, half), self.page(offset + half, limit - half)
        both = DirectoryPage([*low.identities, *high.identities], low.size + high.size)
        if both.size >= MAX_UNREADABLE_USERS and not both.identities:
            raise ProviderUnavailableError("nothing in the directory can be read")
        return both

    def _identity(self, clerk_id: str) -> Identity:
        identity = parse_clerk_user(self._source.user(clerk_id))
        if identity.clerk_id != clerk_id:
            raise UnusableAnswerError("another_user")
        return identity


def is_possible_user_id(clerk_id: str) -> bool:
    """Whether the provider could have a user with this id (contract.md#who-is-asking)."""
    try:
        checked_subject(clerk_id)
    except InvalidTokenError:
        return False
    return FORBIDDEN_IN_ID.search(clerk_id) is None
