"""A row of users and a row of mentorados as values: read once, and followed by no session."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy.sql.elements import KeyedColumnElement

from models import Mentorado, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role

Columns = Sequence[KeyedColumnElement[Any]]


@dataclass(frozen=True, slots=True)
class UserRow:
    """What the guarantee has to know of a person; the names are those of the columns."""

    id: int
    clerk_id: str
    name: str | None
    email: str | None
    email_verified: bool
    image_url: str | None
    role: Role
    admin_by_address: bool
    blocked_at: datetime | None
    deleted_at: datetime | None
    identity_completed_at: datetime | None
    identity_asked_at: datetime | None
    context_version: int

    @property
    def is_admin(self) -> bool:
        """Whether the administration is open to this person."""
        return self.role is Role.ADMIN


@dataclass(frozen=True, slots=True)
class MentoradoRow:
    """What requests have to know of a profile; the names are those of the columns."""

    id: int
    user_id: int | None
    nome_completo: str
    email: str | None
    foto_url: str | None
    turma: Turma
    meta_faturamento: int
    meta_leads: int | None
    meta_procedimentos: int | None
    meta_posts: int | None
    meta_stories: int | None
    ativo: SimNao
    onboarding_completed: SimNao
    created_automatically: bool
    edited_at: datetime | None
    created_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether the programme still counts this mentee in."""
        return self.ativo is SimNao.SIM

    @property
    def is_unedited(self) -> bool:
        """Whether only the guarantee has written this row so far."""
        return self.created_automatically and self.edited_at is None


def user_of(row: Sequence[Any]) -> UserRow:
    """A row of `USER_COLUMNS`."""
    return UserRow(*row)


def mentorado_of(row: Sequence[Any]) -> MentoradoRow:
    """A row of `MENTORADO_COLUMNS`."""
    return MentoradoRow(*row)


USER_COLUMNS: Columns = [User.__table__.c[field.name] for field in fields(UserRow)]
MENTORADO_COLUMNS: Columns = [Mentorado.__table__.c[field.name] for field in fields(MentoradoRow)]
