"""A change by hand in two steps: done and taken back to be shown, then done as it was shown."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from provisioning.facts import Facts, digest
from provisioning.registration import MentoradoExistsError
from provisioning.repairs import (
    Conflict,
    ConflictError,
    UnknownMentoradoError,
    UnknownPersonError,
)

Change = Callable[[Session], list[str]]  # returns the Clerk ids of those it concerns
Look = Callable[[Session], dict[str, Facts]]  # by what they are about

REFUSALS = (ConflictError, MentoradoExistsError, UnknownMentoradoError, UnknownPersonError)


@dataclass(frozen=True, slots=True)
class Preview:
    """What is there, what would be, and the mark of the latter."""

    before: dict[str, Facts]
    after: dict[str, Facts]

    @property
    def mark(self) -> str:
        """What a confirmation must carry, so that nothing else is done than was shown."""
        return digest(self.after)


def preview(session: Session, change: Change, look: Look) -> Preview:
    """Do it, look at it, take it back. Raises what the change raises."""
    before = look(session)
    with session.begin_nested() as savepoint:
        change(session)
        session.flush()  # so that the look sees it
        after = look(session)
        savepoint.rollback()
    return Preview(before, after)


def confirm(session: Session, change: Change, look: Look, *, mark: str) -> list[str]:
    """Do what was shown, or nothing.

    What was done already, by a second click or by somebody else, counts as done. Raises
    ConflictError where it would come to something else than was shown, and what the change raises.
    """
    try:
        with session.begin_nested():
            concerned = change(session)
            session.flush()  # so that the look sees it
            if digest(look(session)) != mark:
                raise ConflictError(Conflict.NOT_AS_SHOWN)
    except REFUSALS:
        if digest(look(session)) != mark:
            raise
        return []
    return concerned
