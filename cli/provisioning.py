"""The flask commands: thin handles on what the program can do."""

import copy
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from functools import wraps
from typing import Any

import click
import structlog
from flask import Flask
from flask.cli import ScriptInfo
from flask_migrate import upgrade
from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

import models
from auth.errors import ProviderUnavailableError
from auth.identity import Identity
from auth.tokens import LONGEST_SUBJECT
from cli import adoption
from cli.admin import fail_if_unpublished
from cli.database_errors import IS_FOREIGN, database_name, explain, state_reason
from core import metrics
from core.database import background_transaction, db
from dev import demo_data
from dev.fake_clerk import DevIdentityProvider, DevUser
from models import User
from models.user import Role
from provisioning import auto_create as switch
from provisioning.audit import Source, record
from provisioning.errors import ProvisioningError
from provisioning.loading import upsert_user
from sweep.directory_sync import sync_directory
from sweep.progress import SweepCounts
from sweep.runs import LEASE, LeaseLostError, SweepRunningError, SweepStoppedError
from sweep.scheduler import build_sweeper, start_scheduler
from sweep.sweeper import BATCH_SIZE, Sweeper
from web import health
from web.services import services


def register_shell(app: Flask) -> None:
    """Offer them under the names that the code itself uses."""
    app.shell_context_processor(_context)


def _context() -> dict[str, Any]:
    """`with background_transaction() as session:` commits at its end, like everything of ours."""
    return {
        **{name: getattr(models, name) for name in models.__all__},
        "db": db,
        "select": select,
        "func": func,
        "background_transaction": background_transaction,
        "house": services(),
        "Entry": Source,
        "Identity": Identity,
    }


log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def register_provisioning_commands(app: Flask) -> None:
    """Make the commands known to `flask`."""
    for command in (sweep, scheduler, auto_create, fill_demo, token):
        app.cli.add_command(command)


def report_errors_in_one_line(app: Flask) -> None:
    """Have each command of the app end with one line and 1 when the database is in the way.

    Called when all commands are registered, those of extensions included.
    """
    for name, command in app.cli.commands.items():
        app.cli.commands[name] = _reporting(app, command)


def _reporting(app: Flask, command: click.Command) -> click.Command:
    """A copy of the command, or group of commands, whose database errors are one line."""
    reporting = copy.copy(command)
    if isinstance(reporting, click.Group):
        commands = reporting.commands.items()
        reporting.commands = {name: _reporting(app, each) for name, each in commands}
    if command.callback is not None:
        reporting.callback = _report_errors(app, command.callback)
    return reporting


