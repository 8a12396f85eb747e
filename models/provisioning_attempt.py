"""provisioning_attempts: the durable memory of people whose profile could not be made."""

import enum

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Time

# The error class of a record about a user's identity: the provider's answer about this one cannot
# be used. The profile is not concerned, so that such a record keeps nobody from it.
UNUSABLE_ANSWER = "UnusableAnswerError"


class AttemptState(enum.StrEnum):
    """Whether the background still tries, or a person must look."""

    PENDING = "pending"
    DEAD = "dead"


class ProvisioningAttempt(Model):
    """What went wrong for one person, kept until a later pass finds the profile.

    `attempts` counts the background's tries; at 0 only the person has tried so far.
    Keyed by Clerk id without a foreign key: the row must be writable when the user's row is not.
    """

    __tablename__ = "provisioning_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    clerk_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str]
    attempts: Mapped[int]
    next_attempt_at: Mapped[Time]
    error_class: Mapped[str]
    error_code: Mapped[str | None]
    request_id: Mapped[str | None]
    first_failed_at: Mapped[Time]
    last_failed_at: Mapped[Time]

    __table_args__ = (
        UniqueConstraint("clerk_id"),
        CheckConstraint("state IN ('pending', 'dead')", name="state"),
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("provisioning_attempts_state_next_attempt_at_idx", "state", "next_attempt_at"),
    )
