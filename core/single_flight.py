"""Single flight: concurrent equal calls share one execution and its result."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

Answer = TypeVar("Answer")


class SingleFlight:
    """Futures of calls under way by key; shared by threads. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[Hashable, tuple[float, Future[Any]]] = {}
        self._lock = threading.Lock()

    def share(
        self, key: Hashable, start: Callable[[], Future[Answer]], *, keep_seconds: float = 0.0
    ) -> Future[Answer]:
        """Return the future of the call of this key, which `start` begins where there is none.

        A result is shared until `keep_seconds` after its call began; an error is shared only by
        those who waited for it. Raises what `start` raises.
        """
        with self._lock:
            self._drop_ended()
            if key in self._calls:
                return cast("Future[Answer]", self._calls[key][1])
            began_at = self._clock()
            future = start()
            self._calls[key] = (began_at + keep_seconds, future)
            return future

    def _drop_ended(self) -> None:
        now = self._clock()
        for key, (kept_until, future) in list(self._calls.items()):
            if future.done() and (now > kept_until or future.exception() is not None):
                del self._calls[key]
