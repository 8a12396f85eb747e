"""What tests of shared things need: time that stands still, and a crowd that can be waited for."""

from threading import Event, get_ident


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
