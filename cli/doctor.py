"""What `flask doctor` looks at: each part that this installation stands on, in one line each."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from sqlalchemy.exc import SQLAlchemyError

from auth.clerk_client import ClerkClient
from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.jwks import usable_keys
from auth.tokens import LEEWAY_SECONDS
from auth.user_directory import UserDirectory
from cli.database_errors import database_name, explain, state_reason
from core.config import Config, insecure_settings
from core.database import background_transaction
from sweep import runs, stats
from sweep.runs import Blocking
from sweep.stats import Backlog
from web import health
from web.services import Services

TAKEN_WITHIN = timedelta(seconds=30)  # a queued or dead sweep, where a scheduler runs
LONGEST_WAIT = 5  # sweep intervals; whoever waits longer is not being helped


REDIS_ADVICE = {
    "down": "does not answer: start it, or correct REDIS_URL, its password included",
    "refuses_writes": (
        "refuses writes, so that nothing is cached: look at maxmemory and its policy, its disk, "
        "the rights of its user, and whether it is a replica"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one part; `detail` says what to do where it is not well.

    A warning is about something that works, but not as it should in production.
    """

    part: str
    is_well: bool
    detail: str
    is_warning: bool = False


def examine_installation(house: Services) -> Iterator[Finding]:
    """Examine everything but Clerk, which `cli/doctor.py` examines."""
    yield Finding("environment", is_well=True, detail=house.config.app_env)
    yield from warnings(house.config)
    database, reason = _database()
    yield Finding("database", reason is None, reason or database_name())
    redis = health.redis(is_configured=house.config.redis_url is not None)
    yield Finding(
        "redis", redis not in REDIS_ADVICE, REDIS_ADVICE.get(redis, redis).replace("_", " ")
    )
    if database is None:
        return
    is_behind = database == "behind_on_migrations"
    yield Finding("migrations", not is_behind, _what_to_do() if is_behind else "at head")
    if not is_behind:
        yield _sweep()
        yield from _waiting(house)


def warnings(config: Config) -> Iterator[Finding]:
    """A line for each setting that is insecure in production."""
    for setting, advice in insecure_settings(config):
        yield Finding(setting, is_well=True, detail=advice, is_warning=True)


def _database() -> tuple[str | None, str | None]:
    """The state of the database, None where it cannot be used, and what is wrong with it."""
    try:
        state = health.read_database_state()
    except SQLAlchemyError as err:
        return None, explain(err)
    if state == "read_only":
        return None, f"{database_name()} {state_reason(state)}"
    return state, None


def _what_to_do() -> str:
    try:
        return state_reason("behind_on_migrations") or ""
    except SQLAlchemyError as err:
        return explain(err)


def _sweep() -> Finding:
    """Whether a sweep waits for a process that does not come: it keeps others from starting."""
    try:
        with background_transaction() as session:
            blocking, age = runs.blocking(session), runs.since_success(session)
    except SQLAlchemyError as err:
        return Finding("sweep", is_well=False, detail=explain(err))
    if blocking is not None and blocking.since > TAKEN_WITHIN:
        return Finding("sweep", is_well=False, detail=_why_blocked(blocking))
    detail = "none yet" if age is None else f"last success {_rounded(age)} ago"
    return Finding("sweep", is_well=True, detail=detail)


def _why_blocked(blocking: Blocking) -> str:
    if blocking.is_queued:
        state = "is queued and taken by no scheduler"
    else:
        state = "has no heartbeat, its process has died"
    lasting = f"sweep {blocking.run_id} {state}, for {_rounded(blocking.since)}"
    return f"{lasting}: start flask scheduler, or run flask sweep, which takes it over"


def _rounded(age: timedelta) -> timedelta:
    return timedelta(seconds=round(age.total_seconds()))


