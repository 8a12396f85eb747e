"""The cache that spares the database the question who is asking: quick, never wrong, never needed.

A context is kept under the generation that was valid *before* it was read, so that a slow reader's
late fill lands on a dead key. Absence of a profile is neither kept nor believed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import structlog

import metrics
from extensions import cache
from generations import CacheDownError, Generations
from provisioning.identity import Identity
from session_context import READY, Context

log = structlog.get_logger(__name__)

SCREEN_TTL_SECONDS = 7 * 86_400  # people write to support within days
REMEMBERED = 4_096  # identities; whoever asks once asks again within the minute
LAST_GOOD_TTL_SECONDS = 86_400  # how long somebody may look at old numbers (DESIGN section 3)


@dataclass(frozen=True, slots=True)
class Glance:
    """One look into the cache: what it held, and the generation that a later fill must carry."""

    context: Context | None
    generation: int | None


@dataclass(frozen=True, slots=True)
class LastGood:
    """What a person saw last: who they were then, and their overview as it was written down."""

    context: Context
    overview: str


@dataclass(frozen=True, slots=True)
class ContextCache:
    """One for an app, shared by its threads; every method answers, whatever the cache does."""

    ttl_seconds: int
    edition: str = (
        ""  # what is kept under other rules, such as another ADMIN_EMAILS, is not believed
    )
    generations: Generations = field(default_factory=Generations)

    def look_up(self, identity: Identity) -> Glance:
        """Ask for the context of a person who says the same about themselves as when it was kept.

        Somebody whose address has been verified meanwhile is another matter for the guarantee.
        """
        clerk_id = identity.clerk_id
        try:
            generation, entry = self.generations.with_entry(clerk_id, _context(clerk_id))
        except CacheDownError:
            metrics.CACHE_REQUESTS.labels("error").inc()
            return Glance(None, None)
        return Glance(self._believed(entry, generation, identity), generation)

    def keep(self, identity: Identity, context: Context) -> None:
        """Keep a usable context under the generation it carries."""
        if context.status == READY and context.generation is not None:
            entry = _entry(context, identity=fingerprint(self.edition, identity))
            self._store(_context(identity.clerk_id), entry, self.ttl_seconds)

    def renew(self, clerk_id: str) -> None:
        """Invalidate all that is kept of this person, after a committed change."""
        self.generations.move_on(clerk_id)

    def keep_last_good(self, context: Context, overview: str) -> None:
        """Keep what this person sees, for a time without database."""
        if context.generation is not None:
            entry = _entry(context, overview=overview)
            self._store(_last_good(context.user["clerk_id"]), entry, LAST_GOOD_TTL_SECONDS)

    def last_good(self, clerk_id: str) -> LastGood | None:
        """What this person saw last, unless something has changed since."""
        try:
            generation, entry = self.generations.with_entry(clerk_id, _last_good(clerk_id))
        except CacheDownError:
            return None
        found = _read(entry)
        if found.get("generation") != generation:
            return None
        return LastGood(Context(found["user"], found["mentorado"], READY), found["overview"])

    def note_screen(self, reference: str, clerk_id: str) -> None:
        """Note who was shown this reference code, for support to find them by."""
        self._store(_screen(reference), {"clerk_id": clerk_id}, SCREEN_TTL_SECONDS)

    def whose_screen(self, reference: str) -> str | None:
        """The Clerk id of whoever was shown this code lately; None for any other text."""
        try:
            entry = self.generations.ask(lambda: cache.get(_screen(reference)))
        except CacheDownError:
            return None
        return _read(entry).get("clerk_id")

    def _store(self, key: str, entry: dict[str, Any], ttl_seconds: int) -> None:
        try:
            self.generations.ask(lambda: cache.set(key, json.dumps(entry), timeout=ttl_seconds))
        except CacheDownError:
            return  # what is not kept will be read again

    def _believed(self, entry: Any, generation: int, identity: Identity) -> Context | None:
        """Read an entry; one of another generation, or without a profile, counts as none."""
        found = _read(entry)
        is_same = found.get("identity") == fingerprint(self.edition, identity)
        if found.get("generation") != generation or not is_same:
            metrics.CACHE_REQUESTS.labels("miss").inc()
            log.info("cache_miss")
            return None
        if not found.get("mentorado"):
            metrics.CACHE_REQUESTS.labels("hit_no_mentorado").inc()
            log.warning("cache_hit_no_mentorado", user_id=found.get("user", {}).get("id"))
            return None
        metrics.CACHE_REQUESTS.labels("hit").inc()
        log.info("cache_hit", user_id=found["user"]["id"])
        return Context(found["user"], found["mentorado"], READY, generation=generation)


@lru_cache(REMEMBERED)
def fingerprint(edition: str, identity: Identity) -> str:
    """A short text that is the same for a person who says the same, under the same rules."""
    said = f"{edition}|{identity!r}".encode("utf-8", "surrogatepass")
    return blake2b(said, digest_size=12).hexdigest()


def _entry(context: Context, **more: str) -> dict[str, Any]:
    return {
        "generation": context.generation,
        "user": context.user,
        "mentorado": context.mentorado,
        **more,
    }


@lru_cache(REMEMBERED)
def _read(entry: object) -> Mapping[str, Any]:
    """What an entry says; whatever is no entry of ours says nothing. The same for all who ask."""
    try:
        found = json.loads(entry if isinstance(entry, str | bytes) else "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _context(clerk_id: str) -> str:
    return f"context:{clerk_id}"


def _last_good(clerk_id: str) -> str:
    return f"last_good:{clerk_id}"


def _screen(reference: str) -> str:
    digest = blake2b(reference.encode("utf-8", "replace"), digest_size=16)
    return f"screen:{digest.hexdigest()}"  # a code may come from outside, in any length
