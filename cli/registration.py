"""The flask commands, registered at the first use of one.

Each command names its database: after its work, or in the one line that reports an error.
"""

import copy
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from logging.handlers import BufferingHandler
from typing import Any

import click
from flask import Flask
from flask_migrate import Migrate
from sqlalchemy.exc import SQLAlchemyError

from cli import accounts, adopt, doctor, installation, provisioning
from cli.installation import database_name, explain
from core.database import db
from web.services import services

# They name the database themselves, or do not use it.
UNNAMED = {
    *("cache clear", "config", "doctor", "scheduler", "token"),
    # They only read or write migration files.
    *("db branches", "db edit", "db heads", "db history", "db init", "db list-templates"),
    *("db merge", "db revision", "db show"),
}
MIGRATING = {"db upgrade", "db downgrade"}
migration_steps = logging.getLogger("alembic.runtime.migration")
COMMANDS = (
    *(provisioning.sweep, provisioning.scheduler, provisioning.auto_create),
    *(provisioning.demo, provisioning.token, accounts.admin, accounts.person),
    *(adopt.adopt, installation.config, installation.cache, doctor.doctor),
)


def register_commands(app: Flask) -> None:
    """Add all commands to `flask`; each ends with exit code 1 and one line after an error."""
    init_migrate(app)
    for command in COMMANDS:
        app.cli.add_command(command)
    for name, command in app.cli.commands.items():
        app.cli.commands[name] = _with_report(app, command, name)
    migration_log = logging.getLogger("flask_migrate")
    migration_log.handlers, migration_log.propagate = [_MigrationErrorHandler()], False


def init_migrate(app: Flask) -> None:
    """Initialise Flask-Migrate, which also adds the command `db`."""
    Migrate(db=db, compare_type=True, compare_server_default=True).init_app(app)


def _with_report(app: Flask, command: click.Command, path: str) -> click.Command:
    """Return a copy of the command or group that reports its database and database errors."""
    wrapped = copy.copy(command)
    if isinstance(wrapped, click.Group):
        commands = wrapped.commands.items()
        wrapped.commands = {
            name: _with_report(app, each, f"{path} {name}") for name, each in commands
        }
    elif command.callback is not None:
        callback = _printed_steps()(command.callback) if path in MIGRATING else command.callback
        wrapped.callback = _report(app, callback, is_named=path not in UNNAMED)
    return wrapped


def _report(app: Flask, callback: Callable[..., Any], *, is_named: bool) -> Callable[..., Any]:
    @wraps(callback)
    def run(*args: Any, **options: Any) -> Any:
        try:
            result = callback(*args, **options)
        except SQLAlchemyError as err:
            with app.app_context():
                raise click.ClickException(explain(err)) from err
        except click.ClickException as err:
            if is_named and type(err) is click.ClickException:
                with app.app_context():
                    raise click.ClickException(_with_place(err.message)) from err
            raise
        # --json: a program reads the last line. --sql: no database is used.
        if is_named and not (options.get("as_json") or options.get("sql")):
            with app.app_context():
                click.echo(_place(), err=True)
        return result

    return run


def _with_place(message: str) -> str:
    """Return the message with the name of the database on its first line."""
    if database_name() in message:
        return message
    first, separator, more = message.partition("\n")
    return f"{first} {_place()}{separator}{more}"


def _place() -> str:
    return f"({database_name()}, {services().config.app_env})"


class _MigrationErrorHandler(logging.Handler):
    """Prints an error of Flask-Migrate as other commands do, with the name of the database."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage().removeprefix("Error: ")
        click.echo(f"Error: {_with_place(message)}", err=True)


@contextmanager
def _printed_steps() -> Iterator[None]:
    """Print the migrations that ran; after an error none has, because they are one transaction."""
    handler = BufferingHandler(sys.maxsize)
    migration_steps.addHandler(handler)
    migration_steps.setLevel(logging.INFO)
    migration_steps.propagate = False
    try:
        yield
        for record in handler.buffer:
            if (step := record.getMessage()).startswith("Running "):  # upgrade 0021 -> 0022, …
                click.echo(step, err=True)
    finally:
        migration_steps.removeHandler(handler)
        migration_steps.setLevel(logging.NOTSET)
        migration_steps.propagate = True
