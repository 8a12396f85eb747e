"""The lines of `flask doctor` about the database connection: pooler, distance, letters."""

import re
import statistics
import time
from collections.abc import Iterator
from typing import Any

from psycopg2 import extensions
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import SQLAlchemyError

from cli.database_errors import explain, reason_of
from core.database import DIRECT, background_transaction, db

ROUND_TRIPS = 5
FAR_MS = 20.0  # a first login takes three round trips
# Hosts of poolers by name: Neon's, Supabase's and others'. Neon's proxy hides the pooler otherwise.
POOLER_HOST = re.compile(r"(^|[.-])pooler\.|-pooler\b")
PROXIED_HOST = re.compile(r"\.neon\.(tech|build)$")

FACTS = text("""
    SELECT pg_backend_pid(), pg_encoding_to_char(encoding), datctype, 'Á' ILIKE 'á'
      FROM pg_database WHERE datname = current_database()
""")

# The same for each connection to one database, also through a pooler; any role may read it.
IDENTITY = text("SELECT current_database(), pg_postmaster_start_time()")

Line = tuple[str, str, str | None]  # the part, what is found, and an advice if it is not well


def examine_connection() -> Iterator[Line]:
    """Yield a line for each property of the connection; an advice marks a warning."""
    try:
        with background_transaction() as session:
            connection = session.connection()
            backend, encoding, letters, ignores_case = connection.execute(FACTS).one()
            milliseconds = _round_trip_ms(connection)
            has_pooler = _has_pooler(connection, backend)
            identity = connection.execute(IDENTITY).one()
    except SQLAlchemyError as err:
        yield "connection", explain(err), "repeat flask doctor"
        return
    yield _connection(has_pooler=has_pooler, has_direct=DIRECT in db.engines)
    if DIRECT in db.engines:
        yield _direct_connection(db.engines[DIRECT], identity)
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


def _direct_connection(engine: Engine, identity: Row[Any]) -> Line:
    part, name = "migrations by", "DATABASE_URL_UNPOOLED"
    try:
        with engine.connect() as connection:
            has_pooler = _has_pooler(connection, connection.scalar(text("SELECT pg_backend_pid()")))
            is_same = connection.execute(IDENTITY).one() == identity
    except SQLAlchemyError as err:
        return part, f"{name} {reason_of(err)}", "correct it"
    if not is_same:
        return part, name, "it leads to another database than DATABASE_URL: correct it"
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
