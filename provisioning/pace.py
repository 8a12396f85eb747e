"""How many people a batch takes: no more than are done before anybody minds waiting for them."""

from collections.abc import Callable
from dataclasses import dataclass

# Whoever signs in while they are in a batch waits for its commit, and a login gives up waiting for
# a lock after a third of a second.
AIM_SECONDS = 0.1
FIRST = 1_000
SMALLEST = 100  # below, a batch costs more than the people in it


@dataclass(slots=True)
class Pace:
    """The size of the next batch, from how long the ones before took; `most` is never exceeded.

    `monotonic` is a clock in seconds.
    """

    most: int
    monotonic: Callable[[], float]
    size: int = FIRST

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def timed(self, batch: Callable[[], None]) -> None:
        """See a batch of the present size through, and draw the conclusion for the next one."""
        started = self.monotonic()
        batch()
        self.size = self._after(self.monotonic() - started)

    def _after(self, seconds: float) -> int:
        """What would have taken as long as we aim at, but at most double and at least half."""
        most = min(self.most, self.size * 2)
        least = min(self.most, max(SMALLEST, self.size // 2))
        return (
            most if seconds <= 0 else max(least, min(most, int(self.size * AIM_SECONDS / seconds)))
        )
