"""The settings: read once from the environment, checked, and kept in one frozen value."""

import base64
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

from dotenv import dotenv_values
from psycopg2 import Error as DriverError
from psycopg2.extensions import make_dsn
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from redis import ConnectionPool
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from core.email_address import find_fault, normalize_address

PROJECT = Path(__file__).resolve().parent.parent
WEB, REDIS = ("https", "http"), ("redis", "rediss", "unix")
DATABASE = ("postgresql", "postgres", "postgresql+psycopg2")
# What is trimmed: white space, and characters that cannot be seen.
INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"
QUOTES = ('"', "'")
HOST = re.compile(r"[\w.-]+|[0-9a-f.:]*:[0-9a-f.:]*", re.IGNORECASE)
# The others would change how long a request waits for Redis, or what its answers are.
REDIS_OPTION = re.compile("db|username|password|client_name|ssl_[a-z_]+")
CONTROL_CHARACTER = re.compile("%[01][0-9a-f]|%7f", re.IGNORECASE)
TCP_ADDRESS = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]*)):(\d+)", re.ASCII)
DEFAULT_PORTS = {"https": 443, "http": 80}
LAST_PORT = 65_535
SECRET_KEY_LENGTH = 32
REQUIRED_IN_PRODUCTION = ("database_url", "clerk_publishable_key", "clerk_secret_key", "secret_key")
# The webhook secret is the only other Clerk setting that the development provider uses.
WITHOUT_PUBLISHABLE_KEY = {"clerk_publishable_key", "clerk_webhook_secret"}


class ConfigError(Exception):
    """A setting is missing or wrong; the message is one line that names it."""


def is_loopback(host: str) -> bool:
    """Whether a server on this address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _trim(value: str) -> str:
    """Return the value without white space and quotes around it; refuse a control character."""
    value = value.strip().strip(INVISIBLE).strip()
    if len(value) > 1 and value[0] in QUOTES and value[0] == value[-1]:
        value = value[1:-1].strip()
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("holds a control character, such as the end of a line")
    return value


def _parse_addresses(value: object) -> object:
    """Parse a comma list of e-mail addresses into keys to compare; an error names the character."""
    if not isinstance(value, str):
        return value
    given = [part for part in value.split(",") if part.strip()]
    for number, address in enumerate(given, start=1):
        if fault := find_fault(address):
            raise ValueError(
                f"must be a comma list of e-mail addresses, but address {number} {fault}"
            )
    return frozenset(filter(None, map(normalize_address, given)))


def _parse_origins(value: object) -> object:
    """Parse a comma list of origins, such as `https://app.example.com` without a path."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.lower().split(",")]
    try:
        return frozenset(_parse_origin(part) for part in parts if part)
    except ValueError:
        example = "https://app.example.com"
        raise ValueError(f"must be a comma list of origins such as {example}") from None


def _parse_origin(value: str) -> str:
    checked = _check_web_url(value)
    if checked != _with_plain_host(value) or urlsplit(value).path or not value.isascii():
        raise ValueError
    return checked


def _check_url(value: str, schemes: tuple[str, ...]) -> str:
    """Check a URL and return it without a final slash; the errors never quote it."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("has a host or a port that cannot be read") from None
    place = parts.hostname if schemes == WEB else parts.netloc + parts.query + parts.path.strip("/")
    if parts.scheme not in schemes or not place:
        raise ValueError(f"must be a URL starting with {' or '.join(f'{s}://' for s in schemes)}")
    if CONTROL_CHARACTER.search(value):
        raise ValueError("holds a control character (%00 to %1F)")
    if port == 0 or not HOST.fullmatch(parts.hostname or "localhost"):
        raise ValueError("has a host or a port that cannot be")
    if parts.netloc.count("@") > 1 or "#" in value or any(map(str.isspace, value)):
        raise ValueError("holds a character that must be percent-encoded (in a password: @ is %40)")
    return _with_plain_host(value).rstrip("/")


def _with_plain_host(value: str) -> str:
    """Return the URL with scheme and host in lower case and without the scheme's default port."""
    parts = urlsplit(value)
    if not parts.netloc:
        return value
    user, at, host = parts.netloc.rpartition("@")
    if parts.port is not None and parts.port == DEFAULT_PORTS.get(parts.scheme):
        host = host.rpartition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host.lower()}"))


