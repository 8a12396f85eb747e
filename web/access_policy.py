"""Access policies: each view states with one of these decorators which users may call it."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])


class Access(enum.Enum):
    """Which users may call a view."""

    PUBLIC = "public"
    SIGNED_IN = "signed_in"
    MENTORADO = "mentorado_required"
    ADMIN = "admin_required"


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The access policy of a view.

    `fresh` skips the cache, `unlimited` counts no requests, `serves_copy` allows a read-only copy
    of the user's own dashboard during a database outage.
    """

    access: Access
    fresh: bool = False
    unlimited: bool = False
    serves_copy: bool = False


# The access policy of each view.
POLICIES: dict[Callable[..., Any], AccessPolicy] = {}


def public(view: View) -> View:
    """Allow every request without authentication; the rate limit counts by address."""
    return _set_policy(view, AccessPolicy(Access.PUBLIC))


def public_unlimited(view: View) -> View:
    """Allow every request without a rate limit: for cheap views, and for monitors."""
    return _set_policy(view, AccessPolicy(Access.PUBLIC, unlimited=True))


def signed_in(view: View) -> View:
    """Allow users with a session, with or without a profile."""
    return _set_policy(view, AccessPolicy(Access.SIGNED_IN))


def signed_in_fresh(view: View) -> View:
    """As `signed_in`, but ensure the user's profile again and invalidate the cache."""
    return _set_policy(view, AccessPolicy(Access.SIGNED_IN, fresh=True))


def mentorado_required(view: View) -> View:
    """Allow users with a usable profile, which is on `g.context.mentorado`."""
    return _set_policy(view, AccessPolicy(Access.MENTORADO))


def own_dashboard(view: View) -> View:
    """As `mentorado_required`; during a database outage the user's last copy is served."""
    return _set_policy(view, AccessPolicy(Access.MENTORADO, serves_copy=True))


def admin_required(view: View) -> View:
    """Allow admins only."""
    return _set_policy(view, AccessPolicy(Access.ADMIN))


def _set_policy(view: View, policy: AccessPolicy) -> View:
    POLICIES[view] = policy
    return view
