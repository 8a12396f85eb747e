"""`flask doctor`: check each part of the installation, and print a line for each."""

import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from timeit import repeat
from typing import Any
from urllib.parse import urlsplit

import click
from psycopg2 import extensions
from sqlalchemy import Connection, Row, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from auth.clerk_calls import UserDirectory
from auth.clerk_client import ClerkClient
from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.jwks import usable_keys
from auth.tokens import LEEWAY_SECONDS
from cli.installation import database_name, explain, reason_of, redis_address, state_reason
from core.config import Config, insecure_settings
from core.database import DIRECT, background_transaction, db
from models import User
from provisioning.retry import is_connection_lost
from sweep import runs, stats
from web import health
from web.services import Services, services

TAKEN_WITHIN = timedelta(seconds=30)  # for a queued or dead sweep, if a scheduler runs
LONGEST_WAIT = 5  # sweep intervals; a user who waits longer will not get a profile by itself
NEWEST_USERS = 100  # whose logins show whether tokens carry claims
PING, ROUND_TRIPS = text("SELECT 1"), 5
FAR_MS = 20.0  # a first login takes two round trips
# Hosts of poolers by name: Neon's, Supabase's and others'. Neon's proxy hides the pooler otherwise.
POOLER_HOST = re.compile(r"(^|[.-])pooler\.|-pooler\b")
PROXIED_HOST = re.compile(r"\.neon\.(tech|build)$")
FACTS = text("""
    SELECT pg_backend_pid(), pg_encoding_to_char(encoding), datctype, 'Á' ILIKE 'á'
      FROM pg_database WHERE datname = current_database()
""")
# The same for each connection to one database, also through a pooler; any role may read it.
IDENTITY = text("SELECT current_database(), pg_postmaster_start_time()")
REDIS_ADVICE = {
    "down": " does not answer: start it, or correct REDIS_URL, its password included",
    "refuses_writes": (
        " refuses writes, so that nothing is cached: check maxmemory and its policy, its disk, "
        "the rights of its user, the number of the database, and whether it is a replica"
    ),
}


