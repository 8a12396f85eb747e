"""`flask admin` grants and revokes the admin role."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog
from flask import Flask
from sqlalchemy.orm import Session

from cli.installation import redis_address
from core.database import background_transaction
from core.email_address import WHITE_SPACE, find_fault
from models import User
from provisioning import roles
from provisioning.audit import Source
from provisioning.context_cache import CONFIRMED_SECONDS
from web.services import services

log = structlog.get_logger(__name__)


def register(app: Flask) -> None:
    """Add the command to `flask`."""
    app.cli.add_command(admin)


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
    with _locked_account(account, must_be_verified=True) as (session, user):
        roles.grant(session, user, source=Source("cli"))
        clerk_id, description = user.clerk_id, describe_account(user)
    _publish("grant", clerk_id)
    click.echo(f"{description} is an admin")
    fail_if_unpublished()


@admin.command()
@click.argument("account", metavar="EMAIL")
def revoke(account: str) -> None:
    """Remove the admin role of an account, from its next request on.

    EMAIL may be the id or the Clerk id of the account, as for `grant`.
    """
    with _locked_account(account) as (session, user):
        roles.revoke(session, user, source=Source("cli"))
        clerk_id, description = user.clerk_id, describe_account(user)
        is_listed = roles.is_listed(user, services().config.admin_emails)
    _publish("revoke", clerk_id)
    click.echo(f"{description} is no admin any longer")
    if is_listed:
        click.echo("but is listed in ADMIN_EMAILS, and will be one again at the next sign-in")
    fail_if_unpublished()


def fail_if_unpublished() -> None:
    """Raise ClickException if Redis did not store the cache versions of a committed change."""
    if services().provisioning.contexts.has_unpublished:
        raise click.ClickException(
            f"the change is committed, but the cache at {redis_address()} did not answer: "
            f"it takes effect within {CONFIRMED_SECONDS:.0f} s instead of at the next request"
        )


@contextmanager
def _locked_account(
    account: str, *, must_be_verified: bool = False
) -> Iterator[tuple[Session, User]]:
    """Yield the one account with this address, id or Clerk id, locked for a change.

    Raises ClickException if there is not exactly one. With `must_be_verified` it also raises for an
    address that is not verified; an id needs no verification.
    """
    is_address = "@" in account
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
            yield session, user
    except roles.DeletedAccountError as err:
        raise click.ClickException(str(err)) from err


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


def _publish(action: str, clerk_id: str) -> None:
    log.info("admin_action", action=action, entry="cli")
    services().provisioning.contexts.publish([clerk_id])
