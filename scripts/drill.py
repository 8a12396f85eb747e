"""Restore drill: dump the database, restore it into a fresh one, and check the result.

1. A transaction on the source counts the rows of each table and exports its snapshot.
2. pg_dump dumps exactly that snapshot; the source may be in use meanwhile and is not changed.
3. pg_restore fills a fresh embedded database, or the empty one that `--into URL` names.
4. The rows are counted again, and `flask doctor` examines the restored database.

The source is DATABASE_URL, directly (a pooler keeps no snapshot): DATABASE_URL_UNPOOLED wins.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from psycopg2.extensions import make_dsn
from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from core.config import ConfigError, load_config
from core.database import EmbeddedDatabaseError
from dev import postgres

# Modes that need TLS, which the programs of the wheel are built without.
TLS_MODES = ("require", "verify-ca", "verify-full")
PROJECT = Path(__file__).resolve().parent.parent
TABLES = text("""
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema$)' ORDER BY 1
""")


def main(into: str | None, environ: Mapping[str, str] = os.environ) -> None:
    """Run the drill; exit with one line if a step fails or a table differs."""
    try:
        config = load_config(environ)
    except ConfigError as err:
        sys.exit(f"drill: {err}")
    given = config.database_url_unpooled or config.database_url
    source = make_url(given or postgres.start(config.instance_path))
    with tempfile.TemporaryDirectory(prefix="neon-drill-") as folder:
        target = make_url(into or postgres.start(Path(folder) / "restored"))
        try:
            counts = _restore(source, target, Path(folder) / "dump")
            restored = _restored_counts(target)
        except SQLAlchemyError as err:
            reason = str(getattr(err, "orig", err)).strip().splitlines()[0]
            sys.exit(f"drill: a database did not answer: {reason}")
        compare(counts, restored)
        _examine(target, environ)
        if into is None:
            postgres.release(Path(folder) / "restored")
    print("drill: the restored database is complete")


def _restore(source: URL, target: URL, dump: Path) -> dict[str, int]:
    """Copy a snapshot of the source into the target; return the rows of each table in it."""
    with _connection(target) as connection:
        if _counts(connection):
            sys.exit(f"drill: {target.render_as_string()} is not empty")
    with _connection(source) as connection:
        snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
        counts = _counts(connection)
        if not counts:
            sys.exit(f"drill: {source.render_as_string()} has no tables; set DATABASE_URL")
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        _run("pg_dump", source, *options, f"--file={dump}")
    size = dump.stat().st_size
    print(f"drill: dumped {sum(counts.values())} rows of {source.render_as_string()}, {size} bytes")
    _run("pg_restore", target, "--no-owner", "--exit-on-error", "--single-transaction", str(dump))
    return counts


def _restored_counts(target: URL) -> dict[str, int]:
    with _connection(target) as connection:
        return _counts(connection)


@contextmanager
def _connection(url: URL) -> Iterator[Connection]:
    """Open a connection whose transaction sees one snapshot."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg2"), isolation_level="REPEATABLE READ"
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _counts(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    names = list(connection.scalars(TABLES))
    query = "SELECT count(*) FROM {}"
    return {name: connection.scalar(text(query.format(name))) or 0 for name in names}


def _run(program: str, url: URL, *arguments: str) -> None:
    """Run a program of PostgreSQL on a database; the password is not on its command line."""
    path = newest(program, needs_tls=url.query.get("sslmode") in TLS_MODES)
    names = url.set(password=None).translate_connect_args(username="user", database="dbname")
    options = {name: str(value) for name, value in url.query.items()}
    place = make_dsn(**names, **options)
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    command = [path, *arguments, f"--dbname={place}"]
    completed = subprocess.run(command, env=environment, check=False)  # nosec B603 # no shell
    if completed.returncode:
        sys.exit(f"drill: {program} failed ({path}); it must not be older than the server")


def newest(program: str, *, needs_tls: bool) -> str:
    """Return the path of the newest installed version; older ones refuse newer servers."""
    embedded = None if needs_tls else _of_the_wheel(program)
    found = [path for path in (shutil.which(program), embedded) if path]
    if not found:
        sys.exit(f"drill: {program} is missing; on Debian: apt install postgresql-client")
    return max(found, key=_major_version)


def _of_the_wheel(program: str) -> str | None:
    try:
        return postgres.program_path(program)
    except EmbeddedDatabaseError:
        return None


def _major_version(path: str) -> int:
    completed = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)  # nosec B603
    found = re.search(r"\d+", completed.stdout)
    return int(found[0]) if found else 0


def compare(counts: Mapping[str, int], restored: Mapping[str, int]) -> None:
    """Print the rows of each table in both databases; exit with one line if they differ."""
    different = []
    for name in sorted({*counts, *restored}):
        before, after = counts.get(name), restored.get(name)
        print(f"{name:<32} {before:>9} {after:>9}")
        if before != after:
            different.append(name)
    if different:
        sys.exit(f"drill: {', '.join(different)} differ")


def _examine(target: URL, environ: Mapping[str, str]) -> None:
    """Run `flask doctor` on the restored database."""
    url = target.set(drivername="postgresql").render_as_string(hide_password=False)
    settings = {**environ, "DATABASE_URL": url, "DATABASE_URL_UNPOOLED": ""}
    command = [sys.executable, "-m", "flask", "--app", "app", "doctor"]
    completed = subprocess.run(command, cwd=PROJECT, env=settings, check=False)  # nosec B603
    if completed.returncode:
        sys.exit("drill: flask doctor reports a failure of the restored database")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Dump, restore and check the database.")
    parser.add_argument("--into", metavar="URL", help="an empty database (default: a fresh one)")
    main(parser.parse_args().into)
