"""The application factory: create_app builds the Flask app and its services from a Config."""

import os
import secrets
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from sqlalchemy import make_url
from werkzeug.middleware.proxy_fix import ProxyFix

import models  # noqa: F401 - importing the package registers all tables
from auth.call_budget import DEVELOPMENT, PRODUCTION
from auth.clerk_client import ClerkClient
from auth.cookies import HandshakeReader, cookie_suffix
from auth.handshake import HandshakeService
from auth.jwks import KeySet
from auth.provider_calls import ProviderCalls
from auth.session_calls import SessionCalls
from auth.tokens import TokenVerifier
from auth.user_directory import UserDirectory, UserSource
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
from provisioning.identity_refresh import BackgroundRefresh
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
# libpq's names: a probe after 30 s of silence; the connection ends after three unanswered ones.
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
    app.wsgi_app = _behind_proxies(app, config)  # type: ignore[method-assign] # as Flask documents
    for extension in (db, cache):
        extension.init_app(app)
    app.extensions["migrate"] = LazyExtension(app, "migrate", _init_migrate)
    with app.app_context():
        for engine in db.engines.values():
            prepare_engine(engine)
        app.extensions[EXTENSION] = _build_services(app, config, pool_of(db.engine).server)
    register_blueprints(app, config)
    app.cli = LazyCommands(app.name, lambda: registration.register_commands(app))
    app.shell_context_processor(_shell_context)
    return app


def _create_from_environment() -> Flask:
    config = startup.load_settings(os.environ)
    startup.refuse_exposed_flask_run(config)
    startup.start_logging(config)
    app = build_app(config)
    startup.prepare_flask_run(app, config)
    return app


def _init_migrate(app: Flask) -> None:
    registration.init_migrate(app)


def _shell_context() -> dict[str, Any]:
    return commands.shell_context()


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


def _use_trusted_certificates(url: str) -> None:
    """Name this machine's certificates for `sslrootcert=system`.

    The driver's own OpenSSL looks for them in the folder where the driver was built.
    """
    if make_url(url).query.get("sslrootcert") == "system":
        paths = ssl.get_default_verify_paths()
        if paths.cafile:
            os.environ.setdefault(paths.openssl_cafile_env, paths.cafile)
        if paths.capath:
            os.environ.setdefault(paths.openssl_capath_env, paths.capath)


def _engine_options(config: Config, url: str) -> dict[str, Any]:
    _use_trusted_certificates(url)
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
            **_keepalives(url),
        },
    }


def _keepalives(url: str) -> dict[str, int]:
    """Return TCP keepalive options, which detect a lost peer, unless the URL sets them."""
    url_options = make_url(url).query
    return {name: value for name, value in KEEPALIVES.items() if name not in url_options}


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


def _build_services(app: Flask, config: Config, server: ServerStatus) -> Services:
    dev_provider = dev_sessions = None
    if config.uses_local_identity:
        dev_provider = fake_clerk.DevIdentityProvider(config.instance_path / "identity")
        dev_sessions = fake_clerk.DevSessions(dev_provider)
    calls = ProviderCalls(DEVELOPMENT if config.is_development_instance else PRODUCTION)
    clerk = _clerk_client(config)
    verifier = _token_verifier(config, dev_provider, clerk, calls)
    session_calls = _session_calls(config, dev_sessions, clerk, calls)
    service = _provisioning_service(
        config, server, _user_directory(config, dev_provider, clerk, calls)
    )
    activity = _activity(config, service.contexts)
    backlog = BacklogCollector(
        service.rules, timedelta(seconds=config.sweep_interval_seconds), _now, activity
    )
    return Services(
        config=config,
        activity=activity,
        verifier=verifier,
        handshakes=_handshake_service(config, verifier, session_calls),
        provisioning=service,
        backlog=backlog,
        refresh=_background_refresh(service, app),
        jobs=_job_runner(service, backlog, activity),
        rate_limiter=RateLimiter(
            config.rate_limit_per_minute,
            config.ensure_rate_limit_per_minute,
            service.contexts.store,
        ),
        readiness=Readiness(config, activity, service, verifier.keys, _now),
        clerk=clerk,
        session_calls=session_calls,
        now=_now,
        dev_provider=dev_provider,
        dev_sessions=dev_sessions,
    )


def _activity(config: Config, contexts: ContextCache) -> Activity:
    shared = (
        LastUseFile(config.instance_path)
        if config.redis_url is None
        else LastUseInRedis(contexts.store)
    )
    return Activity(config.database_idle_seconds, shared)


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


