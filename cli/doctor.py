"""`flask doctor`: check each part of the installation, and print a line for each."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import click
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from auth.clerk_calls import UserDirectory
from auth.clerk_client import ClerkClient
from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.jwks import usable_keys
from auth.tokens import LEEWAY_SECONDS
from cli.database import database_name, examine_connection, explain, state_reason
from cli.installation import redis_address
from core.config import Config, insecure_settings
from core.database import background_transaction
from models import User
from provisioning.retry import is_connection_lost
from sweep import runs, stats
from sweep.runs import BlockedRun
from sweep.stats import Backlog
from web import health
from web.services import Services, services

TAKEN_WITHIN = timedelta(seconds=30)  # for a queued or dead sweep, if a scheduler runs
LONGEST_WAIT = 5  # sweep intervals; a user who waits longer will not get a profile by itself

NEWEST_USERS = 100  # whose logins show whether tokens carry claims

REDIS_ADVICE = {
    "down": " does not answer: start it, or correct REDIS_URL, its password included",
    "refuses_writes": (
        " refuses writes, so that nothing is cached: check maxmemory and its policy, its disk, "
        "the rights of its user, the number of the database, and whether it is a replica"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `detail` says what to do if it failed.

    A warning is about a part that works, but is not suitable for production.
    """

    part: str
    is_well: bool
    detail: str
    is_warning: bool = False


def _well(part: str, detail: str) -> Finding:
    return Finding(part, is_well=True, detail=detail)


def _warning(part: str, detail: str) -> Finding:
    return Finding(part, is_well=True, detail=detail, is_warning=True)


def _failed(part: str, detail: str) -> Finding:
    return Finding(part, is_well=False, detail=detail)


def register(app: Flask) -> None:
    """Add the command to `flask`."""
    app.cli.add_command(run_doctor)


@click.command("doctor")
def run_doctor() -> None:
    """Check every part of this installation; exit 1 if a check fails.

    Prints one line per check: the environment, insecure settings, the database, its connection and
    its migrations, Redis, users with two profiles, users without a profile, Clerk's keys, origins,
    webhook and claims. A failure or warning says what to do; docs/operations.md has more. Changes
    nothing.
    """
    is_well = True
    for finding in (*examine_installation(services()), *_clerk_findings(services())):
        click.echo(f"{_mark(finding)}  {finding.part:<14} {finding.detail}")
        is_well = is_well and finding.is_well
    if not is_well:
        raise SystemExit(1)


def _mark(finding: Finding) -> str:
    if not finding.is_well:
        return click.style("FAIL", fg="red")
    if finding.is_warning:
        return click.style("warn", fg="yellow")
    return click.style("ok  ", fg="green")


def examine_installation(installation: Services) -> Iterator[Finding]:
    """Check all parts except Clerk, which `examine_clerk` checks."""
    yield _well("environment", installation.config.app_env)
    yield from warnings(installation.config)
    database, reason = _database()
    yield Finding("database", reason is None, reason or f"{database_name()}, writable")
    yield _redis(installation.config)
    if database is None:
        return
    for part, found, advice in examine_connection():
        detail = f"{found}: {advice}" if advice else found
        yield Finding(part, is_well=True, detail=detail, is_warning=advice is not None)
    is_behind = database == "behind_on_migrations"
    if is_behind:
        yield Finding("migrations", is_well=False, detail=_migration_advice())
    else:
        yield _migrations()
        yield _sweep()
        yield from _backlog_findings(installation)


def _redis(config: Config) -> Finding:
    is_configured = config.redis_url is not None
    state = health.redis(is_configured=is_configured)
    detail = REDIS_ADVICE.get(state, ", writable" if state == "ok" else state.replace("_", " "))
    place = redis_address() if is_configured else ""
    return Finding("redis", state not in REDIS_ADVICE, f"{place}{detail}")


def warnings(config: Config) -> Iterator[Finding]:
    """Yield a warning for each setting that is insecure in production."""
    for setting, advice in insecure_settings(config):
        yield _warning(setting, advice)


def _database() -> tuple[str | None, str | None]:
    """Return the state of the database (None if unusable), and what is wrong with it."""
    try:
        state = health.read_database_state()
    except SQLAlchemyError as err:
        advice = ": start the server, or correct DATABASE_URL" if is_connection_lost(err) else ""
        return None, f"{explain(err)}{advice}"
    if state == "read_only":
        return None, f"{database_name()} {state_reason(state)}"
    return state, None


