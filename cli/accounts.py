"""`flask admin` grants and revokes the admin role; `flask person` shows, exports and erases."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import click
import structlog
from sqlalchemy.orm import Session

from cli.installation import redis_address
from core.database import background_transaction
from core.email_address import WHITE_SPACE, find_fault
from models import User
from provisioning import roles
from provisioning.audit import Source
from provisioning.context_cache import CONFIRMED_SECONDS
from provisioning.ensure import preview_decision
from provisioning.erasure import Erasure, erase_person, preview_erasure
from provisioning.errors import ConflictError, UnknownUserError
from provisioning.personal_data import (
    Person,
    export_person,
    find_person,
    find_person_without_account,
)
from provisioning.user_lists import find_user
from web.admin_labels import STATES, decision_text
from web.services import services

log = structlog.get_logger(__name__)

UNKNOWN_PERSON = "no user and no profile has that id or address"


@click.group()
def admin() -> None:
    """Grant or revoke the admin role.

    The change takes effect at the account's next request. ADMIN_EMAILS is a separate list: a role
    that is granted here stays until it is revoked here.
    """


@admin.command()
@click.argument("account", metavar="EMAIL")
def grant(account: str) -> None:
    """Give an account the admin role, from its next request on.

    EMAIL is a verified address of the account. If several accounts have it, they are listed and
    nothing changes; give the id or the Clerk id of one instead.
    """
    user = _change_role(account, "grant", must_be_verified=True)
    click.echo(f"{describe_account(user)} is an admin")
    fail_if_unpublished()


@admin.command()
@click.argument("account", metavar="EMAIL")
def revoke(account: str) -> None:
    """Remove the admin role of an account, from its next request on.

    EMAIL may be the id or the Clerk id of the account, as for `grant`.
    """
    user = _change_role(account, "revoke")
    click.echo(f"{describe_account(user)} is no admin any longer")
    if roles.is_listed(user, services().config.admin_emails):
        click.echo("but is listed in ADMIN_EMAILS, and will be one again at the next sign-in")
    fail_if_unpublished()


def _change_role(
    account: str, action: Literal["grant", "revoke"], *, must_be_verified: bool = False
) -> User:
    """Grant or revoke the role of the one account with this address, id or Clerk id; return it.

    Raises ClickException if there is not exactly one. With `must_be_verified` it also raises for an
    address that is not verified; an id needs no verification.
    """
    is_address = "@" in account
    change = roles.grant if action == "grant" else roles.revoke
    try:
        with background_transaction() as session:
            user = find_account(session, account)
            if user is None:
                which = "with that address" if is_address else "of that id"
                raise click.ClickException(f"no account {which} has signed in yet")
            if is_address and must_be_verified and not user.email_verified:
                raise click.ClickException(
                    f"the address is not verified: {describe_account(user)}; "
                    "give the id to grant the role anyway"
                )
            change(session, user, source=Source("cli"))
    except roles.DeletedAccountError as err:
        raise click.ClickException(str(err)) from err
    log.info("admin_action", action=action, entry="cli")
    services().provisioning.contexts.publish([user.clerk_id])
    return user


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
    counts = _erase(who, reason, is_preview=True).counts
    click.echo(json.dumps(counts, sort_keys=True))
    if dry_run:
        return
    if not yes and sys.stdin.isatty():
        click.confirm("Erase all of this?", abort=True, err=True)
    erasure = _erase(who, reason)
    if erasure.clerk_id is not None:
        services().provisioning.contexts.erase(erasure.clerk_id)
    click.echo("erased")
    fail_if_unpublished()


def _erase(who: str, reason: str | None, *, is_preview: bool = False) -> Erasure:
    erase_function = preview_erasure if is_preview else erase_person
    try:
        with _found_person(who, lock=True) as (session, found):
            return erase_function(session, found, source=Source("cli", reason=reason))
    except ConflictError as err:
        raise click.ClickException(f"nothing was erased: {err}") from err


@contextmanager
def _found_person(who: str, *, lock: bool = False) -> Iterator[tuple[Session, Person]]:
    """Yield the one person with this id or address; raises ClickException without exactly one."""
    with background_transaction() as session:
        user, address = find_account(session, who), who.strip(WHITE_SPACE)
        if user is None and "@" not in address:
            raise click.ClickException(UNKNOWN_PERSON)
        try:
            if user is not None:
                yield session, find_person(session, user.id, lock=lock)
            else:
                yield session, find_person_without_account(session, address, lock=lock)
        except UnknownUserError as err:
            raise click.ClickException(UNKNOWN_PERSON) from err


def _describe(session: Session, found: Person) -> Iterator[str]:
    row = find_user(session, found.user_id) if found.user_id is not None else None
    if row is not None:
        yield describe_account(row.user)
        yield f"state: {row.state} ({STATES[row.state]})"
        result = preview_decision(session, row.user.clerk_id, services().provisioning.rules)
        yield f"sign-in: {decision_text(result)}"
        if row.attempt is not None:
            yield f"failed: {row.attempt.attempts} times, last {row.attempt.error_class}"
    profiles = ", ".join(map(str, found.profile_ids)) or "none"
    yield f"profiles: {profiles}" if row else f"no account; pre-registered profiles: {profiles}"


def find_account(session: Session, account: str) -> User | None:
    """Return the account with this address, id or Clerk id; None if there is none.

    Raises ClickException for a malformed one, and for an address that several accounts have.
    """
    if "@" in account and (fault := find_fault(account)):
        raise click.ClickException(f"the address {fault}")
    if not account.isprintable():
        raise click.ClickException("that is neither an address nor an id")
    found = roles.find_users(session, account.strip(WHITE_SPACE))
    if len(found) > 1:
        lines = "".join(f"\n  {describe_account(user)}" for user in found)
        raise click.ClickException(
            f"{len(found)} accounts have that address; give the id of one:{lines}"
        )
    return found[0] if found else None


def describe_account(user: User) -> str:
    """Describe an account in one line for the terminal; it holds personal data, so never log it."""
    verified = "verified" if user.email_verified else "not verified"
    address = f"{user.email}, {verified}" if user.email else "no address"
    deleted = ", deleted" if user.deleted_at else ""
    return f"user {user.id} ({user.clerk_id}, {user.name or 'no name'}, {address}{deleted})"


def fail_if_unpublished() -> None:
    """Raise ClickException if Redis did not store the cache versions of a committed change."""
    if services().provisioning.contexts.has_unpublished:
        raise click.ClickException(
            f"the change is committed, but the cache at {redis_address()} did not answer: "
            f"it takes effect within {CONFIRMED_SECONDS:.0f} s instead of at the next request"
        )
