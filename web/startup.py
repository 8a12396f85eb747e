"""Steps before the workers start: port checks, metrics, the database, the banner."""

import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click
import psycopg2
import structlog
from flask import Flask
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from core import deadlines, metrics
from core.config import (
    Config,
    ConfigError,
    insecure_settings,
    is_loopback,
    load_config,
    refuse_accidental_database,
)
from core.connection_pool import pool_of
from core.database import EmbeddedDatabaseError, db
from core.flask_app import LazyModule
from core.logging import configure_logs
from core.sentry import SentryMissingError, build_error_reporter
from provisioning.retry import is_outage
from sweep.scheduler import Poller, SweepScheduler
from sweep.sweeper import Sweeper
from web.services import EXTENSION, Services

if TYPE_CHECKING:
    import flask_migrate

    from dev import fake_clerk
else:
    flask_migrate = LazyModule("flask_migrate")
    fake_clerk = LazyModule("dev.fake_clerk")

log = structlog.get_logger(__name__)

Address = tuple[str, int] | str

# A worker accepts no requests for so long. Its first requests then wait less for a connection, so
# that both together stay within two seconds.
FIRST_CONNECTION_SECONDS = 1.4

HAS_TABLES_QUERY = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema())"


def load_settings(environ: Mapping[str, str]) -> Config:
    """Return the settings; exit with one line if one is wrong, or DATABASE_URL seems forgotten."""
    try:
        config = load_config(environ)
        refuse_accidental_database(config)
    except ConfigError as err:
        sys.exit(f"neon-dashboard: {err}")
    return config


def start_logging(config: Config) -> None:
    """Configure the log, and reports to Sentry; exit with one line if its package is missing."""
    report = None
    if config.sentry_dsn is not None:
        try:
            report = build_error_reporter(config.sentry_dsn.get_secret_value(), config.app_env)
        except SentryMissingError:
            sys.exit(
                "neon-dashboard: SENTRY_DSN: needs a package: "
                "python3 scripts/install.py requirements-sentry.lock"
            )
    configure_logs(config.log_format, is_production=config.is_production, report=report)


def refuse_busy_ports(addresses: Iterable[Address], environ: Mapping[str, str]) -> None:
    """Exit with one line when another program already listens on a port.

    `environ` is the environment that the server was started with. A server that inherits its
    sockets, from systemd or from the server that it replaces, opens no port.
    """
    for address in () if _inherits_sockets(environ) else addresses:
        if isinstance(address, tuple) and _is_busy(address):
            host, port = address
            sys.exit(f"neon-dashboard: {host}:{port} is in use; stop that program or set BIND")


def refuse_exposed_development_provider(config: Config, addresses: Iterable[Address]) -> None:
    """Exit with one line if other machines could reach the development identity provider."""
    for address in addresses if config.uses_development_provider else ():
        if isinstance(address, tuple) and not is_loopback(address[0]):
            sys.exit(
                f"neon-dashboard: {address[0]}:{address[1]}: without CLERK_PUBLISHABLE_KEY the "
                "development identity provider answers, which serves on loopback only"
            )