def _report_errors(app: Flask, callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def run(*args: Any, **options: Any) -> Any:
        try:
            return callback(*args, **options)
        except SQLAlchemyError as err:
            with app.app_context():
                raise click.ClickException(explain(err)) from err

    return run


@click.command()
@click.option("--dry-run", is_flag=True, help="Count only; write nothing about anybody.")
@click.option("--batch-size", default=BATCH_SIZE, type=click.IntRange(1, 10_000), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="End with the counts as one JSON line.")
@click.option("--directory", is_flag=True, help="First apply all that Clerk knows.")
def sweep(dry_run: bool, batch_size: int, as_json: bool, directory: bool) -> None:
    """Give a profile to everybody who is due one, now.

    One sweep runs at a time in the whole installation. This one takes over a queued sweep and one
    whose process has died; only a sweep that is at work elsewhere refuses it. Unlike the
    scheduler's, it also tries users who have failed before and whose pause is not over. Blocked
    users and admins are left alone. Ctrl-C ends it; SIGTERM gives it back to the queue. Ends with 1
    when another sweep is at work, or this one did not finish.

    \b
      flask sweep --dry-run              who would get one, and how many
      flask sweep --json | tail -1       the counts, for another program
      flask sweep --directory            after an outage: also what only Clerk knows
    """
    if directory and not dry_run:
        _sync_directory()
    asked_to_stop = threading.Event()
    with click.progressbar(length=1, label="Varredura") as bar, _set_by_signals(asked_to_stop):

        def show(counts: SweepCounts) -> None:
            bar.length = max(counts.total, 1)
            bar.update(counts.scanned - bar.pos)

        sweeper = build_sweeper(services().provisioning, batch_size=batch_size, on_progress=show)
        counts = _counted(replace(sweeper, should_stop=asked_to_stop.is_set), is_dry=dry_run)
    _say(counts, as_json=as_json, is_dry=dry_run)
    fail_if_unpublished()


def _counted(sweeper: Sweeper, *, is_dry: bool) -> SweepCounts:
    try:
        return sweeper.start_by_hand(dry_run=is_dry)
    except SweepRunningError as err:
        reason = f"sweep {err.run_id} is running in another process"
        hint = f"if that has died, try again in {LEASE.total_seconds():.0f} s"
        raise click.ClickException(f"{reason}; {hint}") from err
    except SweepStoppedError as err:
        hint = "" if is_dry else "; a scheduler or the next flask sweep goes on with it"
        raise click.ClickException(f"stopped{hint}") from err
    except (SQLAlchemyError, ProvisioningError, LeaseLostError) as err:
        raise click.ClickException(f"the sweep did not finish: {_reason(err)}") from err


@contextmanager
def _set_by_signals(event: threading.Event) -> Iterator[None]:
    """Have SIGTERM, and the end of the terminal, set this event instead of killing the process."""
    is_main = threading.current_thread() is threading.main_thread()  # no other may handle signals
    kinds = [k for k in STOP_SIGNALS if is_main and signal.getsignal(k) is not signal.SIG_IGN]
    former = {kind: signal.signal(kind, lambda *_: event.set()) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in former.items():
            signal.signal(kind, handler)


def _say(counts: SweepCounts, *, as_json: bool, is_dry: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(counts) if is_dry else counts.numbers()))
        return
    click.echo(", ".join(f"{name} {value}" for name, value in counts.numbers().items()))
    for person in counts.sample:
        click.echo(f"  user {person['user_id']}: {person['outcome']}")


def _sync_directory() -> None:
    """Users who signed in while there was no database are known to the provider alone."""
    guarantee = services().provisioning
    if guarantee.directory is None:
        raise click.ClickException("set CLERK_SECRET_KEY: there is no directory to read")
    try:
        counts = sync_directory(guarantee, guarantee.directory, services().now)
    except ProviderUnavailableError as err:
        reason = f"{type(err).__name__}: {err}"
        raise click.ClickException(f"the directory was not read: {reason}") from err
    except (ProvisioningError, SQLAlchemyError) as err:
        raise click.ClickException(f"the directory was not read: {_reason(err)}") from err
    click.echo(f"directory: {counts.read} read, {counts.ensured} taken in, {counts.failed} failed")


def _reason(err: Exception) -> str:
    """What an operator can do something about; for a database error, the database and why."""
    cause = err if isinstance(err, SQLAlchemyError) else err.__cause__
    return explain(cause) if isinstance(cause, SQLAlchemyError) else type(err).__name__


@click.command()
@click.pass_context
def scheduler(context: click.Context) -> None:
    """Run the clock of the sweep in a process of its own.

    Set SCHEDULER=off for the web processes then. Any number of these may run, on any number of
    hosts: one sweeps, and another takes over within thirty seconds from one that dies. Ctrl-C or
    SIGTERM stops it, and gives a sweep that is on back to the queue within two seconds.

    \b
      SWEEP_INTERVAL_SECONDS=30 flask scheduler
    """
    app = context.ensure_object(ScriptInfo).load_app()
    _check_database_of_scheduler()
    metrics.enable_multiprocess(services().config.metrics_path)
    interval = timedelta(seconds=services().config.sweep_interval_seconds)
    asked_to_stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: asked_to_stop.set())
    services().jobs.start(app, polls=True)
    clock = start_scheduler(app, services().provisioning, interval)
    click.echo(f"sweeping every {interval.total_seconds():.0f} s; Ctrl-C stops")
    asked_to_stop.wait()
    services().jobs.stop()  # as below, with the job that is on
    clock.stop()  # a run that is on goes back to the queue


