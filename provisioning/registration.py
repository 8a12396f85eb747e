"""Pre-registration: the team writes a profile before its person has ever signed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, union
from sqlalchemy.orm import Session

from models import Mentorado, User
from models.mentorado import Turma
from provisioning import audit
from provisioning.audit import Entry
from provisioning.waiting import is_untouched, lock_address, waiting_for


class MentoradoExistsError(Exception):
    """Somebody with this address has a profile, or one waits for them; it is the one named."""

    def __init__(self, mentorado_id: int) -> None:
        super().__init__(f"mentorado {mentorado_id} has this address")
        self.mentorado_id = mentorado_id


@dataclass(frozen=True, slots=True)
class Registered:
    """The profile, whether it is a new one, and if not, whose automatic one took the data over."""

    mentorado: Mentorado
    clerk_id: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether it waits for its person."""
        return self.clerk_id is None


def pre_register(
    session: Session, values: Mapping[str, object], *, entry: Entry, now: datetime
) -> Registered:
    """Write a profile that waits for whoever proves its address (DESIGN section 3, step 3).

    `values` are columns of mentorados with their checked values; `nome_completo` must be there. If
    the person of that address has an untouched automatic profile, that one takes the data over.
    Raises MentoradoExistsError where another one would be one too many. A login of the same person
    at the same time comes either before or after, never in between.
    """
    address = values.get("email")
    owned = settle_address(session, address) if isinstance(address, str) else None
    if owned is None:
        return _write_new(session, values, entry, now)
    profile, owner = owned
    for column, value in values.items():
        setattr(profile, column, value)
    profile.edited_at = profile.updated_at = now
    _record(session, "take_over", profile, entry)
    return Registered(profile, owner.clerk_id)


def settle_address(
    session: Session, address: str, *, apart_from: int | None = None
) -> tuple[Mentorado, User] | None:
    """The untouched profile of the address's person, with its owner; None where there is none.

    Whoever has this address is held still until the commit. Raises MentoradoExistsError for any
    other profile that has it, but for the one whose id is `apart_from`.
    """
    _hold_still(session, address)
    waiting = [found for found in waiting_for(session, address) if found != apart_from]
    if waiting:
        raise MentoradoExistsError(waiting[0])
    owned = _with_owners(session, address, apart_from)
    if not owned:
        return None
    profile, owner, is_proven = owned[0]
    if len(owned) > 1 or not is_proven or not is_untouched(session, profile):
        raise MentoradoExistsError(profile.id)
    return profile, owner


def _write_new(
    session: Session, values: Mapping[str, object], entry: Entry, now: datetime
) -> Registered:
    profile = Mentorado(**{"turma": Turma.NEON, "edited_at": now, **values})
    session.add(profile)
    session.flush()  # the record needs its id
    session.refresh(profile)  # and the answer the defaults
    _record(session, "pre_register", profile, entry)
    return Registered(profile)


def _hold_still(session: Session, address: str) -> None:
    """Let nobody of this address sign in or be swept until we are done.

    Their rows first, as a login does. FOR UPDATE, because a profile that the sweep inserts takes
    a key share of its person's row without asking for the address.
    """
    proven = select(User.id).where(User.email_verified, _is_address(address)).order_by(User.id)
    session.execute(proven.with_for_update())
    lock_address(session, address)


def _with_owners(
    session: Session, address: str, apart_from: int | None
) -> list[tuple[Mentorado, User, bool]]:
    """Profiles that carry this address as their own, or whose owner proved it (told in the third).

    An automatic profile has copied its owner's address. Where that is not proven it counts for
    nothing, or anybody could keep somebody else from being registered.
    """
    proven = and_(User.email_verified, _is_address(address))
    carried = and_(
        Mentorado.email.in_([address, func.normalized_address(address)]),
        or_(User.email_verified, ~_is_address(address), User.email.is_(None)),
    )
    owned = select(Mentorado.id).join(User, User.id == Mentorado.user_id)
    found = union(owned.where(proven), owned.where(carried))  # each by its own index
    rows = session.execute(
        select(Mentorado, User, proven)
        .join(User, User.id == Mentorado.user_id)
        .where(Mentorado.id.in_(found), Mentorado.id.is_distinct_from(apart_from))
        .order_by(Mentorado.id)
        .limit(2)
        .with_for_update(of=Mentorado),
        execution_options={"populate_existing": True},
    )
    return [(profile, owner, bool(is_proven)) for profile, owner, is_proven in rows]


def _is_address(address: str) -> ColumnElement[bool]:
    return func.normalized_address(User.email) == func.normalized_address(address)


def _record(session: Session, action: str, profile: Mentorado, entry: Entry) -> None:
    audit.record(
        session,
        entry,
        "admin_action",
        user_id=profile.user_id,
        mentorado_id=profile.id,
        details={"action": action},
    )
