"""What a request knows about its person."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from typing_extensions import TypedDict

from auth.identity import Identity
from core.types import Moment, one_of
from models import Mentorado, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from provisioning.ensure import EnsureResult, Outcome
from provisioning.errors import Denial
from provisioning.identity_age import Question
from provisioning.profiles import MentoradoRow, UserRow

READY = "ready"
NOT_REQUIRED = "not_required"
# The guarantee could not be kept, and whether somebody should have a profile is open.
UNDECIDED = ("provisioning_unavailable", "provisioning_needs_attention")
DENIED = tuple(str(denial) for denial in Denial if denial is not Denial.USER_DELETED)

YesNo = Annotated[str, one_of(SimNao)]
Status = Annotated[str, one_of((READY, NOT_REQUIRED, *DENIED, *UNDECIDED))]


class UserShape(TypedDict):
    """A user as the API shows them."""

    id: int | None  # None while the database has never heard of this person
    clerk_id: str
    name: str | None
    email: str | None
    role: Annotated[str, one_of(Role)]


class MentoradoShape(TypedDict):
    """A mentorado as the API shows it."""

    id: int
    user_id: int | None
    nome_completo: str
    email: str | None
    foto_url: str | None
    turma: Annotated[str, one_of(Turma)]
    ativo: YesNo
    onboarding_completed: YesNo
    meta_faturamento: int
    meta_leads: int | None
    meta_procedimentos: int | None
    meta_posts: int | None
    meta_stories: int | None
    created_at: Moment


class OutcomeShape(TypedDict):
    """What ensuring somebody came to."""

    status: Status
    outcome: Annotated[str, one_of(o for o in Outcome if o is not Outcome.CLAIMED)]
    created: bool
    linked: bool
    mentorado: MentoradoShape | None


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who is asking, which profile is theirs, and if none is usable, why not.

    `status` is `ready`, `not_required` or the code that profile-dependent routes answer with;
    `mentorado` is there exactly when it is `ready`. `outcome` tells what this very request did.
    `version` is `users.context_version` as read with it; None where nothing may be cached.
    `question` is the next one to the identity provider about this user; None for never.
    """

    user: UserShape
    mentorado: MentoradoShape | None
    status: str
    outcome: str = Outcome.EXISTING
    version: int | None = None
    question: Question | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the administration is open to this user: a denial comes before a role."""
        is_denied = self.status in (Denial.USER_BLOCKED, Denial.USER_DELETED)
        return self.user["role"] == "admin" and not is_denied


def context_from_result(ensured: EnsureResult) -> RequestContext:
    """Turn what the guarantee found or made into what requests carry along."""
    mentorado, status = ensured.mentorado, READY
    if ensured.denial:
        mentorado, status = None, str(ensured.denial)
    elif mentorado is None:
        status = NOT_REQUIRED
    shape = serialize_mentorado(mentorado) if mentorado else None
    return RequestContext(
        serialize_user(ensured.user), shape, status, ensured.outcome, ensured.user.context_version
    )


def serialize_outcome(context: RequestContext) -> OutcomeShape:
    """What ensuring somebody came to (CONTRACT section 4.2); a folded profile counts as linked."""
    is_linked = context.outcome in (Outcome.LINKED, Outcome.CLAIMED)
    return {
        "status": context.status,
        "outcome": Outcome.LINKED if is_linked else context.outcome,
        "created": context.outcome == Outcome.CREATED,
        "linked": is_linked,
        "mentorado": context.mentorado,
    }


def context_without_profile(identity: Identity, status: str) -> RequestContext:
    """The context of a user whom the database does not know, because the ensure call failed."""
    stranger: UserShape = {
        "id": None,
        "clerk_id": identity.clerk_id,
        "name": identity.name,
        "email": identity.email,
        "role": Role.USER,
    }
    return RequestContext(stranger, None, status, Outcome.DENIED)


def serialize_user(user: User | UserRow) -> UserShape:
    """The user's public facts."""
    return {
        "id": user.id,
        "clerk_id": user.clerk_id,
        "name": user.name,
        "email": user.email,
        "role": str(user.role),
    }


def serialize_mentorado(mentorado: Mentorado | MentoradoRow) -> MentoradoShape:
    """The profile's public facts."""
    return {
        "id": mentorado.id,
        "user_id": mentorado.user_id,
        "nome_completo": mentorado.nome_completo,
        "email": mentorado.email,
        "foto_url": mentorado.foto_url,
        "turma": str(mentorado.turma),
        "ativo": str(mentorado.ativo),
        "onboarding_completed": str(mentorado.onboarding_completed),
        "meta_faturamento": mentorado.meta_faturamento,
        "meta_leads": mentorado.meta_leads,
        "meta_procedimentos": mentorado.meta_procedimentos,
        "meta_posts": mentorado.meta_posts,
        "meta_stories": mentorado.meta_stories,
        "created_at": iso_utc(mentorado.created_at),
    }


def iso_utc(moment: datetime) -> str:
    """ISO 8601 in UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
