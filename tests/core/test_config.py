"""Settings: read once, checked, and refused with one line that names what is wrong."""

import base64
import re
import traceback
from pathlib import Path

import pytest

from app import create_app
from core.config import Config, ConfigError, insecure_settings, load_config
from web.services import EXTENSION

HUSHED = "hush-0123456789"


def publishable_key(prefix: str, host: str) -> str:
    return f"{prefix}_{base64.b64encode(f'{host}$'.encode()).decode()}"


DEVELOPMENT_KEY = publishable_key("pk_test", "happy-fox-1.clerk.accounts.dev")
PRODUCTION_KEY = publishable_key("pk_live", "clerk.example.com")
PRODUCTION = {
    "APP_ENV": "production",
    "DATABASE_URL": "postgresql://db.example.com/neon",
    "CLERK_PUBLISHABLE_KEY": PRODUCTION_KEY,
    "CLERK_SECRET_KEY": "sk_live_x",
    "SECRET_KEY": HUSHED,
}


def load(**settings: str) -> Config:
    return load_config(settings, dotenv=None)


def complaint(**settings: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(**settings)
    return caught.value


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("app_env", "development"),
        ("database_url", None),
        ("database_connect_seconds", 10),
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
        ("uses_local_identity", True),
        ("frontend_api_url", None),
        ("jwks_url", None),
        ("issuer", None),
        ("sign_in_url", None),
    ],
)
def test_default_is_the_one_of_the_contract(setting: str, expected: object) -> None:
    assert getattr(load(), setting) == expected


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_spelling_of_the_database_scheme_names_the_driver(scheme: str) -> None:
    config = load(DATABASE_URL=f"{scheme}://u:p@h:5432/neon?sslmode=require")

    assert config.database_url == "postgresql+psycopg2://u:p@h:5432/neon?sslmode=require"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_value_means_unset(blank: str) -> None:
    assert load(DATABASE_URL=blank, WEB_THREADS=blank, APP_ENV=blank) == load()


def test_env_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("WEB_THREADS=3\n")

    assert load_config({}, dotenv=file).web_threads == 3


def test_environment_wins_over_the_env_file(tmp_path: Path) -> None:
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
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://cache/sessions"),
        ("REDIS_URL", "redis://cache/-1"),
        ("REDIS_URL", "redis://cache/1.5"),
        ("REDIS_URL", "redis://cache?db=sessions"),
        ("REDIS_URL", "redis://cache?unknown=1"),
        ("REDIS_URL", "redis://cache:70000"),
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
                *("CLERK_ISSUER", "CLERK_FRONTEND_API_URL", "CLERK_API_URL", "CLERK_JWKS_URL"),
                "CLERK_SIGN_IN_URL",
            )
            for value in (
                *("clerk.example.com", "//clerk.example.com", "https://", "https:///path"),
                *("https://ana:secret@clerk.example.com", "https://clerk.example.com/#top"),
                *("https://clerk.example.com:99999", "https://clerk example.com", "file:///keys"),
                *(
                    "https://clerk.example.com:0",
                    "https://[::1",
                    "https://clerk.example.com\r\nX: y",
                ),
            )
        ),
        *(
            (name, "https://clerk.example.com?a=b")
            for name in ("CLERK_ISSUER", "CLERK_FRONTEND_API_URL", "CLERK_API_URL")
        ),
        ("CLERK_API_URL", "https://api.clerk.com/v1"),
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
                *("WEB_THREADS", "WEB_CONCURRENCY", "SWEEP_INTERVAL_SECONDS"),
                *("SESSION_TTL_SECONDS", "PROVISIONING_MAX_ATTEMPTS", "RATE_LIMIT_PER_MINUTE"),
                *("ENSURE_RATE_LIMIT_PER_MINUTE", "TRUSTED_PROXIES"),
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
    assert re.fullmatch(rf"{name}: [^\n]+", str(complaint(**{name: value})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://bia:{HUSHED}@db/neon"),
        ("DATABASE_URL", HUSHED),
        ("REDIS_URL", f"http://:{HUSHED}@cache"),
        ("DATABASE_URL", f"postgresql://bia:pass/{HUSHED}@db/neon"),
        ("REDIS_URL", f"redis://:pa#{HUSHED}@cache"),
        ("REDIS_URL", f"redis://:p@{HUSHED}@cache"),
        ("REDIS_URL", f"redis://:{HUSHED}@cache?unknown=1"),
        *(
            ("DATABASE_URL", f"postgresql://bia:{password}@db/neon")
            for character in "/?#@:[ \n"
            for password in (
                *(f"5432{character}{HUSHED}", f"{HUSHED}{character}5432"),
                f"{HUSHED}{character}{HUSHED}",
            )
            if character != ":"
        ),
        ("DATABASE_URL", f"postgresql://bia:{HUSHED}@db/neon?{HUSHED}=1"),
        ("SECRET_KEY", f"{HUSHED}\n{HUSHED}"),
        ("CLERK_SECRET_KEY", f"sk_live_{HUSHED}…"),
        ("CLERK_WEBHOOK_SECRET", f"whsec_{HUSHED}!"),
        ("METRICS_TOKEN", f"{HUSHED} "[::-1] + "é"),
        ("CLERK_API_URL", f"https://ana:{HUSHED}@api.clerk.com"),
        ("CLERK_PUBLISHABLE_KEY", f"sk_live_{HUSHED}"),
    ],
)
def test_refusal_keeps_the_value_to_itself(name: str, value: str) -> None:
    refusal = complaint(**{name: value})

    assert HUSHED not in "".join(traceback.format_exception(refusal))


