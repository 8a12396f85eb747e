"""Users as the identity provider describes them: looked up once for all who wait, and in time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from auth.call_budget import Share
from auth.clerk_client import NOT_JSON, PAGE_SECONDS, TOO_LARGE, Document
from auth.clerk_users import parse_clerk_user
from auth.errors import (
    InvalidTokenError,
    ProviderUnavailableError,
    UnknownUserError,
    UnreadableProfileError,
    UnusableAnswerError,
)
from auth.identity import Identity
from auth.provider_calls import CALL_SECONDS, ProviderCalls
from auth.tokens import checked_subject

log = structlog.get_logger(__name__)

FRESH_SECONDS = 5.0  # an answer is shared with those who ask so shortly after it was asked for
UNREADABLE_IN_A_ROW = 16  # users; then it is not about single users any longer
# An id with one of these, or of dots alone, could change the address that is asked, also quoted:
# some proxies decode it on the way.
NOT_IN_AN_ID = re.compile(r"[/\\?#%]|^\.+$")


class UserSource(Protocol):
    """Where users are described, in Clerk's words."""

    def user(self, clerk_id: str) -> Document:
        """One user; raises UnknownUserError, UnusableAnswerError and ProviderUnavailableError."""
        ...

    def users(self, offset: int, limit: int) -> Sequence[object]:
        """Users in the order of their creation; raises as `user` does."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the directory; `size` counts the unreadable entries as well."""

    identities: Sequence[Identity]
    size: int


class UserDirectory:
    """Looks users up; one for an app, shared by its threads."""

    def __init__(self, source: UserSource, calls: ProviderCalls) -> None:
        self._source = source
        self._calls = calls

    @property
    def is_answering(self) -> bool:
        """Whether the provider has answered this process's latest call."""
        return self._calls.is_answering

    def look_up(
        self,
        clerk_id: str,
        *,
        wait_seconds: float = CALL_SECONDS,
        is_background: bool = False,
        is_new: bool = False,
    ) -> Identity:
        """Return all that the provider knows of this user; one call however many wait.

        About a user who `is_new` the answer of a moment ago is good enough.

        A user that it does not know is complete as well: there is nothing more to be learned. An
        id that cannot be one of the provider's is such a user, and no call is made. Background
        calls have a rate of their own. Raises UnusableAnswerError for an answer about this user
        that cannot be used, ProviderUnavailableError where no user can be asked about.
        """
        if not is_possible_user_id(clerk_id):
            return Identity(clerk_id, is_complete=True)
        try:
            return self._calls.run(
                "user",
                clerk_id,
                lambda: self._identity(clerk_id),
                Share.BACKGROUND if is_background else Share.SIGNED_IN,
                wait_seconds=wait_seconds,
                keep_seconds=FRESH_SECONDS if is_new else 0.0,
            )
        except UnknownUserError:
            return Identity(clerk_id, is_complete=True)

    def page(self, offset: int, limit: int) -> Page:
        """Return users in the order in which they signed up; raises ProviderUnavailableError.

        Where one user makes the whole answer unreadable (metadata nested too deep for any parser)
        the page is asked for in halves, so that the others are not lost.
        """
        try:
            found = self._calls.run(
                "users",
                (offset, limit),
                lambda: self._source.users(offset, limit),
                Share.BACKGROUND,
                wait_seconds=PAGE_SECONDS,
            )
        except UnknownUserError as err:
            raise ProviderUnavailableError("there is no directory at this address") from err
        except UnusableAnswerError as err:
            if err.code not in (NOT_JSON, TOO_LARGE):
                raise ProviderUnavailableError(str(err)) from err
            return self._halved(offset, limit)
        return Page(
            [who for document in found for who in _readable_identities(document)], len(found)
        )

    def _halved(self, offset: int, limit: int) -> Page:
        if limit == 1:
            return Page([], 1)
        half = limit // 2
        low, high = self.page(offset, half), self.page(offset + half, limit - half)
        both = Page([*low.identities, *high.identities], low.size + high.size)
        if both.size >= UNREADABLE_IN_A_ROW and not both.identities:
            raise ProviderUnavailableError("nothing in the directory can be read")
        return both

    def _identity(self, clerk_id: str) -> Identity:
        identity = parse_clerk_user(self._source.user(clerk_id))
        if identity.clerk_id != clerk_id:
            raise UnusableAnswerError("another_user")
        return identity


def is_possible_user_id(clerk_id: str) -> bool:
    """Whether the provider could have a user of this id (CONTRACT section 3)."""
    try:
        checked_subject(clerk_id)
    except InvalidTokenError:
        return False
    return NOT_IN_AN_ID.search(clerk_id) is None


def _readable_identities(document: object) -> list[Identity]:
    try:
        return [parse_clerk_user(document)]
    except UnreadableProfileError:
        log.warning("unreadable_profile")
        return []
