"""The flask commands of support: who is an admin, and is everything well."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import click
import structlog
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

import doctor
from context_cache import CONFIRMED_SECONDS
from doctor import Finding
from extensions import background_transaction
from house import House, house
from identity import checkup
from provisioning import roles
from provisioning.audit import Entry

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
@click.argument("email")
def grant(email: str) -> None:
    """Make whoever has proven this address an admin, at their next request."""
    _change("grant", roles.grant, email)
    click.echo(f"{email} is an admin")


@admin.command()
@click.argument("email")
def revoke(email: str) -> None:
    """Take the role from whoever has proven this address, at their next request."""
    _change("revoke", roles.revoke, email)
    click.echo(f"{email} is no admin any longer")
    if email.strip().lower() in house().config.admin_emails:
        click.echo("but is listed in ADMIN_EMAILS, and will be one again at the next sign-in")


@click.command("doctor")
def examine() -> None:
    """Look at every part this installation stands on; exit 1 if any is not well.

    One line for each: the database and its migrations, Redis, people with two profiles, who waits
    and for how long, Clerk's keys and addresses. A line that is not well says what to do about it;
    docs/operations.md says more. Changes nothing, so run it whenever in doubt.
    """
    is_well = True
    for finding in (*doctor.examine(house()), *_clerk(house())):
        mark = click.style("ok  ", fg="green") if finding.is_well else click.style("FAIL", fg="red")
        click.echo(f"{mark}  {finding.part:<14} {finding.detail}")
        is_well = is_well and finding.is_well
    if not is_well:
        raise SystemExit(1)


def _clerk(house: House) -> Iterator[Finding]:
    if house.local is not None:
        yield Finding("clerk", is_well=True, detail="the local stand-in answers for it")
        return
    config = house.config
    setup = checkup.Setup(
        publishable_key=config.clerk_publishable_key,
        secret_key=config.clerk_secret_key.get_secret_value() if config.clerk_secret_key else None,
        client=house.clerk,
        directory=house.guarantee.directory,
        jwks_url=config.jwks_url,
        sign_in_url=config.sign_in_url,
        authorized_parties=config.clerk_authorized_parties,
        has_webhook_secret=config.clerk_webhook_secret is not None,
    )
    yield from (Finding(*line) for line in checkup.examine(setup))


def fail_if_unpublished() -> None:
    """Raise ClickException where Redis did not take a change that this command has committed."""
    if house().guarantee.contexts.has_unpublished:
        raise click.ClickException(
            f"the change is committed, but the cache at {_redis_address()} did not answer: "
            f"it holds within {CONFIRMED_SECONDS:.0f} s instead of at the next request"
        )


def _redis_address() -> str:
    parts = urlsplit(house().config.redis_url or "")
    return f"{parts.hostname}:{parts.port or 6379}"


def _change(action: str, change: roles.Change, email: str) -> None:
    try:
        with background_transaction() as session:
            concerned = change(session, email, entry=Entry("cli"))
    except (roles.NobodyFoundError, SQLAlchemyError) as err:
        reason = str(err) if isinstance(err, roles.NobodyFoundError) else type(err).__name__
        raise click.ClickException(reason) from err
    log.info("admin_action", action=action, entry="cli")
    house().guarantee.contexts.publish(concerned)
    fail_if_unpublished()
