"""The progress of a sweep, counted in users."""

from dataclasses import asdict, dataclass, field
from typing import Any

from models import SweepRun
from provisioning.ensure import Outcome

SAMPLE_SIZE = 20


@dataclass(slots=True)
class SweepCounts:
    """The counts of a run; `sample` holds the outcomes of the first users of a dry run."""

    total: int = 0
    scanned: int = 0
    created: int = 0
    linked: int = 0
    existing: int = 0
    failed: int = 0
    ambiguous: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, run: SweepRun) -> "SweepCounts":
        """Read the counts of a run; they are not zero if another process released the run."""
        counts = cls()
        for name in counts.numbers():
            setattr(counts, name, getattr(run, name) or 0)
        return counts

    def numbers(self) -> dict[str, int]:
        """Return the counts by column name, without the sample."""
        counts = asdict(self)
        del counts["sample"]
        return counts

    def replace_with(self, committed: "SweepCounts") -> None:
        """Replace the counts by those that a transaction has just committed."""
        for name, value in asdict(committed).items():
            setattr(self, name, value)

    def add(self, outcome: Outcome | None, *, is_ambiguous: bool = False) -> None:
        """Count one user; `outcome` is None for a failure."""
        self.scanned += 1
        self.ambiguous += is_ambiguous
        self.total = max(self.total, self.scanned)  # users may have been added since the count
        match outcome:
            case None:
                self.failed += 1
            case Outcome.CREATED:
                self.created += 1
            case Outcome.LINKED | Outcome.CLAIMED:
                self.linked += 1
            case Outcome.EXISTING:
                self.existing += 1

    def add_batch(self, due: int, created: int) -> None:
        """Count a batch of users; those without a new profile got one elsewhere meanwhile."""
        self.scanned += due
        self.created += created
        self.existing += due - created
        self.total = max(self.total, self.scanned)

    def add_refused(self, due: int) -> None:
        """Count users for whom the rules create no profile."""
        self.scanned += due
        self.total = max(self.total, self.scanned)

    def add_to_sample(self, user_id: int, outcome: Outcome) -> None:
        """Add a user to the sample unless it is full."""
        if len(self.sample) < SAMPLE_SIZE:
            self.sample.append({"user_id": user_id, "outcome": str(outcome)})
