"""The commands sweep, scheduler, auto-create, demo and token, and the names of the shell."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
import structlog
from flask.cli import ScriptInfo
from flask_migrate import upgrade
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

import models
from auth.errors import ProviderUnavailableError
from auth.identity import Identity
from auth.tokens import LONGEST_SUBJECT
from cli.accounts import fail_if_unpublished
from cli.installation import IS_FOREIGN, database_name, explain, needs_adoption, state_reason
from core import metrics
from core.database import background_transaction, db
from dev import demo_data
from dev.fake_clerk import DevIdentityProvider, DevUser
from provisioning import roles
from provisioning.admin_actions import is_auto_create_on, set_auto_create
from provisioning.audit import Source
from provisioning.ensure import upsert_user
from provisioning.errors import ProvisioningError
from sweep.directory_sync import sync_directory
from sweep.executor import SweepCounts
from sweep.runs import LEASE, RunLeaseLostError, SweepRunningError, SweepStoppedError
from sweep.sweeper import BATCH_SIZE, Sweeper
from web import health
from web.services import services
from web.startup import start_background_work

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def shell_context() -> dict[str, Any]:
    """Return the names of the shell; `with background_transaction() as session:` commits."""
    click.echo(f"Database: {database_name()}")
    return {
        **{name: getattr(models, name) for name in models.__all__},
        "db": db,
        "select": select,
        "func": func,
        "background_transaction": background_transaction,
        "services": services(),
        "Source": Source,
        "Identity": Identity,
    }


@click.command()
@click.option("--dry-run", is_flag=True, help="Count only; change no user or profile.")
@click.option("--batch-size", default=BATCH_SIZE, type=click.IntRange(1, 10_000), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="End with the counts as one JSON line.")
@click.option("--directory", is_flag=True, help="First read all users from Clerk.")
def sweep(dry_run: bool, batch_size: int, as_json: bool, directory: bool) -> None:
    """Give every user who should have a profile one, now.

    One sweep runs at a time in the whole installation. This command takes over a queued sweep and
    one whose process has died. Unlike a scheduled sweep it also retries failed users who are not
    due yet. Blocked users and admins are left out. Ctrl-C ends it; SIGTERM returns it to the queue.
    The exit code is 1 if another sweep is running, or this one did not finish.

    \b
      flask sweep --dry-run              counts and samples the users who would get one
      flask sweep --json | tail -1       the counts, for another program
      flask sweep --directory            after an outage: also users that only Clerk has
    """
    if directory and not dry_run:
        _sync_directory()
    stop_requested = threading.Event()
    with click.progressbar(length=1, label="Varredura") as bar, _set_by_signals(stop_requested):

        def update_bar(counts: SweepCounts) -> None:
            bar.length = max(counts.total, 1)
            bar.update(counts.scanned - bar.pos)

        sweeper = Sweeper(
            services().provisioning,
            batch_size=batch_size,
            on_progress=update_bar,
            should_stop=stop_requested.is_set,
            now=services().now,
        )
        counts = _run_sweep(sweeper, is_dry=dry_run)
    if as_json:
        click.echo(json.dumps(asdict(counts) if dry_run else counts.numbers()))
    else:
        click.echo(", ".join(f"{name} {value}" for name, value in counts.numbers().items()))
        for user in counts.sample:
            click.echo(f"  user {user['user_id']}: {user['outcome']}")
    fail_if_unpublished()


def _run_sweep(sweeper: Sweeper, *, is_dry: bool) -> SweepCounts:
    try:
        return sweeper.start_by_command(dry_run=is_dry)
    except SweepRunningError as err:
        raise click.ClickException(
            f"sweep {err.run_id} is running in another process; "
            f"if that process has died, try again in {LEASE.total_seconds():.0f} s"
        ) from err
    except SweepStoppedError as err:
        hint = "" if is_dry else "; a scheduler or the next flask sweep continues it"
        raise click.ClickException(f"stopped{hint}") from err
    except (SQLAlchemyError, ProvisioningError, RunLeaseLostError) as err:
        raise click.ClickException(f"the sweep did not finish: {_reason(err)}") from err


@contextmanager
def _set_by_signals(event: threading.Event) -> Iterator[None]:
    """Make SIGTERM and SIGHUP set this event instead of killing the process."""
    is_main = threading.current_thread() is threading.main_thread()  # only it may set handlers
    handled = [s for s in STOP_SIGNALS if is_main and signal.getsignal(s) is not signal.SIG_IGN]
    previous = {signum: signal.signal(signum, lambda *_: event.set()) for signum in handled}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def _sync_directory() -> None:
    """Apply the provider's users; some signed in during an outage and are in its directory only."""
    service = services().provisioning
    if service.directory is None:
        raise click.ClickException("set CLERK_SECRET_KEY: there is no directory to read")
    try:
        counts = sync_directory(service, service.directory, services().now)
    except (ProviderUnavailableError, ProvisioningError, SQLAlchemyError) as err:
        raise click.ClickException(f"the directory was not read: {_reason(err)}") from err
    click.echo(f"directory: {counts.read} read, {counts.ensured} taken in, {counts.failed} failed")


