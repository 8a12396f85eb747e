"""Pre-registering many at once: each line judged by the rules for one, and told what came of it."""

import enum
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, insert, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Session
from sqlalchemy.sql import literal

from models import Mentorado, User
from models.mentorado import Turma
from provisioning import audit
from provisioning.audit import Entry
from provisioning.registration import MentoradoExistsError, pre_register

Values = Mapping[str, object]  # checked columns of mentorados; every line of a list has the same


class Verdict(enum.Enum):
    """What comes of a line."""

    NEW = "new"
    TAKES_OVER = "takes_over"  # somebody's untouched automatic profile takes the data
    EXISTS = "exists"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A line's verdict; which profile it is about, or which line said the same before."""

    verdict: Verdict
    mentorado_id: int | None = None
    earlier: int | None = None
    clerk_id: str | None = None


def enrol(
    session: Session, lines: Sequence[Values], *, entry: Entry, now: datetime
) -> list[Enrolled]:
    """Pre-register every line that can be; returns a verdict for each, in their order.

    Addresses that nobody and nothing has ever had are written in one go. A person who signs up with
    one in the same moment gets an automatic profile, and the registered one at their next request.
    """
    verdicts: dict[int, Enrolled] = _repeated(lines)
    known = _known(session, [str(line["email"]) for line in lines if line.get("email")])
    fresh = []
    for number, line in enumerate(lines):
        if number in verdicts:
            continue
        if line.get("email") in known:
            verdicts[number] = _decided(session, line, entry, now)
        else:
            fresh.append(number)
    ids = _write(session, [lines[number] for number in fresh], entry, now)
    verdicts |= {n: Enrolled(Verdict.NEW, i) for n, i in zip(fresh, ids, strict=True)}
    return [verdicts[number] for number in range(len(lines))]


def _repeated(lines: Sequence[Values]) -> dict[int, Enrolled]:
    first: dict[str, int] = {}
    found = {}
    for number, line in enumerate(lines):
        address = _normalized(line.get("email"))
        if address and address in first:
            found[number] = Enrolled(Verdict.REPEATED, earlier=first[address])
        elif address:
            first[address] = number
    return found


def _known(session: Session, addresses: list[str]) -> set[str]:
    """Those of the addresses that a person or a profile has."""
    given = func.unnest(literal(addresses, ARRAY(TEXT))).table_valued("address").render_derived()
    normal = func.normalized_address(given.c.address)
    is_known = or_(
        exists().where(func.normalized_address(User.email) == normal),
        exists().where(
            Mentorado.user_id.is_(None), func.normalized_address(Mentorado.email) == normal
        ),
        exists().where(Mentorado.email.in_([given.c.address, normal])),
    )
    return set(session.scalars(select(given.c.address).where(is_known)))


def _decided(session: Session, line: Values, entry: Entry, now: datetime) -> Enrolled:
    try:
        with session.begin_nested():
            registered = pre_register(session, line, entry=entry, now=now)
    except MentoradoExistsError as err:
        return Enrolled(Verdict.EXISTS, err.mentorado_id)
    verdict = Verdict.NEW if registered.is_new else Verdict.TAKES_OVER
    return Enrolled(verdict, registered.mentorado.id, clerk_id=registered.clerk_id)


def _write(session: Session, lines: list[Values], entry: Entry, now: datetime) -> list[int]:
    if not lines:
        return []
    rows = [{"turma": Turma.NEON, "edited_at": now, **line} for line in lines]
    written = insert(Mentorado).returning(Mentorado.id, sort_by_parameter_order=True)
    ids = list(session.scalars(written, rows))
    details = {"action": "pre_register"}
    audit.record_each(session, entry, "admin_action", mentorado_ids=ids, details=details)
    return ids


def _normalized(address: object) -> str:
    """As the database's normalized_address does: for finding repetitions within one list."""
    return unicodedata.normalize("NFKC", str(address or "")).strip().lower()
