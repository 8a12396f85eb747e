"""The flask commands of support: who is an admin, and is everything well."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import click
import structlog
from flask import Flask
from sqlalchemy.orm import Session

from cli import doctor
from cli import doctor as checkup
from cli.doctor import Finding
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
    """Make the commands known to `flask`."""
    app.cli.add_command(admin)
    app.cli.add_command(examine)


@click.group()
def admin() -> None:
    """Grant or revoke the admin role, by hand.

    ADMIN_EMAILS is another way, and a list of its own: what is granted here stays until it is
    revoked here.
    """


@admin.command()
@click.argument("account", metavar="EMAIL")
def grant(account: str) -> None:
    """Make an account an admin, from its next request on.

    EMAIL is the address that its owner has verified. Where several accounts have it they are
    listed, and nothing changes: give the id or the Clerk id of the one you mean in its place.
    """
    with _locked_account(account, needs_proof=True) as (session, user):
        roles.grant(session, user, source=Source("cli"))
        concerned, description = user.clerk_id, _describe_account(user)
    _publish("grant", concerned)
    click.echo(f"{description} is an admin")
    fail_if_unpublished()


@admin.command()
@click.argument("account", metavar="EMAIL")
def revoke(account: str) -> None:
    """Take the role from an account, from its next request on.

    EMAIL may be the id or the Clerk id of the account, as for `grant`.
    """
    with _locked_account(account) as (session, user):
        roles.revoke(session, user, source=Source("cli"))
        concerned, description = user.clerk_id, _describe_account(user)
        is_listed = roles.is_listed(user, services().config.admin_emails)
    _publish("revoke", concerned)
    click.echo(f"{description} is no admin any longer")
    if is_listed:
        click.echo("but is listed in ADMIN_EMAILS, and will be one again at the next sign-in")
    fail_if_unpublished()


@click.command("doctor")
def examine() -> None:
    """Examine every part of this installation; exit 1 if any is not well.

    One line for each: the environment, insecure settings, the database and its migrations, Redis,
    people with two profiles, who waits and for how long, Clerk's keys and addresses. A line that is
    not well, or a warning, says what to do about it; docs/operations.md says more. Changes nothing,
    so run it whenever in doubt.
    """
    is_well = True
    for finding in (*doctor.examine_installation(services()), *_clerk(services())):
        click.echo(f"{_mark(finding)}  {finding.part:<14} {finding.detail}")
        is_well = is_well and finding.is_well
    if not is_well:
        raise SystemExit(1)


def _mark(finding: Finding) -> str:
    if not finding.is_well:
        return click.style("FAIL", fg="red")
    return (
        click.style("warn", fg="yellow") if finding.is_warning else click.style("ok  ", fg="green")
    )


def _clerk(house: Services) -> Iterator[Finding]:
    if house.dev_provider is not None:
        yield _development_provider(house.config)
        return
    config = house.config
    setup = checkup.Setup(
        publishable_key=config.clerk_publishable_key,
        secret_key=config.clerk_secret_key.get_secret_value() if config.clerk_secret_key else None,
        client=house.clerk,
        directory=house.provisioning.directory,
        jwks_url=config.jwks_url,
        sign_in_url=config.sign_in_url,
        authorized_parties=config.clerk_authorized_parties,
        has_webhook_secret=config.clerk_webhook_secret is not None,
    )
    yield from (Finding(*line) for line in checkup.examine_clerk(setup))


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
    """Raise ClickException where Redis did not take a change that this command has committed."""
    if services().provisioning.contexts.has_unpublished:
        raise click.ClickException(
            f"the change is committed, but the cache at {_redis_address()} did not answer: "
            f"it holds within {CONFIRMED_SECONDS:.0f} s instead of at the next request"
        )


def _redis_address() -> str:
    parts = urlsplit(services().config.redis_url or "")
    return f"{parts.hostname}:{parts.port or 6379}"


@contextmanager
def _locked_account(named: str, *, needs_proof: bool = False) -> Iterator[tuple[Session, User]]:
    """Yield the one account that an address, an id or a Clerk id names, locked, to be changed.

    Raises ClickException, and changes nothing, where that is not exactly one, and for an address
    that is not verified where it has to be. An id is always proof enough.
    """
    is_address = "@" in named
    if is_address and (fault := find_fault(named)):
        raise click.ClickException(f"the address {fault}")
    if not named.isprintable():
        raise click.ClickException("that is neither an address nor an id")
    try:
        with background_transaction() as session:
            user = _single_account(roles.accounts(session, named.strip(WHITE_SPACE)), named)
            if is_address and needs_proof and not user.email_verified:
                raise click.ClickException(
                    f"the address is not verified: {_describe_account(user)}; "
                    "give the id to grant the role all the same"
                )
            yield session, user
    except roles.RefusedAccountError as err:
        raise click.ClickException(str(err)) from err


def _single_account(found: Sequence[User], named: str) -> User:
    if not found:
        what = "with that address has" if "@" in named else "of that id has"
        raise click.ClickException(f"no account {what} signed in yet")
    if len(found) > 1:
        lines = "".join(f"\n  {_describe_account(user)}" for user in found)
        raise click.ClickException(
            f"{len(found)} accounts have that address; give the id of one:{lines}"
        )
    return found[0]


def _describe_account(user: User) -> str:
    """An account in one line, for the person at the terminal; not for a log."""
    proof = "verified" if user.email_verified else "not verified"
    address = f"{user.email}, {proof}" if user.email else "no address"
    deleted = ", deleted" if user.deleted_at else ""
    return f"user {user.id} ({user.clerk_id}, {user.name or 'no name'}, {address}{deleted})"


def _publish(action: str, clerk_id: str) -> None:
    log.info("admin_action", action=action, entry="cli")
    services().provisioning.contexts.publish([clerk_id])