def test_complete_production_starts_without_the_stand_in() -> None:
    config = load(**PRODUCTION)

    assert (config.is_production, config.uses_local_identity) == (True, False)


@pytest.mark.parametrize("missing", sorted(PRODUCTION.keys() - {"APP_ENV"}))
def test_production_names_what_it_misses(missing: str) -> None:
    refusal = complaint(**{**PRODUCTION, missing: " "})

    assert str(refusal) == f"APP_ENV=production needs {missing}"


def test_production_names_everything_it_misses_in_one_line() -> None:
    (line,) = str(complaint(APP_ENV="production")).splitlines()

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
def test_publishable_key_tells_the_addresses(key: str, host: str) -> None:
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
def test_publishable_key_tells_the_sign_in_page(key: str, sign_in: str) -> None:
    assert load(CLERK_PUBLISHABLE_KEY=key).sign_in_url == sign_in


def test_publishable_key_replaces_the_stand_in() -> None:
    assert not load(CLERK_PUBLISHABLE_KEY=DEVELOPMENT_KEY).uses_local_identity


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("CLERK_FRONTEND_API_URL", "frontend_api_url"),
        ("CLERK_JWKS_URL", "jwks_url"),
        ("CLERK_ISSUER", "issuer"),
        ("CLERK_SIGN_IN_URL", "sign_in_url"),
    ],
)
def test_given_address_wins_over_the_publishable_key(setting: str, answer: str) -> None:
    given = {setting: "https://given.example.com"}

    config = load(CLERK_PUBLISHABLE_KEY=DEVELOPMENT_KEY, **given)

    assert getattr(config, answer) == "https://given.example.com"


def test_trailing_slash_of_the_frontend_api_is_not_doubled() -> None:
    config = load(
        CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, CLERK_FRONTEND_API_URL="https://clerk.example.com/"
    )

    assert config.jwks_url == "https://clerk.example.com/.well-known/jwks.json"


def test_frontend_api_of_an_unknown_host_has_no_account_portal() -> None:
    config = load(
        CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, CLERK_FRONTEND_API_URL="https://login.example.com"
    )

    assert config.sign_in_url is None


def test_admin_addresses_are_trimmed_and_lowered() -> None:
    config = load(ADMIN_EMAILS=" Dona@Example.com ,, ana@example.com,")

    assert config.admin_emails == {"dona@example.com", "ana@example.com"}


def test_admin_addresses_are_the_keys_by_which_they_are_compared() -> None:
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
def test_admin_address_that_cannot_be_verified_stops_the_start(addresses: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(ADMIN_EMAILS=addresses)

    assert str(caught.value).startswith("ADMIN_EMAILS: must be a comma list of e-mail addresses")
    assert reason in str(caught.value)
    assert "example.com" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgresql://bia:{HUSHED}@db/neon"),
        ("REDIS_URL", f"redis://:{HUSHED}@cache"),
        ("SECRET_KEY", HUSHED),
        ("CLERK_SECRET_KEY", f"sk_test_{HUSHED}"),
        ("METRICS_TOKEN", HUSHED),
    ],
)
def test_printed_config_shows_no_secret(name: str, value: str) -> None:
    config = load(CLERK_PUBLISHABLE_KEY=DEVELOPMENT_KEY, **{name: value})

    assert HUSHED not in f"{config!r} {config}"


def test_printed_services_show_no_secret(tmp_path: Path) -> None:
    hushed = {
        "SECRET_KEY": HUSHED,
        "CLERK_SECRET_KEY": f"sk_live_{HUSHED}",
        "DATABASE_URL": f"postgresql://bia:{HUSHED}@127.0.0.1:1/neon",
        "REDIS_URL": f"redis://:{HUSHED}@127.0.0.1:1",
        "METRICS_TOKEN": HUSHED,
        "INSTANCE_PATH": str(tmp_path),
    }
    app = create_app(load(**{**PRODUCTION, **hushed}))

    printed = f"{app.extensions[EXTENSION]!r} {app.extensions!r} {app!r}"

    assert HUSHED not in printed


