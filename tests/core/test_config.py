"""Settings are read once and checked; an error is one line that names the setting."""

import base64
import re
import traceback
from pathlib import Path

import pytest

from app import create_app
from core.config import (
    PROJECT,
    Config,
    ConfigError,
    insecure_settings,
    load_config,
    refuse_accidental_database,
)
from web.services import EXTENSION

SECRET = "hush-0123456789"


def publishable_key(prefix: str, host: str) -> str:
    return f"{prefix}_{base64.b64encode(f'{host}$'.encode()).decode()}"


DEVELOPMENT_KEY = publishable_key("pk_test", "happy-fox-1.clerk.accounts.dev")
PRODUCTION_KEY = publishable_key("pk_live", "clerk.example.com")
PRODUCTION = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgresql://db.example.com/neon",
    "CLERK_PUBLISHABLE_KEY": PRODUCTION_KEY,
    "CLERK_SECRET_KEY": "sk_live_x",
    "SECRET_KEY": SECRET,
}


def load(**settings: str) -> Config:
    return load_config(settings, dotenv=None)


def config_error(**settings: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(**settings)
    return caught.value


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("app_env", "development"),
        ("database_url", None),
        ("database_url_unpooled", None),
        ("database_connect_seconds", 10),
        ("database_idle_seconds", 240),
        ("database_idle_sweep_seconds", 21_600),
        ("redis_url", None),
        ("secret_key", None),
        ("clerk_authorized_parties", frozenset()),
        ("admin_emails", frozenset()),
        ("support_url", None),
        ("enable_auto_create", True),
        ("enrolment", "open"),
        ("sweep_interval_seconds", 60),
        ("provisioning_max_attempts", 8),
        ("scheduler", True),
        ("session_ttl_seconds", 300),
        ("rate_limit_per_minute", 600),
        ("ensure_rate_limit_per_minute", 60),
        ("metrics_token", None),
        ("web_concurrency", 1),
        ("web_threads", 8),
        ("bind", "127.0.0.1:8000"),
        ("trusted_proxies", 0),
        ("uses_development_provider", True),
        ("frontend_api_url", None),
        ("jwks_url", None),
        ("issuer", None),
        ("sign_in_url", None),
    ],
)
def test_default_matches_the_contract(setting: str, expected: object) -> None:
    assert getattr(load(), setting) == expected


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_database_scheme_selects_psycopg2(scheme: str) -> None:
    config = load(DATABASE_URL=f"{scheme}://u:p@h:5432/neon?sslmode=require")

    assert config.database_url == "postgresql+psycopg2://u:p@h:5432/neon?sslmode=require"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_value_means_unset(blank: str) -> None:
    assert load(DATABASE_URL=blank, WEB_THREADS=blank, APP_ENV=blank) == load()


def test_env_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("WEB_THREADS=3\n")

    assert load_config({}, dotenv=file).web_threads == 3