def _background_refresh(service: ProvisioningService, app: Flask) -> BackgroundRefresh:
    def refresh(clerk_id: str, now: datetime) -> None:
        # The source of all background work is `sweep`: no client waits, and it counts as no visit.
        service.refresh_visitor_if_due(clerk_id, source=Source("sweep"), now=now)

    return BackgroundRefresh(refresh, app.app_context)


def _clerk_client(config: Config) -> ClerkClient | None:
    """Return the HTTP client of Clerk; without a secret key it can only fetch published keys."""
    if config.uses_local_identity:
        return None
    key = config.clerk_secret_key
    secret = key.get_secret_value() if key else None
    return ClerkClient(secret, config.clerk_api_url, config.jwks_url)


def _session_calls(
    config: Config,
    dev_sessions: "DevSessions | None",
    clerk: ClerkClient | None,
    calls: ProviderCalls,
) -> SessionCalls | None:
    """Return the provider calls for browser sessions; None without a secret key."""
    if dev_sessions is not None:
        return SessionCalls(calls, dev_sessions.end, None, dev_sessions.refresh)
    if clerk is None or config.clerk_secret_key is None:
        return None
    return SessionCalls(calls, clerk.end_session, clerk.handshake_cookies, clerk.refresh_session)


def _handshake_service(
    config: Config, verifier: TokenVerifier, session_calls: SessionCalls | None
) -> HandshakeService:
    key = fake_clerk.PUBLISHABLE_KEY if config.uses_local_identity else config.clerk_publishable_key
    has_nonces = session_calls is not None and session_calls.handshake_cookies is not None
    answers = HandshakeReader(
        verifier,
        cookie_suffix(key) if key else None,
        config.is_development_instance,
        session_calls.exchange_nonce if session_calls and has_nonces else None,
        session_calls.can_exchange_nonces if session_calls else lambda: False,
    )
    refresh = session_calls.refresh if session_calls else None
    local_api = fake_clerk.FRONTEND_PATH if config.uses_local_identity else ""
    frontend_api = config.frontend_api_url or local_api
    return HandshakeService(verifier, answers, refresh, frontend_api)


def _user_directory(
    config: Config,
    dev_provider: "DevIdentityProvider | None",
    clerk: ClerkClient | None,
    calls: ProviderCalls,
) -> UserDirectory | None:
    """Return the user directory; None without a secret key."""
    source: UserSource | None = dev_provider
    if source is None and config.clerk_secret_key is not None:
        source = clerk
    return UserDirectory(source, calls) if source else None


def _provisioning_service(
    config: Config, server: ServerStatus, directory: UserDirectory | None
) -> ProvisioningService:
    interval = timedelta(seconds=config.sweep_interval_seconds)
    development_admins = {fake_clerk.ADMIN_EMAIL} if config.uses_local_identity else set()
    admins = config.admin_emails | development_admins
    return ProvisioningService(
        Rules(config.enable_auto_create, config.enrolment == "invited", admins),
        ContextCache(config.session_ttl_seconds, _cache_store(), ",".join(sorted(admins))),
        RetryingUnitOfWork(
            RetryPolicy(config.provisioning_max_attempts, first_pause=interval), server
        ),
        directory,
        timedelta(seconds=config.clerk_identity_max_age_seconds),
        RetentionPolicy(
            timedelta(days=config.retention_days), timedelta(days=config.audit_retention_days)
        ),
    )


def _cache_store() -> Store:
    """Return the cache of the current app with its actual type."""
    return cast(Store, cache.cache)


def _token_verifier(
    config: Config,
    dev_provider: "DevIdentityProvider | None",
    clerk: ClerkClient | None,
    calls: ProviderCalls,
) -> TokenVerifier:
    if clerk is not None:
        keys = KeySet(clerk.key_set, calls=calls)
        return TokenVerifier(
            keys,
            config.issuer,
            config.clerk_authorized_parties,
            proxy_issuer=config.proxy_issuer,
        )
    key_set = dev_provider.key_set if dev_provider is not None else dict
    return TokenVerifier(KeySet(key_set), fake_clerk.ISSUER, config.clerk_authorized_parties)


def _behind_proxies(app: Flask, config: Config) -> Any:
    hops = config.trusted_proxies
    return ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops) if hops else app.wsgi_app


def _secret_key(config: Config) -> str:
    if config.secret_key is not None:
        return config.secret_key.get_secret_value()
    path = config.instance_path / "secret_key"
    return files.read_or_create(path, lambda: secrets.token_hex(32).encode()).decode()
