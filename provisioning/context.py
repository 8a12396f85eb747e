"""The request context: user, profile and status of a request, and their JSON shapes."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, cast

from typing_extensions import TypedDict

from auth.identity import Identity
from core.types import Timestamp, one_of
from models import Mentorado, User
from models.people import Role, SimNao, Turma
from provisioning.ensure import EnsureResult, Outcome
from provisioning.errors import Denial
from provisioning.identity_lookups import NextLookup
from provisioning.profiles import MentoradoRow, UserRow

READY = "ready"
NOT_REQUIRED = "not_required"
# Of an impersonated user without a profile, which only their own sign-in creates.
REQUIRED = "mentorado_required"
# The ensure call failed, so that it is open whether the user has a profile.
FAILED_STATUSES = ("provisioning_unavailable", "provisioning_needs_attention")
DENIED = tuple(str(denial) for denial in Denial if denial is not Denial.USER_DELETED)

YesNo = Annotated[str, one_of(SimNao)]
Status = Annotated[str, one_of((READY, NOT_REQUIRED, REQUIRED, *DENIED, *FAILED_STATUSES))]


class UserShape(TypedDict):
    """A user as the API shows them."""

    id: int | None  # None for a user who is not stored
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
    created_at: Timestamp


class OutcomeShape(TypedDict):
    """The result of an ensure call."""

    status: Status
    outcome: Annotated[str, one_of(o for o in Outcome if o is not Outcome.CLAIMED)]
    created: bool
    linked: bool
    mentorado: MentoradoShape | None


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The user of a request, the user's profile, and the reason if none is usable.

    `status` is `ready`, `not_required` or the error code of routes that need a profile; `mentorado`
    is set exactly when it is `ready`. `outcome` is what the ensure call of this request did.
    `version` is `users.context_version` as read with it; None where nothing may be cached.
    `next_lookup` is that of this user at the identity provider; None for never.
    """

    user: UserShape
    mentorado: MentoradoShape | None
    status: str
    outcome: str = Outcome.EXISTING
    version: int | None = None
    next_lookup: NextLookup | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the user may use the admin console; a denial comes before the role."""
        is_denied = self.status in (Denial.USER_BLOCKED, Denial.USER_DELETED)
        return self.user["role"] == "admin" and not is_denied


def context_from_result(result: EnsureResult) -> RequestContext:
    """Return the request context for the result of an ensure call."""
    mentorado, status = result.mentorado, READY
    if result.denial:
        mentorado, status = None, str(result.denial)
    elif mentorado is None:
        status = NOT_REQUIRED
    shape = serialize_mentorado(mentorado) if mentorado else None
    return RequestContext(
        serialize_user(result.user), shape, status, result.outcome, result.user.context_version
    )


def serialize_outcome(context: RequestContext) -> OutcomeShape:
    """Return the result of an ensure call as JSON; `claimed` is shown as `linked`.

    See docs/reference/contract.md#shapes.
    """
    is_linked = context.outcome in (Outcome.LINKED, Outcome.CLAIMED)
    return {
        "status": context.status,
        "outcome": Outcome.LINKED if is_linked else context.outcome,
        "created": context.outcome == Outcome.CREATED,
        "linked": is_linked,
        "mentorado": context.mentorado,
    }


def context_without_profile(identity: Identity, status: str) -> RequestContext:
    """Return the context of a user who is not stored, because the ensure call failed."""
    name, email = identity.name, identity.email
    user = UserShape(id=None, clerk_id=identity.clerk_id, name=name, email=email, role=Role.USER)
    return RequestContext(user, None, status, Outcome.DENIED)


def serialize_user(user: User | UserRow) -> UserShape:
    """Return a user as the API shows them."""
    return cast(UserShape, {name: getattr(user, name) for name in UserShape.__annotations__})


def serialize_mentorado(mentorado: Mentorado | MentoradoRow) -> MentoradoShape:
    """Return a profile as the API shows it."""
    values = {name: getattr(mentorado, name) for name in MentoradoShape.__annotations__}
    return cast(MentoradoShape, values | {"created_at": iso_utc(mentorado.created_at)})


def iso_utc(moment: datetime) -> str:
    """Return the moment in ISO 8601, in UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
