"""What tests of shared things need: time that stands still, and a crowd that can be waited for."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, get_ident

A_MOMENT_SECONDS = 0.1  # for somebody who may have to wait for us


class Clock:
    """Seconds that pass only when told to; it starts anywhere, as a monotonic clock does."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Roll(str):
    """An id that notices which threads have looked for it."""

    crowd: int
    seen: set[int]
    is_complete: Event

    def __new__(cls, value: str, *, crowd: int) -> "Roll":
        """The id, and how many threads make a crowd."""
        roll = super().__new__(cls, value)
        roll.crowd, roll.seen, roll.is_complete = crowd, set[int](), Event()
        return roll

    def __hash__(self) -> int:
        self.seen.add(get_ident())
        if len(self.seen) == self.crowd:
            self.is_complete.set()
        return super().__hash__()


class Meddled(str):
    """An id: when it is looked for the `at`-th time, somebody else does something just before."""

    looks: int
    at: int
    meddle: Callable[[], object]

    def __new__(cls, value: str, *, at: int, meddle: Callable[[], object]) -> "Meddled":
        """The id, and what is done in a thread of its own, which may have to wait for us."""
        meddled = super().__new__(cls, value)
        meddled.looks, meddled.at, meddled.meddle = 0, at, meddle
        return meddled

    def __hash__(self) -> int:
        self.looks += 1
        if self.looks == self.at:
            other = Thread(target=self.meddle)
            other.start()
            other.join(A_MOMENT_SECONDS)
        return super().__hash__()


@contextmanager
def threads_taking_turns_often() -> Iterator[None]:
    """Whatever can happen between two lines does happen, if they are passed often enough."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