def test_environment_overrides_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("WEB_THREADS=3\nWEB_CONCURRENCY=2\n")

    config = load_config({"WEB_THREADS": "5"}, dotenv=file)

    assert (config.web_threads, config.web_concurrency) == (5, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://db/neon"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", "db.example.com/neon"),
        ("DATABASE_URL", "postgresql://db:99999/neon"),
        ("REDIS_URL", "memcached://cache"),
        ("DATABASE_URL", "postgresql://u:p@db1,db2/neon"),
        ("DATABASE_URL", "postgresql:///neon?host=db1,db2"),
        ("DATABASE_URL", "postgresql:///neon?host=db1&host=db2"),
        ("DATABASE_URL", "postgresql://db/neon?port=5432,5433"),
        ("DATABASE_URL", "postgresql://db/neon?pgbouncer=true"),
        ("DATABASE_URL", "postgresql://db:0/neon"),
        ("DATABASE_URL", "postgresql://db/ne on"),
        ("DATABASE_URL", "postgresql://db1,db2/neon"),
        ("DATABASE_URL", "postgresql://db1:5432,db2:5432/neon"),
        ("DATABASE_URL", "postgresql://[::1/neon"),
        ("DATABASE_URL", "postgresql:/db/neon"),
        ("DATABASE_URL", "postgresql://db/neon?krbsrvname=%00"),
        ("DATABASE_URL", "postgresql://u:p%0a@db/neon"),
        ("DATABASE_URL", "postgresql://db/neon?sslmode=require&sslmode=disable"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://cache/sessions"),
        ("REDIS_URL", "redis://cache/-1"),
        ("REDIS_URL", "redis://cache/1.5"),
        ("REDIS_URL", "redis://cache?db=sessions"),
        ("REDIS_URL", "redis://cache?unknown=1"),
        ("REDIS_URL", "redis://cache?decode_responses=True"),
        ("REDIS_URL", "redis://cache?socket_timeout=30"),
        ("REDIS_URL", "redis://cache?protocol="),
        ("REDIS_URL", "redis://cache:70000"),
        ("BIND", "unix:"),
        ("CLERK_FRONTEND_API_URL", "https://clerk.example.com/v1"),
        ("ADMIN_EMAILS", "mailto:ana@example.com"),
        ("ADMIN_EMAILS", "Ana <ana@example.com>"),
        ("ADMIN_EMAILS", "ana@example.com;"),
        ("ADMIN_EMAILS", "ana@example.com."),
        ("ADMIN_EMAILS", "ana\u200b@example.com"),
        ("ADMIN_EMAILS", "ana@example.com bia@example.com"),
        ("ADMIN_EMAILS", "ana@example.com\nbia@example.com"),
        ("ADMIN_EMAILS", "notanemail"),
        ("ADMIN_EMAILS", "ana@example.com,bia"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com/"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com/dashboard"),
        ("CLERK_AUTHORIZED_PARTIES", "app.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com?a=b"),
        ("CLERK_AUTHORIZED_PARTIES", "https://ana@app.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com https://www.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "https://ação.example.com"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example.com:99999"),
        ("CLERK_AUTHORIZED_PARTIES", "*"),
        ("CLERK_AUTHORIZED_PARTIES", "null"),
        *(
            (name, value)
            for name in (
                "CLERK_ISSUER",
                "CLERK_FRONTEND_API_URL",
                "CLERK_API_URL",
                "CLERK_JWKS_URL",
                "CLERK_SIGN_IN_URL",
            )
            for value in (
                "clerk.example.com",
                "//clerk.example.com",
                "https://",
                "https:///path",
                "https://ana:secret@clerk.example.com",
                "https://clerk.example.com/#top",
                "https://clerk.example.com:99999",
                "https://clerk example.com",
                "file:///keys",
                "https://clerk.example.com:0",
                "https://[::1",
                "https://clerk.example.com\r\nX: y",
            )
        ),
        *(
            (name, "https://clerk.example.com?a=b")
            for name in ("CLERK_ISSUER", "CLERK_FRONTEND_API_URL", "CLERK_API_URL")
        ),
        ("CLERK_API_URL", "https://api.clerk.com/v1"),
        ("SENTRY_DSN", "https://o1.ingest.sentry.io/2"),
        ("SENTRY_DSN", "https://key@o1.ingest.sentry.io"),
        ("SENTRY_DSN", "key@o1.ingest.sentry.io/2"),
        ("CLERK_WEBHOOK_SECRET", "whsec_…"),
        ("CLERK_WEBHOOK_SECRET", "whsec_not*base64"),
        ("CLERK_WEBHOOK_SECRET", "whsec_"),
        ("CLERK_WEBHOOK_SECRET", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        ("METRICS_TOKEN", "señal"),
        ("METRICS_TOKEN", "two words"),
        ("CLERK_SECRET_KEY", "sk_live_…"),
        ("CLERK_SECRET_KEY", "pk_live_x"),
        ("CLERK_SECRET_KEY", "sk_live_"),
        ("CLERK_SECRET_KEY", "sk_live_a b"),
        ("CLERK_SECRET_KEY", "sk_live_a\nsk_live_b"),
        ("SECRET_KEY", "a\x00b"),
        ("SECRET_KEY", "\udcff"),
        ("BIND", "127.0.0.1:99999"),
        ("BIND", "0.0.0.0:8000"),
        ("BIND", "8000"),
        ("BIND", "127.0.0.1:-1"),
        ("BIND", "127.0.0.1:٨٠"),
        ("BIND", "http://127.0.0.1:8000"),
        ("BIND", "127.0.0.1:8000,0.0.0.0:8000"),
        ("BIND", ":8000"),
        ("BIND", "[::]:8000"),
        *(
            (name, value)
            for name in (
                "WEB_THREADS",
                "WEB_CONCURRENCY",
                "SWEEP_INTERVAL_SECONDS",
                "SESSION_TTL_SECONDS",
                "PROVISIONING_MAX_ATTEMPTS",
                "RATE_LIMIT_PER_MINUTE",
                "ENSURE_RATE_LIMIT_PER_MINUTE",
                "TRUSTED_PROXIES",
            )
            for value in ("-1", "nan", "inf", "1e3", "0x10", "9" * 30, "9" * 5_000, "1,5", "true")
        ),
        *(
            ("DATABASE_CONNECT_SECONDS", value)
            for value in ("-1", "nan", "inf", "1e9", "9" * 400, "ten")
        ),
        *(
            (name, value)
            for name in ("SCHEDULER", "ENABLE_AUTO_CREATE")
            for value in ("2", "sim", "enabled", "-1", "None")
        ),
        ("BIND", "127.0.0.1:http"),
        ("WEB_THREADS", "many"),
        ("WEB_THREADS", "0"),
        ("WEB_CONCURRENCY", "1.5"),
        ("SESSION_TTL_SECONDS", "-1"),
        ("SWEEP_INTERVAL_SECONDS", "soon"),
        ("DATABASE_CONNECT_SECONDS", "0"),
        ("DATABASE_IDLE_SECONDS", "-1"),
        ("DATABASE_IDLE_SWEEP_SECONDS", "0"),
        ("DATABASE_URL_UNPOOLED", "mysql://db/neon"),
        ("RATE_LIMIT_PER_MINUTE", "0"),
        ("ENSURE_RATE_LIMIT_PER_MINUTE", "many"),
        ("TRUSTED_PROXIES", "-1"),
        ("SCHEDULER", "maybe"),
        ("ENABLE_AUTO_CREATE", "perhaps"),
        ("APP_ENV", "staging"),
        ("ENROLMENT", "closed"),
        ("LOG_FORMAT", "xml"),
        ("CLERK_JWKS_URL", "ftp://keys.example.com"),
        ("SUPPORT_URL", "javascript:alert(1)"),
        ("SUPPORT_URL", "mailto:"),
        ("SUPPORT_URL", "mailto:help"),
        ("SUPPORT_URL", "data:text/html,x"),
        ("SUPPORT_URL", "https://ana:secret@example.com"),
        ("SUPPORT_URL", "help@example.com"),
        ("CLERK_PUBLISHABLE_KEY", "pk_live_…"),
        ("CLERK_PUBLISHABLE_KEY", publishable_key("pk_live", "evil.example.com/x")),
        ("CLERK_PUBLISHABLE_KEY", publishable_key("pk_live", "ana@evil.example.com")),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_!!"),
        ("CLERK_PUBLISHABLE_KEY", DEVELOPMENT_KEY.replace("pk_test", "pk_demo")),
        ("CLERK_PUBLISHABLE_KEY", DEVELOPMENT_KEY.removeprefix("pk_test_")),
        ("CLERK_PUBLISHABLE_KEY", "pk_live_" + base64.b64encode(b"clerk.example.com").decode()),
        ("CLERK_PUBLISHABLE_KEY", publishable_key("pk_live", "localhost")),
        ("CLERK_PUBLISHABLE_KEY", publishable_key("pk_live", "clérk.example.com")),
    ],
)
def test_wrong_value_is_refused_with_one_line_naming_the_setting(name: str, value: str) -> None:
    assert re.fullmatch(rf"{name}: [^\n]+", str(config_error(**{name: value})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://bia:{SECRET}@db/neon"),
        ("DATABASE_URL", SECRET),
        ("REDIS_URL", f"http://:{SECRET}@cache"),
        ("DATABASE_URL", f"postgresql://bia:pass/{SECRET}@db/neon"),
        ("REDIS_URL", f"redis://:pa#{SECRET}@cache"),
        ("REDIS_URL", f"redis://:p@{SECRET}@cache"),
        ("REDIS_URL", f"redis://:{SECRET}@cache?unknown=1"),
        *(
            ("DATABASE_URL", f"postgresql://bia:{password}@db/neon")
            for character in "/?#@:[ \n"
            for password in (
                f"5432{character}{SECRET}",
                f"{SECRET}{character}5432",
                f"{SECRET}{character}{SECRET}",
            )
            if character != ":"
        ),
        ("DATABASE_URL", f"postgresql://bia:{SECRET}@db/neon?{SECRET}=1"),
        ("SECRET_KEY", f"{SECRET}\n{SECRET}"),
        ("CLERK_SECRET_KEY", f"sk_live_{SECRET}…"),
        ("CLERK_WEBHOOK_SECRET", f"whsec_{SECRET}!"),
        ("METRICS_TOKEN", f"{SECRET} "[::-1] + "é"),
        ("CLERK_API_URL", f"https://ana:{SECRET}@api.clerk.com"),
        ("CLERK_PUBLISHABLE_KEY", f"sk_live_{SECRET}"),
    ],
)
def test_error_does_not_contain_the_value(name: str, value: str) -> None:
    error = config_error(**{name: value})

    assert SECRET not in "".join(traceback.format_exception(error))


def test_production_does_not_use_the_development_identity_provider() -> None:
    config = load(**PRODUCTION)

    assert (config.is_production, config.uses_development_provider) == (True, False)


@pytest.mark.parametrize("missing", sorted(PRODUCTION.keys() - {"APP_ENV"}))
def test_error_names_the_missing_production_setting(missing: str) -> None:
    error = config_error(**{**PRODUCTION, missing: " "})

    assert str(error) == f"APP_ENV=production needs {missing}"


def test_error_names_all_missing_production_settings_in_one_line() -> None:
    (line,) = str(config_error(APP_ENV="production")).splitlines()

    assert all(name in line for name in PRODUCTION)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        (DEVELOPMENT_KEY, "happy-fox-1.clerk.accounts.dev"),
        (DEVELOPMENT_KEY.rstrip("="), "happy-fox-1.clerk.accounts.dev"),
        (PRODUCTION_KEY, "clerk.example.com"),
    ],
    ids=["development", "without padding", "production"],
)
def test_publishable_key_determines_the_clerk_urls(key: str, host: str) -> None:
    config = load(CLERK_PUBLISHABLE_KEY=key)

    assert (config.frontend_api_url, config.issuer) == (f"https://{host}", f"https://{host}")
    assert config.jwks_url == f"https://{host}/.well-known/jwks.json"


