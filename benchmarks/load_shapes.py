"""Load shapes: the kinds of users, their number over time, and the duration."""

from collections.abc import Mapping
from dataclasses import dataclass

LONGEST_ARRIVAL_SECONDS = 60.0  # the arrival takes no longer, whatever the duration


@dataclass(frozen=True, slots=True)
class Stage:
    """The `share` of the users that is active until a share of the time has passed."""

    until: float
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadShape:
    """A load shape: `weights` of the user classes, `arriving` is the share of time for arrivals.

    With `arriving` 0, all users are active from the start.
    """

    weights: Mapping[str, int]
    default_seconds: float
    arriving: float = 0.0
    stages: tuple[Stage, ...] = (Stage(1.0),)

    def active_users(self, users: int, passed: float) -> int | None:
        """Return the number of users after the share `passed` of the time; None at the end.

        At least one: with none there would be no load.
        """
        for stage in self.stages:
            if passed < stage.until:
                return max(1, round(users * stage.share))
        return None

    def arrivals_per_second(self, users: int, seconds: float) -> float:
        """Return the arrivals per second in a run of `seconds`."""
        arriving_seconds = min(seconds * self.arriving, LONGEST_ARRIVAL_SECONDS)
        return users / arriving_seconds if arriving_seconds else float(users)


# Early, midday, afternoon, evening, late; the night without load is left out.
DAY = (Stage(0.2, 0.3), Stage(0.45, 1.0), Stage(0.65, 0.6), Stage(0.9, 1.0), Stage(1.0, 0.2))
SHAPES = {
    "at-once": LoadShape({"AtOnce": 1}, 20),
    "class-start": LoadShape({"Reader": 1}, 2 * LONGEST_ARRIVAL_SECONDS, arriving=0.5),
    "stampede": LoadShape({"Stampede": 1}, 20),
    "steady-day": LoadShape({"Reader": 9, "FirstLogin": 1}, 60, arriving=0.05, stages=DAY),
    "mixed": LoadShape({"FirstLogin": 5, "Stampede": 2, "Reader": 3}, 20),
}
