"""provisioning_attempts: failed ensure calls, stored until they succeed."""

import enum

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import Model
from models.columns import Time

# The error class of a failed identity lookup: the provider's answer about this user cannot be used.
# The profile is not affected, so that such an attempt does not block the user.
UNUSABLE_ANSWER = "UnusableAnswerError"


class AttemptState(enum.StrEnum):
    """Whether background jobs still retry the attempt, or an admin must act (dead letter)."""

    PENDING = "pending"
    DEAD = "dead"


class ProvisioningAttempt(Model):
    """The last failure of one user, kept until the user has a profile.

    `attempts` counts background retries; 0 means that only the user's own request has failed. The
    key is the Clerk id without a foreign key: the row must be writable when the user's row is not.
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
        Index("provisioning_attempts_short_code_idx", text('"left"(request_id, 8)')),
    )