def _waiting(house: Services) -> Iterator[Finding]:
    """Who waits, and for what; counted once for both lines."""
    try:
        with background_transaction() as session:
            doubled = stats.count_users_with_two_profiles(session)
            found = stats.count_backlog(session, house.provisioning.rules)
    except SQLAlchemyError as err:
        yield Finding("backlog", is_well=False, detail=explain(err))
        return
    shared = found.ambiguous_addresses
    detail = f"{doubled} people with two profiles, {shared} addresses with two waiting profiles"
    yield Finding("duplicates", not doubled, detail)
    yield _backlog(found, house)


def _backlog(found: Backlog, house: Services) -> Finding:
    interval = timedelta(seconds=house.config.sweep_interval_seconds)
    since = found.waiting_since
    waits_too_long = since is not None and house.now() - since > interval * LONGEST_WAIT
    detail = (
        f"{found.waiting} without profile, {found.dead_letters} dead letters, "
        f"{found.incomplete} incomplete identities"
    )
    return Finding("backlog", not found.dead_letters and not waits_too_long, detail)


Line = tuple[str, bool, str]  # what was looked at, whether it is well, and what was found


@dataclass(frozen=True, slots=True)
class Setup:
    """What the operator has set, as far as Clerk is concerned."""

    publishable_key: str | None
    secret_key: str | None
    client: ClerkClient | None
    directory: UserDirectory | None
    jwks_url: str | None
    sign_in_url: str | None
    authorized_parties: frozenset[str]
    has_webhook_secret: bool


def examine_clerk(setup: Setup) -> Iterator[Line]:
    """Look at the keys, then ask Clerk with them."""
    yield _keys(setup)
    yield from _published(setup)
    yield _backend(setup.directory)
    where = setup.sign_in_url
    yield ("clerk sign-in", where is not None, where or "set CLERK_SIGN_IN_URL")
    parties = ", ".join(sorted(setup.authorized_parties))
    yield ("clerk origins", True, parties or "any (CLERK_AUTHORIZED_PARTIES is not set)")
    is_on = setup.has_webhook_secret
    yield ("clerk webhook", True, "on" if is_on else "off (CLERK_WEBHOOK_SECRET is not set)")


def _keys(setup: Setup) -> Line:
    """Both keys, of one instance type."""
    if setup.publishable_key is None or setup.secret_key is None:
        return ("clerk keys", False, "set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY")
    kind = setup.publishable_key.split("_")[1]
    if setup.secret_key.split("_")[1:2] != [kind]:
        return ("clerk keys", False, f"pk_{kind} needs an sk_{kind} key")
    return ("clerk keys", True, "production instance" if kind == "live" else "development instance")


def _published(setup: Setup) -> Iterator[Line]:
    """The keys that tokens are checked with, and by the same host how our clocks agree."""
    client, url = setup.client, setup.jwks_url
    if client is None or url is None:
        yield ("clerk jwks", False, "set CLERK_PUBLISHABLE_KEY or CLERK_JWKS_URL")
        return
    try:
        document, date = client.dated_key_set()
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        yield ("clerk jwks", False, f"{err} at {url}")
        return
    found = len(usable_keys(document))
    yield ("clerk jwks", found > 0, f"{found} keys")
    yield _clock(date)


def _clock(date: str | None) -> Line:
    try:
        theirs = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return ("clock", True, "Clerk did not tell the time")
    ahead = (datetime.fromtimestamp(time.time(), UTC) - theirs).total_seconds()
    return ("clock", abs(ahead) <= LEEWAY_SECONDS, f"{ahead:+.0f} s from Clerk's")


def _backend(directory: UserDirectory | None) -> Line:
    if directory is None:
        return ("clerk api", False, "set CLERK_SECRET_KEY")
    try:
        directory.page(0, 1)
    except ProviderUnavailableError as err:
        return ("clerk api", False, str(err))
    except Exception as err:  # whatever else the client raises means the same
        return (
            "clerk api",
            False,
            f"{type(err).__name__}: correct CLERK_SECRET_KEY, CLERK_API_URL",
        )
    return ("clerk api", True, "answers")
