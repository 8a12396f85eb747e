"""Describe a database error in one line, with the name of the database and advice."""

from contextlib import suppress

from psycopg2 import Error as DriverError
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from cli import adoption
from core.database import db
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


def database_name() -> str:
    """Return the name and host of the database, never its password."""
    url = _url()
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
        return IS_FOREIGN if adoption.needs_adoption() else NEEDS_UPGRADE
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
    password = _url().password
    return line.replace(str(password), "…") if password else line


def _url() -> URL:
    return db.engine.engine.url