def _check_web_url(value: str, *, may_have_query: bool = False) -> str:
    """Check an http(s) URL; it must not contain credentials, and a query only where allowed."""
    checked = _check_url(value, WEB)
    if "@" in urlsplit(checked).netloc:
        raise ValueError("must not hold a user name or password")
    if "?" in checked and not may_have_query:
        raise ValueError("must not hold a query (?…)")
    return checked


def _check_api_url(value: str) -> str:
    checked = _check_web_url(value)
    if checked.endswith("/v1"):
        raise ValueError("must not end in /v1, which is added to it")
    return checked


def _parse_database_url(value: str) -> str:
    """Accept both spellings of the scheme and return the URL with SQLAlchemy's driver name."""
    parts = value.partition("://")
    if not parts[1]:
        raise ValueError("must be a URL such as postgresql://user:password@host/name")
    if "," in parts[2].partition("/")[0].rpartition("@")[2]:
        raise ValueError("names several hosts; give one")
    _check_url(value, DATABASE)
    driver_url = f"postgresql+psycopg2://{parts[2]}"
    try:
        url = make_url(driver_url)
    except (ArgumentError, ValueError):
        raise ValueError("cannot be read; give postgresql://user:password@host/name") from None
    # With an unencoded special character the two parsers disagree about the password.
    if (url.host or "").lower() != (urlsplit(value).hostname or ""):
        raise ValueError("holds a character that must be percent-encoded (in a password: / is %2F)")
    _check_options(url)
    return driver_url


def _check_options(url: URL) -> None:
    """Refuse several hosts, and options that libpq would refuse, such as those of other drivers."""
    for name, option in url.query.items():
        if name in ("host", "hostaddr", "port") and (not isinstance(option, str) or "," in option):
            raise ValueError("names several hosts; give one")
        if not isinstance(option, str):
            raise ValueError(f"has the option {name} twice")  # noqa: TRY004 - as pydantic reads it
        try:
            make_dsn(**{name: "1"})
        except DriverError:
            raise ValueError("has an option (after the ?) that PostgreSQL does not know") from None


def _check_redis_url(value: str) -> str:
    checked = _check_url(value, REDIS)
    parts = urlsplit(checked)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and database and not re.fullmatch("[0-9]+", database):
        raise ValueError("must end in the number of a database, if in anything")
    if not all(map(REDIS_OPTION.fullmatch, parse_qs(parts.query, keep_blank_values=True))):
        raise ValueError(
            "has an option (after the ?) other than db, username, password, client_name and ssl_…"
        )
    try:
        ConnectionPool.from_url(checked).make_connection()  # does not connect
    except Exception:  # the option is unknown, or its value has another type
        raise ValueError("has an option (after the ?) that Redis clients do not know") from None
    return checked


def _secret_of(pattern: str, reason: str) -> AfterValidator:
    """Return the check of a secret, which must be fit for a header; a shortened one is not."""

    def check(value: SecretStr) -> SecretStr:
        if not re.fullmatch(pattern, value.get_secret_value()):
            raise ValueError(reason)
        return value

    return AfterValidator(check)


def _check_bind(value: str) -> str:
    for address in value.split(","):
        if address.startswith("unix:") and address != "unix:":
            continue
        host, port = _host_and_port(address)
        if host is None or not HOST.fullmatch(host) or int(port) > LAST_PORT:
            raise ValueError(f"must be an address and a port up to {LAST_PORT}, or unix:/path")
    return value


def _host_and_port(address: str) -> tuple[str | None, str]:
    found = TCP_ADDRESS.fullmatch(address)
    return (found[1] or found[2], found[3]) if found else (None, "0")


def _check_publishable_key(value: str) -> str:
    _instance_host(value)
    return value


def _check_webhook_secret(value: SecretStr) -> SecretStr:
    """Refuse a secret with which no signature could be verified: `whsec_` and base64 are needed."""
    prefix, _, encoded = value.get_secret_value().partition("_")
    if prefix != "whsec" or not _decode(encoded):
        raise ValueError("is not a signing secret (whsec_…)")
    return value