def _migrations() -> Finding:
    """Check for a database that a newer version has migrated; it works, but its host is old."""
    try:
        revision = health.database_revision()
    except SQLAlchemyError as err:
        return Finding("migrations", is_well=False, detail=explain(err))
    if not health.is_newer(revision):
        return Finding("migrations", is_well=True, detail=f"at head ({revision})")
    detail = f"at {revision}, by a newer version of this program: update this host"
    return Finding("migrations", is_well=True, detail=detail, is_warning=True)


def _migration_advice() -> str:
    try:
        return state_reason("behind_on_migrations") or ""
    except SQLAlchemyError as err:
        return explain(err)


def _sweep() -> Finding:
    """Check for a queued or dead sweep that no process takes; it keeps others from starting."""
    try:
        with background_transaction() as session:
            blocking, age = runs.blocked_run(session), runs.time_since_success(session)
    except SQLAlchemyError as err:
        return _failed("sweep", explain(err))
    if blocking is not None and blocking.since > TAKEN_WITHIN:
        return _failed("sweep", _why_blocked(blocking))
    detail = "none yet" if age is None else f"last success {_rounded(age)} ago"
    return _well("sweep", detail)


def _why_blocked(blocking: BlockedRun) -> str:
    if blocking.is_queued:
        state = "is queued and taken by no scheduler"
    else:
        state = "has no heartbeat, its process has died"
    lasting = f"sweep {blocking.run_id} {state}, for {_rounded(blocking.since)}"
    return f"{lasting}: start flask scheduler, or run flask sweep, which takes it over"


def _rounded(age: timedelta) -> timedelta:
    return timedelta(seconds=round(age.total_seconds()))


def _backlog_findings(installation: Services) -> Iterator[Finding]:
    """Check for duplicates and for users who wait too long, in one transaction."""
    try:
        with background_transaction() as session:
            duplicates = stats.count_users_with_two_profiles(session)
            backlog = stats.count_backlog(session, installation.provisioning.rules)
    except SQLAlchemyError as err:
        yield _failed("backlog", explain(err))
        return
    shared = backlog.ambiguous_addresses
    detail = f"{duplicates} users with two profiles, {shared} addresses with two unlinked profiles"
    advice = f"{detail}: merge them under /admin" if duplicates else detail
    yield Finding("duplicates", not duplicates, advice)
    yield _backlog(backlog, installation)


def _backlog(backlog: Backlog, installation: Services) -> Finding:
    interval = timedelta(seconds=installation.config.sweep_interval_seconds)
    since = backlog.waiting_since
    waits_too_long = since is not None and installation.now() - since > interval * LONGEST_WAIT
    detail = (
        f"{backlog.waiting} without profile, {backlog.dead_letters} dead letters, "
        f"{backlog.incomplete} incomplete identities"
    )
    if backlog.dead_letters:
        detail += ": see /admin, «Precisa de atenção»"
    if waits_too_long:
        detail += ": start a scheduler, or run flask sweep, which shows the obstacle"
    return Finding("backlog", not backlog.dead_letters and not waits_too_long, detail)


def _clerk_findings(parts: Services) -> Iterator[Finding]:
    if parts.dev_provider is not None:
        yield _development_provider(parts.config)
    else:
        yield from examine_clerk(parts)


def _development_provider(config: Config) -> Finding:
    if config.database_url is None:
        return _well("clerk", "the development identity provider")
    return _warning(
        "clerk",
        "anybody who reaches this address can sign in as anybody, admins included: the "
        "development identity provider answers, on a database given by DATABASE_URL; in production "
        "set APP_ENV=production, CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY",
    )


def examine_clerk(parts: Services) -> Iterator[Finding]:
    """Check the settings for Clerk, and call Clerk with them."""
    config = parts.config
    yield _check_keys(config)
    yield from _check_jwks(parts.clerk, config.jwks_url)
    yield _check_backend_api(parts.clerk, parts.provisioning.directory)
    url = config.sign_in_url
    yield Finding("clerk sign-in", url is not None, url or "set CLERK_SIGN_IN_URL")
    yield _check_origins(config)
    yield _check_webhook(config)
    yield from _check_claims()


def _check_origins(config: Config) -> Finding:
    """Compare the authorized parties with the origins that browsers send under this instance.

    A browser has Clerk's cookies only on https:// pages of the domain whose `clerk.` subdomain is
    the production instance. A development instance has no such rule.
    """
    parties = sorted(config.clerk_authorized_parties)
    if not parties:
        return _well("clerk origins", "any (CLERK_AUTHORIZED_PARTIES is not set)")
    host = urlsplit(config.frontend_api_url or "").hostname or ""
    is_live = (config.clerk_publishable_key or "").startswith("pk_live_")
    domain = host.removeprefix("clerk.") if is_live and host.startswith("clerk.") else ""
    strange = [party for party in parties if not _is_on_domain(party, domain)] if domain else []
    if strange:
        expected = f"browsers of this instance send https://{domain} or a name below it"
        advice = f"correct CLERK_AUTHORIZED_PARTIES: {expected}, never {', '.join(strange)}"
        return _failed("clerk origins", advice)
    return _well("clerk origins", ", ".join(parties))


