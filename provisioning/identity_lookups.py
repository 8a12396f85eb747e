"""Identities of users: what is stored of them, and their lookups at the identity provider.

A token with all claims is the newest identity and needs no lookup. Otherwise:

1. A user without a verified address, or not stored yet, is looked up within the request, at most
   once a minute (`complete_identity`).
2. All others are looked up in a worker thread once their identity is older than
   CLERK_IDENTITY_MAX_AGE_SECONDS (`BackgroundRefresh`); the next request sees the result.

A conditional UPDATE of `users.identity_asked_at` claims each lookup, so that only one process makes
it, and repeats it only after a pause.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from auth.clerk_calls import UserDirectory
from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.identity import Identity
from core import deadlines
from core.database import transaction
from models import ProvisioningAttempt, User
from models.background import UNUSABLE_ANSWER
from provisioning.attempts import is_due
from provisioning.errors import ProvisioningError
from provisioning.profiles import IS_NOT_DENIED, USER_COLUMNS, UserRow

log = structlog.get_logger(__name__)

LOOKUP_SECONDS = 0.8  # of a request; after that it goes on without an answer
SPARE_SECONDS = 0.8  # of a request, for the database afterwards
READ_SECONDS = 0.45  # for finding out whether a lookup is due
WORKERS = 2
MAX_PENDING = 100  # users; others are looked up at a later visit
# For the transaction: read the rows in the order of the index. A sort of a million takes a second.
DISABLE_SORT = text("SELECT set_config('enable_sort', 'off', true)")
# Of a user: the identity is incomplete, or it is complete and may be refreshed (users_refresh_idx).
IS_INCOMPLETE = (User.identity_completed_at.is_(None), *IS_NOT_DENIED)
IS_REFRESHABLE = (User.identity_completed_at.is_not(None), *IS_NOT_DENIED)
LAST_ASKED: ColumnElement[datetime] = func.greatest(
    User.identity_asked_at, User.identity_completed_at
)
LookupPosition = tuple[datetime, int]  # when last asked about, and the user's id
# Columns of the table instead of the model: the ORM takes as long as the database for one row.
KNOWN_IDENTITY = select(*USER_COLUMNS).where(User.__table__.c.clerk_id == bindparam("clerk_id"))
UNVERIFIED_PAUSE = timedelta(seconds=60)  # while no verified address is known
RETRY_PAUSE = timedelta(minutes=5)  # after a lookup in the background without answer
AT_ONCE = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class NextLookup:
    """The next lookup of a user: not before `at`; `must_wait` if a request waits for it."""

    at: datetime
    must_wait: bool

    def is_due(self, now: datetime) -> bool:
        """Whether the lookup may be made now."""
        return now >= self.at


def next_lookup(user: UserRow, max_age: timedelta) -> NextLookup | None:
    """Decide when to look this user up again; None for never (docs/clerk.md).

    A request waits for the lookup while the user's address is absent or unverified, so that a
    pre-registered profile is found at that visit. Other users are looked up in the background.
    """
    if user.deleted_at is not None or user.blocked_at is not None:
        return None
    asked_at = user.identity_asked_at or AT_ONCE
    completed_at = user.identity_completed_at or AT_ONCE
    if user.identity_completed_at is not None and user.email and user.email_verified:
        is_unanswered = asked_at > completed_at
        retry_at = asked_at + min(RETRY_PAUSE, max_age) if is_unanswered else AT_ONCE
        return NextLookup(max(completed_at + max_age, retry_at), must_wait=False)
    last_lookup = max(asked_at, completed_at)
    at = AT_ONCE if last_lookup == AT_ONCE else last_lookup + UNVERIFIED_PAUSE
    return NextLookup(at, must_wait=True)


def known_identity(session: Session, clerk_id: str) -> UserRow | None:
    """Return the stored identity of one user, without a lock; None for an unknown user."""
    values = {"clerk_id": clerk_id}
    found = session.connection().execute(KNOWN_IDENTITY, values)
    row: Sequence[Any] | None = found.one_or_none()
    return None if row is None else UserRow(*row)


def known_identities(session: Session, clerk_ids: Sequence[str]) -> dict[str, UserRow]:
    """Return the stored identities of several users, by Clerk id."""
    found = select(*USER_COLUMNS).where(User.clerk_id.in_(clerk_ids))
    rows: Iterable[Sequence[Any]] = session.execute(found)
    return {user.clerk_id: user for user in (UserRow(*row) for row in rows)}


def is_changed(user: UserRow | None, new: Identity) -> bool:
    """Whether the provider's answer differs from the stored identity and is not older."""
    if user is None or user.identity_completed_at is None:
        return True
    stored_as_of = user.identity_as_of
    if new.as_of is not None and stored_as_of is not None and new.as_of < stored_as_of:
        return False
    if new.is_unknown:
        return False
    texts = ((new.name, user.name), (new.image_url, user.image_url), (new.email, user.email))
    is_new_text = any(text is not None and text != old for text, old in texts)
    return is_new_text or bool(new.email_verified) != user.email_verified


