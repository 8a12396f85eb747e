"""Changes that take access or data away: the closed section of a user's or a profile's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models import Mentorado, User
from web.admin_labels import count_text

PROFILE, USER = "mentorado", "pessoa"  # the subjects of `changes.CHANGE_TYPES`


@dataclass(frozen=True, slots=True)
class Danger:
    """A change, by its key in `changes.CHANGE_TYPES`, with its button and what follows from it."""

    subject: str
    subject_id: int
    key: str
    button: str
    consequence: str


@dataclass(frozen=True, slots=True)
class DangerSection:
    """The changes of a section; its summary names them."""

    dangers: Sequence[Danger]

    @property
    def summary(self) -> str:
        """What the closed section shows: «Desativar, desvincular ou excluir»."""
        *others, last = [danger.key for danger in self.dangers]
        return (f"{', '.join(others)} ou {last}" if others else last).capitalize()


def dangers_of_profile(
    profile: Mentorado, owner: User | None, counts: Mapping[str, int]
) -> DangerSection:
    """Return what may be done to a profile; `counts` are the rows that refer to it, by table."""
    rows, who = count_text(counts), owner and (owner.name or "A pessoa")
    dangers = []
    if profile.is_active:
        loss = f"{who} perde o acesso" if who else "Ninguém entra com ele"
        text = f"{loss}, e o perfil fica inativo. Ficam guardados: {rows}."
        dangers.append(Danger(PROFILE, profile.id, "desativar", "Desativar", text))
    if who:
        dangers.append(_unlink(profile, f"{who} deixa de ver este perfil", rows))
    loss = f" {who} perde o acesso." if who else ""
    text = f"São apagados: {rows}.{loss} Dá para restaurar por 30 dias."
    return DangerSection([*dangers, Danger(PROFILE, profile.id, "excluir", "Excluir", text)])


def dangers_of_user(
    user: User, profile: Mentorado | None, counts: Mapping[str, int]
) -> DangerSection | None:
    """Return what may be done to a user; None for a blocked user without a profile."""
    rows, dangers = count_text(counts), []
    if user.blocked_at is None:
        kept = f"O perfil fica guardado: {rows}." if profile else "Nenhum perfil é criado para ela."
        text = f"A pessoa perde o acesso na hora. {kept}"
        dangers.append(Danger(USER, user.id, "bloquear", "Bloquear acesso", text))
    if profile is not None:
        loss = f"A pessoa deixa de ver o perfil {profile.nome_completo}"
        dangers.append(_unlink(profile, loss, rows))
    return DangerSection(dangers) if dangers else None


def _unlink(profile: Mentorado, loss: str, rows: str) -> Danger:
    text = f"{loss} ({rows}). Ele fica guardado, à espera de quem confirmar o e-mail dele."
    return Danger(PROFILE, profile.id, "desvincular", "Desvincular", text)
