"""What a crowd does over time: when its people come, how many there are, and when it is over."""

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_ARRIVAL_SECONDS = 60.0  # a class has begun by then, however long it goes on


@dataclass(frozen=True, slots=True)
class Stage:
    """Until that part of the time has passed, that part of the crowd is there."""

    until: float
    crowd: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A shape: `who` weighs the kinds of people, `arriving` is the part of the time they come in.

    With nothing for `arriving`, everybody is there from the first moment.
    """

    who: Mapping[str, int]
    usual_seconds: float
    arriving: float = 0.0
    stages: tuple[Stage, ...] = (Stage(1.0),)

    def crowd(self, people: int, passed: float) -> int | None:
        """How many of the people are there once that part of the time has passed; None at the end.

        Never nobody: that would be no load at all.
        """
        for stage in self.stages:
            if passed < stage.until:
                return max(1, round(people * stage.crowd))
        return None

    def arrivals_per_second(self, people: int, seconds: float) -> float:
        """How fast they come when it all takes that long."""
        arriving_seconds = min(seconds * self.arriving, LONGEST_ARRIVAL_SECONDS)
        return people / arriving_seconds if arriving_seconds else float(people)


# A night is left out, because nothing happens in it: early, midday, afternoon, evening, late.
DAY = (Stage(0.2, 0.3), Stage(0.45, 1.0), Stage(0.65, 0.6), Stage(0.9, 1.0), Stage(1.0, 0.2))
SHAPES = {
    "at-once": Plan({"AtOnce": 1}, 20),
    "class-start": Plan({"Reader": 1}, 2 * LONGEST_ARRIVAL_SECONDS, arriving=0.5),
    "stampede": Plan({"Stampede": 1}, 20),
    "steady-day": Plan({"Reader": 9, "FirstLogin": 1}, 60, arriving=0.05, stages=DAY),
    "mixed": Plan({"FirstLogin": 5, "Stampede": 2, "Reader": 3}, 20),
}