def claim_lookup_if_due(
    session: Session, user: UserRow, now: datetime, max_age: timedelta, *, must_wait: bool = False
) -> bool:
    """Claim a lookup of the user for the caller; return False if none is due.

    Also False if another caller was faster: `identity_asked_at` has changed since the user was
    read. With `must_wait`, only a lookup is claimed that a request waits for.
    """
    lookup = next_lookup(user, max_age)
    if lookup is None or not lookup.is_due(now) or (must_wait and not lookup.must_wait):
        return False
    is_unclaimed = User.identity_asked_at.is_not_distinct_from(user.identity_asked_at)
    claimed = update(User).where(User.clerk_id == user.clerk_id, is_unclaimed)
    found = session.scalars(claimed.values(identity_asked_at=now).returning(User.id))
    return found.one_or_none() is not None


def mark_identity_unchanged(session: Session, clerk_ids: Sequence[str], now: datetime) -> None:
    """Mark the identities of these users as complete at `now`, without a change."""
    session.execute(
        update(User)
        .where(User.clerk_id.in_(clerk_ids))
        .values(identity_completed_at=now)
        .execution_options(synchronize_session=False)
    )


def mark_identity_incomplete(session: Session, clerk_id: str) -> None:
    """Mark the identity of this user as incomplete, so that the sweep looks it up."""
    incomplete = update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=None)
    session.execute(incomplete)


def mark_identity_asked(session: Session, clerk_id: str, now: datetime) -> None:
    """Store the time of the last lookup of this user, so that the sweep looks others up first."""
    session.execute(update(User).where(User.clerk_id == clerk_id).values(identity_asked_at=now))


def incomplete_users(session: Session, now: datetime | None, limit: int) -> list[str]:
    """Return Clerk ids of users with an incomplete identity, those never looked up first.

    Users with a failed attempt of their profile are excluded: the attempt is retried. Users whose
    answer was unusable are included once that attempt is due; without `now`, at any time.
    """
    session.execute(DISABLE_SORT)
    record = ProvisioningAttempt
    is_about_identity = record.error_class == UNUSABLE_ANSWER
    incomplete = (
        select(User.clerk_id)
        .outerjoin(record, record.clerk_id == User.clerk_id)
        .where(*IS_INCOMPLETE, or_(record.id.is_(None), and_(is_about_identity, *is_due(now))))
        .order_by(User.identity_asked_at.nulls_first(), User.id.desc())
    )
    return list(session.scalars(incomplete.limit(limit)))


def users_to_refresh(
    session: Session,
    *,
    before: datetime,
    seen_after: datetime,
    after: LookupPosition | None,
    limit: int,
) -> tuple[list[str], LookupPosition | None]:
    """Return Clerk ids of users to look up again, and the position to continue from.

    The next `limit` rows in the order of the last lookup are read; the position is None at the end.
    Returned are users who were last looked up or completed at `before` or earlier, and who visited
    at `seen_after` or later. An index has this order, so that a call reads at most `limit` rows and
    sorts none.
    """
    session.execute(DISABLE_SORT)
    position = (LAST_ASKED, User.id)
    rows = [*IS_REFRESHABLE, before >= LAST_ASKED]
    if after is not None:
        rows.append(tuple_(*position) > tuple_(*after))
    last = select(*position).where(*rows).order_by(*position).offset(limit - 1).limit(1)
    end = session.execute(last).one_or_none()
    if end is not None:
        rows.append(tuple_(*position) <= tuple_(*end))
    seen = select(User.clerk_id).where(*rows, User.last_signed_in >= seen_after)
    return list(session.scalars(seen.order_by(*position))), (end and (end[0], end[1]))