def _check_sentry_dsn(value: SecretStr) -> SecretStr:
    """Refuse an address without key or project, which Sentry's client would refuse later."""
    parts = urlsplit(value.get_secret_value())
    if (
        parts.scheme not in WEB
        or not (parts.username and parts.hostname)
        or not parts.path.rpartition("/")[2].isdigit()
    ):
        raise ValueError("is not a DSN of Sentry (https://key@host/project)")
    return value


def _check_support_url(value: str) -> str:
    if not value.startswith("mailto:"):
        return _check_web_url(value, may_have_query=True)
    if find_fault(value.removeprefix("mailto:").partition("?")[0]):
        raise ValueError("must be mailto: with an e-mail address, or a URL")
    return value


# In the project's folder, unless it is absolute or begins with `~`.
ProjectPath = Annotated[Path, AfterValidator(lambda path: PROJECT / path.expanduser())]
Addresses = Annotated[frozenset[str], BeforeValidator(_parse_addresses)]
Origins = Annotated[frozenset[str], BeforeValidator(_parse_origins)]
DatabaseUrl = Annotated[str, BeforeValidator(_parse_database_url)]
WebUrl = Annotated[str, BeforeValidator(_check_web_url)]
ApiUrl = Annotated[str, BeforeValidator(_check_api_url)]
PageUrl = Annotated[str, BeforeValidator(partial(_check_web_url, may_have_query=True))]
RedisUrl = Annotated[str, BeforeValidator(_check_redis_url)]
ClerkSecretKey = Annotated[
    SecretStr,
    _secret_of(
        r"sk_(test|live)_[\x21-\x7e]+", "is not a Clerk secret key (sk_test_… or sk_live_…)"
    ),
]
PublishableKey = Annotated[str, AfterValidator(_check_publishable_key)]
Token = Annotated[
    SecretStr, _secret_of(r"[\x21-\x7e]+", "must consist of visible ASCII characters")
]


SECRET_URL = Field(default=None, repr=False)  # the URL may contain a password


