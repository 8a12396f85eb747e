"""What the operator decides, read once from the environment into one frozen value."""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

PROJECT = Path(__file__).resolve().parent
WEB, REDIS = ("https", "http"), ("redis", "rediss", "unix")
ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")
CLERK_SECRET_KEY = re.compile(r"sk_(test|live)_[\x21-\x7e]+")
LOOPBACK = re.compile(r"unix:.*|(127(\.\d+){3}|localhost|\[::1\]):\d+")
LAST_PORT = 65_535
NEEDED_IN_PRODUCTION = ("database_url", "clerk_publishable_key", "clerk_secret_key", "secret_key")


class ConfigError(Exception):
    """A setting is missing or wrong; the message is one line that names it."""


def _split(value: object) -> object:
    """Read a comma list: trimmed, lower case (addresses and origins ignore it), blanks dropped."""
    if not isinstance(value, str):
        return value
    return frozenset(part.strip().lower() for part in value.split(",") if part.strip())


def _addresses(value: object) -> object:
    """Read a comma list of e-mail addresses."""
    found = _split(value)
    if isinstance(found, frozenset) and not all(ADDRESS.fullmatch(each) for each in found):
        raise ValueError("must be a comma list of e-mail addresses")
    return found


def _origins(value: object) -> object:
    """Read a comma list of origins: `https://app.example.com`, and nothing behind it."""
    found = _split(value)
    if isinstance(found, frozenset) and not all(_is_origin(each) for each in found):
        raise ValueError("must be a comma list of origins such as https://app.example.com")
    return found


def _is_origin(value: str) -> bool:
    return _require_url(value, WEB) == value and not urlsplit(value).path and "?" not in value


def _require_url(value: str, schemes: tuple[str, ...]) -> str:
    """Check a URL and return it without a final slash; the errors never quote it."""
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("has a host or a port that cannot be read") from None
    has_place = bool(parts.netloc or parts.query or parts.path.strip("/"))
    if parts.scheme not in schemes or not has_place:
        raise ValueError(f"must be a URL starting with {' or '.join(f'{s}://' for s in schemes)}")
    return value.rstrip("/")


def _database_url(value: str) -> str:
    """Accept both spellings of the scheme and name the driver, as SQLAlchemy wants it."""
    if "," in value.partition("://")[2].partition("/")[0].rpartition("@")[2]:
        raise ValueError("names several hosts; give one")
    _require_url(value, ("postgresql", "postgres", "postgresql+psycopg2"))
    return "postgresql+psycopg2://" + value.split("://", 1)[1]


def _redis_url(value: str) -> str:
    checked = _require_url(value, REDIS)
    parts = urlsplit(checked)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        raise ValueError("must end in the number of a database, if in anything")
    return checked


def _secret_key_of_clerk(value: SecretStr) -> SecretStr:
    """Refuse what could not be sent in a header, such as a key cut short by an ellipsis."""
    if not CLERK_SECRET_KEY.fullmatch(value.get_secret_value()):
        raise ValueError("is not a Clerk secret key (sk_test_… or sk_live_…)")
    return value


def _bind(value: str) -> str:
    port = value.rpartition(":")[2]
    if not value.startswith("unix:") and int(port) > LAST_PORT:
        raise ValueError(f"must end in a port up to {LAST_PORT}")
    return value


def _publishable_key(value: str) -> str:
    _instance_host(value)
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    """Refuse at the start what would refuse every message: base64 stands behind the prefix."""
    prefix, _, encoded = value.get_secret_value().partition("_")
    try:
        base64.b64decode(encoded, validate=True)
    except binascii.Error:
        encoded = ""
    if prefix != "whsec" or not encoded:
        raise ValueError("is not a signing secret (whsec_…)")
    return value


def _support_url(value: str) -> str:
    if value.startswith("mailto:"):
        return value
    return _require_url(value, WEB)


Addresses = Annotated[frozenset[str], BeforeValidator(_addresses)]
Origins = Annotated[frozenset[str], BeforeValidator(_origins)]
WebUrl = Annotated[str, BeforeValidator(partial(_require_url, schemes=WEB))]
RedisUrl = Annotated[str, BeforeValidator(_redis_url)]


SECRET_URL = Field(default=None, repr=False)  # it may hold a password


