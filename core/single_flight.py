"""Single flight: concurrent equal calls share one execution and its result."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Call:
    began_at: float
    keep_seconds: float
    future: Future[Any]


class SingleFlight:
    """Futures of calls under way by key; shared by threads. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: dict[Hashable, _Call] = {}
        self._lock = threading.Lock()

    def share(
        self, key: Hashable, start: Callable[[], Future[Answer]], *, keep_seconds: float = 0.0
    ) -> Future[Answer]:
        """Return the future of the call of this key, which `start` begins where there is none.

        A call that has ended well is shared until `keep_seconds` after its beginning, with callers
        who ask for that as well; an error is shared only by those who waited for it. Raises what
        `start` raises.
        """
        with self._lock:
            now = self._clock()
            self._drop_ended(now)
            call = self._calls.get(key)
            if call is not None and (not call.future.done() or now < call.began_at + keep_seconds):
                return cast("Future[Answer]", call.future)
            future = start()
            self._calls[key] = _Call(now, keep_seconds, future)
            return future

    def _drop_ended(self, now: float) -> None:
        for key, call in list(self._calls.items()):
            is_old = now >= call.began_at + call.keep_seconds
            if call.future.done() and (is_old or call.future.exception() is not None):
                del self._calls[key]
