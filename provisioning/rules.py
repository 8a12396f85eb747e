"""Which profile is this person's? A pure decision over facts that were read before."""

import enum
from dataclasses import dataclass

from provisioning.errors import Denial


class Action(enum.StrEnum):
    """What `ensure` then does."""

    KEEP = "keep"
    CLAIM = "claim"
    LINK = "link"
    CREATE = "create"
    EXEMPT = "exempt"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator decides: ENABLE_AUTO_CREATE with the stored switch, ENROLMENT, and who is
    an admin by address.
    """

    auto_create: bool = True
    invited_only: bool = False
    admin_emails: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """What is known about a person at the moment of deciding.

    `matches` are the unlinked profiles with the person's *verified* address, empty for any other.
    `is_untouched` tells of an automatic profile that no person edited and nothing refers to.
    """

    is_deleted: bool = False
    is_blocked: bool = False
    is_admin: bool = False
    has_profile: bool = False
    is_untouched: bool = False
    matches: tuple[int, ...] = ()

    @property
    def is_ambiguous(self) -> bool:
        """Whether several profiles wait for this address, so that none may be chosen."""
        return len(self.matches) > 1

    @property
    def only_match(self) -> int | None:
        """The one profile that waits for this person."""
        return self.matches[0] if len(self.matches) == 1 else None


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with what it needs."""

    action: Action
    mentorado_id: int | None = None
    denial: Denial | None = None


def decide(standing: DecisionFacts, rules: Rules) -> Decision:
    """Apply DESIGN section 3, steps 2 to 4, in their order; the first rule that fits wins."""
    if standing.is_deleted:
        return Decision(Action.DENY, denial=Denial.USER_DELETED)
    if standing.is_blocked:
        return Decision(Action.DENY, denial=Denial.USER_BLOCKED)
    if standing.has_profile:
        return _about_own_profile(standing)
    if standing.is_admin:
        return Decision(Action.EXEMPT)
    if standing.only_match is not None:
        return Decision(Action.LINK, standing.only_match)
    return _about_new_profile(standing, rules)


def _about_own_profile(standing: DecisionFacts) -> Decision:
    if standing.is_untouched and standing.only_match is not None:
        return Decision(Action.CLAIM, standing.only_match)
    return Decision(Action.KEEP)


def _about_new_profile(standing: DecisionFacts, rules: Rules) -> Decision:
    if not rules.auto_create:
        return Decision(Action.DENY, denial=Denial.AUTO_CREATE_DISABLED)
    # Several matches are an invitation too: nobody can say which one, but the person is expected.
    if rules.invited_only and not standing.matches:
        return Decision(Action.DENY, denial=Denial.NOT_INVITED)
    return Decision(Action.CREATE)
