"""The database, for operators: its name, an error in one line with advice, and its connection."""

import re
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress

from alembic.config import Config
from alembic.script import ScriptDirectory
from flask import current_app
from psycopg2 import Error as DriverError
from psycopg2 import extensions
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from core.database import DIRECT, background_transaction, db
from migrations import inspection
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
PREFIX = "failed: "  # libpq's text after the name of the server

ROUND_TRIPS = 5
FAR_MS = 20.0  # a first login takes three round trips
# Hosts of poolers by name: Neon's, Supabase's and others'. Neon's proxy hides the pooler otherwise.
POOLER_HOST = re.compile(r"(^|[.-])pooler\.|-pooler\b")
PROXIED_HOST = re.compile(r"\.neon\.(tech|build)$")

FACTS = text("""
    SELECT pg_backend_pid(), pg_encoding_to_char(encoding), datctype, 'Á' ILIKE 'á'
      FROM pg_database WHERE datname = current_database()
""")

Line = tuple[str, str, str | None]  # the part, what is found, and an advice if it is not well


def database_name() -> str:
    """Return the name and host of the database, never its password."""
    url = _url()
    if services().config.database_url is None:
        return f"the embedded database in {services().config.instance_path}"
    host = url.host or url.query.get("host") or "this machine"
    port = f":{url.port}" if url.port else ""
    return f"database {url.database or url.username or 'postgres'} on {host}{port}"


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
    return f"refuses: {_first_line(cause)} (SQLSTATE {cause.pgcode})"


def _first_line(err: BaseException) -> str:
    """Return the first line of the server's or libpq's message; later lines may quote rows."""
    line = (str(err).strip().splitlines() or [type(err).__name__])[0].rpartition(PREFIX)[2].strip()
    password = _url().password
    return line.replace(str(password), "…") if password else line


def _url() -> URL:
    return db.engine.engine.url


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


def examine_connection() -> Iterator[Line]:
    """Yield a line for each property of the connection; an advice marks a warning."""
    try:
        with background_transaction() as session:
            connection = session.connection()
            backend, encoding, letters, ignores_case = connection.execute(FACTS).one()
            milliseconds = _round_trip_ms(connection)
            has_pooler = _has_pooler(connection, backend)
    except SQLAlchemyError as err:
        yield "connection", explain(err), "repeat flask doctor"
        return
    yield _connection(has_pooler=has_pooler, has_direct=DIRECT in db.engines)
    if DIRECT in db.engines:
        yield _direct_connection(db.engines[DIRECT])
    yield _distance(milliseconds)
    yield _letters(encoding, letters, ignores_case=ignores_case)


def _round_trip_ms(connection: Connection) -> float:
    """Return the median time of a small query, in milliseconds."""
    times = []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        connection.execute(text("SELECT 1"))
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _has_pooler(connection: Connection, backend: int) -> bool:
    """Whether a pooler is between: its host is named so, or the session is not with the server."""
    url = connection.engine.url
    host = str(url.host or url.query.get("host") or "")
    if POOLER_HOST.search(host) or PROXIED_HOST.search(host):
        return POOLER_HOST.search(host) is not None
    driver = connection.connection.driver_connection
    return isinstance(driver, extensions.connection) and driver.info.backend_pid != backend


def _connection(*, has_pooler: bool, has_direct: bool) -> Line:
    if not has_pooler:
        return "connection", "direct", None
    found = "through a pooler (it must pool transactions, not statements)"
    advice = "set DATABASE_URL_UNPOOLED, so that migrations bypass it"
    return "connection", found, None if has_direct else advice


def _direct_connection(engine: Engine) -> Line:
    part, name = "migrations by", "DATABASE_URL_UNPOOLED"
    try:
        with engine.connect() as connection:
            has_pooler = _has_pooler(connection, connection.scalar(text("SELECT pg_backend_pid()")))
    except SQLAlchemyError as err:
        return part, f"{name} {reason_of(err)}", "correct it"
    return part, name, "it leads to a pooler as well: give the direct one" if has_pooler else None


def _distance(milliseconds: float) -> Line:
    found = f"{milliseconds:.1f} ms"
    if milliseconds <= FAR_MS:
        return "round trip", found, None
    return "round trip", found, "every login waits for several: move both into one region"


def _letters(encoding: str, letters: str, *, ignores_case: bool) -> Line:
    found = f"{letters}, {encoding}"
    if encoding != "UTF8":
        return "lc_ctype", found, "names may not be storable: create the database with UTF8"
    if not ignores_case:
        return "lc_ctype", found, "the search tells «Á» from «á»: create it with C.UTF-8"
    return "lc_ctype", found, None
