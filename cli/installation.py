"""`flask config` prints the settings in effect; `flask cache clear` empties the shared cache."""

import re
from urllib.parse import urlsplit

import click
from flask import Flask
from pydantic import SecretStr
from redis.exceptions import RedisError

from core.cache import RedisStore
from core.config import Config
from provisioning.context_cache import CONFIRMED_SECONDS
from web.services import services

WITHHELD = "(withheld)"
CREDENTIALS = re.compile(r"://[^/?#]*@")
PASSWORD_OPTION = re.compile(r"(\w*pass\w*)=[^&]*")
# Settings whose default follows from others, with the property that has the value in effect.
DERIVED = {
    "clerk_frontend_api_url": "frontend_api_url",
    "clerk_jwks_url": "jwks_url",
    "clerk_issuer": "issuer",
    "clerk_sign_in_url": "sign_in_url",
}


def register(app: Flask) -> None:
    """Add the commands to `flask`."""
    app.cli.add_command(show_config)
    app.cli.add_command(cache_commands)


@click.command("config")
def show_config() -> None:
    """Print the settings in effect, one a line: name, value, and where the value comes from.

    Secrets are withheld, and so are user names and passwords in URLs. `set` values come from the
    environment or a file of settings; `derived` ones follow from other settings.
    """
    config = services().config
    for name in type(config).model_fields:
        value, origin = _value_in_effect(config, name)
        click.echo(f"{name.upper():<30} {value:<50} {origin}")


def _value_in_effect(config: Config, name: str) -> tuple[str, str]:
    if name in config.model_fields_set:
        return _shown(getattr(config, name)), "set"
    if name in DERIVED:
        return _shown(getattr(config, DERIVED[name])), "derived"
    return _shown(getattr(config, name)), "default"


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case SecretStr():
            return WITHHELD
        case frozenset():
            return ", ".join(sorted(map(str, value))) or "-"
        case bool():
            return "on" if value else "off"
        case str() if "://" in value:
            return _without_credentials(value)
    return str(value)


def _without_credentials(url: str) -> str:
    """Return the URL without user, password, and options that hold a password."""
    return PASSWORD_OPTION.sub(rf"\1={WITHHELD}", CREDENTIALS.sub("://", url))


@click.group("cache")
def cache_commands() -> None:
    """Work on the cache that all processes share (REDIS_URL)."""


@cache_commands.command()
def clear() -> None:
    """Remove everything that this program keeps in Redis.

    Needed after the database was restored from a backup, because cached request contexts are then
    newer than it. At any other time it does no harm: the next requests read from the database.
    """
    store = services().provisioning.contexts.store
    if not isinstance(store, RedisStore):
        click.echo(
            "REDIS_URL is not set: each process has a cache of its own, which ends with it; "
            f"an entry older than {CONFIRMED_SECONDS:.0f} s is compared with the database"
        )
        return
    try:
        click.echo(f"{store.remove_all()} keys removed")
    except RedisError as err:
        raise click.ClickException(
            f"the cache at {redis_address()} did not answer: {type(err).__name__}"
        ) from err


def redis_address() -> str:
    """Return host and port of Redis, never its password."""
    parts = urlsplit(services().config.redis_url or "")
    return f"{parts.hostname or parts.path}:{parts.port or 6379}"
