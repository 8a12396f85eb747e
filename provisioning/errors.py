"""Denials, conflicts and errors of provisioning; the web layer maps them to responses."""

import enum


class Denial(enum.StrEnum):
    """Why a user has no usable profile; error codes of docs/reference/contract.md#errors."""

    USER_DELETED = "unauthenticated"  # sessions of a deleted account are refused
    USER_BLOCKED = "user_blocked"
    MENTORADO_INACTIVE = "mentorado_inactive"
    AUTO_CREATE_DISABLED = "auto_create_disabled"
    NOT_INVITED = "not_invited"


class ProvisioningError(Exception):
    """The profile could not be ensured; nothing was written."""


class ProvisioningUnavailableError(ProvisioningError):
    """A transient error lasted longer than the request's time; the client may retry."""


class NeedsAttentionError(ProvisioningError):
    """The attempt is a dead letter; support must act (docs/reference/contract.md#errors)."""


class StaleDecisionError(ProvisioningUnavailableError):
    """Rows changed between the decision and its execution; the transaction is to be retried."""


class IdentityUnavailableError(ProvisioningError):
    """The identity provider cannot be asked about any user at the moment.

    `wait_seconds` is the time until the rate limit allows a call; None where a call got no answer.
    """

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class UnusableIdentityError(ProvisioningError):
    """The identity provider's answer about this one user cannot be used; an attempt records it."""


class DatabaseUnavailableError(ProvisioningUnavailableError):
    """No database answers, or it takes no writes."""


class DatabaseConnectingError(DatabaseUnavailableError):
    """The connection to the database is being opened, which takes longer than a request may."""


class UnknownUserError(Exception):
    """There is no user of that id."""


class UnknownMentoradoError(Exception):
    """There is no mentorado of that id."""


class MentoradoExistsError(Exception):
    """Another profile has this address; `mentorado_id` is its id."""

    def __init__(self, mentorado_id: int) -> None:
        super().__init__(f"mentorado {mentorado_id} has this address")
        self.mentorado_id = mentorado_id


class Conflict(enum.Enum):
    """Why a change conflicts with the stored rows."""

    SAME_PROFILE = "a profile cannot be merged into itself"
    PROFILE_CHANGED = "the owner or the address of a profile has just changed"
    OWNED = "the profile has another owner"
    HAS_PROFILE = "the user has a profile of their own"
    OWN_ACCOUNT = "admins cannot block or delete themselves"
    KEPT_BLOCKED = "the account that stays is blocked"
    DELETED_ACCOUNT = "the user's account has been deleted"
    TWO_OWNERS = "both profiles have an owner"
    STILL_REFERENCED = "something still refers to the profile"
    UNRESOLVABLE = "the database refuses a row for a reason that cannot be resolved"
    ROW_STILL_REFERENCED = "something refers to a row that would have to be archived"
    PREVIEW_OUTDATED = "the result is no longer that of the confirmed preview"


class ConflictError(Exception):
    """The change conflicts with stored rows; nothing was written. `about` names what conflicts."""

    def __init__(self, kind: Conflict, about: str = "") -> None:
        super().__init__(f"{kind.value}: {about}" if about else kind.value)
        self.kind = kind