class Config(BaseModel):
    """All settings, checked. The names are those of the environment variables, in lower case."""

    model_config = {"frozen": True, "hide_input_in_errors": True}

    app_env: Literal["development", "production"] = "development"
    instance_path: ProjectPath = PROJECT / "instance"
    database_url: DatabaseUrl | None = SECRET_URL
    database_url_unpooled: DatabaseUrl | None = SECRET_URL
    database_connect_seconds: float = Field(default=10, gt=0, le=120)
    database_idle_seconds: int = Field(default=240, ge=0, le=604_800)
    database_idle_sweep_seconds: int = Field(default=21_600, ge=1, le=604_800)
    redis_url: RedisUrl | None = SECRET_URL
    secret_key: SecretStr | None = None

    clerk_publishable_key: PublishableKey | None = None
    clerk_secret_key: ClerkSecretKey | None = None
    clerk_frontend_api_url: ApiUrl | None = None
    clerk_api_url: ApiUrl = "https://api.clerk.com"
    clerk_jwks_url: PageUrl | None = None
    clerk_issuer: WebUrl | None = None
    clerk_authorized_parties: Origins = frozenset()
    clerk_identity_max_age_seconds: int = Field(default=86_400, ge=1)
    clerk_sign_in_url: PageUrl | None = None
    clerk_webhook_secret: Annotated[SecretStr, AfterValidator(_check_webhook_secret)] | None = None

    admin_emails: Addresses = frozenset()
    support_url: Annotated[str, BeforeValidator(_check_support_url)] | None = None
    enable_auto_create: bool = True
    enrolment: Literal["open", "invited"] = "open"

    sweep_interval_seconds: int = Field(default=60, ge=1, le=604_800)
    provisioning_max_attempts: int = Field(default=8, ge=1, le=1_000_000)
    scheduler: bool = True
    session_ttl_seconds: int = Field(default=300, ge=1, le=86_400)
    retention_days: int = Field(default=30, ge=0, le=36_500)
    audit_retention_days: int = Field(default=730, ge=0, le=36_500)

    rate_limit_per_minute: int = Field(default=600, ge=1, le=1_000_000_000)
    ensure_rate_limit_per_minute: int = Field(default=60, ge=1, le=1_000_000_000)
    metrics_token: Token | None = None

    web_concurrency: int = Field(default=1, ge=1, le=1_000)
    web_threads: int = Field(default=8, ge=1, le=1_000)
    bind: Annotated[str, AfterValidator(_check_bind)] = "127.0.0.1:8000"
    trusted_proxies: int = Field(default=0, ge=0, le=100)
    log_format: Literal["json", "console"] | None = None
    sentry_dsn: Annotated[SecretStr, AfterValidator(_check_sentry_dsn)] | None = None

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "Config":
        """Refuse an incomplete production, and two databases: one migrated, another one served.

        Also settings by which real users would reach the development identity provider, where any
        user can sign in as an admin.
        """
        missing = [name.upper() for name in REQUIRED_IN_PRODUCTION if not getattr(self, name)]
        if self.is_production and missing:
            raise ValueError(f"APP_ENV=production needs {', '.join(missing)}")
        if self.database_url_unpooled is not None and self.database_url is None:
            raise ValueError("DATABASE_URL_UNPOOLED needs DATABASE_URL")
        if self.clerk_publishable_key is None:
            for name in type(self).model_fields:
                is_given = getattr(self, name) and name in self.model_fields_set
                if is_given and name.startswith("clerk_") and name not in WITHOUT_PUBLISHABLE_KEY:
                    raise ValueError(f"{name.upper()} needs CLERK_PUBLISHABLE_KEY")
        addresses = [each for each in self.bind.split(",") if not each.startswith("unix:")]
        is_exposed = not all(is_loopback(_host_and_port(each)[0] or "") for each in addresses)
        if self.uses_development_provider and is_exposed:
            raise ValueError(
                "BIND: without CLERK_PUBLISHABLE_KEY the development identity provider answers, "
                "which serves on loopback only"
            )
        return self

    @property
    def metrics_path(self) -> Path:
        """The folder with the metrics files that all processes of this host share."""
        return self.instance_path / "metrics"

    @property
    def is_production(self) -> bool:
        """Whether the installation serves real users."""
        return self.app_env == "production"

    @property
    def uses_development_provider(self) -> bool:
        """Whether the development identity provider replaces Clerk; never in production."""
        return not (self.clerk_publishable_key or self.is_production)

    @cached_property  # each page without a bearer token reads it
    def frontend_api_url(self) -> str | None:
        """The base URL of Clerk's public keys and handshake: given, or from the publishable key."""
        return self.clerk_frontend_api_url or self._instance_url

    @property
    def is_development_instance(self) -> bool:
        """Whether this is a Clerk development instance, whose cookies cannot cross sites."""
        return not (self.clerk_publishable_key or "").startswith("pk_live_")

    @property
    def jwks_url(self) -> str | None:
        """The URL of the issuer's public keys; None with the development identity provider."""
        base = self.frontend_api_url
        return self.clerk_jwks_url or (f"{base}/.well-known/jwks.json" if base else None)

    @property
    def issuer(self) -> str | None:
        """The `iss` that a session token must have; None leaves it unchecked.

        Behind a proxy of the frontend API, tokens keep the instance's own address.
        """
        return self.clerk_issuer or self._instance_url

    @property
    def proxy_issuer(self) -> str | None:
        """A second accepted `iss`: the given address of the frontend API, without CLERK_ISSUER."""
        return None if self.clerk_issuer else self.clerk_frontend_api_url

    @property
    def sign_in_url(self) -> str | None:
        """The URL of the sign-in page: given, or Clerk's hosted account portal."""
        return self.clerk_sign_in_url or self._account_page("sign-in")

    @property
    def account_url(self) -> str | None:
        """The URL where users edit their account: Clerk's hosted account portal."""
        return self._account_page("user")

    def _account_page(self, name: str) -> str | None:
        portal = _account_portal(self.frontend_api_url) or _account_portal(self._instance_url)
        return f"{portal}/{name}" if portal else None

    @property
    def _instance_url(self) -> str | None:
        key = self.clerk_publishable_key
        return f"https://{_instance_host(key)}" if key else None


