"""Elapsed time without the times for which a busy machine did not run this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

TICK_SECONDS = 0.01
STALL_SECONDS = 0.1  # a longer gap between two ticks


class Stopwatch:
    """The measured seconds, while the block runs and afterwards."""

    def __init__(self) -> None:
        self._started_at = self._ticked_at = time.monotonic()
        self._stalled = 0.0
        self._seconds: float | None = None

    @property
    def seconds(self) -> float:
        """The elapsed seconds without stalls."""
        if self._seconds is not None:
            return self._seconds
        return time.monotonic() - self._started_at - self._stalled

    def run(self, ended: Event) -> None:
        """Tick until the event is set, and add up the gaps."""
        while not ended.wait(TICK_SECONDS):
            self._tick()

    def stop(self) -> None:
        """End the measurement; `run` must have returned."""
        self._tick()
        self._seconds = self._ticked_at - self._started_at - self._stalled

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked_at > STALL_SECONDS:
            self._stalled += now - self._ticked_at
        self._ticked_at = now


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the time of a block."""
    watch, ended = Stopwatch(), Event()
    ticking = Thread(target=watch.run, args=(ended,))
    ticking.start()
    try:
        yield watch
    finally:
        ended.set()
        ticking.join()
        watch.stop()