EVERYTHING = {
    **PRODUCTION,
    "DATABASE_CONNECT_SECONDS": "12",
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
    "RATE_LIMIT_PER_MINUTE": "100",
    "ENSURE_RATE_LIMIT_PER_MINUTE": "10",
    "METRICS_TOKEN": "token-0123456789",
    "WEB_CONCURRENCY": "2",
    "WEB_THREADS": "4",
    "BIND": "0.0.0.0:9000",
    "TRUSTED_PROXIES": "1",
    "LOG_FORMAT": "json",
    "INSTANCE_PATH": "/srv/neon/instance",
}


def test_all_settings_are_in_the_table_of_these_tests() -> None:
    assert {name.upper() for name in Config.model_fields} == set(EVERYTHING)


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
@pytest.mark.parametrize("name", EVERYTHING)
def test_space_and_quotes_around_a_value_are_no_part_of_it(name: str, pasted: str) -> None:
    assert load(**{**EVERYTHING, name: pasted.format(EVERYTHING[name])}) == load(**EVERYTHING)


@pytest.mark.parametrize("blank", ["", " ", '""', "''", "\n", "\u200b"], ids=ascii)
@pytest.mark.parametrize("name", sorted(EVERYTHING.keys() - PRODUCTION.keys()))
def test_blank_setting_is_unset(name: str, blank: str) -> None:
    without = {other: value for other, value in EVERYTHING.items() if other != name}

    assert load(**{**EVERYTHING, name: blank}) == load(**without)


@pytest.mark.parametrize(
    "name",
    ["CLERK_FRONTEND_API_URL", "CLERK_API_URL", "CLERK_JWKS_URL", "CLERK_ISSUER"],
)
def test_final_slash_of_a_url_is_no_part_of_it(name: str) -> None:
    given = {**EVERYTHING, name: f"{EVERYTHING[name]}/"}

    assert load(**given) == load(**EVERYTHING)


@pytest.mark.parametrize(
    "written",
    ["HTTPS://App.Example.com", "https://app.example.com:443", " https://app.example.com ,"],
)
def test_origin_is_compared_as_browsers_write_it(written: str) -> None:
    given = {**PRODUCTION, "CLERK_AUTHORIZED_PARTIES": written}

    assert load(**given).clerk_authorized_parties == {"https://app.example.com"}


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
    assert load(DATABASE_URL=url).database_url == url.replace(
        *(
            "postgres://" if url.startswith("postgres:") else "postgresql://",
            "postgresql+psycopg2://",
        )
    )


@pytest.mark.parametrize(
    "url", ["redis://cache", "rediss://u:p%40@cache:6380/2", "unix:///run/redis.sock?db=1"]
)
def test_usual_redis_urls_are_accepted(url: str) -> None:
    assert load(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in EVERYTHING
        if name.startswith("CLERK_")
        and name not in ("CLERK_PUBLISHABLE_KEY", "CLERK_WEBHOOK_SECRET")
    ),
)
def test_setting_of_clerk_without_publishable_key_is_refused(name: str) -> None:
    refusal = complaint(**{name: EVERYTHING[name]})

    assert str(refusal) == f"{name} needs CLERK_PUBLISHABLE_KEY"


def test_byte_order_mark_of_an_env_file_is_no_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("WEB_THREADS=3\n", encoding="utf-8-sig")

    assert load_config({}, dotenv=file).web_threads == 3


def test_env_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"SECRET_KEY=\xff\xfe\n")

    with pytest.raises(ConfigError, match=re.escape(f"{file}: cannot be read")):
        load_config({}, dotenv=file)


def insecure(**changed: str) -> list[str]:
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
        ({"APP_ENV": "development", "SECRET_KEY": "s"}, []),
    ],
)
def test_insecure_settings_of_production_are_named(
    changed: dict[str, str], expected: list[str]
) -> None:
    assert insecure(**changed) == expected


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "localhost:80", "[::1]:80", "unix:/run/x"])
def test_stand_in_serves_on_loopback(bind: str) -> None:
    assert load(BIND=bind).uses_local_identity


def test_real_instance_serves_anywhere() -> None:
    assert load(**PRODUCTION, BIND="0.0.0.0:8000").bind == "0.0.0.0:8000"


def test_final_slash_of_the_issuer_is_ignored() -> None:
    config = load(CLERK_PUBLISHABLE_KEY=PRODUCTION_KEY, CLERK_ISSUER="https://clerk.example.com/")

    assert config.issuer == "https://clerk.example.com"
