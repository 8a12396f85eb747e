"""Requests that a busy person has been granted ahead, so that not each of them asks Redis.

What is granted here is counted there at once: several processes together never let through more
than one of them alone. Whoever comes seldom is granted one request at a time, and pays for no more.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

SECONDS = 1.0  # for which a grant holds
MOST = 16  # requests; more would save next to nothing
KNOWN_AT_ONCE = 10_000  # people; whoever is forgotten is granted one request at a time again


@dataclass(slots=True)
class _Grant:
    size: int
    left: int
    until: float


class Leases:
    """What has been granted to whom; shared by an app's threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._grants: OrderedDict[Hashable, _Grant] = OrderedDict()
        self._lock = threading.Lock()

    def spend(self, who: Hashable) -> bool:
        """Use one of the requests that were granted ahead; whether there was one."""
        with self._lock:
            grant = self._grants.get(who)
            if grant is None or not grant.left or grant.until <= self._clock():
                return False
            grant.left -= 1
            return True

    def next_size(self, who: Hashable) -> int:
        """How many requests to ask for: twice as many for whoever has used up the last in time."""
        with self._lock:
            last = self._grants.get(who)
            if last is None or last.left or last.until <= self._clock():
                return 1
            return min(2 * last.size, MOST)

    def grant(self, who: Hashable, size: int) -> None:
        """Note that so many more were granted, of which one is used up now."""
        with self._lock:
            now, last = self._clock(), self._grants.get(who)
            kept = last.left if last and last.until > now else 0
            self._grants[who] = _Grant(size, kept + size - 1, now + SECONDS)
            self._grants.move_to_end(who)
            if len(self._grants) > KNOWN_AT_ONCE:
                self._grants.popitem(last=False)
