"""The cache that spares the database the question who is asking: quick, never wrong, never needed.

Each person has a generation, a number that every committed change moves on. What is read from the
database is kept under the generation that was valid *before* it was read, so that a slow reader's
late fill lands on a dead key. Absence of a profile is neither kept nor believed.
"""

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any

import structlog

from extensions import cache
from provisioning.identity import Identity
from session_context import READY, Context

log = structlog.get_logger(__name__)

GENERATION_TTL_SECONDS = 7 * 86_400  # a context must never outlive its key
LAST_GOOD_TTL_SECONDS = 86_400  # how long somebody may look at old numbers (DESIGN section 3)
BYPASS_SECONDS = 1.0  # a cache that failed is left alone, so that only few pay for asking it
SETTLED_AT_ONCE = 50  # a request that finds the cache back must not pay for all of an outage
SMALLEST_START = 2**20  # a counter below it was lost and began anew, and its numbers come again


class CacheDownError(Exception):
    """The cache has just failed and is not asked."""


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


@dataclass(slots=True)
class ContextCache:
    """One for an app, shared by its threads; every method answers, whatever the cache does.

    `owed` are the people whose change could not be told to the cache: they count as uncached here,
    and the cache is told as soon as it answers again.
    """

    ttl_seconds: int
    clock: Callable[[], float] = time.monotonic
    owed: dict[str, object] = field(default_factory=dict)
    _silent_until: float = 0.0

    def look_up(self, identity: Identity) -> Glance:
        """Ask for the context of a person who says the same about themselves as when it was kept.

        Somebody whose address has been verified meanwhile is another matter for the guarantee.
        """
        if self.owed:
            self.settle()
        clerk_id = identity.clerk_id
        if clerk_id in self.owed:
            return Glance(None, None)
        try:
            generation, entry = self._ask(
                lambda: cache.get_many(_generation(clerk_id), _context(clerk_id))
            )
            if generation is None:
                generation = self._ask(lambda: _first_generation(clerk_id))
        except CacheDownError:
            return Glance(None, None)
        return Glance(_believed(entry, generation, identity), generation)

    def generation(self, clerk_id: str) -> int | None:
        """The generation of just now, for a reader who passes what is kept by."""
        try:
            return int(self._ask(lambda: _first_generation(clerk_id)))
        except CacheDownError:
            return None

    def keep(self, identity: Identity, context: Context) -> None:
        """Store a usable context under the generation it carries."""
        if context.status == READY and context.generation is not None:
            entry = {
                "generation": context.generation,
                "identity": _fingerprint(identity),
                "user": context.user,
                "mentorado": context.mentorado,
            }
            self._store(_context(identity.clerk_id), json.dumps(entry), self.ttl_seconds)

    def renew(self, clerk_id: str, since: int | None = None) -> int | None:
        """Invalidate what is kept of this person, after a committed change.

        Returns the new generation when nobody else has changed anything `since` the one given, so
        that what the change itself has read is still true; otherwise None.
        """
        try:
            moved = int(self._ask(lambda: _count_on(clerk_id)))
        except CacheDownError:
            self.owed[clerk_id] = object()
            return None
        return moved if since is not None and moved == since + 1 else None

    def settle(self) -> None:
        """Tell the cache what it could not be told before; the clock sees to it as well."""
        for clerk_id, debt in list(self.owed.items())[:SETTLED_AT_ONCE]:
            try:
                self._ask(partial(_count_on, clerk_id))
            except CacheDownError:
                return
            if self.owed.get(clerk_id) is debt:  # another change may have come in between
                del self.owed[clerk_id]

    def keep_last_good(self, context: Context, overview: str) -> None:
        """Keep what this person saw last, for a time without database."""
        if context.generation is not None:
            entry = {
                "generation": context.generation,
                "user": context.user,
                "mentorado": context.mentorado,
                "overview": overview,
            }
            key = _last_good(context.user["clerk_id"])
            self._store(key, json.dumps(entry), LAST_GOOD_TTL_SECONDS)

    def last_good(self, clerk_id: str) -> LastGood | None:
        """What this person saw last, unless something has changed since."""
        try:
            generation, entry = self._ask(
                lambda: cache.get_many(_generation(clerk_id), _last_good(clerk_id))
            )
        except CacheDownError:
            return None
        found = _read(entry)
        if clerk_id in self.owed or generation is None or found.get("generation") != generation:
            return None
        return LastGood(Context(found["user"], found["mentorado"], READY), found["overview"])

    def _store(self, key: str, value: str, ttl_seconds: int) -> None:
        try:
            self._ask(lambda: cache.set(key, value, timeout=ttl_seconds))
        except CacheDownError:
            return  # what is not kept will be read again

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask the cache unless it has just failed; raises CacheDownError."""
        if self.clock() < self._silent_until:
            raise CacheDownError
        try:
            return question()
        except Exception as err:  # whatever is wrong with the cache, the database knows the answer
            self._silent_until = self.clock() + BYPASS_SECONDS
            log.warning("cache_error", error=type(err).__name__)
            raise CacheDownError from err


def _believed(entry: Any, generation: int, identity: Identity) -> Context | None:
    """Read an entry; one of another generation, or without a profile, counts as none."""
    found = _read(entry)
    if found.get("generation") != generation or found.get("identity") != _fingerprint(identity):
        log.info("cache_miss")
        return None
    if not found.get("mentorado"):
        log.warning("cache_hit_no_mentorado", user_id=found.get("user", {}).get("id"))
        return None
    log.debug("cache_hit", user_id=found["user"]["id"])
    return Context(found["user"], found["mentorado"], READY, generation=generation)


def _read(entry: Any) -> dict[str, Any]:
    """What an entry says; whatever is no entry of ours says nothing."""
    try:
        found = json.loads(entry or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _first_generation(clerk_id: str) -> int:
    """Start a person's generations, or learn which one somebody else has reached."""
    cache.add(_generation(clerk_id), _start(), timeout=GENERATION_TTL_SECONDS)
    return int(cache.get(_generation(clerk_id)))


def _count_on(clerk_id: str) -> int:
    """Move a person's generation on; each caller gets a number of its own."""
    moved = int(cache.cache.inc(_generation(clerk_id)) or 0)
    if moved < SMALLEST_START:
        moved = _start()
        cache.set(_generation(clerk_id), moved, timeout=GENERATION_TTL_SECONDS)
    return moved


def _start() -> int:
    # A lost counter must not come by old numbers again, under which old entries may still lie.
    return SMALLEST_START + secrets.randbits(52)


def _fingerprint(identity: Identity) -> str:
    return blake2b(repr(identity).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _generation(clerk_id: str) -> str:
    return f"generation:{clerk_id}"


def _context(clerk_id: str) -> str:
    return f"context:{clerk_id}"


def _last_good(clerk_id: str) -> str:
    return f"last_good:{clerk_id}"
