"""Completion: users of whom the identity provider has not told everything, asked about in turn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from provisioning.errors import IdentityUnavailableError

Step = Callable[[], None]

# One question without answer may be about its user alone; the next one finds out.
UNANSWERED_IN_A_ROW = 2
LONGEST_WAIT_SECONDS = 30.0  # for the provider's leave to ask; a later run finds it as well
PAUSE_SECONDS = 0.5  # a step is short, so that a stopping process need not wait for it


@dataclass(slots=True)
class Completion:
    """Asks about one user after the other, until the provider does not answer.

    `learn` asks about a user and raises IdentityUnavailableError where none can be asked about;
    `note_unanswered` puts a user behind the others for the next run; `pause` sleeps for so many
    seconds. `stopped_by` is why not all were asked about.
    """

    learn: Callable[[str], None]
    note_unanswered: Callable[[str], None]
    pause: Callable[[float], None]
    stopped_by: str | None = None
    _unanswered: int = 0
    _is_put_off: bool = False

    def steps(self, clerk_ids: Iterable[str]) -> Iterator[Step]:
        """A step for each question, and for each pause before one."""
        for clerk_id in clerk_ids:
            yield partial(self._ask, clerk_id)
            while self._is_put_off and self.stopped_by is None:
                yield partial(self._ask, clerk_id)
            if self.stopped_by is not None:
                return

    def _ask(self, clerk_id: str) -> None:
        self._is_put_off = False
        try:
            self.learn(clerk_id)
        except IdentityUnavailableError as err:
            self._wait_or_stop(clerk_id, err)
        else:
            self._unanswered = 0

    def _wait_or_stop(self, clerk_id: str, err: IdentityUnavailableError) -> None:
        if err.wait_seconds is not None and err.wait_seconds <= LONGEST_WAIT_SECONDS:
            self._is_put_off = True
            self.pause(min(err.wait_seconds, PAUSE_SECONDS))
            return
        if err.wait_seconds is None:
            self.note_unanswered(clerk_id)
            self._unanswered += 1
        if err.wait_seconds is not None or self._unanswered == UNANSWERED_IN_A_ROW:
            self.stopped_by = str(err)
