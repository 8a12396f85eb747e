"""The cache of request contexts, dashboard copies and reference codes.

It saves a statement for each request; without it, answers are the same but slower.

1. An entry carries the version (`users.context_version`) that was read with its content.
2. An entry is used while its version is the newest known and was compared with the database within
   the last `CONFIRMED_SECONDS`. Otherwise it is compared first, by one indexed read.
3. After each commit that changes a user's context the new version is published, so that entries of
   older versions end at once. Where publishing fails, they end by rule 2.
4. The absence of a profile is never stored, and an entry without profile is never used.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from auth.identity import Identity
from core import metrics
from core.cache import CacheUnavailableError, LocalStore, Store, VersionKeys
from core.database import transaction
from core.single_flight import FreshSingleFlight
from models import User
from models.people import Role
from provisioning.context import READY, RequestContext, UserShape
from provisioning.ensure import Outcome
from provisioning.errors import DatabaseUnavailableError
from provisioning.identity_lookups import NextLookup
from provisioning.profiles import read_version
from provisioning.retry import is_outage
from provisioning.user_lists import CODE_LENGTH

log = structlog.get_logger(__name__)

CONFIRMED_SECONDS = 5.0  # the longest time that a change is not seen where publishing failed
READ_SECONDS = 0.45  # for comparing a version, which waits for no lock
REFERENCE_TTL_SECONDS = 86_400  # the log and the audit log keep it longer
REFERENCES_KEPT = 20  # the newest of each user
DASHBOARD_COPY_TTL_SECONDS = 86_400
PARSED_ENTRIES_KEPT = 4_096  # most clients send another request within the minute
VERSIONS_KEPT = 50_000
CONTEXT, COPY = "context", "dashboard_copy"  # what is stored of a user under a version
# In stored entries, which processes of the version before read and write too.
LOOKUP_KEY, REPORT_KEY = "question", "overview"


@dataclass(frozen=True, slots=True)
class DashboardCopy:
    """The last dashboard of a user: a context without the admin role, a `StoredReport` as JSON."""

    context: RequestContext
    report_text: str


@dataclass(slots=True)
class ContextCache:
    """Request contexts by Clerk id; one for an app, shared by its threads.

    `rules_key` stands for the settings that contexts depend on, such as ADMIN_EMAILS: entries
    stored under other settings are not used. A failing cache makes answers slower, not wrong.
    `has_unpublished`: publishing a version has failed since this process started.
    """

    ttl_seconds: int
    store: Store
    rules_key: str = ""
    clock: Callable[[], float] = time.monotonic
    has_unpublished: bool = False
    _versions: LocalStore = field(default_factory=lambda: LocalStore(VERSIONS_KEPT), repr=False)
    _single_flight: FreshSingleFlight[int | None] = field(
        default_factory=FreshSingleFlight, repr=False
    )

    def get(self, identity: Identity, now: datetime | None = None) -> RequestContext | None:
        """As `evaluate`, with the entry as it is stored now."""
        return self.evaluate(identity, self._read(self.keys(identity.clerk_id)), now)

    def keys(self, clerk_id: str, name: str = CONTEXT) -> VersionKeys:
        """Return the keys of a user's context, whose values `evaluate` needs, or of the copy."""
        return VersionKeys(f"version:{clerk_id}", f"confirmed:{clerk_id}", f"{name}:{clerk_id}")

    def evaluate(
        self, identity: Identity, found: Sequence[Any] | None, now: datetime | None
    ) -> RequestContext | None:
        """Return the cached context of a user whose identity is unchanged; None for a miss.

        `found` are the values of `keys`, None where the cache is not available. An entry is also a
        miss once a request has to look its user up at the identity provider at the time `now`.
        Raises DatabaseUnavailableError where an entry has to be confirmed and no database answers.
        """
        if found is None:
            metrics.CACHE_REQUESTS.labels("error").inc()
            return None
        newest, confirmed, entry = _parse_version(found[0]), found[1], _parse(found[2])
        [own] = self._versions.read([self.keys(identity.clerk_id).newest])
        version, stored_lookup, next_lookup = entry.get("version"), entry.get(LOOKUP_KEY), None
        is_usable = (
            entry.get("identity") == fingerprint(self.rules_key, identity)
            and isinstance(version, int)
            and version >= max(newest, own or 0)
        )
        if stored_lookup is not None:
            at, must_wait = stored_lookup
            next_lookup = NextLookup(datetime.fromtimestamp(at, UTC), must_wait=must_wait)
            if must_wait and now is not None and next_lookup.is_due(now):
                is_usable = False
        if is_usable and str(confirmed) != str(version):
            # Simultaneous requests of one user share one read.
            read = partial(self._read_stored_version, identity.clerk_id)
            stored, _ = self._single_flight.run(identity.clerk_id, read)
            is_usable = stored == version
        if not is_usable:
            metrics.CACHE_REQUESTS.labels("miss").inc()
            log.info("cache_miss")
            return None
        if not entry.get("mentorado"):
            metrics.CACHE_REQUESTS.labels("hit_no_mentorado").inc()
            log.warning("cache_hit_no_mentorado", user_id=entry.get("user", {}).get("id"))
            return None
        metrics.CACHE_REQUESTS.labels("hit").inc()
        log.info("cache_hit", user_id=entry["user"]["id"])
        return RequestContext(
            entry["user"], entry["mentorado"], READY, version=version, next_lookup=next_lookup
        )

    def drop(self, clerk_id: str) -> None:
        """Delete the entry of a user, so that the next request reads from the database."""
        with suppress(CacheUnavailableError):
            self.store.remove(self.keys(clerk_id).value)

    def erase(self, clerk_id: str) -> bool:
        """Delete everything that is cached about a user; returns whether the cache did so.

        Otherwise, and in the memory of other processes, it ends with its time to live, which is
        a day at most.
        """
        keys = {*self.keys(clerk_id), *self.keys(clerk_id, COPY)}
        owners = _reference_owners(clerk_id)
        self._versions.remove(*keys)
        try:
            self.store.remove(*keys, owners=owners)
        except CacheUnavailableError:
            self.has_unpublished = True
            return False
        return True

    def put(self, identity: Identity, context: RequestContext, read_at: float) -> None:
        """Store a context that was read from the database, if its status is `ready`.

        Its version becomes the newest known in any case. `read_at` is the time before the read, by
        `clock`.
        """
        if context.version is None:
            return
        keys, value = self.keys(identity.clerk_id), None
        # Before these outcomes the user may have had a context with another profile.
        is_change = context.outcome in (Outcome.CLAIMED, Outcome.DENIED)
        if context.status == READY:
            entry = _serialize(context, identity=fingerprint(self.rules_key, identity))
            value = (entry, self.ttl_seconds)
        self._put_version(keys, context.version, read_at=read_at, value=value, is_change=is_change)

    def publish(self, clerk_ids: Iterable[str]) -> bool:
        """Publish the committed versions of these users, so that older entries end at once.

        Logs `session_invalidated` once for each stored user. Returns whether the cache stored the
        versions. Otherwise the change is seen within CONFIRMED_SECONDS. Where the versions cannot
        be read, the entries are removed.
        """
        ids = list(clerk_ids)
        if not ids:
            return True
        try:
            with transaction() as session:
                versions = select(User.id, User.clerk_id, User.context_version)
                users = session.execute(versions.where(User.clerk_id.in_(ids))).all()
        except SQLAlchemyError as err:
            # The database has gone since the commit. Without their entries these users are read
            # from it again; only a read that began before the commit may store an old one.
            log.warning("context_versions_not_read", error=type(err).__name__)
            self.has_unpublished = True
            values = [self.keys(each, name).value for each in ids for name in (CONTEXT, COPY)]
            with suppress(CacheUnavailableError):
                self.store.remove(*values)
            return False
        for user in users:
            log.info("session_invalidated", user_id=user.id, clerk_id=user.clerk_id)
        return self.publish_versions({user.clerk_id: user.context_version for user in users})

    def publish_versions(self, versions: Mapping[str, int]) -> bool:
        """As `publish`, for versions that the caller has read; logs nothing."""
        by_key = {self.keys(clerk_id).newest: version for clerk_id, version in versions.items()}
        self._versions.raise_versions(by_key)
        try:
            self.store.raise_versions(by_key)
        except CacheUnavailableError:
            self.has_unpublished = True
            return False
        return True

    def clear_versions(self) -> None:
        """Clear the versions that this process has stored, as at its start."""
        self._versions.clear()
        self.has_unpublished = False

    def put_dashboard_copy(self, context: RequestContext, report_text: str) -> None:
        """Store the dashboard of a user, to be shown while no database answers."""
        if context.version is None:
            return
        value = _serialize(context, **{REPORT_KEY: report_text}), DASHBOARD_COPY_TTL_SECONDS
        self._put_version(self.keys(context.user["clerk_id"], COPY), context.version, value=value)

    def get_dashboard_copy(self, clerk_id: str) -> DashboardCopy | None:
        """Return the last dashboard of a user, not as an admin, if of the newest version known."""
        keys = self.keys(clerk_id, COPY)
        stored = self._read(keys)
        if stored is None:
            return None
        [own] = self._versions.read([keys.newest])
        newest, entry = max(_parse_version(stored[0]), own or 0), _parse(stored[2])
        if not newest or entry.get("version") != newest:
            return None
        user: UserShape = entry["user"]
        user = {**user, "role": str(Role.USER)}
        return DashboardCopy(RequestContext(user, entry["mentorado"], READY), entry[REPORT_KEY])

    def store_reference(self, reference: str, clerk_id: str) -> None:
        """Store which user was shown this reference code, so that support finds the user by it.

        Its first characters suffice: 32 of them are too many to dictate.
        """
        text, codes = json.dumps({"clerk_id": clerk_id}), (reference, reference[:CODE_LENGTH])
        limits = {"limit": REFERENCES_KEPT, "seconds": REFERENCE_TTL_SECONDS}
        with suppress(CacheUnavailableError):  # the log has the code as well
            for owner, code in zip(_reference_owners(clerk_id), codes, strict=True):
                self.store.put_limited(owner, _reference_key(code), text, **limits)

    def find_user_of_reference(self, reference: str) -> str | None:
        """Return the Clerk id of the user who was shown this code, or one that begins with it."""
        stored = self._read([_reference_key(reference)])
        return _parse(stored[0]).get("clerk_id") if stored else None

    def _read(self, keys: Sequence[str]) -> Sequence[Any] | None:
        """Return the values of these keys; None where the cache is not available."""
        try:
            return self.store.read(keys)
        except CacheUnavailableError:
            return None

    def _read_stored_version(self, clerk_id: str) -> int | None:
        """Read the version from the database and store it as the newest; None where that fails."""
        read_at = self.clock()
        try:
            with transaction(READ_SECONDS, is_single_statement=True) as session:
                stored = read_version(session, clerk_id)
        except SQLAlchemyError as err:
            if is_outage(err):
                raise DatabaseUnavailableError("the version could not be compared") from err
            log.warning("context_versions_not_read", error=type(err).__name__)
            return None
        if stored is not None:
            self._put_version(self.keys(clerk_id), stored, read_at=read_at)
        return stored

    def _put_version(
        self,
        keys: VersionKeys,
        version: int,
        *,
        read_at: float | None = None,
        value: tuple[str, int] | None = None,
        is_change: bool = False,
    ) -> None:
        self._versions.raise_versions({keys.newest: version})
        left = 0.0 if read_at is None else CONFIRMED_SECONDS - (self.clock() - read_at)
        with suppress(CacheUnavailableError):  # the next request reads the database
            self.store.put_version(
                keys, version, confirmed_seconds=left, value=value, is_change=is_change
            )