@pytest.mark.parametrize(
    ("key", "sign_in"),
    [
        (DEVELOPMENT_KEY, "https://happy-fox-1.accounts.dev/sign-in"),
        (PRODUCTION_KEY, "https://accounts.example.com/sign-in"),
    ],
    ids=["development", "production"],
)
def test_publishable_key_determines_the_sign_in_page(key: str, sign_in: str) -> None:
    assert load(CLERK_PUBLISHABLE_KEY=key).sign_in_url == sign_in


def test_publishable_key_replaces_the_development_identity_provider() -> None:
    assert not load(CLERK_PUBLISHABLE_KEY=DEVELOPMENT_KEY).uses_development_provider


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("CLERK_FRONTEND_API_URL", "frontend_api_url"),
        ("CLERK_JWKS_URL", "jwks_url"),
        ("CLERK_ISSUER", "issuer"),
        ("CLERK_SIGN_IN_URL", "sign_in_url"),
    ],
)
def test_url_setting_overrides_the_publishable_key(setting: str, answer: str) -> None:
    settings = {setting: "https://given.example.com"}

    config = load(CLERK_PUBLISHABLE_KEY=DEVELOPMENT_KEY, **settings)

    assert getattr(config, answer) == "https://given.example.com"


def test_trailing_slash_of_the_frontend_api_is_not_doubled() -> None:
    config = load(
        CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, CLERK_FRONTEND_API_URL="https://clerk.example.com/"
    )

    assert config.jwks_url == "https://clerk.example.com/.well-known/jwks.json"


