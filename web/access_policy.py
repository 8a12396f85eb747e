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
    """The access policy of a view; a decorator that gives it to the view.

    `fresh` skips the cache, `unlimited` counts no requests, `serves_copy` allows a read-only copy
    of the user's own dashboard during a database outage.
    """

    access: Access
    fresh: bool = False
    unlimited: bool = False
    serves_copy: bool = False

    def __call__(self, view: View) -> View:
        """Give the view this policy."""
        POLICIES[view] = self
        return view


# The access policy of each view.
POLICIES: dict[Callable[..., Any], AccessPolicy] = {}

# Every request without authentication; the rate limit counts by address.
public = AccessPolicy(Access.PUBLIC)
# The same without a rate limit: for cheap views, and for monitors.
public_unlimited = AccessPolicy(Access.PUBLIC, unlimited=True)
# Users with a session, with or without a profile.
signed_in = AccessPolicy(Access.SIGNED_IN)
# The same, but the user's profile is ensured again and the cache is invalidated.
signed_in_fresh = AccessPolicy(Access.SIGNED_IN, fresh=True)
# Users with a usable profile, which is on `g.context.mentorado`.
mentorado_required = AccessPolicy(Access.MENTORADO)
# The same; during a database outage the user's last copy is served.
own_dashboard = AccessPolicy(Access.MENTORADO, serves_copy=True)
# Admins only.
admin_required = AccessPolicy(Access.ADMIN)
