"""The application factory: create_app builds the Flask app and its services from a Config."""

import os
import secrets
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flask import Flask
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from sqlalchemy import make_url
from werkzeug.middleware.proxy_fix import ProxyFix

import models  # noqa: F401 - importing the package registers all tables
from auth.clerk_calls import SessionCalls, UserDirectory
from auth.clerk_client import ClerkClient
from auth.cookies import HandshakeReader, cookie_suffix
from auth.handshake import HandshakeService
from auth.jwks import KeySet
from auth.provider_calls import DEVELOPMENT, PRODUCTION, ProviderCalls
from auth.tokens import TokenVerifier
from blueprints.registration import register_blueprints
from core import deadlines, files
from core.activity import Activity, LastUseFile, LastUseInRedis
from core.cache import Store
from core.config import Config
from core.connection_pool import CONNECTION_LIMIT, ConnectionPool, pool_of, prepare_engine
from core.database import DIRECT, EmbeddedDatabaseError, cache, db
from core.deadlines import DeferredBeginConnection
from core.flask_app import LazyCommands, LazyExtension, LazyModule, LeanFlask
from core.rate_limit import RateLimiter
from core.server_status import ServerStatus
from dashboard.goal_changes import goals_job
from models.background import JobKind
from provisioning.attempts import RetryPolicy
from provisioning.audit import Source
from provisioning.clerk_messages import RetentionPolicy
from provisioning.context_cache import ContextCache
from provisioning.identity_lookups import BackgroundRefresh
from provisioning.imports import mentee_import
from provisioning.retry import RetryingUnitOfWork
from provisioning.rules import Rules
from provisioning.service import ProvisioningService
from sweep.stats import BacklogCollector
from web import startup
from web.csv_import import list_text, read_list
from web.health import Readiness
from web.job_runner import JobRunner
from web.problem_responses import MAX_FORM_BYTES
from web.services import EXTENSION, Services

if TYPE_CHECKING:
    from cli import provisioning as commands
    from cli import registration
    from dev import fake_clerk, postgres
    from dev.fake_clerk import DevIdentityProvider, DevSessions
else:  # a server process in production needs none of them
    commands = LazyModule("cli.provisioning")
    registration = LazyModule("cli.registration")
    fake_clerk = LazyModule("dev.fake_clerk")
    postgres = LazyModule("dev.postgres")

BODY_LIMIT = 64 * 1024
PARTS_LIMIT = 100  # of a multipart form; the largest has about twenty
CONNECTION_WAIT_SECONDS = 1.0  # of a request, which must be answered within two seconds
BACKGROUND_CONNECTIONS = 3  # for background jobs, beside one connection for each request thread
# libpq's names; the URL may set others. A probe after 30 s of silence detects a lost peer; the
# connection ends after three unanswered ones.
KEEPALIVES = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds that the peer may leave data unacknowledged
}
CACHE_TIMEOUT_SECONDS = 0.1  # a hanging Redis must cost less than the query that it saves
CACHE_ENTRIES = 50_000
_now = partial(datetime.now, UTC)


def build_app(config: Config) -> Flask:
    """As create_app; exits with a one-line message where the instance folder is not writable."""
    with startup.exit_on_unwritable_folder(config):
        return create_app(config)


def create_app(config: Config | None = None) -> Flask:
    """Build the app; starts the embedded database where DATABASE_URL is not set.

    Without `config`, the settings come from the environment, as a server and a command need them;
    a wrong one exits with one line. Raises OSError when the instance folder cannot be written.
    """
    if config is None:
        return _create_from_environment()
    deadlines.install_wait_callback()
    app = LeanFlask(__name__, instance_path=str(config.instance_path))
    app.config.from_mapping(_flask_settings(config))
    if hops := config.trusted_proxies:
        proxied = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)
        app.wsgi_app = proxied  # type: ignore[method-assign] # as Flask documents
    for extension in (db, cache):
        extension.init_app(app)
    app.extensions["migrate"] = LazyExtension(
        app,
        "migrate",
        lambda app: registration.init_migrate(app),  # noqa: PLW0108 - imports it at its use
    )
    with app.app_context():
        for engine in db.engines.values():
            prepare_engine(engine)
        app.extensions[EXTENSION] = _build_services(app, config, pool_of(db.engine).server)
    register_blueprints(app, config)
    app.cli = LazyCommands(app.name, lambda: registration.register_commands(app))
    app.shell_context_processor(lambda: commands.shell_context())  # noqa: PLW0108 - as above
    return app


