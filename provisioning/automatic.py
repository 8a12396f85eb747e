"""The profile that nobody filled in: one definition, for one person at the door and for a batch."""

from typing import Any, cast

from sqlalchemy import CTE, Select, Subquery, Table, bindparam, case, func, literal, select, true
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.orm import Session

from models import Mentorado, User
from models.mentorado import Turma
from provisioning import audit
from provisioning.audit import Entry
from provisioning.identity import NAME_LENGTH, URL_LENGTH
from provisioning.rows import MENTORADO_COLUMNS, MentoradoRow, UserRow, mentorado_of

NAMELESS = "Novo Usuário"


def automatic_profiles(people: CTE | Subquery) -> Insert:
    """Insert a profile for each of these rows of users; whoever has one by now keeps it."""
    return new_profiles(people).on_conflict_do_nothing(index_elements=["user_id"])


def new_profiles(people: CTE | Subquery) -> Insert:
    """Insert a profile for each of these rows of users; fails for all if one of them has one.

    `people` has the columns `id name email image_url`. Goals are the table's defaults, over-long
    values are cut or dropped (CONTRACT section 4.4).
    """
    of = people.c
    values: dict[str, Any] = {
        "user_id": of.id,
        "nome_completo": func.left(func.coalesce(func.nullif(of.name, ""), NAMELESS), NAME_LENGTH),
        "email": of.email,
        "foto_url": case((func.length(of.image_url) <= URL_LENGTH, of.image_url)),
        "turma": literal(Turma.NEON, Mentorado.turma.type),
        "created_automatically": true(),
    }
    chosen = people.select().with_only_columns(*values.values())
    return insert(cast(Table, Mentorado.__table__)).from_select(list(values), chosen)


def created_for(session: Session, user_id: int, entry: Entry) -> MentoradoRow | None:
    """Give a person an automatic profile and record it, in one round trip; None for whoever has a
    profile by now.
    """
    values = audit.values_of(entry, "mentorado_created") | {"of_user": user_id}
    row = session.connection().execute(CREATE, values).one_or_none()
    return None if row is None else mentorado_of(row)


def gaps_filled(profile: MentoradoRow, user: UserRow) -> dict[str, str]:
    """What an automatic profile lacks because its person's identity did not tell it at first, and
    has told since; empty where there is nothing to be filled in.
    """
    filled: dict[str, str] = {}
    if profile.nome_completo == NAMELESS and user.name:
        filled["nome_completo"] = user.name[:NAME_LENGTH]
    if profile.email is None and user.email is not None:
        filled["email"] = user.email
    if profile.foto_url is None and 0 < len(user.image_url or "") <= URL_LENGTH:
        filled["foto_url"] = str(user.image_url)
    return filled


def _create() -> Select[Any]:
    # Of tables, not of objects: whatever is mapped would be looked after at every call.
    users = User.__table__
    them = select(users).where(users.c.id == bindparam("of_user")).subquery()
    made = automatic_profiles(them).returning(*MENTORADO_COLUMNS).cte("made")
    recorded = audit.record_of(made, audit.BOUND).cte("recorded")
    return select(made).add_cte(recorded)


CREATE = _create()
