"""Those who ask the same question at the same time share one answer."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

Answer = TypeVar("Answer")


class FreshSingleFlight(Generic[Answer]):
    """At most one flight in the air and one at the gate for each key, within this process.

    Whoever comes while one is in the air boards the next: no answer is older than the question it
    is given to, so that a change committed before a request shows in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boarding: dict[Hashable, Future[Answer]] = {}
        self._in_the_air: dict[Hashable, Future[Answer]] = {}

    def run(self, key: Hashable, ask: Callable[[], Answer]) -> tuple[Answer, bool]:
        """Return the answer, and whether it was this caller who asked; raises what `ask` raises."""
        with self._lock:
            boarding = self._boarding.get(key)
            if boarding is None:
                mine: Future[Answer] = Future()
                self._boarding[key] = mine
                ahead = self._in_the_air.get(key)
        if boarding is not None:
            return boarding.result(), False
        if ahead is not None:
            ahead.exception()  # waits; how it ended is not our business
        return self._execute(key, mine, ask), True

    def _execute(self, key: Hashable, flight: Future[Answer], ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            del self._boarding[key]
            self._in_the_air[key] = flight
        try:
            answer = ask()
        except BaseException as err:
            self._finish(key)
            flight.set_exception(err)
            raise
        self._finish(key)
        flight.set_result(answer)
        return answer

    def _finish(self, key: Hashable) -> None:
        # Before those who wait are told: the next flight takes this place as soon as it hears.
        with self._lock:
            del self._in_the_air[key]


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
