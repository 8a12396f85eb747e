"""The profile that nobody filled in: one definition, for one person at the door and for a batch."""

from typing import Any

from sqlalchemy import CTE, Subquery, case, func, literal, true
from sqlalchemy.dialects.postgresql import Insert, insert

from models import Mentorado, User
from models.mentorado import Turma
from provisioning.identity import NAME_LENGTH, URL_LENGTH

NAMELESS = "Novo Usuário"


def automatic_profiles(people: CTE | Subquery) -> Insert:
    """Insert a profile for each of these rows of users; whoever has one by now keeps it.

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
    return (
        insert(Mentorado)
        .from_select(list(values), people.select().with_only_columns(*values.values()))
        .on_conflict_do_nothing(index_elements=[Mentorado.user_id])
    )


def fill_gaps(profile: Mentorado, user: User) -> None:
    """Let an automatic profile have what its person's identity did not tell at first."""
    if profile.nome_completo == NAMELESS and user.name:
        profile.nome_completo = user.name[:NAME_LENGTH]
    if profile.email is None:
        profile.email = user.email
    if profile.foto_url is None and len(user.image_url or "") <= URL_LENGTH:
        profile.foto_url = user.image_url