def test_proxy_of_the_frontend_api_keeps_issuer_and_account_portal() -> None:
    proxy = "https://app.example.com/__clerk"

    config = load(CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, CLERK_FRONTEND_API_URL=proxy)

    assert (config.issuer, config.proxy_issuer) == ("https://clerk.example.com", proxy)
    assert config.jwks_url == f"{proxy}/.well-known/jwks.json"
    assert config.sign_in_url == "https://accounts.example.com/sign-in"


def test_given_issuer_is_the_only_one() -> None:
    config = load(
        CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY,
        CLERK_FRONTEND_API_URL="https://app.example.com/__clerk",
        CLERK_ISSUER="https://issuer.example.com",
    )

    assert (config.issuer, config.proxy_issuer) == ("https://issuer.example.com", None)


def test_admin_addresses_are_trimmed_and_lowercased() -> None:
    config = load(ADMIN_EMAILS=" Dona@Example.com ,, ana@example.com,")

    assert config.admin_emails == {"dona@example.com", "ana@example.com"}


def test_admin_addresses_are_normalized() -> None:
    assert load(ADMIN_EMAILS="Dona@Bücher.de").admin_emails == {"dona@xn--bcher-kva.de"}


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ("ana@example.com,notanemail", "address 2 is not an e-mail address"),
        ("ana\u200b@example.com", "address 1 has an invisible character (U+200B)"),
        ("ana@example.com;bia@example.com", "address 1 has a character that no address has"),
        ("mailto:ana@example.com", "address 1 begins with mailto:"),
        ("<ana@example.com>", "(U+003C)"),
        ("ana@example.com.", "address 1 ends with punctuation (U+002E)"),
    ],
    ids=ascii,
)
def test_admin_address_that_cannot_be_verified_is_refused(addresses: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(ADMIN_EMAILS=addresses)

    assert str(caught.value).startswith("ADMIN_EMAILS: must be a comma list of e-mail addresses")
    assert reason in str(caught.value)
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgresql://bia:{SECRET}@db/neon"),
        ("REDIS_URL", f"redis://:{SECRET}@cache"),
        ("SECRET_KEY", SECRET),
        ("CLERK_SECRET_KEY", f"sk_test_{SECRET}"),
        ("METRICS_TOKEN", SECRET),
    ],
)
def test_printed_config_shows_no_secret(name: str, value: str) -> None:
    config = load(CLERK_PUBLISHABLE_KEY=DEVELOPMENT_KEY, **{name: value})

    assert SECRET not in f"{config!r} {config}"


