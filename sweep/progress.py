"""How far a sweep has come, in people."""

from dataclasses import asdict, dataclass, field
from typing import Any

from models import SweepRun
from provisioning.ensure import Outcome

SAMPLE_SIZE = 20


@dataclass(slots=True)
class SweepCounts:
    """The numbers of a run; `sample` is what a dry run would do to the first people it found."""

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
        """What a run has come to so far; not nothing where another process has given it back."""
        counts = cls()
        for name in counts.numbers():
            setattr(counts, name, getattr(run, name) or 0)
        return counts

    def numbers(self) -> dict[str, int]:
        """The counts alone, by their columns."""
        counts = asdict(self)
        del counts["sample"]
        return counts

    def replace_with(self, ahead: "SweepCounts") -> None:
        """Take over what was counted ahead, now that it is committed."""
        for name, value in asdict(ahead).items():
            setattr(self, name, value)

    def add(self, outcome: Outcome | None, *, is_ambiguous: bool = False) -> None:
        """Count one person; no outcome means that it failed."""
        self.scanned += 1
        self.ambiguous += is_ambiguous
        self.total = max(self.total, self.scanned)  # some came in while we were counting
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
        """Count a batch of people who needed no decision; who got none had one by then."""
        self.scanned += due
        self.created += created
        self.existing += due - created
        self.total = max(self.total, self.scanned)

    def add_refused(self, due: int) -> None:
        """Count people whom the rules leave without a profile."""
        self.scanned += due
        self.total = max(self.total, self.scanned)

    def show(self, user_id: int, outcome: Outcome) -> None:
        """Keep one of the first for the sample."""
        if len(self.sample) < SAMPLE_SIZE:
            self.sample.append({"user_id": user_id, "outcome": str(outcome)})