def _check_database_of_scheduler() -> None:
    """Refuse a database that only an operator can put right; wait for one that is away.

    Raises ClickException for a database that is not migrated, or is another program's.
    """
    try:
        state = health.read_database_state()
        reason = state_reason(state)
    except SQLAlchemyError as err:
        click.echo(f"{explain(err)}; trying again until it is back", err=True)
        return
    if reason is None:
        return
    if state == "read_only":
        click.echo(f"{database_name()} {reason}; trying again until it is not", err=True)
        return
    raise click.ClickException(f"{database_name()} {reason}")


@click.command("auto-create")
@click.argument("wanted", type=click.Choice(["on", "off", "status"]))
def auto_create(wanted: str) -> None:
    """Turn the automatic creation of profiles on or off, everywhere and at once, or show it.

    While it is off, new people are told so and wait; pre-registered profiles are still linked.
    Turned on, the next request or sweep provides for everybody. ENABLE_AUTO_CREATE=false keeps it
    off whatever is stored.
    """
    with background_transaction() as session:
        if wanted != "status":
            switch.set_enabled(
                session, on=wanted == "on", source=Source("cli"), now=services().now()
            )
        is_on = switch.is_enabled(session)
    if wanted != "status":
        log.warning("auto_create_changed", enabled=is_on, entry="cli")
    is_forced_off = not services().config.enable_auto_create
    note = " (ENABLE_AUTO_CREATE=false keeps it off all the same)" if is_forced_off else ""
    click.echo(f"auto-create is {'on' if is_on else 'off'}{note}")


@click.command("demo")
@click.option("--quiet", is_flag=True, help="Say nothing when the data is there already.")
def fill_demo(quiet: bool) -> None:
    """Set up a development database and fill it with demo people.

    Does so once: what is there already is left alone. `make run` does it for you.
    """
    _dev_provider()
    if adoption.is_to_be_adopted():
        raise click.ClickException(f"{database_name()} {IS_FOREIGN}")
    upgrade()
    with background_transaction() as session:
        is_new = demo_data.fill(session, services().now())
    if is_new or not quiet:
        click.echo("demo data written" if is_new else "the demo data is there already")


@click.command()
@click.argument("subject")
@click.option("--email", help="Primary address; counts as verified.")
@click.option("--unverified", is_flag=True, help="The address is not verified.")
@click.option("--name", help="Full name.")
@click.option("--admin", is_flag=True, help="Grant the admin role first.")
def token(subject: str, email: str | None, unverified: bool, name: str | None, admin: bool) -> None:
    """Print a session token of the local identity provider, for curl.

    SUBJECT is the Clerk id, such as user_bia; whoever it is becomes known by using the token. Only
    where the stand-in answers for Clerk, so never in production.

    \b
      TOKEN=$(flask token user_bia --email bia@example.com --name "Bia Nunes")
      curl -X POST -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8000/api/auth/ensure
    """
    provider = _dev_provider()
    if not 0 < len(subject) <= LONGEST_SUBJECT:
        raise click.BadParameter(f"1 to {LONGEST_SUBJECT} characters", param_hint="SUBJECT")
    if admin:
        _grant_admin(subject)
        services().provisioning.contexts.publish([subject])
    click.echo(provider.add_user(DevUser(subject, name, email, email_verified=not unverified)))
    fail_if_unpublished()


def _grant_admin(clerk_id: str) -> None:
    with background_transaction() as session:
        user = upsert_user(session, Identity(clerk_id), signs_in=False, now=services().now())
        role = {"role": Role.ADMIN, "admin_by_address": False}
        session.execute(update(User).where(User.id == user.id).values(**role))
        record(
            session, Source("cli"), "admin_action", user_id=user.id, details={"granted": "admin"}
        )


def _dev_provider() -> DevIdentityProvider:
    provider = services().dev_provider
    if provider is None:
        raise click.ClickException("only with the local identity provider, never in production")
    return provider