def test_printed_services_show_no_secret(tmp_path: Path) -> None:
    secrets = {
        "SECRET_KEY": SECRET,
        "CLERK_SECRET_KEY": f"sk_live_{SECRET}",
        "DATABASE_URL": f"postgresql://bia:{SECRET}@127.0.0.1:1/neon",
        "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1",
        "METRICS_TOKEN": SECRET,
        "INSTANCE_PATH": str(tmp_path),
    }
    app = create_app(load(**{**PRODUCTION, **secrets}))

    printed = f"{app.extensions[EXTENSION]!r} {app.extensions!r} {app!r}"

    assert SECRET not in printed


ALL_SETTINGS = {
    **PRODUCTION,
    "DATABASE_URL_UNPOOLED": "postgresql://direct.example.com/neon",
    "DATABASE_CONNECT_SECONDS": "12",
    "DATABASE_IDLE_SECONDS": "600",
    "DATABASE_IDLE_SWEEP_SECONDS": "3600",
    "REDIS_URL": "redis://:secret@cache:6380/1",
    "CLERK_FRONTEND_API_URL": "https://clerk.example.com/proxy",
    "CLERK_API_URL": "https://api.example.com",
    "CLERK_JWKS_URL": "https://keys.example.com/jwks.json",
    "CLERK_ISSUER": "https://issuer.example.com",
    "CLERK_AUTHORIZED_PARTIES": "https://app.example.com,https://www.example.com",
    "CLERK_SIGN_IN_URL": "https://app.example.com/entrar?tema=escuro",
    "CLERK_WEBHOOK_SECRET": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "ADMIN_EMAILS": "ana@example.com,bia@example.com",
    "SUPPORT_URL": "mailto:ajuda@example.com",
    "ENABLE_AUTO_CREATE": "false",
    "ENROLMENT": "invited",
    "CLERK_IDENTITY_MAX_AGE_SECONDS": "3600",
    "SWEEP_INTERVAL_SECONDS": "30",
    "PROVISIONING_MAX_ATTEMPTS": "5",
    "SCHEDULER": "off",
    "SESSION_TTL_SECONDS": "60",
    "RETENTION_DAYS": "10",
    "AUDIT_RETENTION_DAYS": "365",
    "RATE_LIMIT_PER_MINUTE": "100",
    "ENSURE_RATE_LIMIT_PER_MINUTE": "10",
    "METRICS_TOKEN": "token-0123456789",
    "WEB_CONCURRENCY": "2",
    "WEB_THREADS": "4",
    "BIND": "0.0.0.0:9000",
    "TRUSTED_PROXIES": "1",
    "LOG_FORMAT": "json",
    "SENTRY_DSN": "https://0123456789abcdef@o1.ingest.sentry.io/2",
    "INSTANCE_PATH": "/srv/neon/instance",
}


