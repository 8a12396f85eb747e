"""Which generation is a person in? What is kept of them holds only within the one it was read in.

Every committed change moves the person's generation on. A cache that fails is left alone for a
moment, and what it could not be told is owed to it.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from extensions import cache

log = structlog.get_logger(__name__)

TTL_SECONDS = 7 * 86_400  # whatever is kept must never outlive its generation
BYPASS_SECONDS = 1.0  # only few requests shall pay for asking a cache that hangs
SETTLED_AT_ONCE = 50  # a request that finds the cache back must not pay for all of an outage
SMALLEST_START = 2**20  # a counter below it was lost and began anew, and its numbers come again


class CacheDownError(Exception):
    """The cache does not answer; the database knows everything as well."""


@dataclass(slots=True)
class Generations:
    """The counters in the cache; one object for an app, shared by its threads.

    `owed` are the people whose change the cache has not heard of: here nothing that is kept of them
    may be believed, and the cache is told as soon as it answers again.
    """

    clock: Callable[[], float] = time.monotonic
    owed: dict[str, object] = field(default_factory=dict)
    _silent_until: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def of(self, clerk_id: str) -> int | None:
        """The generation of just now, to be read *before* the database; None: keep nothing."""
        try:
            return int(self.ask(lambda: _first_or_current(clerk_id)))
        except CacheDownError:
            return None

    def with_entry(self, clerk_id: str, key: str) -> tuple[int, Any]:
        """The generation and what is kept under the key, in one look; raises CacheDownError."""
        if self.owed:
            self.settle()
        if clerk_id in self.owed:
            raise CacheDownError
        generation, entry = self.ask(lambda: cache.get_many(_counter(clerk_id), key))
        if generation is None:
            generation = self.ask(lambda: _first_or_current(clerk_id))
        return int(generation), entry

    def move_on(self, clerk_id: str, since: int | None = None) -> int | None:
        """Let nothing that is kept of this person hold any longer, after a committed change.

        Returns the new generation when nobody else has changed anything `since` the one given, so
        that what the change itself has read is still true; otherwise None.
        """
        try:
            moved = int(self.ask(lambda: _count_on(clerk_id)))
        except CacheDownError:
            with self._lock:
                self.owed[clerk_id] = object()
            return None
        return moved if since is not None and moved == since + 1 else None

    def settle(self) -> None:
        """Tell the cache what it could not be told before; the clock sees to it as well."""
        for clerk_id, debt in list(self.owed.items())[:SETTLED_AT_ONCE]:
            try:
                self.ask(partial(_count_on, clerk_id))
            except CacheDownError:
                return
            with self._lock:  # another change may have come in between, or somebody else settled it
                if self.owed.get(clerk_id) is debt:
                    del self.owed[clerk_id]

    def ask(self, question: Callable[[], Any]) -> Any:
        """Ask the cache unless it has just failed; raises CacheDownError, and nothing else."""
        if self.clock() < self._silent_until:
            raise CacheDownError
        try:
            return question()
        except Exception as err:  # whatever is wrong with the cache, it must not cost an answer
            self._silent_until = self.clock() + BYPASS_SECONDS
            log.warning("cache_error", error=type(err).__name__)
            raise CacheDownError from err


def _count_on(clerk_id: str) -> int:
    """Move a person's counter; each caller gets a number of its own."""
    moved = int(cache.cache.inc(_counter(clerk_id)) or 0)
    if moved < SMALLEST_START:
        moved = _start()
        cache.set(_counter(clerk_id), moved, timeout=TTL_SECONDS)
    return moved


def _first_or_current(clerk_id: str) -> int:
    """Start a person's counter, or learn how far somebody else has moved it."""
    cache.add(_counter(clerk_id), _start(), timeout=TTL_SECONDS)
    return int(cache.get(_counter(clerk_id)))


def _start() -> int:
    # A lost counter must not come by old numbers again, under which old entries may still lie.
    return SMALLEST_START + secrets.randbits(52)


def _counter(clerk_id: str) -> str:
    return f"generation:{clerk_id}"
