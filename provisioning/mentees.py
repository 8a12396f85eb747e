"""The profiles of the programme, as the team lists them."""

import enum

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from models import Mentorado
from models.columns import SimNao
from provisioning.address_holders import address_matches


class Kind(enum.StrEnum):
    """Which profiles are meant."""

    ACTIVE = "ativos"
    INACTIVE = "inativos"
    WAITING = "esperando"  # for their person


KINDS: dict[Kind, ColumnElement[bool]] = {
    Kind.ACTIVE: Mentorado.ativo == SimNao.SIM,
    Kind.INACTIVE: Mentorado.ativo == SimNao.NAO,
    Kind.WAITING: Mentorado.user_id.is_(None),
}


def mentees(
    session: Session,
    *,
    kind: Kind | None = None,
    wanted: str | None = None,
    after_id: int = 0,
    limit: int,
) -> list[Mentorado]:
    """Profiles in key order: of one kind, or those whose name or address has the text in it."""
    found = select(Mentorado).where(Mentorado.id > after_id).order_by(Mentorado.id).limit(limit)
    if kind is not None:
        found = found.where(KINDS[kind])
    if wanted:
        has_name = Mentorado.nome_completo.icontains(wanted, autoescape=True)
        found = found.where(or_(has_name, address_matches(Mentorado.email, wanted)))
    return list(session.scalars(found))