def _create_from_environment() -> Flask:
    config, addresses = startup.load_settings(os.environ), startup.flask_run_addresses()
    startup.refuse_exposed_development_provider(config, addresses)
    startup.start_logging(config)
    app = build_app(config)
    if addresses:  # `flask run` does what gunicorn's hooks do
        startup.prepare_database(config, lambda _: app)
        startup.print_banner(config, addresses)
    return app


def _flask_settings(config: Config) -> dict[str, Any]:
    url = config.database_url or _start_embedded_database(config)
    binds = {}
    if direct_url := config.database_url_unpooled:
        binds[DIRECT] = {"url": direct_url, **_engine_options(config, direct_url)}
    return {
        "SECRET_KEY": _secret_key(config),
        "MAX_CONTENT_LENGTH": BODY_LIMIT,
        "MAX_FORM_PARTS": PARTS_LIMIT,
        "MAX_FORM_MEMORY_SIZE": MAX_FORM_BYTES,
        "SESSION_COOKIE_SECURE": config.is_production,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SQLALCHEMY_DATABASE_URI": url,
        "SQLALCHEMY_ENGINE_OPTIONS": _engine_options(config, url),
        "SQLALCHEMY_BINDS": binds,
        **_cache_settings(config),
    }


def _start_embedded_database(config: Config) -> str:
    try:
        return postgres.start(config.instance_path)
    except ModuleNotFoundError:  # its packages are not in requirements.lock
        raise EmbeddedDatabaseError(
            "DATABASE_URL: is not set, and no embedded database is installed (`make run` does); "
            "on a server, ops/neon-flask COMMAND reads the file of settings"
        ) from None


def _engine_options(config: Config, url: str) -> dict[str, Any]:
    url_options = make_url(url).query
    if url_options.get("sslrootcert") == "system":
        _use_trusted_certificates()
    return {
        "hide_parameters": True,  # they contain names and addresses, and errors are logged
        "poolclass": ConnectionPool,
        "pool_size": min(config.web_threads + BACKGROUND_CONNECTIONS, CONNECTION_LIMIT),
        "pool_timeout": CONNECTION_WAIT_SECONDS,
        "connect_seconds": config.database_connect_seconds,
        "use_native_hstore": False,  # no table has such a column; the query is a round trip
        "connect_args": {
            "application_name": "neon-dashboard",
            "connection_factory": DeferredBeginConnection,
            **{name: value for name, value in KEEPALIVES.items() if name not in url_options},
        },
    }


