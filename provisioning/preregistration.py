"""Pre-registration: the team writes profiles before their users have ever signed in."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User
from models.mentorado import Turma
from provisioning import audit
from provisioning.address_holders import (
    Address,
    Holder,
    addresses_of,
    find_holders,
    lock_users_and_addresses,
)
from provisioning.audit import Source
from provisioning.errors import StaleDecisionError

Values = Mapping[str, object]  # checked columns of mentorados; `nome_completo` is among them

EVENT = "admin_action"
PRE_REGISTER, TAKE_OVER = "pre_register", "take_over"  # what the audit event says was done
_Addressed = tuple[Values, Address | None]
TABLE = cast(Table, Mentorado.__table__)


class MentoradoExistsError(Exception):
    """Another profile has this address; `mentorado_id` is its id."""

    def __init__(self, mentorado_id: int) -> None:
        super().__init__(f"mentorado {mentorado_id} has this address")
        self.mentorado_id = mentorado_id


class Verdict(enum.StrEnum):
    """What a registration comes to."""

    NEW = "new"
    TAKES_OVER = "takes_over"  # the untouched automatic profile of the address's owner is written
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and the profile that it is about, None for one that is still to be written.

    `clerk_id` is the owner of a profile that takes the data over.
    """

    verdict: Verdict
    mentorado_id: int | None = None
    clerk_id: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """The profile, and the owner of an automatic one that took the data over."""

    mentorado: Mentorado
    clerk_id: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether the profile was written now and has no owner yet."""
        return self.clerk_id is None


def pre_register(session: Session, values: Values, *, source: Source, now: datetime) -> Registered:
    """Write a profile for the user who proves its address, now or later.

    If that user has an untouched automatic profile, that one takes the data over. Raises
    MentoradoExistsError where another profile has the address. A login of the same user at the same
    time comes either before or after.
    """
    [outcome] = _register(session, _addressed(session, [values]), source, now)
    if outcome.verdict is Verdict.EXISTS:
        raise MentoradoExistsError(outcome.mentorado_id or 0)
    return _registered(session, outcome.mentorado_id, outcome.clerk_id)


def registered_by(session: Session, source: Source) -> Registered | None:
    """Return what an earlier try of the same request has registered, None if nothing.

    For a try after the first: the commit of the one before may have arrived although its answer was
    lost.
    """
    action = AuditEvent.details["action"].astext
    ours = select(AuditEvent.mentorado_id, AuditEvent.user_id).where(
        AuditEvent.request_id == source.request_id,
        AuditEvent.event == EVENT,
        action.in_((PRE_REGISTER, TAKE_OVER)),
    )
    found = session.execute(ours.order_by(AuditEvent.id.desc()).limit(1)).one_or_none()
    if found is None:
        return None
    owner = select(User.clerk_id).where(User.id == found.user_id)
    return _registered(session, found.mentorado_id, session.scalars(owner).one_or_none())


def preview_all(session: Session, lines: Sequence[Values]) -> list[Outcome]:
    """Return what `register_all` would come to for each line just now; locks nothing."""
    return [_outcome(holder) for holder in _holders(session, _addressed(session, lines))]


def register_all(
    session: Session, lines: Sequence[Values], *, source: Source, now: datetime
) -> list[Outcome]:
    """Pre-register every line that can be; return what came of each, in their order.

    All lines have the same columns, and no two of them the same address. The number of statements
    does not depend on the number of lines.

    1. Read what is there. A line whose address has a profile is refused by what was read.
    2. Lock the addresses of the others, which excludes other writers and logins of them.
    3. Read again: a new statement sees what was committed before the locks were had.
    4. Write what is to be written, and its audit events.
    """
    addressed = _addressed(session, lines)
    outcomes = [_outcome(holder) for holder in _holders(session, addressed)]
    writing = [n for n, outcome in enumerate(outcomes) if outcome.verdict is not Verdict.EXISTS]
    written = _register(session, [addressed[number] for number in writing], source, now)
    for number, outcome in zip(writing, written, strict=True):
        outcomes[number] = outcome
    return outcomes


def settle_address(
    session: Session, address: str, *, apart_from: int | None = None
) -> tuple[Mentorado, User] | None:
    """Lock an address and return the untouched profile of its user, with that user.

    Returns None where no profile has it. Raises MentoradoExistsError for any other profile that
    has it, except for the one whose id is `apart_from`.
    """
    addresses = addresses_of(session, [address])
    lock_users_and_addresses(session, addresses)
    [holder] = find_holders(session, addresses, apart_from=apart_from, for_update=True)
    if holder is None:
        return None
    if not holder.can_take_over:
        raise MentoradoExistsError(holder.mentorado_id)
    profile = session.get_one(Mentorado, holder.mentorado_id, populate_existing=True)
    return profile, session.get_one(User, holder.user_id, populate_existing=True)


def _registered(session: Session, mentorado_id: int | None, clerk_id: str | None) -> Registered:
    profile = session.get(Mentorado, mentorado_id, populate_existing=True)
    if profile is None:
        raise StaleDecisionError(f"mentorado {mentorado_id} has gone meanwhile")
    return Registered(profile, clerk_id)


def _addressed(session: Session, lines: Sequence[Values]) -> list[_Addressed]:
    """The lines, each with its address, None for one that has none."""
    written = [email for line in lines if isinstance(email := line.get("email"), str)]
    addresses = iter(addresses_of(session, written))
    has_one = [isinstance(line.get("email"), str) for line in lines]
    return [
        (line, next(addresses) if has else None) for line, has in zip(lines, has_one, strict=True)
    ]


def _holders(
    session: Session, lines: Sequence[_Addressed], *, for_update: bool = False
) -> list[Holder | None]:
    """The profile that has a line's address; a line without address has no rival."""
    addresses = [address for _, address in lines if address]
    found = iter(find_holders(session, addresses, for_update=for_update))
    return [next(found) if address else None for _, address in lines]