def load_config(environ: Mapping[str, str], dotenv: Path | None = PROJECT / ".env") -> Config:
    """Read the settings; the environment wins over the `.env` file.

    White space and quotes around a value are removed, and a blank value means unset. Raises
    ConfigError with one line that names the first wrong setting.
    """
    try:
        stored = dotenv_values(dotenv, encoding="utf-8-sig") if dotenv else {}
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{dotenv}: cannot be read ({type(err).__name__})") from None
    merged = {**stored, **environ}
    if not (merged.get("BIND") or "").strip():
        merged["BIND"] = _bind_of_port(merged)
    known: dict[str, str] = {}
    for name in Config.model_fields:
        try:
            known[name] = _trim(merged.get(name.upper()) or "")
        except ValueError as err:
            raise ConfigError(f"{name.upper()}: {err}") from None
    try:
        return Config.model_validate({name: value for name, value in known.items() if value})
    except ValidationError as err:
        raise ConfigError(_one_line(err)) from err


def _bind_of_port(environ: Mapping[str, str | None]) -> str | None:
    """Return the address for a PORT; on loopback where the development provider serves there."""
    port = _trim(environ.get("PORT") or "")
    if not port:
        return None
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > LAST_PORT:
        raise ConfigError(f"PORT: must be a number up to {LAST_PORT}")
    has_clerk = (environ.get("CLERK_PUBLISHABLE_KEY") or "").strip()
    return f"0.0.0.0:{port}" if has_clerk else f"127.0.0.1:{port}"  # nosec B104


def refuse_accidental_database(config: Config) -> None:
    """Raise ConfigError if DATABASE_URL is missing among settings of a production server.

    A shell that reads a file of settings ends an unquoted value at `&`. A command would then create
    and migrate an embedded database instead of the intended one, and report success.
    """
    given = config.model_fields_set
    if "app_env" in given or "database_url" in given:
        return
    found = [name.upper() for name in REQUIRED_IN_PRODUCTION if name in given]
    if found:
        raise ConfigError(
            f"DATABASE_URL: is not set, but {', '.join(found)} {'is' if len(found) == 1 else 'are'}"
            "; set APP_ENV=development to use the embedded database"
        )


def insecure_settings(config: Config) -> Iterator[tuple[str, str]]:
    """Yield settings that work but are insecure for real users, each with its fix."""
    if not config.is_production:
        if not config.is_development_instance:
            yield "APP_ENV", "is development, but the Clerk keys are pk_live_…: set production"
        return
    if config.is_development_instance:
        yield (
            "CLERK_PUBLISHABLE_KEY",
            "is of a development instance (pk_test_…): use pk_live_… keys",
        )
    if not config.clerk_authorized_parties:
        yield "CLERK_AUTHORIZED_PARTIES", "is not set, so that tokens for other sites are accepted"
    if (config.jwks_url or "").startswith("http://"):
        name = "CLERK_JWKS_URL" if config.clerk_jwks_url else "CLERK_FRONTEND_API_URL"
        yield name, "is not https://, so that the keys can be replaced on their way here"
    if config.secret_key and len(config.secret_key.get_secret_value()) < SECRET_KEY_LENGTH:
        yield "SECRET_KEY", f"is too short to be secret: use {SECRET_KEY_LENGTH} random characters"


def _one_line(err: ValidationError) -> str:
    first = err.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"]).split(".")[0].upper()
    reason = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if first["type"] == "bool_parsing":
        reason = "must be on or off"
    return f"{name}: {reason.partition(', unable to parse')[0]}" if name else reason


def _instance_host(publishable_key: str) -> str:
    """Return the instance's host from the key: `pk_(test|live)_` + base64 of `host$`."""
    prefix, _, encoded = publishable_key.rpartition("_")
    host = _decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii", "replace")
    is_host = "." in host and HOST.fullmatch(host.removesuffix("$"))
    if prefix not in ("pk_test", "pk_live") or not host.endswith("$") or not is_host:
        raise ValueError("is not a Clerk publishable key (pk_test_… or pk_live_…)")
    return host.removesuffix("$")


def _decode(text: str) -> bytes:
    """Return the bytes of a base64 text; none for any other text."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # also for characters beyond ASCII
        return b""


def _account_portal(frontend_api_url: str | None) -> str | None:
    """`clerk.example.com` has accounts.example.com; `x.clerk.accounts.dev` has x.accounts.dev."""
    host = urlsplit(frontend_api_url or "").netloc
    if host.endswith(".clerk.accounts.dev"):
        return f"https://{host.removesuffix('.clerk.accounts.dev')}.accounts.dev"
    if host.startswith("clerk."):
        return f"https://accounts.{host.removeprefix('clerk.')}"
    return None
