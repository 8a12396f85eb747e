"""Pre-registration: admins create profiles before their users sign in, singly or in batches.

An address has at most one profile; `find_outcomes` tells which one, for one address or for many.
"""

import enum
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Table,
    Text,
    and_,
    any_,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from core.email_address import normalize_address
from models import AuditEvent, Mentorado, User
from models.people import Turma
from provisioning import audit
from provisioning.audit import Source
from provisioning.errors import MentoradoExistsError
from provisioning.profiles import lock_addresses
from provisioning.references import referenced_among

Values = Mapping[str, Any]  # checked columns of mentorados; `nome_completo` is among them

EVENT = "admin_action"
TABLE: Table = Mentorado.metadata.tables[Mentorado.__tablename__]

# Every profile that has one of the addresses, with the key of that address. `is_verified`: it is
# the verified one of the profile's owner. The addresses are constants of the statement, not a
# joined table: with poor statistics the worst plan reads one table once. An automatic profile has a
# copy of the owner's address: no index has its key.
MATCHES = text("""
    SELECT normalized_address(m.email) AS key, m.id, NULL AS user_id, NULL AS clerk_id,
           false AS is_verified, false AS is_unedited
      FROM mentorados m
     WHERE m.user_id IS NULL AND normalized_address(m.email) = ANY (:keys)
     UNION ALL
    SELECT normalized_address(u.email), m.id, u.id, u.clerk_id,
           true, m.created_automatically AND m.edited_at IS NULL
      FROM users u JOIN mentorados m ON m.user_id = u.id
     WHERE u.email_verified AND normalized_address(u.email) = ANY (:keys)
     UNION ALL
    SELECT normalized_address(m.email), m.id, u.id, u.clerk_id,
           false, m.created_automatically AND m.edited_at IS NULL
      FROM users u JOIN mentorados m ON m.user_id = u.id
     WHERE (m.email = ANY (CAST(:written AS varchar[])) OR (
            m.user_id IS NOT NULL AND NOT (m.created_automatically AND m.edited_at IS NULL)
            AND normalized_address(m.email) = ANY (:keys)))
       AND (u.email_verified OR u.email IS NULL
            OR normalized_address(u.email) <> normalized_address(m.email))
""")


class Verdict(enum.StrEnum):
    """The result of a registration; the last three are only those of lines of a list."""

    NEW = "new"
    TAKES_OVER = "takes_over"  # an untouched automatic profile of the address gets the data
    EXISTS = "exists"
    REPEATED = "repeated"
    FAULTY = "faulty"
    REFUSED = "refused"  # by the database

    @property
    def is_good(self) -> bool:
        """Whether the profile is registered."""
        return self in ACTIONS


ACTIONS = {Verdict.NEW: "pre_register", Verdict.TAKES_OVER: "take_over"}  # in the audit event


@dataclass(frozen=True, slots=True)
class RegistrationOutcome:
    """A verdict, and the profile that has the address or was inserted; 0 for a new one.

    `user_id` and `clerk_id` are the owner of an untouched profile that gets the data.
    """

    verdict: Verdict
    mentorado_id: int = 0
    user_id: int | None = None
    clerk_id: str | None = None

    @property
    def clerk_ids(self) -> list[str]:
        """The users whose next request must see the change."""
        return [self.clerk_id] if self.clerk_id else []


def pre_register(
    session: Session, values: Values, *, source: Source, now: datetime
) -> RegistrationOutcome:
    """Create a profile for the user who has, or will have, its verified address.

    If that user has an untouched automatic profile, the data is written into it. Raises
    MentoradoExistsError where another profile has the address. Locks serialize it with a concurrent
    login of that user.
    """
    [outcome] = _register(session, [values], source, now)
    if outcome.verdict is Verdict.EXISTS:
        raise MentoradoExistsError(outcome.mentorado_id)
    return outcome


def find_registered_by_request(session: Session, source: Source) -> RegistrationOutcome | None:
    """Return what an earlier try of this request has committed although its answer was lost."""
    action = AuditEvent.details["action"].astext
    events = (
        select(action, AuditEvent.mentorado_id, AuditEvent.user_id, User.clerk_id)
        .outerjoin(User, User.id == AuditEvent.user_id)
        .where(AuditEvent.request_id == source.request_id, AuditEvent.event == EVENT)
        .where(action.in_(ACTIONS.values()))
    )
    event = session.execute(events.order_by(AuditEvent.id.desc()).limit(1)).one_or_none()
    if event is None:
        return None
    action_name, mentorado_id, user_id, clerk_id = event
    verdict = Verdict.NEW if action_name == ACTIONS[Verdict.NEW] else Verdict.TAKES_OVER
    return RegistrationOutcome(verdict, mentorado_id, user_id, clerk_id)


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
    outcomes = find_outcomes(session, [line.get("email") for line in lines])
    pairs = zip(outcomes, lines, strict=True)
    possible = [line for outcome, line in pairs if outcome.verdict is not Verdict.EXISTS]
    registered = iter(_register(session, possible, source, now))
    return [each if each.verdict is Verdict.EXISTS else next(registered) for each in outcomes]