def _register(
    session: Session, lines: Sequence[_Addressed], source: Source, now: datetime
) -> list[Outcome]:
    """Lock the addresses, read who has them, and write what is to be written."""
    lock_users_and_addresses(session, [address for _, address in lines if address])
    holders = _holders(session, lines, for_update=True)
    pairs = [(line, holder) for (line, _), holder in zip(lines, holders, strict=True)]
    new = [line for line, holder in pairs if holder is None]
    ids = iter(_insert(session, new, source, now))
    _take_over(session, [(h, line) for line, h in pairs if h and h.can_take_over], source, now)
    return [_outcome(holder) if holder else Outcome(Verdict.NEW, next(ids)) for holder in holders]


def _outcome(holder: Holder | None) -> Outcome:
    if holder is None:
        return Outcome(Verdict.NEW)
    verdict = Verdict.TAKES_OVER if holder.can_take_over else Verdict.EXISTS
    return Outcome(verdict, holder.mentorado_id, holder.clerk_id)


def _insert(session: Session, lines: Sequence[Values], source: Source, now: datetime) -> list[int]:
    if not lines:
        return []
    rows = [{"turma": Turma.NEON, "edited_at": now, **line} for line in lines]
    written = insert(TABLE).returning(TABLE.c.id, sort_by_parameter_order=True)
    ids = list(session.scalars(written, rows))
    concerning = [(mentorado_id, None) for mentorado_id in ids]
    audit.record_each(
        session, source, EVENT, concerning=concerning, details={"action": PRE_REGISTER}
    )
    return ids


def _take_over(
    session: Session, taken: Sequence[tuple[Holder, Values]], source: Source, now: datetime
) -> None:
    """Write lines into the profiles that take them over, in one statement."""
    if not taken:
        return
    columns = list(taken[0][1])
    arrays: list[Any] = [literal([h.mentorado_id for h, _ in taken], ARRAY(TABLE.c.id.type))]
    arrays += [
        literal([line[name] for _, line in taken], ARRAY(TABLE.c[name].type)) for name in columns
    ]
    given = func.unnest(*arrays).table_valued("given_id", *columns).render_derived(name="given")
    values = {name: given.c[name] for name in columns}
    session.execute(
        update(TABLE)
        .where(TABLE.c.id == given.c.given_id)
        .values(**values, edited_at=now, updated_at=now)
    )
    concerning = [(holder.mentorado_id, holder.user_id) for holder, _ in taken]
    audit.record_each(session, source, EVENT, concerning=concerning, details={"action": TAKE_OVER})
