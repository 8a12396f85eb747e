"""Completion: users of whom the identity provider has not told everything, asked about in turn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from provisioning.errors import IdentityUnavailableError

Step = Callable[[], None]

# One question without answer may be about its user alone; the next one finds out.
UNANSWERED_IN_A_ROW = 2


@dataclass(slots=True)
class IdentityCompletion:
    """Asks about one user after the other, until the provider does not answer.

    `learn` asks about a user and raises IdentityUnavailableError where none can be asked about;
    `note_unanswered` puts a user behind the others for the next run. `stopped_by` is why not all
    were asked about.
    """

    refresh_identity: Callable[[str], None]
    note_unanswered: Callable[[str], None]
    stopped_by: str | None = None
    _unanswered: int = 0

    def steps(self, clerk_ids: Iterable[str]) -> Iterator[Step]:
        """A step for each question."""
        for clerk_id in () if self.stopped_by else clerk_ids:
            yield partial(self._ask, clerk_id)
            if self.stopped_by is not None:
                return

    def _ask(self, clerk_id: str) -> None:
        try:
            self.refresh_identity(clerk_id)
        except IdentityUnavailableError as err:
            self._note(clerk_id, err)
        else:
            self._unanswered = 0

    def _note(self, clerk_id: str, err: IdentityUnavailableError) -> None:
        is_told_to_wait = err.wait_seconds is not None
        if not is_told_to_wait:
            self.note_unanswered(clerk_id)
            self._unanswered += 1
        if is_told_to_wait or self._unanswered == UNANSWERED_IN_A_ROW:
            self.stopped_by = str(err)
