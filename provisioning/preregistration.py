"""Pre-registration: admins create profiles before their users sign in, singly or in batches."""

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
    find_holders,
    lock_users_and_addresses,
    normalize_addresses,
)
from provisioning.audit import Source
from provisioning.errors import StaleDecisionError

Values = Mapping[str, object]  # checked columns of mentorados; `nome_completo` is among them

EVENT = "admin_action"
PRE_REGISTER, TAKE_OVER = "pre_register", "take_over"  # actions in the audit event
_Line = tuple[Values, Address | None]
TABLE = cast(Table, Mentorado.__table__)


class MentoradoExistsError(Exception):
    """Another profile has this address; `mentorado_id` is its id."""

    def __init__(self, mentorado_id: int) -> None:
        super().__init__(f"mentorado {mentorado_id} has this address")
        self.mentorado_id = mentorado_id


class Verdict(enum.StrEnum):
    """The result of a registration."""

    NEW = "new"
    TAKES_OVER = "takes_over"  # an untouched automatic profile of the address gets the data
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class RegistrationOutcome:
    """A verdict and the id of its profile; None for one that is still to be inserted.

    `clerk_id` is the owner of an untouched profile that gets the data.
    """

    verdict: Verdict
    mentorado_id: int | None = None
    clerk_id: str | None = None


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    """The profile, with the Clerk id of its owner if an untouched one got the data."""

    mentorado: Mentorado
    clerk_id: str | None = None

    @property
    def is_new(self) -> bool:
        """Whether the profile was inserted and has no owner yet."""
        return self.clerk_id is None

    @property
    def clerk_ids(self) -> list[str]:
        """The users whose next request must see the change."""
        return [self.clerk_id] if self.clerk_id else []


def pre_register(
    session: Session, values: Values, *, source: Source, now: datetime
) -> RegistrationResult:
    """Create a profile for the user who has, or will have, its verified address.

    If that user has an untouched automatic profile, the data is written into it. Raises
    MentoradoExistsError where another profile has the address. Locks serialize it with a concurrent
    login of that user.
    """
    [outcome] = _register(session, _with_addresses(session, [values]), source, now)
    if outcome.verdict is Verdict.EXISTS:
        raise MentoradoExistsError(outcome.mentorado_id or 0)
    return _load_registered(session, outcome.mentorado_id, outcome.clerk_id)


def find_registered_by_request(session: Session, source: Source) -> RegistrationResult | None:
    """Return what an earlier try of the same request has registered; None if nothing.

    For a retry: the commit of an earlier try may have succeeded although its answer was lost.
    """
    action = AuditEvent.details["action"].astext
    events = select(AuditEvent.mentorado_id, AuditEvent.user_id).where(
        AuditEvent.request_id == source.request_id,
        AuditEvent.event == EVENT,
        action.in_((PRE_REGISTER, TAKE_OVER)),
    )
    event = session.execute(events.order_by(AuditEvent.id.desc()).limit(1)).one_or_none()
    if event is None:
        return None
    owner = select(User.clerk_id).where(User.id == event.user_id)
    return _load_registered(session, event.mentorado_id, session.scalars(owner).one_or_none())


def preview_all(session: Session, lines: Sequence[Values]) -> list[RegistrationOutcome]:
    """Return the outcome that `register_all` would have for each line now; takes no locks."""
    return [_outcome(holder) for holder in _find_holders(session, _with_addresses(session, lines))]


def register_all(
    session: Session, lines: Sequence[Values], *, source: Source, now: datetime
) -> list[RegistrationOutcome]:
    """Pre-register every possible line; return the outcomes in the order of lines.

    All lines have the same columns, and no two of them the same address. The number of statements
    does not depend on the number of lines.

    1. Read the profiles that have the addresses. Lines whose address has one are refused.
    2. Lock the addresses of the other lines, which excludes other writers and logins of them.
    3. Read again: a new statement sees what was committed before the locks were granted.
    4. Write the profiles and their audit events.
    """
    with_addresses = _with_addresses(session, lines)
    outcomes = [_outcome(holder) for holder in _find_holders(session, with_addresses)]
    indexes = [n for n, outcome in enumerate(outcomes) if outcome.verdict is not Verdict.EXISTS]
    registered = _register(session, [with_addresses[index] for index in indexes], source, now)
    for index, outcome in zip(indexes, registered, strict=True):
        outcomes[index] = outcome
    return outcomes