class Config(BaseModel):
    """Every setting, checked. The names are those of the environment, in lower case."""

    model_config = {"frozen": True, "hide_input_in_errors": True}

    app_env: Literal["development", "production"] = "development"
    instance_path: Path = PROJECT / "instance"
    database_url: Annotated[str, BeforeValidator(_database_url)] | None = SECRET_URL
    database_connect_seconds: float = Field(default=10, gt=0, le=120)
    redis_url: RedisUrl | None = SECRET_URL
    secret_key: SecretStr | None = None

    clerk_publishable_key: Annotated[str, BeforeValidator(_publishable_key)] | None = None
    clerk_secret_key: Annotated[SecretStr, AfterValidator(_secret_key_of_clerk)] | None = None
    clerk_frontend_api_url: WebUrl | None = None
    clerk_api_url: WebUrl = "https://api.clerk.com"
    clerk_jwks_url: WebUrl | None = None
    clerk_issuer: WebUrl | None = None
    clerk_authorized_parties: Origins = frozenset()
    clerk_identity_max_age_seconds: int = Field(default=86_400, ge=1)
    clerk_sign_in_url: WebUrl | None = None
    clerk_webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = None

    admin_emails: Addresses = frozenset()
    support_url: Annotated[str, BeforeValidator(_support_url)] | None = None
    enable_auto_create: bool = True
    enrolment: Literal["open", "invited"] = "open"

    sweep_interval_seconds: int = Field(default=60, ge=1)
    provisioning_max_attempts: int = Field(default=8, ge=1)
    scheduler: bool = True
    session_ttl_seconds: int = Field(default=300, ge=1, le=86_400)

    rate_limit_per_minute: int = Field(default=600, ge=1)
    ensure_rate_limit_per_minute: int = Field(default=60, ge=1)
    metrics_token: SecretStr | None = None

    web_concurrency: int = Field(default=1, ge=1)
    web_threads: int = Field(default=8, ge=1)
    bind: Annotated[str, AfterValidator(_bind)] = Field(
        default="127.0.0.1:8000", pattern=r"^(\S+:\d+|unix:\S+)$"
    )
    trusted_proxies: int = Field(default=0, ge=0)
    log_format: Literal["json", "console"] | None = None

    @model_validator(mode="after")
    def _refuse_unsafe_production(self) -> "Config":
        missing = [name.upper() for name in NEEDED_IN_PRODUCTION if not getattr(self, name)]
        if self.is_production and missing:
            raise ValueError(f"APP_ENV=production needs {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _refuse_accidental_stand_in(self) -> "Config":
        """Keep the development identity provider, where anybody is admin, from real users."""
        if self.clerk_secret_key is not None and self.clerk_publishable_key is None:
            raise ValueError("CLERK_SECRET_KEY needs CLERK_PUBLISHABLE_KEY")
        if self.uses_local_identity and not LOOPBACK.fullmatch(self.bind):
            raise ValueError(
                "BIND: without CLERK_PUBLISHABLE_KEY the development identity provider answers, "
                "which serves on loopback only"
            )
        return self

    @property
    def metrics_path(self) -> Path:
        """The folder in which the processes of this host count together."""
        return self.instance_path / "metrics"

    @property
    def is_production(self) -> bool:
        """Whether strangers may be on the other side."""
        return self.app_env == "production"

    @property
    def uses_local_identity(self) -> bool:
        """Whether the development stand-in answers for Clerk; never so in production."""
        return not (self.clerk_publishable_key or self.clerk_jwks_url or self.is_production)

    @property
    def frontend_api_url(self) -> str | None:
        """The base of Clerk's public keys and handshake: given, or read out of the public key."""
        if self.clerk_frontend_api_url or not self.clerk_publishable_key:
            return self.clerk_frontend_api_url
        return f"https://{_instance_host(self.clerk_publishable_key)}"

    @property
    def is_development_instance(self) -> bool:
        """Whether Clerk's instance is one for development, whose cookies cannot cross sites."""
        return not (self.clerk_publishable_key or "").startswith("pk_live_")

    @property
    def jwks_url(self) -> str | None:
        """Where the public keys of the issuer are published; None with the stand-in."""
        return self.clerk_jwks_url or _below(self.frontend_api_url, "/.well-known/jwks.json")

    @property
    def issuer(self) -> str | None:
        """The `iss` that a session token must carry; None leaves it unchecked."""
        return self.clerk_issuer or self.frontend_api_url

    @property
    def sign_in_url(self) -> str | None:
        """Where an anonymous browser signs in: given, or Clerk's hosted account portal."""
        return self.clerk_sign_in_url or _account_portal(self.frontend_api_url)


def load_config(environ: Mapping[str, str], dotenv: Path | None = PROJECT / ".env") -> Config:
    """Read the settings; the environment wins over the `.env` file, a blank value means unset.

    Raises ConfigError with one line naming the first setting that is wrong.
    """
    merged = {**(dotenv_values(dotenv) if dotenv else {}), **environ}
    known = {name: (merged.get(name.upper()) or "").strip() for name in Config.model_fields}
    try:
        return Config.model_validate({name: value for name, value in known.items() if value})
    except ValidationError as err:
        raise ConfigError(_one_line(err)) from err


def _one_line(err: ValidationError) -> str:
    first = err.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]).split(".")[0].upper()
    reason = first["msg"].removeprefix("Value error, ")
    return f"{name}: {reason}" if name else reason


def _instance_host(publishable_key: str) -> str:
    """Read the instance's host out of the key: `pk_(test|live)_` + base64 of `host$`."""
    prefix, _, encoded = publishable_key.rpartition("_")
    try:
        host = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        host = ""
    if prefix not in ("pk_test", "pk_live") or not host.endswith("$") or "." not in host:
        raise ValueError("is not a Clerk publishable key (pk_test_… or pk_live_…)")
    return host.removesuffix("$")


def _account_portal(frontend_api_url: str | None) -> str | None:
    """`clerk.example.com` has accounts.example.com; `x.clerk.accounts.dev` has x.accounts.dev."""
    host = urlsplit(frontend_api_url or "").netloc
    if host.endswith(".clerk.accounts.dev"):
        return f"https://{host.removesuffix('.clerk.accounts.dev')}.accounts.dev/sign-in"
    if host.startswith("clerk."):
        return f"https://accounts.{host.removeprefix('clerk.')}/sign-in"
    return None


def _below(base: str | None, path: str) -> str | None:
    return base + path if base else None