@lru_cache(PARSED_ENTRIES_KEPT)
def fingerprint(rules_key: str, identity: Identity) -> str:
    """Return a short digest of an identity and the rules."""
    content = f"{rules_key}|{identity!r}".encode("utf-8", "surrogatepass")
    return blake2b(content, digest_size=12).hexdigest()


def _serialize(context: RequestContext, **more: str) -> str:
    entry: dict[str, object] = {
        "version": context.version,
        "user": context.user,
        "mentorado": context.mentorado,
        **more,
    }
    if context.next_lookup is not None:
        entry[LOOKUP_KEY] = [context.next_lookup.at.timestamp(), context.next_lookup.must_wait]
    return json.dumps(entry)


@lru_cache(PARSED_ENTRIES_KEPT)
def _parse_version(stored: str | int | None) -> int:
    """Return a version as it was read from the cache; 0 for none, and for text without one."""
    text = str(stored)
    return int(text) if text.isdecimal() else 0


@lru_cache(PARSED_ENTRIES_KEPT)
def _parse(text: str | None) -> Mapping[str, Any]:
    """Return the content of an entry, shared by its readers; empty for an invalid entry."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reference_owners(clerk_id: str) -> tuple[str, str]:
    """Return the owners of whole reference codes, and of their first characters."""
    return f"references:{clerk_id}", f"codes:{clerk_id}"


def _reference_key(reference: str) -> str:
    digest = blake2b(reference.encode("utf-8", "replace"), digest_size=16)
    return f"reference:{digest.hexdigest()}"  # a code may come from outside, in any length
