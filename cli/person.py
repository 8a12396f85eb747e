"""`flask person`: show, export and erase what is kept about one person."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from flask import Flask
from sqlalchemy.orm import Session

from cli.admin import describe_account, fail_if_unpublished, find_account
from core.database import background_transaction
from core.email_address import WHITE_SPACE
from models import User
from provisioning.audit import Source
from provisioning.ensure import forecast_decision
from provisioning.erasure import Erasure, erase_person, preview_erasure
from provisioning.errors import ConflictError, UnknownUserError
from provisioning.personal_data import (
    Person,
    export_person,
    find_person,
    find_person_without_account,
)
from provisioning.user_lists import find_user
from web.admin_labels import STATES, forecast_text
from web.services import services


def register(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(person)


@click.group()
def person() -> None:
    """Show, export or erase what is kept about one person.

    The person is given by the id or the Clerk id of the account, or by an address. An address that
    several accounts have is refused: give the id of one. docs/pt-BR/dados-pessoais.md says how to
    answer a request.
    """


@person.command()
@click.argument("who", metavar="ID_OR_EMAIL")
def show(who: str) -> None:
    """Show the state of a person and what a sign-in would do, as the admin console does."""
    with _found_person(who) as (session, found):
        for line in _describe(session, found):
            click.echo(line)


@person.command()
@click.argument("who", metavar="ID_OR_EMAIL")
def export(who: str) -> None:
    """Print everything that is kept about a person as one JSON document."""
    with _found_person(who) as (session, found):
        document = export_person(session, found, now=services().now())
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


@person.command()
@click.argument("who", metavar="ID_OR_EMAIL")
@click.option("--dry-run", is_flag=True, help="Count what would be erased; change nothing.")
@click.option("--reason", default=None, help="Why, for the audit log; without personal data.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation on a terminal.")
def erase(who: str, *, dry_run: bool, reason: str | None, yes: bool) -> None:
    """Erase a person: account, profile, months, feedback, and rows of any other table.

    Delete the account at Clerk first: a later sign-in or webhook would store a new person. Nothing
    can be restored afterwards. The audit log keeps who erased, when, why and how many rows.
    """
    source = Source("cli", reason=reason)
    with _found_person(who, lock=True) as (session, found):
        counts = _erased(session, found, source, is_preview=True).counts
    _print_counts(counts)
    if dry_run:
        return
    if not yes and sys.stdin.isatty():
        click.confirm("Erase all of this?", abort=True, err=True)
    with _found_person(who, lock=True) as (session, found):
        erasure = _erased(session, found, source)
    if erasure.clerk_id is not None:
        services().provisioning.contexts.erase(erasure.clerk_id)
    click.echo("erased")
    fail_if_unpublished()


def _erased(
    session: Session, found: Person, source: Source, *, is_preview: bool = False
) -> Erasure:
    erase_function = preview_erasure if is_preview else erase_person
    try:
        return erase_function(session, found, source=source)
    except ConflictError as err:
        raise click.ClickException(f"nothing was erased: {err}") from err


def _print_counts(counts: object) -> None:
    click.echo(json.dumps(counts, sort_keys=True))


@contextmanager
def _found_person(who: str, *, lock: bool = False) -> Iterator[tuple[Session, Person]]:
    """Yield the one person with this id or address; raises ClickException without exactly one."""
    with background_transaction() as session:
        user = find_account(session, who)
        try:
            yield session, _load_person(session, user, who.strip(WHITE_SPACE), lock=lock)
        except UnknownUserError as err:
            raise click.ClickException("no user and no profile has that id or address") from err


def _load_person(session: Session, user: User | None, address: str, *, lock: bool) -> Person:
    if user is not None:
        return find_person(session, user.id, lock=lock)
    if "@" not in address:
        raise UnknownUserError("there is no account of that id")
    return find_person_without_account(session, address, lock=lock)


def _describe(session: Session, found: Person) -> Iterator[str]:
    row = find_user(session, found.user_id) if found.user_id is not None else None
    if row is not None:
        yield describe_account(row.user)
        yield f"state: {row.state} ({STATES[row.state]})"
        result = forecast_decision(session, row.user.clerk_id, services().provisioning.rules)
        yield f"sign-in: {forecast_text(result)}"
        if row.attempt is not None:
            yield f"failed: {row.attempt.attempts} times, last {row.attempt.error_class}"
    profiles = ", ".join(map(str, found.profile_ids)) or "none"
    yield f"profiles: {profiles}" if row else f"no account; pre-registered profiles: {profiles}"