OK, WARNING, FAILED = "ok  ", "warn", "FAIL"
COLOURS = {OK: "green", WARNING: "yellow", FAILED: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; a warning is about a part that works, but not for production."""

    part: str
    detail: str
    mark: str = OK

    @property
    def is_well(self) -> bool:
        """Whether the part works."""
        return self.mark != FAILED


def _advised(part: str, found: str, advice: str) -> Finding:
    """Return what was found; with an advice it is a warning."""
    return Finding(part, f"{found}: {advice}", WARNING) if advice else Finding(part, found)


@click.command("doctor")
def doctor() -> None:
    """Check every part of this installation; exit 1 if a check fails.

    Prints one line per check: the environment, insecure settings, the database, its connection and
    its migrations, Redis, users with two profiles, users without a profile, Clerk's keys, origins,
    webhook and claims. A failure or warning says what to do; docs/operations.md has more. Changes
    nothing.
    """
    is_well = True
    for finding in (*examine_installation(services()), *_clerk_findings(services())):
        mark = click.style(finding.mark, fg=COLOURS[finding.mark])
        click.echo(f"{mark}  {finding.part:<14} {finding.detail}")
        is_well = is_well and finding.is_well
    if not is_well:
        raise SystemExit(1)


def examine_installation(installation: Services) -> Iterator[Finding]:
    """Check all parts except Clerk, which `examine_clerk` checks."""
    yield Finding("environment", installation.config.app_env)
    for setting, advice in insecure_settings(installation.config):
        yield Finding(setting, advice, WARNING)
    state, fault = _database_state()
    mark = FAILED if fault else OK
    yield Finding("database", fault or f"{database_name()}, writable", mark)
    yield _redis(installation.config)
    if fault:
        return
    yield from _reported("connection", _connection)
    yield from _reported("migrations", lambda: _migrations(state))
    if state != "behind_on_migrations":
        yield from _reported("sweep", _sweep)
        yield from _reported("backlog", lambda: _backlog(installation))


def _reported(part: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; a database error is one."""
    try:
        yield from check()
    except SQLAlchemyError as err:
        yield Finding(part, explain(err), FAILED)


def _database_state() -> tuple[str, str | None]:
    """Return the state of the database, and what makes it unusable."""
    try:
        state = health.read_database_state()
    except SQLAlchemyError as err:
        advice = ": start the server, or correct DATABASE_URL" if is_connection_lost(err) else ""
        return "down", f"{explain(err)}{advice}"
    return state, f"{database_name()} {state_reason(state)}" if state == "read_only" else None


def _redis(config: Config) -> Finding:
    is_configured = config.redis_url is not None
    state = health.redis(is_configured=is_configured)
    detail = REDIS_ADVICE.get(state, ", writable" if state == "ok" else state.replace("_", " "))
    place = redis_address() if is_configured else ""
    return Finding("redis", f"{place}{detail}", FAILED if state in REDIS_ADVICE else OK)


def _connection() -> Iterator[Finding]:
    """Check the properties of the connection and the database's letters."""
    with background_transaction() as session:
        connection = session.connection()
        backend, encoding, letters, ignores_case = connection.execute(FACTS).one()
        seconds = repeat(lambda: connection.execute(PING), number=1, repeat=ROUND_TRIPS)
        has_pooler = _has_pooler(connection, backend)
        identity = connection.execute(IDENTITY).one()
    found = "through a pooler (it must pool transactions, not statements)"
    advice = "set DATABASE_URL_UNPOOLED, so that migrations bypass it"
    is_risk = has_pooler and DIRECT not in db.engines
    yield _advised("connection", found if has_pooler else "direct", advice if is_risk else "")
    if DIRECT in db.engines:
        yield _direct_connection(identity)
    advice = "every login waits for several: move both into one region"
    milliseconds = statistics.median(seconds) * 1000
    is_far = milliseconds > FAR_MS
    yield _advised("round trip", f"{milliseconds:.1f} ms", advice if is_far else "")
    advice = "" if ignores_case else "the search tells «Á» from «á»: create it with C.UTF-8"
    if encoding != "UTF8":
        advice = "names may not be storable: create the database with UTF8"
    yield _advised("lc_ctype", f"{letters}, {encoding}", advice)


def _has_pooler(connection: Connection, backend: int) -> bool:
    """Whether a pooler is between: its host is named so, or the session is not with the server."""
    url = connection.engine.url
    host = str(url.host or url.query.get("host") or "")
    if POOLER_HOST.search(host) or PROXIED_HOST.search(host):
        return POOLER_HOST.search(host) is not None
    driver = connection.connection.driver_connection
    return isinstance(driver, extensions.connection) and driver.info.backend_pid != backend


def _direct_connection(identity: Row[Any]) -> Finding:
    part, name = "migrations by", "DATABASE_URL_UNPOOLED"
    try:
        with db.engines[DIRECT].connect() as connection:
            has_pooler = _has_pooler(connection, connection.scalar(text("SELECT pg_backend_pid()")))
            is_same = connection.execute(IDENTITY).one() == identity
    except SQLAlchemyError as err:
        return Finding(part, f"{name} {reason_of(err)}: correct it", WARNING)
    if not is_same:
        return _advised(part, name, "it leads to another database than DATABASE_URL: correct it")
    advice = "it leads to a pooler as well: give the direct one" if has_pooler else ""
    return _advised(part, name, advice)


def _migrations(state: str) -> Iterator[Finding]:
    """Compare the database's revision; a newer program's works, but this host is old."""
    if state == "behind_on_migrations":
        yield Finding("migrations", state_reason(state) or "", FAILED)
        return
    revision = health.database_revision()
    if health.is_newer(revision):
        detail = f"at {revision}, by a newer version of this program: update this host"
        yield Finding("migrations", detail, WARNING)
    else:
        yield Finding("migrations", f"at head ({revision})")


def _sweep() -> Iterator[Finding]:
    """Check for a queued or dead sweep that no process takes; it keeps others from starting."""
    with background_transaction() as session:
        blocking, age = runs.stalled_run(session), runs.time_since_success(session)
    if blocking is not None and blocking.since > TAKEN_WITHIN:
        state = "has no heartbeat, its process has died"
        if blocking.is_queued:
            state = "is queued and taken by no scheduler"
        found = f"sweep {blocking.run_id} {state}, for {_rounded(blocking.since)}"
        advice = "start flask scheduler, or run flask sweep, which takes it over"
        yield Finding("sweep", f"{found}: {advice}", FAILED)
    else:
        detail = "none yet" if age is None else f"last success {_rounded(age)} ago"
        yield Finding("sweep", detail)


def _rounded(age: timedelta) -> timedelta:
    return timedelta(seconds=round(age.total_seconds()))


def _backlog(installation: Services) -> Iterator[Finding]:
    """Check for duplicates and for users who wait too long, in one transaction."""
    with background_transaction() as session:
        duplicates = stats.count_users_with_two_profiles(session)
        backlog = stats.count_backlog(session, installation.provisioning.rules)
    shared = backlog.ambiguous_addresses
    detail = f"{duplicates} users with two profiles, {shared} addresses with two unlinked profiles"
    if duplicates:
        yield Finding("duplicates", f"{detail}: merge them under /admin", FAILED)
    else:
        yield Finding("duplicates", detail)
    interval = timedelta(seconds=installation.config.sweep_interval_seconds)
    since = backlog.without_profile_since
    waits_too_long = since is not None and installation.now() - since > interval * LONGEST_WAIT
    detail = (
        f"{backlog.without_profile} without profile, {backlog.dead_letters} dead letters, "
        f"{backlog.incomplete} incomplete identities"
    )
    if backlog.dead_letters:
        detail += ": see /admin, «Precisa de atenção»"
    if waits_too_long:
        detail += ": start a scheduler, or run flask sweep, which shows the obstacle"
    yield Finding("backlog", detail, FAILED if backlog.dead_letters or waits_too_long else OK)


def _clerk_findings(parts: Services) -> Iterator[Finding]:
    if parts.dev_provider is None:
        yield from examine_clerk(parts)
    elif parts.config.database_url is None:
        yield Finding("clerk", "the development identity provider")
    else:
        yield Finding(
            "clerk",
            "anybody who reaches this address can sign in as anybody, admins included: the "
            "development identity provider answers, on a database given by DATABASE_URL; in "
            "production set APP_ENV=production, CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY",
            WARNING,
        )


def examine_clerk(parts: Services) -> Iterator[Finding]:
    """Check the settings for Clerk, and call Clerk with them."""
    config = parts.config
    yield _check_keys(config)
    yield from _check_jwks(parts.clerk, config.jwks_url)
    yield _check_backend_api(parts.clerk, parts.provisioning.directory)
    url = config.sign_in_url
    yield Finding("clerk sign-in", url or "set CLERK_SIGN_IN_URL", OK if url else FAILED)
    yield _check_origins(config)
    hours = config.clerk_identity_max_age_seconds / 3600
    off = (
        "off (CLERK_WEBHOOK_SECRET is not set): a change at Clerk holds after a visit or a sweep "
        f"{hours:g} h later, a deleted account keeps its profile"
    )
    yield Finding("clerk webhook", "on" if config.clerk_webhook_secret else off)
    with suppress(SQLAlchemyError):  # the lines about the database have the reason
        yield from _check_claims()


def _check_keys(config: Config) -> Finding:
    """Check that both keys are set and belong to one instance type."""
    if config.clerk_publishable_key is None or config.clerk_secret_key is None:
        return Finding("clerk keys", "set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY", FAILED)
    kind = config.clerk_publishable_key.split("_")[1]
    if config.clerk_secret_key.get_secret_value().split("_")[1:2] != [kind]:
        return Finding("clerk keys", f"pk_{kind} needs an sk_{kind} key", FAILED)
    return Finding(
        "clerk keys", "production instance" if kind == "live" else "development instance"
    )


def _check_jwks(client: ClerkClient | None, url: str | None) -> Iterator[Finding]:
    """Check that the JWKS has usable keys, and compare clocks by the Date header of its answer."""
    if client is None or url is None:
        yield Finding("clerk jwks", "set CLERK_PUBLISHABLE_KEY or CLERK_JWKS_URL", FAILED)
        return
    try:
        document, date = client.dated_key_set()
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        advice = "check the outgoing connections of this host, CLERK_PUBLISHABLE_KEY"
        yield Finding("clerk jwks", f"{err} at {url}: {advice}", FAILED)
        return
    found = len(usable_keys(document))
    advice = f"no usable key at {url}: correct CLERK_JWKS_URL, CLERK_FRONTEND_API_URL"
    yield Finding("clerk jwks", f"{found} keys" if found else advice, OK if found else FAILED)
    yield _check_clock(date)


def _check_clock(date: str | None) -> Finding:
    try:
        clerk_time = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return Finding("clock", "Clerk's answer has no usable Date header")
    ahead = (datetime.fromtimestamp(time.time(), UTC) - clerk_time).total_seconds()
    detail = f"{ahead:+.0f} s from Clerk's"
    if abs(ahead) <= LEEWAY_SECONDS:
        return Finding("clock", detail)
    advice = "set the clock of this host (NTP), or every token is refused"
    return Finding("clock", f"{detail}: {advice}", FAILED)


def _check_backend_api(client: ClerkClient | None, directory: UserDirectory | None) -> Finding:
    if directory is None:
        return Finding("clerk api", "set CLERK_SECRET_KEY", FAILED)
    try:
        directory.page(0, 1)
    except ProviderUnavailableError as err:
        return Finding("clerk api", f"{err}: check the outgoing connections, CLERK_API_URL", FAILED)
    except Exception as err:  # any other error of the client has the same remedy
        advice = "correct CLERK_SECRET_KEY, CLERK_API_URL"
        return Finding("clerk api", f"{type(err).__name__}: {advice}", FAILED)
    if client is not None and _is_for_another_instance(client):
        advice = "copy CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY from one instance"
        return Finding("clerk api", f"answers for an instance with other keys: {advice}", FAILED)
    return Finding("clerk api", "answers")


def _is_for_another_instance(client: ClerkClient) -> bool:
    """Whether the secret key's instance has none of the published keys; False if unknown."""
    try:
        published = usable_keys(client.key_set())
        own = usable_keys(client.instance_key_set())
    except Exception:  # another line reports it, or this Backend API has no such call
        return False
    return bool(published and own) and published.keys().isdisjoint(own)


def _check_origins(config: Config) -> Finding:
    """Compare the authorized parties with the origins that browsers send under this instance.

    A browser has Clerk's cookies only on https:// pages of the domain whose `clerk.` subdomain is
    the production instance. A development instance has no such rule.
    """
    parties = sorted(config.clerk_authorized_parties)
    if not parties:
        return Finding("clerk origins", "any (CLERK_AUTHORIZED_PARTIES is not set)")
    host = urlsplit(config.frontend_api_url or "").hostname or ""
    domain = host.removeprefix("clerk.")
    has_rule = domain != host and not config.is_development_instance
    is_on_domain = re.compile(rf"https://(.*\.)?{re.escape(domain)}(:[0-9]+)?")
    strange = [party for party in parties if has_rule and not is_on_domain.fullmatch(party)]
    if strange:
        expected = f"browsers of this instance send https://{domain} or a name below it"
        advice = f"correct CLERK_AUTHORIZED_PARTIES: {expected}, never {', '.join(strange)}"
        return Finding("clerk origins", advice, FAILED)
    return Finding("clerk origins", ", ".join(parties))


def _check_claims() -> Iterator[Finding]:
    """Check with the newest users whether tokens carry name and address; nothing without users."""
    newest = select(User.identity_asked_at).order_by(User.id.desc()).limit(NEWEST_USERS).subquery()
    counts = select(func.count(), func.count(newest.c.identity_asked_at)).select_from(newest)
    with background_transaction() as session:
        total, asked = session.execute(counts).one()
    if asked:
        detail = (
            f"missing: Clerk was asked about {asked} of the newest {total} users, and their first "
            "login waited for it; docs/clerk.md has the claims"
        )
        yield Finding("clerk claims", detail)
    elif total:
        yield Finding("clerk claims", f"none of the newest {total} users needed a call to Clerk")
