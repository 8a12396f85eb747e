"""Decide which profile a user gets: a pure function of facts that were loaded before."""

import enum
from dataclasses import dataclass

from provisioning.errors import Denial


class Action(enum.StrEnum):
    """What `ensure` does after the decision."""

    KEEP = "keep"
    CLAIM = "claim"
    LINK = "link"
    CREATE = "create"
    EXEMPT = "exempt"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rules:
    """The operator's settings: ENABLE_AUTO_CREATE with the stored switch, ENROLMENT, ADMIN_EMAILS.

    `admin_emails` holds normalized addresses.
    """

    auto_create: bool = True
    invited_only: bool = False
    admin_emails: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """The facts about a user that the decision depends on.

    `matches` are the ids of unlinked profiles with the user's *verified* address; empty without
    one. `is_untouched`: the own profile is automatic, unedited and unreferenced.
    `is_auto_create_on`: the stored switch allows automatic profiles.
    """

    is_deleted: bool = False
    is_blocked: bool = False
    is_admin: bool = False
    has_profile: bool = False
    is_untouched: bool = False
    is_auto_create_on: bool = True
    matches: tuple[int, ...] = ()

    @property
    def is_ambiguous(self) -> bool:
        """Whether several unlinked profiles have this address, so that none may be chosen."""
        return len(self.matches) > 1

    @property
    def only_match(self) -> int | None:
        """The only unlinked profile with the user's address; None for none or several."""
        return self.matches[0] if len(self.matches) == 1 else None


@dataclass(frozen=True, slots=True)
class Decision:
    """An action with its arguments: the profile to link or the reason of a denial."""

    action: Action
    mentorado_id: int | None = None
    denial: Denial | None = None


def decide(facts: DecisionFacts, rules: Rules) -> Decision:
    """Return the action for these facts; the first rule that applies wins."""
    if facts.is_deleted:
        return Decision(Action.DENY, denial=Denial.USER_DELETED)
    if facts.is_blocked:
        return Decision(Action.DENY, denial=Denial.USER_BLOCKED)
    match = facts.only_match
    if facts.has_profile:
        is_replaced = facts.is_untouched and match is not None
        return Decision(Action.CLAIM, match) if is_replaced else Decision(Action.KEEP)
    if facts.is_admin:
        return Decision(Action.EXEMPT)
    if match is not None:
        return Decision(Action.LINK, match)
    if not (rules.auto_create and facts.is_auto_create_on):
        return Decision(Action.DENY, denial=Denial.AUTO_CREATE_DISABLED)
    # Several matches count as an invitation too, although none of them can be chosen.
    if rules.invited_only and not facts.matches:
        return Decision(Action.DENY, denial=Denial.NOT_INVITED)
    return Decision(Action.CREATE)