def flask_run_addresses() -> list[Address]:
    """Return the address that `flask run` was given; none in any other command or server."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run" or not context.params.get("host"):
        return []
    return [(context.params["host"], context.params.get("port") or 0)]


def warn_of_insecure_settings(config: Config) -> None:
    """Log a line for each setting that is insecure in production."""
    for setting, advice in insecure_settings(config):
        log.warning("insecure_setting", setting=setting, advice=advice)


@contextmanager
def exit_on_unwritable_folder(config: Config) -> Iterator[None]:
    """Exit with one line where the instance folder cannot be written."""
    try:
        yield
    except EmbeddedDatabaseError as err:
        sys.exit(f"neon-dashboard: {err.strerror}")
    except OSError as err:
        sys.exit(f"neon-dashboard: cannot write {config.instance_path}: {err.strerror}")


def start_metrics(config: Config, *, is_upgrade: bool) -> None:
    """Set up the metrics that the processes of this host share, and delete those of dead processes.

    A server that replaces a running one keeps its counts; otherwise sums would fall.
    """
    with exit_on_unwritable_folder(config):
        metrics.enable_multiprocess(config.metrics_path)
        if not is_upgrade:
            metrics.remove_dead_processes(config.metrics_path)


def prepare_database(config: Config, build_app: Callable[[Config], Flask]) -> None:
    """Start the embedded database and migrate it.

    A database of the operator is migrated by `flask db upgrade` only. The exception is an empty one
    in development, which holds nothing that could be harmed. The app is built only for a migration:
    each worker builds its own.
    """
    url = config.database_url
    if url is not None and (config.is_production or not _is_empty(url, config)):
        return
    with build_app(config).app_context():
        try:
            flask_migrate.upgrade()
        except SQLAlchemyError as err:
            if not is_outage(err):
                raise
            log.warning("database_not_migrated", error=type(err).__name__)  # as /readyz reports
        db.engine.dispose()  # the workers fork from here and open their own connections


def connect_worker(app: Flask) -> None:
    """Open a worker's first connection before its first request, or at least start to."""
    with app.app_context():
        db.engine.dispose(close=False)  # connections of a preloaded app belong to the master
        pool_of(db.engine).open_first(FIRST_CONNECTION_SECONDS)


def start_background_work(
    app: Flask, *, sweeps: bool, is_process_stopping: Callable[[], bool] = lambda: False
) -> Callable[[], None]:
    """Start the job runner and the scheduler; with `sweeps` they take work of other processes.

    Without it the scheduler only exchanges uses of the installation with other processes. Return
    the function that stops both; a running job or sweep returns to the queue.
    """
    built: Services = app.extensions[EXTENSION]
    config = built.config
    interval = timedelta(seconds=config.sweep_interval_seconds)
    sweeper = Sweeper(built.provisioning, interval, now=built.now)

    def read_once_more() -> None:
        built.backlog.refresh()
        built.readiness.check()

    poller = Poller(
        sweeper if sweeps else None,
        built.activity,
        timedelta(seconds=config.database_idle_sweep_seconds),
        on_idle=read_once_more if built.activity.serves_requests else lambda: None,
    )
    built.jobs.start(app, polls=sweeps)
    scheduler = SweepScheduler(poller, app.app_context, is_process_stopping=is_process_stopping)
    scheduler.start()

    def stop() -> None:
        built.jobs.stop()
        scheduler.stop()

    return stop


def print_banner(config: Config, addresses: Iterable[Address]) -> None:
    """Print the addresses and the demo users for a developer."""
    if not config.uses_development_provider:
        return
    for address in addresses:
        url = f"http://{address[0]}:{address[1]}" if isinstance(address, tuple) else address
        print(f"\n  Neon Dashboard  {url}\n", flush=True)
    print("  Who can sign in:", flush=True)
    for user in fake_clerk.DEMO_USERS:
        print(f"    {user.title:<22} {user.story}", flush=True)
    print(flush=True)


def _inherits_sockets(environ: Mapping[str, str]) -> bool:
    """Whether gunicorn inherits open sockets: in its own upgrade (SIGUSR2), or from systemd."""
    if environ.get("LISTEN_PID") == str(os.getpid()):
        return environ.get("LISTEN_FDS", "0") != "0"
    return "GUNICORN_PID" in environ and "GUNICORN_FD" in environ


def _is_busy(address: tuple[str, int]) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return True
    return False


def _is_empty(url: str, config: Config) -> bool:
    """Whether the database has no table; False if it does not answer, which /readyz reports."""
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    deadlines.install_wait_callback()
    try:
        with (
            deadlines.within(config.database_connect_seconds, is_background=True),
            closing(psycopg2.connect(dsn)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(HAS_TABLES_QUERY)
            return cursor.fetchone() == (False,)
    except psycopg2.Error:
        return False
