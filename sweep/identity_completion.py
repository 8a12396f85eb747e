"""Refresh incomplete identities from the identity provider, one user after the other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from provisioning.errors import IdentityUnavailableError

Step = Callable[[], None]

# A single failure may concern its user only; a second one in a row concerns the provider.
FAILURES_IN_A_ROW = 2


@dataclass(slots=True)
class IdentityCompletion:
    """Refreshes one identity after the other, until the provider does not answer.

    `refresh_identity` raises IdentityUnavailableError if the provider does not answer.
    `note_unanswered` moves a user behind the others for the next run. `stopped_by` is the reason
    why some were left out.
    """

    refresh_identity: Callable[[str], None]
    note_unanswered: Callable[[str], None]
    stopped_by: str | None = None
    _failures: int = 0

    def steps(self, clerk_ids: Iterable[str]) -> Iterator[Step]:
        """Yield one step for each user, until the provider does not answer."""
        for clerk_id in () if self.stopped_by else clerk_ids:
            yield partial(self._refresh, clerk_id)
            if self.stopped_by is not None:
                return

    def _refresh(self, clerk_id: str) -> None:
        try:
            self.refresh_identity(clerk_id)
        except IdentityUnavailableError as err:
            self._record_failure(clerk_id, err)
        else:
            self._failures = 0

    def _record_failure(self, clerk_id: str, err: IdentityUnavailableError) -> None:
        must_wait = err.wait_seconds is not None
        if not must_wait:
            self.note_unanswered(clerk_id)
            self._failures += 1
        if must_wait or self._failures == FAILURES_IN_A_ROW:
            self.stopped_by = str(err)
