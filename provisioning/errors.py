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
    """The identity provider cannot be asked about anybody just now."""


class DatabaseUnavailableError(ProvisioningUnavailableError):
    """There was no database to ask."""
