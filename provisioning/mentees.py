"""The profiles of the programme, as the team lists them."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models import Mentorado


def mentees(
    session: Session, *, wanted: str | None = None, after_id: int = 0, limit: int
) -> list[Mentorado]:
    """Profiles in key order: all of them, or those whose name or address has the text in it."""
    found = select(Mentorado).where(Mentorado.id > after_id).order_by(Mentorado.id).limit(limit)
    if wanted:
        columns = (Mentorado.nome_completo, Mentorado.email)
        found = found.where(or_(*(c.icontains(wanted, autoescape=True) for c in columns)))
    return list(session.scalars(found))
