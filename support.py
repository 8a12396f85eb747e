"""The flask commands of support: who is an admin, and is everything well."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import click
import structlog
from flask import Flask

import doctor
from config import Config
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
    """Examine every part of this installation; exit 1 if any is not well.

    One line for each: the environment, insecure settings, the database and its migrations, Redis,
    people with two profiles, who waits and for how long, Clerk's keys and addresses. A line that is
    not well, or a warning, says what to do about it; docs/operations.md says more. Changes nothing,
    so run it whenever in doubt.
    """
    is_well = True
    for finding in (*doctor.examine(house()), *_clerk(house())):
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


def _clerk(house: House) -> Iterator[Finding]:
    if house.local is not None:
        yield _development_provider(house.config)
        return
    config = house.config
    setup = checkup.Setup(
        publishable_key=config.clerk_publishable_key,
        secret_key=config.clerk_secret_key.get_secret_value() if config.clerk_secret_key else None,
        api=house.clerk_api,
        jwks_url=config.jwks_url,
        sign_in_url=config.sign_in_url,
        authorized_parties=config.clerk_authorized_parties,
        has_webhook_secret=config.clerk_webhook_secret is not None,
    )
    yield from (Finding(*line) for line in checkup.examine(setup))


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
    except roles.NobodyFoundError as err:
        raise click.ClickException(str(err)) from err
    log.info("admin_action", action=action, entry="cli")
    house().guarantee.contexts.publish(concerned)
    fail_if_unpublished()