def record_user(session: Session, identity: Identity, now: datetime) -> None:
    """Insert a user whose ensure call failed, so that support finds them, unless one is stored."""
    copied = ("clerk_id", "name", "email", "image_url", "login_method")
    values = {name: getattr(identity, name) for name in copied}
    values |= dict.fromkeys(("created_at", "updated_at", "last_signed_in"), now)
    statement = insert(User).values(**values, email_verified=bool(identity.email_verified))
    session.execute(statement.on_conflict_do_nothing(index_elements=[User.clerk_id]))


@dataclass(frozen=True, slots=True)
class LookupResult:
    """An identity, completed by the provider's answer where it was asked.

    `is_unanswered`: the provider was asked and gave no usable answer. `is_unavailable`: it gave no
    answer at all, so that the sweep looks the user up later.
    """

    identity: Identity
    is_unanswered: bool = False
    is_unavailable: bool = False


def complete_identity(
    directory: UserDirectory, identity: Identity, now: datetime, max_age: timedelta
) -> LookupResult:
    """Return the incomplete identity of a token, completed by the provider where that is due.

    No transaction is open during the lookup. Without a usable answer in time the identity is
    returned unchanged, and the sweep completes it later.
    """
    must_look_up, is_new = _claim(identity.clerk_id, now, max_age)
    if not must_look_up:
        return LookupResult(identity)
    left = deadlines.seconds_left()
    wait = LOOKUP_SECONDS if left is None else max(0.0, min(LOOKUP_SECONDS, left - SPARE_SECONDS))
    try:
        found = directory.look_up(identity.clerk_id, wait_seconds=wait, is_new=is_new)
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        log.warning("identity_not_completed", reason=str(err))
        is_unavailable = isinstance(err, ProviderUnavailableError)
        return LookupResult(identity, is_unanswered=True, is_unavailable=is_unavailable)
    return LookupResult(identity.merged_with(found))


def _claim(clerk_id: str, now: datetime, max_age: timedelta) -> tuple[bool, bool]:
    """Return whether this request must look the user up and wait, and whether the user is new.

    Without a database no lookup is made. Read and claim are transactions of their own.
    """
    try:
        with transaction(READ_SECONDS, is_single_statement=True) as session:
            known = known_identity(session, clerk_id)
            if known is None:
                return True, True
            return claim_lookup_if_due(session, known, now, max_age, must_wait=True), False
    except SQLAlchemyError:
        return False, False


class BackgroundRefresh:
    """Looks users up in worker threads while their requests go on.

    `refresh` looks one user up by Clerk id where that is due, and applies the answer. It runs in an
    `app_context`.
    """

    def __init__(
        self,
        refresh: Callable[[str, datetime], None],
        app_context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._refresh, self._app_context = refresh, app_context
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="identity-refresh")
        self._pending: set[str] = set()
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether no lookup is queued or running."""
        return not self._pending

    def start(self, clerk_id: str, now: datetime) -> None:
        """Queue a lookup of this user, unless one is pending or too many are."""
        with self._lock:
            if clerk_id in self._pending or len(self._pending) >= MAX_PENDING:
                return
            self._pending.add(clerk_id)
        try:
            self._pool.submit(self._run, clerk_id, now)
        except RuntimeError:  # the process is ending
            self._end(clerk_id)

    def _run(self, clerk_id: str, now: datetime) -> None:
        try:
            with self._app_context():
                self._refresh(clerk_id, now)
        except (ProvisioningError, SQLAlchemyError) as err:
            log.warning("identity_not_refreshed", reason=type(err).__name__)
        except Exception:  # a thread pool would not report it
            log.exception("identity_not_refreshed")
        finally:
            self._end(clerk_id)

    def _end(self, clerk_id: str) -> None:
        with self._lock:
            self._pending.discard(clerk_id)
