"""What a change by hand is about, as it stands: to be shown before, and compared after."""

from sqlalchemy.orm import Session

from models import Mentorado
from provisioning.references import count_references
from provisioning.states import PersonRow, person

Fact = str | int | bool | None
Facts = dict[str, Fact]

PROFILE_COLUMNS = (
    *("user_id", "nome_completo", "email", "foto_url", "turma", "ativo"),
    *("meta_faturamento", "meta_leads", "meta_procedimentos", "meta_posts", "meta_stories"),
)


def facts_about_person(session: Session, user_id: int) -> Facts:
    """Where a person stands; empty for an id of nobody."""
    row = person(session, user_id)
    return {} if row is None else _of_person(row)


def facts_about_profile(session: Session, mentorado_id: int) -> Facts:
    """What a profile holds, and how many rows of which tables; empty for one that is not there."""
    profile = session.get(Mentorado, mentorado_id, populate_existing=True)
    if profile is None:
        return {}
    facts: Facts = {}
    for column in PROFILE_COLUMNS:
        value = getattr(profile, column)
        facts[column] = value if isinstance(value, int | None) else str(value)
    return facts | count_references(session, mentorado_id)


def _of_person(row: PersonRow) -> Facts:
    return {
        "state": row.state.value,
        "role": row.user.role.value,
        "blocked": row.user.blocked_at is not None,
        "mentorado_id": row.mentorado.id if row.mentorado else None,
        "attempt": row.attempt.state if row.attempt else None,
    }
