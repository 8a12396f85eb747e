"""Single flight: concurrent calls of the same key share one execution.

`SingleFlight` shares futures: a caller joins the call under way, and may leave at its own deadline.
`FreshSingleFlight` runs in a calling thread: a caller never joins an execution that has begun, so
that its result includes every change committed before the call. They are two classes because the
first may return older results on purpose, and the second must not.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

Result = TypeVar("Result")


class FreshSingleFlight(Generic[Result]):
    """Runs at most one call of each key at a time in this process, and lets one more wait.

    A caller that arrives during an execution shares the next one. No result is older than the call
    that receives it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, Future[Result]] = {}
        self._running: dict[Hashable, Future[Result]] = {}

    def run(self, key: Hashable, work: Callable[[], Result]) -> tuple[Result, bool]:
        """Return the result, and whether this caller ran `work`; raises what `work` raises."""
        with self._lock:
            joined, running = self._waiting.get(key), self._running.get(key)
            own: Future[Result] = Future()
            if joined is None:
                self._waiting[key] = own
        if joined is not None:
            return joined.result(), False
        if running is not None:
            running.exception()  # waits for its end, whatever its result
        with self._lock:
            self._running[key] = self._waiting.pop(key)
        try:
            result = work()
        except BaseException as err:
            # The next execution replaces this entry, so it ends before the future is resolved.
            with self._lock:
                del self._running[key]
            own.set_exception(err)
            raise
        with self._lock:
            del self._running[key]  # as above
        own.set_result(result)
        return result, True


@dataclass(frozen=True, slots=True)
class _Call:
    future: Future[Any]
    kept_until: float

    def is_shared_at(self, now: float) -> bool:
        """Whether the call is under way, or its result is kept."""
        if not self.future.done():
            return True
        return now < self.kept_until and self.future.exception() is None


class SingleFlight:
    """Futures of calls under way by key; shared by threads. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: OrderedDict[Hashable, _Call] = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def share(
        self, key: Hashable, start: Callable[[], Future[Result]], *, keep_seconds: float = 0.0
    ) -> Future[Result]:
        """Return the future of the call of this key, which `start` begins where there is none.

        A call that succeeded is shared until `keep_seconds` after its beginning, with callers that
        pass `keep_seconds` as well. An error is shared only by the callers that waited for it.
        Raises what `start` raises.
        """
        with self._lock:
            now = self._clock()
            self._drop_oldest(now)
            call = self._calls.get(key)
            is_wanted = call is not None and (keep_seconds > 0 or not call.future.done())
            if call is not None and is_wanted and call.is_shared_at(now):
                return cast("Future[Result]", call.future)
            future = start()
            self._calls[key] = _Call(future, now + keep_seconds)
            self._calls.move_to_end(key)
            return future

    def _drop_oldest(self, now: float) -> None:
        """Drop the oldest calls up to the first that is shared, so that each is looked at once."""
        while self._calls:
            key, call = next(iter(self._calls.items()))
            if call.is_shared_at(now):
                return
            del self._calls[key]
