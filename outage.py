"""Is the database known to be away? Then one request at a time finds out when it is back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg2 import OperationalError

from deadlines import DeadlineError

FAIR_CHANCE_SECONDS = 0.2  # a server that is there takes far less to let somebody in


class KnownOutageError(OperationalError):
    """The server is away, and somebody else is just trying to reach it."""


class Outage:
    """What the connection attempts of this process have found; safe to share between threads.

    While the server is away one attempt at a time goes through, and the first that succeeds ends
    the outage for all. The others wait for it no longer than a healthy server takes, instead of
    holding a thread each: the answer comes within two seconds (CONTRACT section 8), also when the
    server hangs.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at: float | None = None
        self._probe = threading.Lock()

    @property
    def seconds(self) -> float:
        """For how long the server is known to be away; 0 while it is there."""
        began_at = self._began_at
        return 0.0 if began_at is None else self._clock() - began_at

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Surround one attempt to connect; raises KnownOutageError where it would be in vain."""
        if self._began_at is None:
            with self._noted():
                yield
            return
        if not self._probe.acquire(timeout=FAIR_CHANCE_SECONDS):
            raise KnownOutageError("the database is known to be away")
        try:
            with self._noted():
                yield
        finally:
            self._probe.release()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        started = self._clock()
        try:
            yield
        except OperationalError as err:
            if not isinstance(err, DeadlineError) or self._clock() - started > FAIR_CHANCE_SECONDS:
                self._began_at = self._began_at or started
            raise
        self._began_at = None
