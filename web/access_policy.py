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
class Stance:
    """What a view states about itself.

    `fresh` skips the cache, `unlimited` counts no requests, `serves_copy` allows a read-only copy
    of the user's own dashboard while there is no database.
    """

    access: Access
    fresh: bool = False
    unlimited: bool = False
    serves_copy: bool = False


_stances: dict[Callable[..., Any], Stance] = {}


def public(view: View) -> View:
    """Anybody may enter; nobody is asked who they are, but their address is counted."""
    return _state(view, Stance(Access.PUBLIC))


def public_unlimited(view: View) -> View:
    """Anybody may enter as often as they like: what costs us next to nothing, and monitors."""
    return _state(view, Stance(Access.PUBLIC, unlimited=True))


def signed_in(view: View) -> View:
    """Whoever has a session may enter, with or without a profile."""
    return _state(view, Stance(Access.SIGNED_IN))


def signed_in_fresh(view: View) -> View:
    """As `signed_in`, but the person's profile is ensured anew and the cache invalidated."""
    return _state(view, Stance(Access.SIGNED_IN, fresh=True))


def mentorado_required(view: View) -> View:
    """Only somebody with a usable profile may enter; it is on `g.context.mentorado`."""
    return _state(view, Stance(Access.MENTORADO))


def own_dashboard(view: View) -> View:
    """As `mentorado_required`; while there is no database the user's last copy is served."""
    return _state(view, Stance(Access.MENTORADO, serves_copy=True))


def admin_required(view: View) -> View:
    """Only admins may enter."""
    return _state(view, Stance(Access.ADMIN))


def stance_of(view: Callable[..., Any]) -> Stance | None:
    """What a view has stated, if anything."""
    return _stances.get(view)


def _state(view: View, stance: Stance) -> View:
    _stances[view] = stance
    return view
