"""Whether the installation is in use, so that a serverless database may suspend while it is not.

1. Requests with a session, signed webhooks and batches of admin jobs are uses.
2. A background thread of each process exchanges the time of the last use with other processes:
   in Redis, without Redis in a file of the instance folder.
3. An installation that has been unused for `idle_seconds` is idle. Background work then sends the
   database nothing until it is needed (`sweep/scheduler.py`).
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Protocol

import structlog

from core.cache import CacheUnavailableError, Store

log = structlog.get_logger(__name__)

EXCHANGE_SECONDS = 5.0  # at most, and far below the time after which an installation is idle
# After this time without a web process that writes it, the time of the last use is unknown.
LIFETIME_SECONDS = 60
REDIS_KEY = "last_use"
FILE_NAME = "last_use"


class LastUseStore(Protocol):
    """The time of the last use that the web processes share, in seconds since 1970."""

    def read(self) -> float | None:
        """Return the time; None if no web process has written it lately, or after an error."""

    def write(self, moment: float) -> None:
        """Store the time; does nothing after an error."""


class LastUseFile:
    """The time as a file's, for the processes of one host with one instance folder.

    The file is empty: its modification time is the last use, its access time that of the write.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def read(self) -> float | None:
        """Return the time of the file."""
        with suppress(OSError):
            times = self._path.stat()
            if time.time() - times.st_atime < LIFETIME_SECONDS:
                return times.st_mtime
        return None

    def write(self, moment: float) -> None:
        """Set the times of the file; nothing depends on one that cannot be written."""
        with suppress(OSError):
            self._path.touch(exist_ok=True)
            os.utime(self._path, (time.time(), moment))


class LastUseInRedis:
    """The time in Redis, for any number of hosts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self) -> float | None:
        """Return the time in Redis."""
        with suppress(CacheUnavailableError, ValueError):
            [moment] = self._store.read([REDIS_KEY])
            return None if moment is None else float(moment)
        return None

    def write(self, moment: float) -> None:
        """Store the time; it expires when no web process lives."""
        with suppress(CacheUnavailableError):
            self._store.put(REDIS_KEY, repr(moment), LIFETIME_SECONDS)


class Activity:
    """When the installation was last used, as far as this process knows; shared by its threads.

    `idle_seconds` 0 means never idle. The start of the process counts as a use. `serves_requests`
    is false in a process that must learn of all uses from others. While it learns of none, it
    counts the installation as used. `wake_scheduler` makes the scheduler of this process look for
    work at once. `clock` returns seconds since 1970.
    """

    def __init__(
        self,
        idle_seconds: float = 0.0,
        shared: LastUseStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.serves_requests = True
        self.wake_scheduler: Callable[[], None] = lambda: None
        self.idle_seconds = idle_seconds
        self._shared = shared
        self._clock = clock
        self._used_at = clock()
        self._idle_ended_at = -inf
        self._next_exchange_at = -inf
        self._is_informed: bool | None = None

    @property
    def unused_seconds(self) -> float:
        """How long ago the installation was last used."""
        return self._clock() - self._used_at

    @property
    def is_idle(self) -> bool:
        """Whether the installation has been unused for `idle_seconds`."""
        return 0 < self.idle_seconds <= self.unused_seconds

    @property
    def seconds_in_use(self) -> float:
        """How long ago the last idle time ended; 0 during one, infinite before the first."""
        return 0.0 if self.is_idle else self._clock() - self._idle_ended_at

    def note_use(self) -> None:
        """Note a use of the installation by this process; ends its idle time at once."""
        now = self._clock()
        is_first = 0 < self.idle_seconds <= now - self._used_at
        self._used_at = now
        if is_first:
            self._idle_ended_at, self._next_exchange_at = now, -inf
            self.wake_scheduler()

    def exchange(self) -> None:
        """Learn of uses by other processes and publish those of this one, every few seconds."""
        now = self._clock()
        if self._shared is None or not self.idle_seconds or now < self._next_exchange_at:
            return
        self._next_exchange_at = now + min(EXCHANGE_SECONDS, self.idle_seconds / 4)
        others = self._shared.read()
        if others is not None:
            self._note(others, now)
        if self.serves_requests:
            self._shared.write(self._used_at)
            return
        if others is None:
            self._note(now, now)
        if self._is_informed != (others is not None):
            self._is_informed = others is not None
            log.info("requests_of_web_processes", known=self._is_informed)

    def _note(self, moment: float, now: float) -> None:
        """Note a use by another process; the clock of its host may be ahead."""
        was_idle = self.is_idle
        self._used_at = max(self._used_at, min(moment, now))
        if was_idle and not self.is_idle:
            self._idle_ended_at = now
