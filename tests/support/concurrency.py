"""Helpers for concurrency tests: a manual clock, and dictionary keys that synchronize threads."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, get_ident

JOIN_SECONDS = 0.1  # for a thread that may have to wait for the caller


class Clock:
    """A monotonic clock that a test advances."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class ThreadCountingKey(str):
    """A key that records which threads have looked it up."""

    expected_threads: int
    threads: set[int]
    all_arrived: Event

    def __new__(cls, value: str, *, expected_threads: int) -> "ThreadCountingKey":
        """Create the key; `expected_threads` is the number of threads to wait for."""
        key = super().__new__(cls, value)
        key.expected_threads, key.threads, key.all_arrived = expected_threads, set[int](), Event()
        return key

    def __hash__(self) -> int:
        self.threads.add(get_ident())
        if len(self.threads) == self.expected_threads:
            self.all_arrived.set()
        return super().__hash__()


class InterruptedKey(str):
    """A key whose n-th lookup first runs a function in another thread."""

    lookups: int
    at: int
    before: Callable[[], object]

    def __new__(cls, value: str, *, at: int, before: Callable[[], object]) -> "InterruptedKey":
        """Create the key; `before` runs in a thread when the key is looked up the `at`-th time."""
        key = super().__new__(cls, value)
        key.lookups, key.at, key.before = 0, at, before
        return key

    def __hash__(self) -> int:
        self.lookups += 1
        if self.lookups == self.at:
            thread = Thread(target=self.before)
            thread.start()
            thread.join(JOIN_SECONDS)
        return super().__hash__()


@contextmanager
def frequent_thread_switches() -> Iterator[None]:
    """Switch between threads every microsecond, so that rare interleavings occur."""
    previous = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(previous)
