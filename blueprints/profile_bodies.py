"""What admins may say about a profile: to register it, to correct it, to link or merge it."""

from typing import Any, Literal

from blueprints.bodies import (
    LEFT_OUT_STAYS,
    Amount,
    Because,
    Body,
    Email,
    Id,
    Name,
    WebAddress,
)


class Registration(Body):
    """A profile as the team writes it; what is left out takes the table's default."""

    nome_completo: Name
    email: Email | None = None
    foto_url: WebAddress | None = None
    turma: Literal["neon"] = "neon"
    meta_faturamento: Amount = 16_000
    meta_leads: Amount = 50
    meta_procedimentos: Amount = 10
    meta_posts: Amount = 12
    meta_stories: Amount = 60


class Correction(Because):
    """What is to be written into a profile; what is left out stays."""

    model_config = LEFT_OUT_STAYS

    nome_completo: Name = ""
    email: Email | None = None
    foto_url: WebAddress | None = None
    turma: Literal["neon"] = "neon"
    ativo: Literal["sim", "nao"] = "sim"
    meta_faturamento: Amount = 0
    meta_leads: Amount = 0
    meta_procedimentos: Amount = 0
    meta_posts: Amount = 0
    meta_stories: Amount = 0

    def changes(self) -> dict[str, Any]:
        """The columns that were given, with their new values."""
        return self.model_dump(exclude_unset=True, exclude={"reason"})


class LinkRequest(Because):
    """Whose the profile shall be."""

    user_id: Id


class MergeRequest(Because):
    """Into which profile; a dry run only shows what would happen."""

    into: Id
    dry_run: bool = False
    prefer: Literal["into", "from"] = "into"
