"""The installation, for operators: its database and Redis by name, errors in one line, settings.

Commands: `flask config` prints the settings in effect, `flask cache clear` empties Redis.
"""

import re
from contextlib import suppress
from urllib.parse import urlsplit

import click
from alembic.config import Config
from alembic.script import ScriptDirectory
from flask import current_app
from psycopg2 import Error as DriverError
from pydantic import SecretStr
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from core.cache import RedisStore
from core.database import db
from migrations import inspection
from provisioning.context_cache import CONFIRMED_SECONDS
from provisioning.retry import is_connection_lost
from web import health
from web.services import services

NEEDS_UPGRADE = "is not migrated: run flask db upgrade"
IS_FOREIGN = "belongs to another program: run flask adopt --dry-run"
IS_READ_ONLY = (
    "is read-only: a standby, or default_transaction_read_only is on for the server, the database "
    "or the role"
)
REASONS = {
    "25006": IS_READ_ONLY,
    "53100": "has no space left on its disk",
    "53300": "has no free connection: raise max_connections, or use fewer processes",
}
SYNTAX_OR_ACCESS = "42"  # the class of SQLSTATEs for missing tables and columns
NO_PRIVILEGE = "42501"
RIGHTS_ADVICE = ": use the role that owns the tables, or grant this one its rights"
PREFIX = "failed: "  # libpq's text after the name of the server
WITHHELD = "(withheld)"
CREDENTIALS = re.compile(r"://[^/?#]*@")
PASSWORD_OPTION = re.compile(r"(\w*pass\w*)=[^&]*")
# Settings whose default follows from others, by a property of the name without `clerk_`.
DERIVED = {"clerk_frontend_api_url", "clerk_jwks_url", "clerk_issuer", "clerk_sign_in_url"}


def database_name() -> str:
    """Return the name and host of the database, never its password."""
    url = db.engine.engine.url
    if services().config.database_url is None:
        return f"the embedded database in {services().config.instance_path}"
    host = url.query.get("host") or url.host or "this machine"
    port = url.query.get("port") or url.port
    name = url.query.get("dbname") or url.database or url.username or "postgres"
    return f"database {name} on {host}{f':{port}' if port else ''}"


def explain(err: BaseException) -> str:
    """Return the name of the database and the reason of the error, with advice if there is any."""
    return f"{database_name()} {reason_of(err)}"


def reason_of(err: BaseException) -> str:
    """Return the reason of a database error, worded to follow the name of the database."""
    cause = getattr(err, "orig", None)
    sqlstate = getattr(cause, "pgcode", None) or ""
    if sqlstate in REASONS:
        return REASONS[sqlstate]
    if is_connection_lost(err):
        return f"cannot be reached: {_first_line(cause or err)}"
    if sqlstate.startswith(SYNTAX_OR_ACCESS) and sqlstate != NO_PRIVILEGE:
        with suppress(SQLAlchemyError):
            return state_reason(health.read_database_state()) or _refused(err)
    return _refused(err)


def state_reason(state: str) -> str | None:
    """Return what is wrong in a state of `health.read_database_state`; None if nothing is."""
    if state == "read_only":
        return IS_READ_ONLY
    if state == "behind_on_migrations":
        return IS_FOREIGN if needs_adoption() else NEEDS_UPGRADE
    return None


def _refused(err: BaseException) -> str:
    cause = getattr(err, "orig", None)
    if not isinstance(cause, DriverError):
        return f"does not answer as expected: {type(err).__name__}"
    advice = RIGHTS_ADVICE if cause.pgcode == NO_PRIVILEGE else ""
    return f"refuses: {_first_line(cause)} (SQLSTATE {cause.pgcode}){advice}"


def _first_line(err: BaseException) -> str:
    """Return the first line of the server's or libpq's message; later lines may quote rows."""
    line = (str(err).strip().splitlines() or [type(err).__name__])[0].rpartition(PREFIX)[2].strip()
    password = db.engine.engine.url.password
    return line.replace(str(password), "…") if password else line


def needs_adoption() -> bool:
    """Whether the database belongs to another program and is not taken over yet."""
    scripts = ScriptDirectory.from_config(migration_config())
    revisions = {script.revision for script in scripts.walk_revisions()}
    with db.engine.connect() as connection:
        return inspection.is_foreign(connection, revisions)


def migration_config() -> Config:
    """Return the configuration of the migrations."""
    config: Config = current_app.extensions["migrate"].migrate.get_config()
    return config


def redis_address() -> str:
    """Return host and port of Redis, never its password."""
    parts = urlsplit(services().config.redis_url or "")
    return f"{parts.hostname or parts.path}:{parts.port or 6379}"


@click.command()
def config() -> None:
    """Print the settings in effect, one a line: name, value, and where the value comes from.

    Secrets are withheld, and so are user names and passwords in URLs. `set` values come from the
    environment or a file of settings; `derived` ones follow from other settings.
    """
    settings = services().config
    for name in type(settings).model_fields:
        value, origin = getattr(settings, name), "default"
        if name in settings.model_fields_set:
            origin = "set"
        elif name in DERIVED:
            value, origin = getattr(settings, name.removeprefix("clerk_")), "derived"
        click.echo(f"{name.upper():<30} {_shown(value):<50} {origin}")


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case SecretStr():
            return WITHHELD
        case frozenset():
            return ", ".join(sorted(map(str, value))) or "-"
        case bool():
            return "on" if value else "off"
        case str() if "://" in value:
            return PASSWORD_OPTION.sub(rf"\1={WITHHELD}", CREDENTIALS.sub("://", value))
    return str(value)


@click.group()
def cache() -> None:
    """Work on the cache that all processes share (REDIS_URL)."""


@cache.command()
def clear() -> None:
    """Remove everything that this program keeps in Redis.

    Needed after the database was restored from a backup, because cached request contexts are then
    newer than it. At any other time it does no harm: the next requests read from the database.
    """
    store = services().provisioning.contexts.store
    if not isinstance(store, RedisStore):
        click.echo(
            "REDIS_URL is not set: each process has a cache of its own, which ends with it; "
            f"an entry older than {CONFIRMED_SECONDS:.0f} s is compared with the database"
        )
        return
    try:
        click.echo(f"{store.remove_all()} keys removed")
    except RedisError as err:
        raise click.ClickException(
            f"the cache at {redis_address()} did not answer: {type(err).__name__}"
        ) from err
