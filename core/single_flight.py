"""Single flight: concurrent calls of the same key share one execution.

`SingleFlight` shares futures: a caller joins the call under way, and may leave at its own deadline.
`FreshSingleFlight` runs in a calling thread: a caller joins only executions that begin after its
request was received, so that the result includes every change committed before the request. They
are two classes because the first may return older results on purpose, and the second must not.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any, Generic, TypeVar, cast

KEEP_SECONDS = 1.0  # of a result after its end; a request rarely waits longer for a thread

Result = TypeVar("Result")


@dataclass(slots=True)
class _Execution(Generic[Result]):
    """One execution: waiting for its turn, running, or ended."""

    future: "Future[Result]" = field(default_factory=Future)
    began_at: float = inf
    ended_at: float = inf


class FreshSingleFlight(Generic[Result]):
    """Runs at most one call of each key at a time in this process, and lets one more wait.

    A caller that arrives during an execution shares the next one. No result is older than the
    request of the caller that gets it. `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, _Execution[Result]] = {}
        # The last one that has begun, of each key; those that began first come first.
        self._begun: OrderedDict[Hashable, _Execution[Result]] = OrderedDict()

    def run(
        self, key: Hashable, work: Callable[[], Result], *, received_at: float | None = None
    ) -> tuple[Result, bool]:
        """Return the result, and whether this caller ran `work`; raises what `work` raises.

        `received_at` is the time by `clock` at which this process received the request, which may
        have waited for a thread since. An execution that began later is shared, also within
        KEEP_SECONDS after its end.
        """
        with self._lock:
            begun, waiting = self._begun.get(key), self._waiting.get(key)
            is_shared = begun is not None and self._is_shared(begun, received_at)
            shared = begun if is_shared else waiting
            own: _Execution[Result] = _Execution()
            if shared is None:
                self._waiting[key] = own
        if shared is not None:
            return shared.future.result(), False
        if begun is not None:
            begun.future.exception()  # waits for its end, whatever its result
        with self._lock:
            self._begun[key] = self._waiting.pop(key)
            self._begun.move_to_end(key)
            own.began_at = self._clock()
            # Those that ended a while ago; one that still runs ends this.
            while next(iter(self._begun.values())).ended_at < own.began_at - KEEP_SECONDS:
                self._begun.popitem(last=False)
        try:
            result = work()
        except BaseException as err:
            own.ended_at = self._clock()
            own.future.set_exception(err)
            raise
        own.ended_at = self._clock()
        own.future.set_result(result)
        return result, True

    def _is_shared(self, begun: _Execution[Result], received_at: float | None) -> bool:
        """Whether it began after the request was received, and runs or succeeded lately."""
        if received_at is None or begun.began_at < received_at:
            return False
        if not begun.future.done():
            return True
        is_recent = self._clock() <= begun.ended_at + KEEP_SECONDS
        return is_recent and begun.future.exception() is None


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
            # Up to the first that is shared, so that each call is looked at once.
            while self._calls and not next(iter(self._calls.values())).is_shared_at(now):
                self._calls.popitem(last=False)
            call = self._calls.get(key)
            is_wanted = call is not None and (keep_seconds > 0 or not call.future.done())
            if call is not None and is_wanted and call.is_shared_at(now):
                return cast("Future[Result]", call.future)
            future = start()
            self._calls[key] = _Call(future, now + keep_seconds)
            self._calls.move_to_end(key)
            return future