def _use_trusted_certificates() -> None:
    """Name this machine's certificates for the driver, whose OpenSSL was built elsewhere."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        os.environ.setdefault(paths.openssl_cafile_env, paths.cafile)
    if paths.capath:
        os.environ.setdefault(paths.openssl_capath_env, paths.capath)


def _cache_settings(config: Config) -> dict[str, Any]:
    if config.redis_url is None:
        return {"CACHE_TYPE": "core.cache.LocalStore", "CACHE_THRESHOLD": CACHE_ENTRIES}
    return {
        "CACHE_TYPE": "core.cache.RedisStore",
        "CACHE_REDIS_URL": config.redis_url,
        "CACHE_KEY_PREFIX": "neon:",
        "CACHE_OPTIONS": {
            "socket_timeout": CACHE_TIMEOUT_SECONDS,
            "socket_connect_timeout": CACHE_TIMEOUT_SECONDS,
            # A connection from before a restart of Redis is retried once; a timeout is not.
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        },
    }


class Provider(NamedTuple):
    """The parts that know Clerk, or the development identity provider in its place."""

    verifier: TokenVerifier
    publishable_key: str | None
    session_calls: SessionCalls | None = None
    directory: UserDirectory | None = None
    clerk: ClerkClient | None = None
    dev_provider: "DevIdentityProvider | None" = None
    dev_sessions: "DevSessions | None" = None


def _build_services(app: Flask, config: Config, server: ServerStatus) -> Services:
    calls = ProviderCalls(DEVELOPMENT if config.is_development_instance else PRODUCTION)
    provider = (_development_provider if config.uses_development_provider else _clerk)(
        config, calls
    )
    service = _provisioning_service(config, server, provider.directory)
    store = service.contexts.store
    last_use = LastUseInRedis(store) if config.redis_url else LastUseFile(config.instance_path)
    activity = Activity(config.database_idle_seconds, last_use)
    backlog = BacklogCollector(
        service.rules, timedelta(seconds=config.sweep_interval_seconds), _now, activity
    )
    return Services(
        config=config,
        activity=activity,
        verifier=provider.verifier,
        handshakes=_handshake_service(config, provider),
        provisioning=service,
        backlog=backlog,
        refresh=BackgroundRefresh(
            # The source of all background work is `sweep`: no client waits; it is no visit.
            lambda clerk_id, now: service.refresh_visitor_if_due(
                clerk_id, source=Source("sweep"), now=now
            ),
            app.app_context,
        ),
        jobs=_job_runner(service, backlog, activity),
        rate_limiter=RateLimiter(
            config.rate_limit_per_minute, config.ensure_rate_limit_per_minute, store
        ),
        readiness=Readiness(config, activity, service, provider.verifier.keys, _now),
        clerk=provider.clerk,
        session_calls=provider.session_calls,
        now=_now,
        dev_provider=provider.dev_provider,
        dev_sessions=provider.dev_sessions,
    )


def _development_provider(config: Config, calls: ProviderCalls) -> Provider:
    provider = fake_clerk.DevIdentityProvider(config.instance_path / "identity")
    sessions = fake_clerk.DevSessions(provider)
    keys = KeySet(provider.key_set)
    return Provider(
        TokenVerifier(keys, fake_clerk.ISSUER, config.clerk_authorized_parties),
        fake_clerk.PUBLISHABLE_KEY,
        SessionCalls(calls, sessions.end, None, sessions.refresh),
        UserDirectory(provider, calls),
        dev_provider=provider,
        dev_sessions=sessions,
    )


def _clerk(config: Config, calls: ProviderCalls) -> Provider:
    """Return the parts that call Clerk; without a secret key only published keys are fetched."""
    key = config.clerk_secret_key
    clerk = ClerkClient(
        key.get_secret_value() if key else None, config.clerk_api_url, config.jwks_url
    )
    verifier = TokenVerifier(
        KeySet(clerk.key_set, calls=calls),
        config.issuer,
        config.clerk_authorized_parties,
        proxy_issuer=config.proxy_issuer,
    )
    if key is None:
        return Provider(verifier, config.clerk_publishable_key, clerk=clerk)
    return Provider(
        verifier,
        config.clerk_publishable_key,
        SessionCalls(calls, clerk.end_session, clerk.handshake_cookies, clerk.refresh_session),
        UserDirectory(clerk, calls),
        clerk,
    )


def _handshake_service(config: Config, provider: Provider) -> HandshakeService:
    key, calls = provider.publishable_key, provider.session_calls
    has_nonces = calls is not None and calls.handshake_cookies is not None
    answers = HandshakeReader(
        provider.verifier,
        cookie_suffix(key) if key else None,
        config.is_development_instance,
        calls.exchange_nonce if calls and has_nonces else None,
        calls.can_exchange_nonces if calls else lambda: False,
    )
    refresh = calls.refresh if calls else None
    local_api = fake_clerk.FRONTEND_PATH if config.uses_development_provider else ""
    frontend_api = config.frontend_api_url or local_api
    return HandshakeService(provider.verifier, answers, refresh, frontend_api)


def _job_runner(
    service: ProvisioningService, backlog: BacklogCollector, activity: Activity
) -> JobRunner:
    def publish_changes(_: str, clerk_ids: Iterable[str]) -> None:
        service.contexts.publish(clerk_ids)
        backlog.invalidate()

    return JobRunner(
        {
            JobKind.IMPORT: lambda job: mentee_import(
                job, read_list(list_text(job.content or "")), _now()
            ),
            JobKind.GOALS: lambda job: goals_job(job.options, _now()),
        },
        publish_changes,
        activity,
    )


def _provisioning_service(
    config: Config, server: ServerStatus, directory: UserDirectory | None
) -> ProvisioningService:
    interval = timedelta(seconds=config.sweep_interval_seconds)
    development_admins = {fake_clerk.ADMIN_EMAIL} if config.uses_development_provider else set()
    admins = config.admin_emails | development_admins
    return ProvisioningService(
        Rules(config.enable_auto_create, config.enrolment == "invited", admins),
        ContextCache(
            config.session_ttl_seconds, cast(Store, cache.cache), ",".join(sorted(admins))
        ),
        RetryingUnitOfWork(
            RetryPolicy(config.provisioning_max_attempts, first_pause=interval), server
        ),
        directory,
        timedelta(seconds=config.clerk_identity_max_age_seconds),
        RetentionPolicy(
            timedelta(days=config.retention_days), timedelta(days=config.audit_retention_days)
        ),
    )


def _secret_key(config: Config) -> str:
    if config.secret_key is not None:
        return config.secret_key.get_secret_value()
    path = config.instance_path / "secret_key"
    return files.read_or_create(path, lambda: secrets.token_hex(32).encode()).decode()