def lock_users_and_addresses(
    session: Session, addresses: Iterable[str | None], *, user_ids: Collection[int] = ()
) -> dict[int, User]:
    """Exclude every other writer and login of these addresses and users until the commit.

    Returns, by id, the users of `user_ids` and those with one of the verified addresses. The order
    is that of a login, which prevents deadlocks: users by id; addresses by key; later the profiles.
    FOR UPDATE, because a profile that the sweep inserts takes a key share lock on its user's row
    and no address lock. Each address takes an entry in the server's lock table: pass a few hundred
    at most.
    """
    written = [address for address in addresses if address]
    conditions: list[ColumnElement[bool]] = []
    if user_ids:
        conditions.append(User.id.in_(user_ids))
    if written:
        keys = literal([normalize_address(address) for address in written], ARRAY(Text))
        has_address = func.normalized_address(User.email) == any_(keys)
        conditions.append(and_(User.email_verified, has_address))
    if not conditions:
        return {}
    # An ORDER BY that the primary key cannot satisfy: a scan of its index would read all users.
    wanted = select(User).where(or_(*conditions)).order_by(User.id + 0).with_for_update()
    users = session.scalars(wanted, execution_options={"populate_existing": True}).all()
    lock_addresses(session, written)
    return {user.id: user for user in users}


def find_outcomes(
    session: Session,
    addresses: Sequence[str | None],
    *,
    ignored_id: int | None = None,
    for_update: bool = False,
) -> list[RegistrationOutcome]:
    """Return what a registration of each address would result in now; None is new in any case.

    An unlinked profile has its own address. A linked one has the verified address of its owner, and
    its own address unless that is a copy of the owner's *unverified* one: otherwise a user could
    prevent the registration of another. A registration writes into the untouched profile of a user
    with the verified address. The profile with `ignored_id` is ignored. The number of statements
    does not depend on the number of addresses. `for_update` locks the profiles that may be taken
    over; the caller has locked their addresses before.
    """
    keys = [normalize_address(address or "") for address in addresses]
    session.flush()  # for the caller's changes
    matches: defaultdict[str | None, dict[int, Row[Any]]] = defaultdict(dict)
    parameters = {
        "keys": list({key for key in keys if key}),
        "written": list({address for address in (*addresses, *keys) if address}),
    }
    if any(keys):
        for match in session.execute(MATCHES, parameters):
            of_key = matches[match.key]
            if match.id != ignored_id and (match.is_verified or match.id not in of_key):
                of_key[match.id] = match
    candidates = {
        match.id
        for found in matches.values()
        for match in found.values()
        if len(found) == 1 and match.is_verified and match.is_unedited
    }
    untouched = _untouched(session, candidates, for_update=for_update)
    return [_outcome(matches[key].values(), untouched) for key in keys]


def _outcome(matches: Collection[Row[Any]], untouched: set[int]) -> RegistrationOutcome:
    """Return the outcome for an address: unlinked profiles have it first, then the oldest."""
    first = min(matches, key=lambda match: (match.user_id is not None, match.id), default=None)
    if first is None:
        return RegistrationOutcome(Verdict.NEW)
    if len(matches) == 1 and first.is_verified and first.id in untouched:
        return RegistrationOutcome(Verdict.TAKES_OVER, first.id, first.user_id, first.clerk_id)
    return RegistrationOutcome(Verdict.EXISTS, first.id)


def _untouched(session: Session, mentorado_ids: set[int], *, for_update: bool) -> set[int]:
    """Return the ids of the profiles that are unedited and unreferenced.

    `for_update` locks them first, by id: a month that is being saved is either seen by the second
    statement or fails on its foreign key.
    """
    if not mentorado_ids:
        return set()
    if for_update:
        is_unedited = (Mentorado.id.in_(mentorado_ids), Mentorado.is_unedited)
        locked = select(Mentorado.id).where(*is_unedited).order_by(Mentorado.id).with_for_update()
        mentorado_ids = set(session.scalars(locked))
    return mentorado_ids - referenced_among(session, mentorado_ids)


def _register(
    session: Session, lines: Sequence[Values], source: Source, now: datetime
) -> list[RegistrationOutcome]:
    """Lock the addresses, read the profiles that have them, and write lines and audit events."""
    addresses = [line.get("email") for line in lines]
    lock_users_and_addresses(session, addresses)
    outcomes = find_outcomes(session, addresses, for_update=True)
    pairs = list(zip(outcomes, lines, strict=True))
    defaults = {"turma": Turma.NEON, "edited_at": now}
    new = [{**defaults, **line} for outcome, line in pairs if outcome.verdict is Verdict.NEW]
    inserted = insert(TABLE).returning(TABLE.c.id, sort_by_parameter_order=True)
    ids = iter(session.scalars(inserted, new) if new else ())
    _take_over(session, [pair for pair in pairs if pair[0].verdict is Verdict.TAKES_OVER], now)
    outcomes = [
        replace(outcome, mentorado_id=next(ids)) if outcome.verdict is Verdict.NEW else outcome
        for outcome in outcomes
    ]
    concerning = [
        (outcome.mentorado_id, outcome.user_id, {"action": ACTIONS[outcome.verdict]})
        for outcome in outcomes
        if outcome.verdict in ACTIONS
    ]
    audit.record_all(session, source, EVENT, concerning)
    return outcomes


def _take_over(
    session: Session, pairs: Sequence[tuple[RegistrationOutcome, Values]], now: datetime
) -> None:
    """Write lines into untouched profiles, in one statement."""
    if not pairs:
        return
    columns = list(pairs[0][1])
    ids = [outcome.mentorado_id for outcome, _ in pairs]
    arrays: list[Any] = [literal(ids, ARRAY(TABLE.c.id.type))]
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