def _reason(err: Exception) -> str:
    """Return the error's reason for an operator; for a database error also the database's name."""
    cause = err if isinstance(err, SQLAlchemyError) else err.__cause__
    if isinstance(cause, SQLAlchemyError):
        return explain(cause)
    name = type(err).__name__
    return f"{name}: {err}" if isinstance(err, ProviderUnavailableError) else name


@click.command()
@click.pass_context
def scheduler(context: click.Context) -> None:
    """Run the scheduler of the sweep in a process of its own.

    Set SCHEDULER=off for the web processes. Any number of schedulers may run, on any number of
    hosts: one sweeps, and if it dies, another takes over within thirty seconds. Ctrl-C or SIGTERM
    stops it and returns a running sweep to the queue within two seconds.

    \b
      SWEEP_INTERVAL_SECONDS=30 flask scheduler
    """
    app = context.ensure_object(ScriptInfo).load_app()
    _check_database_of_scheduler()
    metrics.enable_multiprocess(services().config.metrics_path)
    services().activity.serves_requests = False
    stop_requested = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop_requested.set())
    stop = start_background_work(app, sweeps=True)
    seconds = services().config.sweep_interval_seconds
    click.echo(f"sweeping {database_name()} every {seconds} s; Ctrl-C stops")
    stop_requested.wait()
    stop()  # a running job or sweep returns to the queue


def _check_database_of_scheduler() -> None:
    """Raise ClickException for a database that is not migrated or belongs to another program.

    A database that does not answer or is read-only only prints a warning: the scheduler retries.
    """
    try:
        state = health.read_database_state()
        reason = state_reason(state)
    except SQLAlchemyError as err:
        click.echo(f"{explain(err)}; trying again until it is back", err=True)
        return
    if state == "read_only":
        click.echo(f"{database_name()} {reason}; trying again until it is not", err=True)
    elif reason is not None:
        raise click.ClickException(f"{database_name()} {reason}")


@click.command("auto-create")
@click.argument("wanted", type=click.Choice(["on", "off", "status"]))
def auto_create(wanted: str) -> None:
    """Turn the automatic creation of profiles on or off for the whole installation, or show it.

    While it is off, new users see a message and wait; pre-registered profiles are still linked.
    After it is turned on, the next request or sweep creates their profiles.
    ENABLE_AUTO_CREATE=false keeps it off, whatever is stored.
    """
    with background_transaction() as session:
        if wanted != "status":
            set_auto_create(session, on=wanted == "on", source=Source("cli"), now=services().now())
        is_on = is_auto_create_on(session)
    if wanted != "status":
        log.warning("auto_create_changed", enabled=is_on, entry="cli")
        services().activity.exchange()  # wakes the schedulers of an idle installation
    is_forced_off = not services().config.enable_auto_create
    note = " (ENABLE_AUTO_CREATE=false keeps it off anyway)" if is_forced_off else ""
    click.echo(f"auto-create is {'on' if is_on else 'off'}{note}")


@click.command()
@click.option("--quiet", is_flag=True, help="Print nothing if the data exists already.")
def demo(quiet: bool) -> None:
    """Migrate a development database and add demo users.

    The command can run any number of times: existing demo data is left unchanged. `make run` runs
    it before it starts the server.
    """
    _dev_provider()
    if needs_adoption():
        raise click.ClickException(f"{database_name()} {IS_FOREIGN}")
    upgrade()
    with background_transaction() as session:
        is_new = demo_data.add_demo_data(session, services().now())
    if is_new or not quiet:
        click.echo("demo data written" if is_new else "the demo data is there already")


@click.command()
@click.argument("subject")
@click.option("--email", help="Primary address; counts as verified.")
@click.option("--unverified", is_flag=True, help="The address is not verified.")
@click.option("--name", help="Full name.")
@click.option("--admin", is_flag=True, help="Grant the admin role first.")
def token(subject: str, email: str | None, unverified: bool, name: str | None, admin: bool) -> None:
    """Print a session token of the development identity provider, for curl.

    SUBJECT is the Clerk id, such as user_bia; the first request with the token creates the user.
    Works only with the development identity provider, so never in production.

    \b
      TOKEN=$(flask token user_bia --email bia@example.com --name "Bia Nunes")
      curl -X POST -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/api/auth/ensure
    """
    provider = _dev_provider()
    if not 0 < len(subject) <= LONGEST_SUBJECT:
        raise click.BadParameter(f"1 to {LONGEST_SUBJECT} characters", param_hint="SUBJECT")
    if admin:
        with background_transaction() as session:
            identity, now = Identity(subject), services().now()
            user = upsert_user(session, identity, signs_in=False, now=now)
            roles.grant(session, user, source=Source("cli"))
        services().provisioning.contexts.publish([subject])
    click.echo(provider.add_user(DevUser(subject, name, email, email_verified=not unverified)))
    fail_if_unpublished()


def _dev_provider() -> DevIdentityProvider:
    provider = services().dev_provider
    if provider is None:
        raise click.ClickException(
            "only with the development identity provider, never in production"
        )
    return provider
