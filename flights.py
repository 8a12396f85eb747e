"""Those who ask the same question at the same time share one answer."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Flights(Generic[Answer]):
    """At most one flight in the air and one at the gate for each key, within this process.

    Whoever comes while one is in the air boards the next: no answer is older than the question it
    is given to, so that a change committed before a request shows in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boarding: dict[Hashable, Future[Answer]] = {}
        self._in_the_air: dict[Hashable, Future[Answer]] = {}

    def share(self, key: Hashable, ask: Callable[[], Answer]) -> tuple[Answer, bool]:
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
        return self._fly(key, mine, ask), True

    def _fly(self, key: Hashable, flight: Future[Answer], ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            del self._boarding[key]
            self._in_the_air[key] = flight
        try:
            answer = ask()
        except BaseException as err:
            self._land(key)
            flight.set_exception(err)
            raise
        self._land(key)
        flight.set_result(answer)
        return answer

    def _land(self, key: Hashable) -> None:
        # Before those who wait are told: the next flight takes this place as soon as it hears.
        with self._lock:
            del self._in_the_air[key]
