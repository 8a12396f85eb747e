"""`flask admin` grants and revokes the admin role; `flask doctor` checks the installation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
import structlog
from flask import Flask
from sqlalchemy.orm import Session

from cli import doctor
from cli.doctor import Finding
from cli.installation import redis_address
from core.config import Config
from core.database import background_transaction
from core.email_address import WHITE_SPACE, find_fault
from models import User
from provisioning import roles
from provisioning.audit import Source
from provisioning.context_cache import CONFIRMED_SECONDS
from web.services import Services, services

log = structlog.get_logger(__name__)


def register(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(admin)
    app.cli.add_command(run_doctor)


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


@click.command("doctor")
def run_doctor() -> None:
    """Check every part of this installation; exit 1 if a check fails.

    Prints one line per check: the environment, insecure settings, the database, its connection and
    its migrations, Redis, users with two profiles, users without a profile, Clerk's keys, origins,
    webhook and claims. A failure or warning says what to do; docs/operations.md has more. Changes
    nothing.
    """
    is_well = True
    for finding in (*doctor.examine_installation(services()), *_clerk_findings(services())):
        click.echo(f"{_mark(finding)}  {finding.part:<14} {finding.detail}")
        is_well = is_well and finding.is_well
    if not is_well:
        raise SystemExit(1)


def _mark(finding: Finding) -> str:
    if not finding.is_well:
        return click.style("FAIL", fg="red")
    if finding.is_warning:
        return click.style("warn", fg="yellow")
    return click.style("ok  ", fg="green")


def _clerk_findings(parts: Services) -> Iterator[Finding]:
    config = parts.config
    if parts.dev_provider is not None:
        yield _development_provider(config)
        return
    setup = doctor.Setup(
        publishable_key=config.clerk_publishable_key,
        secret_key=config.clerk_secret_key.get_secret_value() if config.clerk_secret_key else None,
        client=parts.clerk,
        directory=parts.provisioning.directory,
        jwks_url=config.jwks_url,
        sign_in_url=config.sign_in_url,
        frontend_api_url=config.frontend_api_url,
        authorized_parties=config.clerk_authorized_parties,
        has_webhook_secret=config.clerk_webhook_secret is not None,
        identity_max_age_seconds=config.clerk_identity_max_age_seconds,
    )
    yield from (Finding(*line) for line in doctor.examine_clerk(setup))


def _development_provider(config: Config) -> Finding:
    if config.database_url is None:
        return Finding("clerk", is_well=True, detail="the development identity provider")
    return Finding(
        "clerk",
        is_well=True,
        detail="anybody who reaches this address can sign in as anybody, admins included: the "
        "development identity provider answers, on a database given by DATABASE_URL; in production "
        "set APP_ENV=production, CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY",
        is_warning=True,
    )


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
    if is_address and (fault := find_fault(account)):
        raise click.ClickException(f"the address {fault}")
    if not account.isprintable():
        raise click.ClickException("that is neither an address nor an id")
    try:
        with background_transaction() as session:
            user = _single_account(roles.find_users(session, account.strip(WHITE_SPACE)), account)
            if is_address and must_be_verified and not user.email_verified:
                raise click.ClickException(
                    f"the address is not verified: {describe_account(user)}; "
                    "give the id to grant the role anyway"
                )
            yield session, user
    except roles.DeletedAccountError as err:
        raise click.ClickException(str(err)) from err


def _single_account(found: Sequence[User], account: str) -> User:
    if not found:
        which = "with that address" if "@" in account else "of that id"
        raise click.ClickException(f"no account {which} has signed in yet")
    if len(found) > 1:
        lines = "".join(f"\n  {describe_account(user)}" for user in found)
        raise click.ClickException(
            f"{len(found)} accounts have that address; give the id of one:{lines}"
        )
    return found[0]


def describe_account(user: User) -> str:
    """Describe an account in one line for the terminal; it holds personal data, so never log it."""
    verified = "verified" if user.email_verified else "not verified"
    address = f"{user.email}, {verified}" if user.email else "no address"
    deleted = ", deleted" if user.deleted_at else ""
    return f"user {user.id} ({user.clerk_id}, {user.name or 'no name'}, {address}{deleted})"


def _publish(action: str, clerk_id: str) -> None:
    log.info("admin_action", action=action, entry="cli")
    services().provisioning.contexts.publish([clerk_id])
