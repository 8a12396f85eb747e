"""What a request knows about its person, and the cache that spares the database the question."""

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import structlog

from extensions import cache
from models import Mentorado, User
from provisioning.ensure import Ensured, Outcome

log = structlog.get_logger(__name__)

READY = "ready"
NOT_REQUIRED = "not_required"
GENERATION_TTL_SECONDS = 86_400  # far beyond any context, so that a context never outlives its key
EVERYBODY = "generation:*"


class UserShape(TypedDict):
    """A user as the API shows them (CONTRACT section 4.4)."""

    id: int
    clerk_id: str
    name: str | None
    email: str | None
    role: str


class MentoradoShape(TypedDict):
    """A mentorado as the API shows it (CONTRACT section 4.4)."""

    id: int
    user_id: int | None
    nome_completo: str
    email: str | None
    foto_url: str | None
    turma: str
    ativo: str
    onboarding_completed: str
    meta_faturamento: int
    meta_leads: int | None
    meta_procedimentos: int | None
    meta_posts: int | None
    meta_stories: int | None
    created_at: str


@dataclass(frozen=True, slots=True)
class Context:
    """Who is asking, which profile is theirs, and if none is usable, why not.

    `status` is `ready`, `not_required` or the code that profile-dependent routes answer with;
    `mentorado` is there exactly when it is `ready`. `outcome` tells what this very request did.
    """

    user: UserShape
    mentorado: MentoradoShape | None
    status: str
    outcome: str = Outcome.EXISTING

    @property
    def is_admin(self) -> bool:
        """Whether the administration is open to this person."""
        return self.user["role"] == "admin"


@dataclass(frozen=True, slots=True)
class Glance:
    """One look into the cache: what it held, and the generation that a later fill must carry."""

    context: Context | None
    generation: str


def context_of(ensured: Ensured) -> Context:
    """Turn what the guarantee found or made into what requests carry along."""
    mentorado, status = ensured.mentorado, READY
    if ensured.denial:
        mentorado, status = None, str(ensured.denial)
    elif mentorado is None:
        status = NOT_REQUIRED
    shape = mentorado_shape(mentorado) if mentorado else None
    return Context(user_shape(ensured.user), shape, status, ensured.outcome)


def look_up(clerk_id: str) -> Glance:
    """Ask the cache for a context; never raises, and never believes in an absent profile."""
    try:
        everybody, person, entry = cache.get_many(EVERYBODY, _generation(clerk_id), _key(clerk_id))
        generation = f"{everybody or ''}.{person or _first_generation(clerk_id)}"
        return Glance(_believe(entry, generation), generation)
    except Exception as err:  # whatever is wrong with the cache, the database knows the answer
        log.warning("cache_error", error=type(err).__name__)
        return Glance(None, "")


def keep(clerk_id: str, context: Context, generation: str, ttl_seconds: int) -> None:
    """Store a usable context under the generation that was valid before it was read.

    A change that came in between has moved the generation on, so that this entry is dead on
    arrival. Absence is not stored: a person without profile is looked after at every request.
    """
    if context.status != READY or not generation:
        return
    entry = {"generation": generation, "user": context.user, "mentorado": context.mentorado}
    _quietly_set(_key(clerk_id), json.dumps(entry), ttl_seconds)


def renew(clerk_id: str) -> str:
    """Invalidate what is cached of this person, after a committed change.

    Returns the generation under which what the change itself knows may be kept.
    """
    person = secrets.token_hex(8)
    _quietly_set(_generation(clerk_id), person, GENERATION_TTL_SECONDS)
    return f"{_quietly_get(EVERYBODY) or ''}.{person}"


def renew_everybody() -> None:
    """Invalidate what is cached of all people, after a change that concerns them all."""
    _quietly_set(EVERYBODY, secrets.token_hex(8), GENERATION_TTL_SECONDS)


def user_shape(user: User) -> UserShape:
    """The user's public facts."""
    return {
        "id": user.id,
        "clerk_id": user.clerk_id,
        "name": user.name,
        "email": user.email,
        "role": str(user.role),
    }


def mentorado_shape(mentorado: Mentorado) -> MentoradoShape:
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


def _believe(entry: Any, generation: str) -> Context | None:
    """Read an entry; one of another generation, or without a profile, counts as none."""
    found = json.loads(entry) if entry else {}
    if found.get("generation") != generation:
        log.info("cache_miss")
        return None
    if not found.get("mentorado"):
        log.warning("cache_hit_no_mentorado", user_id=found.get("user", {}).get("id"))
        return None
    log.debug("cache_hit", user_id=found["user"]["id"])
    return Context(found["user"], found["mentorado"], READY)


def _first_generation(clerk_id: str) -> str:
    """Start a person's generations, or learn that somebody else just did."""
    cache.add(_generation(clerk_id), secrets.token_hex(8), GENERATION_TTL_SECONDS)
    return str(cache.get(_generation(clerk_id)))


def _quietly_set(key: str, value: str, ttl_seconds: int) -> None:
    try:
        cache.set(key, value, timeout=ttl_seconds)
    except Exception as err:  # the entry's time to live bounds what a lost write can do
        log.warning("cache_error", error=type(err).__name__)


def _quietly_get(key: str) -> Any:
    try:
        return cache.get(key)
    except Exception as err:
        log.warning("cache_error", error=type(err).__name__)
        return None


def _generation(clerk_id: str) -> str:
    return f"generation:{clerk_id}"


def _key(clerk_id: str) -> str:
    return f"context:{clerk_id}"