def test_table_contains_all_settings() -> None:
    assert {name.upper() for name in Config.model_fields} == set(ALL_SETTINGS)


@pytest.mark.parametrize(
    "pasted",
    [
        "{}\n",
        " {}",
        "{}\r\n",
        "\t{}\t",
        "\ufeff{}",
        "{}\u200b",
        "\xa0{}",
        '"{}"',
        "'{}'",
        ' "{} "\n',
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", ALL_SETTINGS)
def test_space_and_quotes_around_a_value_are_removed(name: str, pasted: str) -> None:
    assert load(**{**ALL_SETTINGS, name: pasted.format(ALL_SETTINGS[name])}) == load(**ALL_SETTINGS)


@pytest.mark.parametrize("blank", ["", " ", '""', "''", "\n", "\u200b"], ids=ascii)
@pytest.mark.parametrize("name", sorted(ALL_SETTINGS.keys() - PRODUCTION.keys()))
def test_blank_setting_is_unset(name: str, blank: str) -> None:
    without = {other: value for other, value in ALL_SETTINGS.items() if other != name}

    assert load(**{**ALL_SETTINGS, name: blank}) == load(**without)


@pytest.mark.parametrize(
    "name",
    ["CLERK_FRONTEND_API_URL", "CLERK_API_URL", "CLERK_JWKS_URL", "CLERK_ISSUER"],
)
def test_final_slash_of_a_url_is_removed(name: str) -> None:
    settings = {**ALL_SETTINGS, name: f"{ALL_SETTINGS[name]}/"}

    assert load(**settings) == load(**ALL_SETTINGS)


@pytest.mark.parametrize(
    "configured",
    ["HTTPS://App.Example.com", "https://app.example.com:443", " https://app.example.com ,"],
)
def test_origin_is_normalized_to_the_form_of_browsers(configured: str) -> None:
    settings = {**PRODUCTION, "CLERK_AUTHORIZED_PARTIES": configured}

    assert load(**settings).clerk_authorized_parties == {"https://app.example.com"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40s%2Fs@db-1.example.com:5432/neon?sslmode=require&channel_binding=require",
        "postgres://u@[::1]:5432/neon",
        "postgresql:///neon?host=/var/run/postgresql",
        "postgresql://u@127.0.0.1/neon?application_name=x&keepalives_idle=5&connect_timeout=3",
    ],
)
def test_usual_database_urls_are_accepted(url: str) -> None:
    scheme = "postgres://" if url.startswith("postgres:") else "postgresql://"

    assert load(DATABASE_URL=url).database_url == url.replace(scheme, "postgresql+psycopg2://")


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "rediss://u:p%40@cache:6380/2?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_usual_redis_urls_are_accepted(url: str) -> None:
    assert load(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in ALL_SETTINGS
        if name.startswith("CLERK_")
        and name not in ("CLERK_PUBLISHABLE_KEY", "CLERK_WEBHOOK_SECRET")
    ),
)
def test_clerk_setting_without_publishable_key_is_refused(name: str) -> None:
    error = config_error(**{name: ALL_SETTINGS[name]})

    assert str(error) == f"{name} needs CLERK_PUBLISHABLE_KEY"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SCHEDULER", "sim", "must be on or off"),
        ("WEB_THREADS", "muitas", "must be a valid integer"),
        ("WEB_THREADS", "0", "must be greater than or equal to 1"),
        ("LOG_FORMAT", "text", "must be 'json' or 'console'"),
    ],
)
def test_reason_of_a_wrong_value_is_short(name: str, value: str, reason: str) -> None:
    assert str(config_error(**{name: value})) == f"{name}: {reason}"


