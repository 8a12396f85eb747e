"""Who may enter? Every view states it with one of these decorators."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])


class Access(enum.Enum):
    """Who may enter."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    MENTORADO = "mentorado_required"
    ADMIN = "admin_required"


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """What a view states about itself.

    `fresh` skips the cache, `unlimited` counts no requests, `serves_copy` allows a read-only copy
    of the user's own dashboard while there is no database.
    """

    access: Access
    fresh: bool = False
    unlimited: bool = False
    serves_copy: bool = False


_policies: dict[Callable[..., Any], AccessPolicy] = {}


def public(view: View) -> View:
    """Anybody may enter; nobody is asked who they are, but their address is counted."""
    return _state(view, AccessPolicy(Access.PUBLIC))


def public_unlimited(view: View) -> View:
    """Anybody may enter as often as they like: what costs us next to nothing, and monitors."""
    return _state(view, AccessPolicy(Access.PUBLIC, unlimited=True))


def signed_in(view: View) -> View:
    """Whoever has a session may enter, with or without a profile."""
    return _state(view, AccessPolicy(Access.SIGNED_IN))


def signed_in_fresh(view: View) -> View:
    """As `signed_in`, but the person's profile is ensured anew and the cache invalidated."""
    return _state(view, AccessPolicy(Access.SIGNED_IN, fresh=True))


def mentorado_required(view: View) -> View:
    """Only somebody with a usable profile may enter; it is on `g.context.mentorado`."""
    return _state(view, AccessPolicy(Access.MENTORADO))


def own_dashboard(view: View) -> View:
    """As `mentorado_required`; while there is no database the user's last copy is served."""
    return _state(view, AccessPolicy(Access.MENTORADO, serves_copy=True))


def admin_required(view: View) -> View:
    """Only admins may enter."""
    return _state(view, AccessPolicy(Access.ADMIN))


def policy_of(view: Callable[..., Any]) -> AccessPolicy | None:
    """What a view has stated, if anything."""
    return _policies.get(view)


def _state(view: View, stance: AccessPolicy) -> View:
    _policies[view] = stance
    return view
