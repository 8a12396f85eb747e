"""The cache of request contexts: spares a statement for each request, and is never needed.

1. An entry carries the version (`users.context_version`) that was read with its content.
2. An entry is used while its version is the newest known and was compared with the database within
   the last `CONFIRMED_SECONDS`. An older one is compared first, by one indexed read.
3. After each commit that changes a user's context the new version is published, so that entries of
   older versions end at once. Where publishing fails, they end by rule 2.
4. The absence of a profile is neither stored nor believed.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from auth.identity import Identity
from core import metrics
from core.cache import CacheClient, CacheUnavailableError, LocalStore, Versioned
from core.database import cache, transaction
from core.single_flight import FreshSingleFlight
from models.user import Role
from provisioning.context import READY, RequestContext, UserShape
from provisioning.context_version import read_version, read_versions
from provisioning.errors import DatabaseUnavailableError
from provisioning.identity_age import Question
from provisioning.retry import is_outage

log = structlog.get_logger(__name__)

CONFIRMED_SECONDS = 5.0  # for so long a change may go unnoticed where publishing failed
READ_SECONDS = 0.45  # for comparing a version, which waits for no lock
REFERENCE_TTL_SECONDS = 86_400  # the log and the audit log have it for longer
REFERENCES_KEPT = 20  # of a user, the newest
DASHBOARD_COPY_TTL_SECONDS = 86_400
REMEMBERED = 4_096  # parsed entries; a client that asks once asks again within the minute
VERSIONS_KEPT = 50_000


@dataclass(frozen=True, slots=True)
class DashboardCopy:
    """What a user saw last: a context without any role, and the overview as JSON."""

    context: RequestContext
    overview: str


@dataclass(slots=True)
class ContextCache:
    """Request contexts by Clerk id; one for an app, shared by its threads.

    `rules_key` stands for settings that decide about contexts, such as ADMIN_EMAILS: entries that
    were stored under others are not used. A cache that fails costs an answer its speed only.
    """

    ttl_seconds: int
    rules_key: str = ""
    client: CacheClient = field(default_factory=lambda: CacheClient(cache))
    clock: Callable[[], float] = time.monotonic
    _seen: LocalStore = field(default_factory=lambda: LocalStore(VERSIONS_KEPT), repr=False)
    _unpublished: threading.Event = field(default_factory=threading.Event, repr=False)
    _confirming: FreshSingleFlight[int | None] = field(
        default_factory=FreshSingleFlight, repr=False
    )

    def get(self, identity: Identity, now: datetime | None = None) -> RequestContext | None:
        """Return the context of a user whose identity is still what it was; None for a miss.

        An entry is a miss as well once a request has to ask the identity provider about its user,
        by the time of day `now`. Raises DatabaseUnavailableError where an entry has to be confirmed
        and there is no database.
        """
        clerk_id = identity.clerk_id
        try:
            found = self._read(clerk_id, _context_key(clerk_id))
        except CacheUnavailableError:
            metrics.CACHE_REQUESTS.labels("error").inc()
            return None
        entry = _parsed(found.value)
        question = _question_of(entry)
        is_usable = entry.get("identity") == fingerprint(self.rules_key, identity)
        if question and question.must_wait and now is not None and question.is_due(now):
            is_usable = False
        if not is_usable or not self._is_current(clerk_id, entry.get("version"), found):
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
            entry["user"], entry["mentorado"], READY, version=entry["version"], question=question
        )

    def drop(self, clerk_id: str) -> None:
        """Remove the entry of a user, so that the next request reads anew."""
        with suppress(CacheUnavailableError):
            self.client.call(lambda: cache.delete(_context_key(clerk_id)))

    def put(self, identity: Identity, context: RequestContext, read_at: float) -> None:
        """Store a context that was read from the database, where it has a profile to use.

        The context's version becomes the newest known in any case. `read_at` is the moment before
        the read, by `clock`.
        """
        if context.version is None:
            return
        clerk_id, value = identity.clerk_id, None
        if context.status == READY:
            entry = _entry(context, identity=fingerprint(self.rules_key, identity))
            value = (_context_key(clerk_id), entry, self.ttl_seconds)
        self._put_version(clerk_id, context.version, read_at=read_at, value=value)

    def publish(self, clerk_ids: Iterable[str]) -> bool:
        """Make the committed versions of these users known, so that older entries end at once.

        Returns whether the cache took them. Otherwise the change holds within CONFIRMED_SECONDS.
        """
        ids = list(clerk_ids)
        if not ids:
            return True
        try:
            with transaction() as session:
                versions = read_versions(session, ids)
        except SQLAlchemyError as err:
            log.warning("context_versions_not_read", error=type(err).__name__)
            self._unpublished.set()
            return False
        return self.publish_versions(versions)

    def publish_versions(self, versions: Mapping[str, int]) -> bool:
        """As `publish`, of versions that are known."""
        self._seen.raise_versions(versions)
        try:
            self.client.call(lambda: self.client.backend.raise_versions(versions))
        except CacheUnavailableError:
            self._unpublished.set()
            return False
        return True

    @property
    def has_unpublished(self) -> bool:
        """Whether a version could not be published since this process began."""
        return self._unpublished.is_set()

    def forget_versions(self) -> None:
        """Drop what this process knows of versions, as at its start."""
        self._seen.clear()
        self._unpublished.clear()

    def put_dashboard_copy(self, context: RequestContext, overview: str) -> None:
        """Store what a user sees on the dashboard, for a time without database."""
        if context.version is None:
            return
        clerk_id = context.user["clerk_id"]
        entry = _entry(context, overview=overview)
        value = (_copy_key(clerk_id), entry, DASHBOARD_COPY_TTL_SECONDS)
        self._put_version(clerk_id, context.version, value=value)

    def get_dashboard_copy(self, clerk_id: str) -> DashboardCopy | None:
        """What a user saw last, if it is of the newest version known; it grants no role."""
        try:
            found = self._read(clerk_id, _copy_key(clerk_id))
        except CacheUnavailableError:
            return None
        entry = _parsed(found.value)
        if found.newest is None or entry.get("version") != found.newest:
            return None
        user: UserShape = entry["user"]
        user = {**user, "role": str(Role.USER)}
        return DashboardCopy(RequestContext(user, entry["mentorado"], READY), entry["overview"])

    def remember_reference(self, reference: str, clerk_id: str) -> None:
        """Note which user was shown this reference code, for support to find them by."""
        text = json.dumps({"clerk_id": clerk_id})
        try:
            self.client.call(
                lambda: self.client.backend.put_limited(
                    f"references:{clerk_id}",
                    _reference_key(reference),
                    text,
                    limit=REFERENCES_KEPT,
                    seconds=REFERENCE_TTL_SECONDS,
                )
            )
        except CacheUnavailableError:
            return  # the log has it as well

    def user_of_reference(self, reference: str) -> str | None:
        """The Clerk id of the user who was shown this code lately; None for any other text."""
        try:
            value = self.client.call(lambda: cache.get(_reference_key(reference)))
        except CacheUnavailableError:
            return None
        return _parsed(value).get("clerk_id")

    def _read(self, clerk_id: str, value_key: str) -> Versioned:
        """What is held; the newest version is the newest of the cache's and of this process's."""
        found = self.client.call(lambda: self.client.backend.get_versioned(clerk_id, value_key))
        seen = self._seen.get_versioned(clerk_id, value_key).newest
        if seen is None or (found.newest is not None and found.newest >= seen):
            return found
        return found._replace(newest=seen)

    def _is_current(self, clerk_id: str, version: object, found: Versioned) -> bool:
        """Whether an entry of this version may be used; asks the database if need be."""
        if not isinstance(version, int) or version < (found.newest or 0):
            return False
        if found.confirmed == version:
            return True
        stored, _ = self._confirming.run(clerk_id, lambda: self._confirmed(clerk_id))
        return stored == version

    def _confirmed(self, clerk_id: str) -> int | None:
        """The version in the database, now the newest known; None where there is none to be had."""
        read_at = self.clock()
        try:
            with transaction(READ_SECONDS) as session:
                stored = read_version(session, clerk_id)
        except SQLAlchemyError as err:
            if is_outage(err):
                raise DatabaseUnavailableError("the version could not be compared") from err
            log.warning("context_versions_not_read", error=type(err).__name__)
            return None
        if stored is not None:
            self._put_version(clerk_id, stored, read_at=read_at)
        return stored

    def _put_version(
        self,
        clerk_id: str,
        version: int,
        *,
        read_at: float | None = None,
        value: tuple[str, str, int] | None = None,
    ) -> None:
        self._seen.put_version(clerk_id, version)
        left = 0.0 if read_at is None else CONFIRMED_SECONDS - (self.clock() - read_at)
        try:
            self.client.call(
                lambda: self.client.backend.put_version(
                    clerk_id, version, confirmed_seconds=left, value=value
                )
            )
        except CacheUnavailableError:
            return  # what is not stored will be read again


@lru_cache(REMEMBERED)
def fingerprint(rules_key: str, identity: Identity) -> str:
    """A short text that is the same for an identity that says the same, under the same rules."""
    said = f"{rules_key}|{identity!r}".encode("utf-8", "surrogatepass")
    return blake2b(said, digest_size=12).hexdigest()


def _entry(context: RequestContext, **more: str) -> str:
    entry: dict[str, object] = {
        "version": context.version,
        "user": context.user,
        "mentorado": context.mentorado,
        **more,
    }
    if context.question is not None:
        entry["question"] = [context.question.at.timestamp(), context.question.must_wait]
    return json.dumps(entry)


def _question_of(entry: Mapping[str, Any]) -> Question | None:
    question = entry.get("question")
    if question is None:
        return None
    return Question(datetime.fromtimestamp(question[0], UTC), must_wait=question[1])


@lru_cache(REMEMBERED)
def _parsed(text: str | None) -> Mapping[str, Any]:
    """The content of an entry, shared by its readers; empty for anything that is no entry."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _context_key(clerk_id: str) -> str:
    return f"context:{clerk_id}"


def _copy_key(clerk_id: str) -> str:
    return f"dashboard_copy:{clerk_id}"


def _reference_key(reference: str) -> str:
    digest = blake2b(reference.encode("utf-8", "replace"), digest_size=16)
    return f"reference:{digest.hexdigest()}"  # a code may come from outside, in any length