def test_port_may_be_quoted() -> None:
    assert load(PORT='"5000"').bind == "127.0.0.1:5000"


def test_instance_folder_does_not_depend_on_the_current_one() -> None:
    assert load(INSTANCE_PATH="data").instance_path == PROJECT / "data"
    assert load(INSTANCE_PATH="~/neon").instance_path == Path.home() / "neon"


def test_byte_order_mark_of_an_env_file_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("WEB_THREADS=3\n", encoding="utf-8-sig")

    assert load_config({}, dotenv=file).web_threads == 3


def test_env_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"SECRET_KEY=\xff\xfe\n")

    with pytest.raises(ConfigError, match=re.escape(f"{file}: cannot be read")):
        load_config({}, dotenv=file)


def insecure_names(**changed: str) -> list[str]:
    secure = {
        **PRODUCTION,
        "SECRET_KEY": "s" * 32,
        "CLERK_AUTHORIZED_PARTIES": "https://app.example.com",
    }
    return [name for name, _ in insecure_settings(load(**{**secure, **changed}))]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"CLERK_PUBLISHABLE_KEY": DEVELOPMENT_KEY}, ["CLERK_PUBLISHABLE_KEY"]),
        ({"CLERK_AUTHORIZED_PARTIES": ""}, ["CLERK_AUTHORIZED_PARTIES"]),
        ({"CLERK_JWKS_URL": "http://keys.example.com"}, ["CLERK_JWKS_URL"]),
        ({"CLERK_FRONTEND_API_URL": "http://clerk.example.com"}, ["CLERK_FRONTEND_API_URL"]),
        ({"SECRET_KEY": "s" * 31}, ["SECRET_KEY"]),
        ({"APP_ENV": "development", "SECRET_KEY": "s"}, ["APP_ENV"]),
    ],
)
def test_insecure_settings_of_production_are_named(
    changed: dict[str, str], expected: list[str]
) -> None:
    assert insecure_names(**changed) == expected


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "localhost:80", "[::1]:80", "unix:/run/x"])
def test_development_identity_provider_is_allowed_on_loopback(bind: str) -> None:
    assert load(BIND=bind).uses_development_provider


def test_app_with_clerk_may_bind_to_any_address() -> None:
    assert load(**PRODUCTION, BIND="0.0.0.0:8000").bind == "0.0.0.0:8000"


def test_final_slash_of_the_issuer_is_ignored() -> None:
    config = load(CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, CLERK_ISSUER="https://clerk.example.com/")

    assert config.issuer == "https://clerk.example.com"


@pytest.mark.parametrize("name", ["CLERK_PUBLISHABLE_KEY", "SECRET_KEY"])
def test_embedded_database_is_refused_among_production_settings(name: str) -> None:
    config = load(**{name: PRODUCTION[name]})

    with pytest.raises(ConfigError) as caught:
        refuse_accidental_database(config)

    assert str(caught.value) == (
        f"DATABASE_URL: is not set, but {name} is; "
        "set APP_ENV=development to use the embedded database"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"REDIS_URL": "redis://127.0.0.1:6379"},
        {"APP_ENV": "development", "SECRET_KEY": SECRET},
        {"DATABASE_URL": PRODUCTION["DATABASE_URL"], "SECRET_KEY": SECRET},
    ],
    ids=",".join,
)
def test_embedded_database_is_allowed_in_development(settings: dict[str, str]) -> None:
    refuse_accidental_database(load(**settings))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"PORT": "8080"}, "0.0.0.0:8080"),
        ({"PORT": "8080", "BIND": "127.0.0.1:9000"}, "127.0.0.1:9000"),
        ({"PORT": " ", "BIND": " "}, "127.0.0.1:8000"),
    ],
)
def test_assigned_port_is_used_unless_bind_is_set(settings: dict[str, str], expected: str) -> None:
    assert load(CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, **settings).bind == expected


def test_assigned_port_of_the_development_identity_provider_is_on_loopback() -> None:
    assert load(PORT="8080").bind == "127.0.0.1:8080"


@pytest.mark.parametrize("port", ["http", "70000", "-1", "8000/tcp"])
def test_port_that_cannot_be_is_refused_by_name(port: str) -> None:
    assert str(config_error(PORT=port)) == "PORT: must be a number up to 65535"