def _is_on_domain(origin: str, domain: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme == "https" and f".{parts.hostname}".endswith(f".{domain}")


def _check_webhook(config: Config) -> Finding:
    if config.clerk_webhook_secret is not None:
        return _well("clerk webhook", "on")
    hours = config.clerk_identity_max_age_seconds / 3600
    detail = (
        "off (CLERK_WEBHOOK_SECRET is not set): a change at Clerk holds after a visit or a sweep "
        f"{hours:g} h later, a deleted account keeps its profile"
    )
    return _well("clerk webhook", detail)


def _check_claims() -> Iterator[Finding]:
    """Check with the newest users whether tokens carry name and address; nothing without users."""
    newest = select(User.identity_asked_at).order_by(User.id.desc()).limit(NEWEST_USERS).subquery()
    counts = select(func.count(), func.count(newest.c.identity_asked_at)).select_from(newest)
    try:
        with background_transaction() as session:
            total, asked = session.execute(counts).one()
    except SQLAlchemyError:
        return  # the lines about the database have the reason
    if asked:
        detail = (
            f"missing: Clerk was asked about {asked} of the newest {total} users, and their first "
            "login waited for it; docs/clerk.md has the claims"
        )
        yield _well("clerk claims", detail)
    elif total:
        yield _well("clerk claims", f"none of the newest {total} users needed a call to Clerk")


def _check_keys(config: Config) -> Finding:
    """Check that both keys are set and belong to one instance type."""
    if config.clerk_publishable_key is None or config.clerk_secret_key is None:
        return _failed("clerk keys", "set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY")
    kind = config.clerk_publishable_key.split("_")[1]
    if config.clerk_secret_key.get_secret_value().split("_")[1:2] != [kind]:
        return _failed("clerk keys", f"pk_{kind} needs an sk_{kind} key")
    return _well("clerk keys", "production instance" if kind == "live" else "development instance")


def _check_jwks(client: ClerkClient | None, url: str | None) -> Iterator[Finding]:
    """Check that the JWKS has usable keys, and compare clocks by the Date header of its answer."""
    if client is None or url is None:
        yield _failed("clerk jwks", "set CLERK_PUBLISHABLE_KEY or CLERK_JWKS_URL")
        return
    try:
        document, date = client.dated_key_set()
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        advice = "check the outgoing connections of this host, CLERK_PUBLISHABLE_KEY"
        yield _failed("clerk jwks", f"{err} at {url}: {advice}")
        return
    found = len(usable_keys(document))
    advice = f"no usable key at {url}: correct CLERK_JWKS_URL, CLERK_FRONTEND_API_URL"
    yield Finding("clerk jwks", found > 0, f"{found} keys" if found else advice)
    yield _check_clock(date)


def _check_clock(date: str | None) -> Finding:
    try:
        clerk_time = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return _well("clock", "Clerk's answer has no usable Date header")
    ahead = (datetime.fromtimestamp(time.time(), UTC) - clerk_time).total_seconds()
    is_right = abs(ahead) <= LEEWAY_SECONDS
    advice = "" if is_right else ": set the clock of this host (NTP), or every token is refused"
    return Finding("clock", is_right, f"{ahead:+.0f} s from Clerk's{advice}")


def _check_backend_api(client: ClerkClient | None, directory: UserDirectory | None) -> Finding:
    if directory is None:
        return _failed("clerk api", "set CLERK_SECRET_KEY")
    try:
        directory.page(0, 1)
    except ProviderUnavailableError as err:
        return _failed("clerk api", f"{err}: check the outgoing connections, CLERK_API_URL")
    except Exception as err:  # any other error of the client has the same remedy
        return _failed(
            "clerk api",
            f"{type(err).__name__}: correct CLERK_SECRET_KEY, CLERK_API_URL",
        )
    if client is not None and _is_for_another_instance(client):
        advice = "copy CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY from one instance"
        return _failed("clerk api", f"answers for an instance with other keys: {advice}")
    return _well("clerk api", "answers")


def _is_for_another_instance(client: ClerkClient) -> bool:
    """Whether the secret key's instance has none of the published keys; False if unknown."""
    try:
        published = usable_keys(client.key_set())
        own = usable_keys(client.instance_key_set())
    except Exception:  # another line reports it, or this Backend API has no such call
        return False
    return bool(published and own) and published.keys().isdisjoint(own)
