"""What can keep a person from their profile, as facts rather than responses."""

import enum


class Denial(enum.StrEnum):
    """Why a person has no usable profile although nothing went wrong (CONTRACT section 4.3)."""

    USER_DELETED = "unauthenticated"  # their sessions no longer count
    USER_BLOCKED = "user_blocked"
    MENTORADO_INACTIVE = "mentorado_inactive"
    AUTO_CREATE_DISABLED = "auto_create_disabled"
    NOT_INVITED = "not_invited"


class ProvisioningError(Exception):
    """The profile could not be ensured; nothing was written."""


class ProvisioningUnavailableError(ProvisioningError):
    """An error that can pass did not pass in time; asking again is right."""


class NeedsAttentionError(ProvisioningError):
    """All attempts have failed; now a person must look (CONTRACT section 4.3)."""


class StaleDecisionError(ProvisioningUnavailableError):
    """What was decided on changed under the decision; deciding again is right."""


class IdentityUnavailableError(ProvisioningError):
    """The identity provider cannot be asked about any user just now.

    `wait_seconds` is the time after which it may be asked again, where there is a limit to keep;
    None where a question was sent and not answered.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class UnusableIdentityError(ProvisioningError):
    """The identity provider's answer about this one user cannot be used; an attempt records it."""


class DatabaseUnavailableError(ProvisioningUnavailableError):
    """There was no database to ask."""