def lock_address(
    session: Session, address: str, *, ignored_id: int | None = None
) -> tuple[Mentorado, User] | None:
    """Lock an address and return the untouched profile of its user, with that user.

    Returns None where no profile has the address. Raises MentoradoExistsError for any other profile
    that has it, except for the one with `ignored_id`.
    """
    addresses = normalize_addresses(session, [address])
    lock_users_and_addresses(session, addresses)
    [holder] = find_holders(session, addresses, ignored_id=ignored_id, for_update=True)
    if holder is None:
        return None
    if not holder.can_take_over:
        raise MentoradoExistsError(holder.mentorado_id)
    profile = session.get_one(Mentorado, holder.mentorado_id, populate_existing=True)
    return profile, session.get_one(User, holder.user_id, populate_existing=True)


def _load_registered(
    session: Session, mentorado_id: int | None, clerk_id: str | None
) -> RegistrationResult:
    profile = session.get(Mentorado, mentorado_id, populate_existing=True)
    if profile is None:
        raise StaleDecisionError(f"mentorado {mentorado_id} was deleted meanwhile")
    return RegistrationResult(profile, clerk_id)


def _with_addresses(session: Session, lines: Sequence[Values]) -> list[_Line]:
    """Return each line with its address, or None where it has none."""
    written = [email for line in lines if isinstance(email := line.get("email"), str)]
    addresses = iter(normalize_addresses(session, written))
    return [
        (line, next(addresses) if isinstance(line.get("email"), str) else None) for line in lines
    ]


def _find_holders(
    session: Session, lines: Sequence[_Line], *, for_update: bool = False
) -> list[Holder | None]:
    """Return for each line the profile that has its address; None for a line without address."""
    addresses = [address for _, address in lines if address]
    holders = iter(find_holders(session, addresses, for_update=for_update))
    return [next(holders) if address else None for _, address in lines]


def _register(
    session: Session, lines: Sequence[_Line], source: Source, now: datetime
) -> list[RegistrationOutcome]:
    """Lock the addresses, read the profiles that have them, and write the lines."""
    lock_users_and_addresses(session, [address for _, address in lines if address])
    holders = _find_holders(session, lines, for_update=True)
    pairs = [(line, holder) for (line, _), holder in zip(lines, holders, strict=True)]
    new = [line for line, holder in pairs if holder is None]
    ids = iter(_insert(session, new, source, now))
    _take_over(session, [(h, line) for line, h in pairs if h and h.can_take_over], source, now)
    return [
        _outcome(holder) if holder else RegistrationOutcome(Verdict.NEW, next(ids))
        for holder in holders
    ]


def _outcome(holder: Holder | None) -> RegistrationOutcome:
    if holder is None:
        return RegistrationOutcome(Verdict.NEW)
    verdict = Verdict.TAKES_OVER if holder.can_take_over else Verdict.EXISTS
    return RegistrationOutcome(verdict, holder.mentorado_id, holder.clerk_id)


def _insert(session: Session, lines: Sequence[Values], source: Source, now: datetime) -> list[int]:
    if not lines:
        return []
    rows = [{"turma": Turma.NEON, "edited_at": now, **line} for line in lines]
    statement = insert(TABLE).returning(TABLE.c.id, sort_by_parameter_order=True)
    ids = list(session.scalars(statement, rows))
    details = {"action": PRE_REGISTER}
    audit.record_all(session, source, EVENT, [(each, None, details) for each in ids])
    return ids


def _take_over(
    session: Session, pairs: Sequence[tuple[Holder, Values]], source: Source, now: datetime
) -> None:
    """Write lines into untouched profiles, in one statement."""
    if not pairs:
        return
    columns = list(pairs[0][1])
    arrays: list[Any] = [literal([h.mentorado_id for h, _ in pairs], ARRAY(TABLE.c.id.type))]
    arrays += [
        literal([line[name] for _, line in pairs], ARRAY(TABLE.c[name].type)) for name in columns
    ]
    lines = func.unnest(*arrays).table_valued("line_id", *columns).render_derived(name="lines")
    values = {name: lines.c[name] for name in columns}
    session.execute(
        update(TABLE)
        .where(TABLE.c.id == lines.c.line_id)
        .values(**values, edited_at=now, updated_at=now)
    )
    details = {"action": TAKE_OVER}
    concerning = [(holder.mentorado_id, holder.user_id, details) for holder, _ in pairs]
    audit.record_all(session, source, EVENT, concerning)
