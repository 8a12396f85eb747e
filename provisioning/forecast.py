"""What a sweep would do: the same rules, asked without writing anything about anybody."""

from dataclasses import dataclass

from sqlalchemy.exc import NoResultFound

from extensions import Transaction
from provisioning import difference
from provisioning.counts import SAMPLE_SIZE, Counts
from provisioning.difference import Range
from provisioning.ensure import Outcome, foresee
from provisioning.linking import Action, Rules
from provisioning.switch import may_create

FORESEEN = {
    Action.KEEP: Outcome.EXISTING,
    Action.CLAIM: Outcome.CLAIMED,
    Action.LINK: Outcome.LINKED,
    Action.CREATE: Outcome.CREATED,
    Action.EXEMPT: Outcome.ADMIN,
    Action.DENY: Outcome.DENIED,
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """Counts the people it is handed by what would happen to them, and keeps a sample."""

    transaction: Transaction
    rules: Rules
    counts: Counts

    def one(self, clerk_id: str) -> None:
        """Count what `ensure` would decide; whom only a record knows would be created."""
        with self.transaction() as session:
            try:
                foreseen = foresee(session, clerk_id, self.rules)
            except NoResultFound:
                self.counts.add(Outcome.CREATED)
                return
        outcome = FORESEEN[foreseen.decision.action]
        self.counts.add(outcome, is_ambiguous=foreseen.standing.is_ambiguous)
        self.counts.show(foreseen.user_id, outcome)

    def many(self, people: Range) -> None:
        """Count what the set-based step would do to a range of people."""
        with self.transaction() as session:
            due = difference.count_range(session, people)
            if not may_create(session, self.rules):
                self.counts.add_refused(due)
                return
            first = difference.first_in_range(session, people, SAMPLE_SIZE)
        self.counts.add_batch(due, due)
        for user_id in first:
            self.counts.show(user_id, Outcome.CREATED)
