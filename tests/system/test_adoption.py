"""A legacy installation is adopted without losing a row, and restored by the downgrade."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy.exc import DBAPIError

from benchmarks.databases import connect_to
from core.database import db
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from sweep.sweeper import Sweeper
from tests.support.apps import create_app_on
from tests.support.legacy_installations import TABLES, NewDatabase, install, rows, scalars, schema

ARCHIVED = "SELECT count(*) FROM archived_rows WHERE reason = 'adoption' AND table_name = '{}'"


DELETE_HISTORY = """
DELETE FROM metricas_mensais; DELETE FROM feedbacks; DELETE FROM diagnosticos;
DELETE FROM interacoes; DELETE FROM atividade_progress
"""
COMMENTS = """
CREATE TABLE comments (id serial PRIMARY KEY,
                       metrica_id integer REFERENCES metricas_mensais ON DELETE CASCADE);
INSERT INTO comments (metrica_id) SELECT id FROM metricas_mensais
"""
# Live and archived rows, which together must stay the same.
ALL_PROFILES = """(
    SELECT id, user_id FROM mentorados UNION ALL
    SELECT (content ->> 'id')::int, (content ->> 'user_id')::int FROM archived_rows
     WHERE reason = 'adoption' AND table_name = 'mentorados')"""
ALL_MONTHS = """(
    SELECT mentorado_id, faturamento FROM metricas_mensais UNION ALL
    SELECT mentorado_id, (content ->> 'faturamento')::int FROM archived_rows
     WHERE reason = 'adoption' AND table_name = 'metricas_mensais')"""
REVENUE_BY_USER = """
SELECT user_id || ': ' || sum(faturamento)
  FROM {profiles} AS p JOIN {months} AS m ON m.mentorado_id = p.id GROUP BY user_id ORDER BY 1
"""
OWN_PROFILE = "SELECT 1 FROM mentorados m WHERE m.user_id = u.id"


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    return new_database(f"legacy_{tmp_path.name}")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """The app on that database."""
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def legacy(app: Flask, url: str) -> str:
    """A database with the tables and rows of a legacy installation."""
    install(url)
    return url


@pytest.fixture(scope="session")
def original(new_database: NewDatabase) -> str:
    """A legacy installation that no test changes."""
    url = new_database("legacy_original")
    install(url)
    return url


@pytest.fixture(scope="session")
def adopted_template(
    original: str,
    clone_database: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """That installation after its adoption."""
    url = clone_database(original, "legacy_adopted")
    with create_app_on(tmp_path_factory.mktemp("adopted"), url):
        upgrade()
    return url


@pytest.fixture
def adopted_app(
    adopted_template: str, clone_database: Callable[[str, str], str], tmp_path: Path
) -> Iterator[Flask]:
    """The app on an adopted installation."""
    with create_app_on(tmp_path, clone_database(adopted_template, f"a_{tmp_path.name}")) as app:
        yield app


@pytest.fixture
def adopted(adopted_app: Flask) -> str:
    """The URL of an adopted installation."""
    return str(adopted_app.config["SQLALCHEMY_DATABASE_URI"])


def run(url: str, *statements: str) -> None:
    with connect_to(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def owners(url: str) -> list[Any]:
    return scalars(url, "SELECT id FROM mentorados WHERE user_id IS NOT NULL ORDER BY id")


def is_compared(_: object, name: str, kind: str, is_reflected: bool, compared: object) -> bool:
    if kind == "table":
        return name in db.metadata.tables
    return not (is_reflected and compared is None and kind in ("column", "index"))


@pytest.mark.parametrize("newer", [False, True], ids=["original", "newer index"])
def test_adopted_schema_equals_the_models(app: Flask, url: str, newer: bool) -> None:
    install(url, data=not newer, newer=newer)

    upgrade()

    with db.engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_object": is_compared,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []


def test_adopted_schema_contains_the_schema_of_a_new_database(
    adopted: str, template_url: str
) -> None:
    assert set(schema(template_url)) - set(schema(adopted)) == set()


def test_second_upgrade_changes_nothing(adopted: str) -> None:
    upgrade()
    before = (schema(adopted), rows(adopted))

    assert (schema(adopted), rows(adopted)) == before


def test_each_user_keeps_the_profile_with_history(adopted: str) -> None:
    assert owners(adopted) == [11, 13]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("DELETE FROM metricas_mensais; DELETE FROM feedbacks", [10, 13]),
        ("DELETE FROM metricas_mensais", [11, 13]),
        (DELETE_HISTORY, [12, 13]),
        ("UPDATE mentorados SET created_at = '2026-01-01'", [11, 13]),
        ("UPDATE mentorados SET created_at = '2025-01-01' WHERE id = 14", [11, 14]),
    ],
    ids=["used and older", "feedback", "older", "history first", "older of two with months"],
)
def test_kept_profile_is_chosen_by_history_then_age(
    legacy: str, change: str, kept: list[int]
) -> None:
    run(legacy, change)

    upgrade()

    assert owners(legacy) == kept


def test_rows_of_all_tables_are_moved_or_archived(original: str, adopted: str) -> None:
    before = {table: len(found) for table, found in rows(original).items()}
    live = {table: len(found) for table, found in rows(adopted).items()}
    archived = {table: scalars(adopted, ARCHIVED.format(table))[0] for table in TABLES}

    assert {table: live[table] + archived[table] for table in TABLES} == before
    assert scalars(adopted, "SELECT mentorado_id FROM interacoes ORDER BY id") == [11, 11, 13]


def test_revenue_of_each_user_is_unchanged(original: str, adopted: str) -> None:
    before = REVENUE_BY_USER.format(profiles="mentorados", months="metricas_mensais")
    after = REVENUE_BY_USER.format(profiles=ALL_PROFILES, months=ALL_MONTHS)

    assert scalars(adopted, after) == scalars(original, before)


def test_row_of_the_kept_profile_stays_and_the_other_is_archived(adopted: str) -> None:
    kept = "SELECT faturamento FROM metricas_mensais WHERE mentorado_id = 13 ORDER BY mes"
    archived = """
        SELECT jsonb_build_array(content -> 'faturamento', mentorado_id, kept_mentorado_id)
          FROM archived_rows WHERE table_name = 'metricas_mensais' AND reason = 'adoption'
    """
    assert scalars(adopted, kept) == [9000, 9900]
    assert scalars(adopted, archived) == [[9100, 14, 13]]


def test_unknown_tables_keep_their_schema(original: str, adopted: str) -> None:
    unknown = ("diagnosticos", "interacoes", "atividade_progress")

    before, after = (
        [line for line in schema(url) if line[0] in unknown] for url in (original, adopted)
    )
    assert after == before


def test_naive_times_are_read_as_utc_in_any_server_time_zone(legacy: str, url: str) -> None:
    name = url.partition("?")[0].rsplit("/", 1)[1]
    run(legacy, f"ALTER DATABASE \"{name}\" SET timezone = 'America/Sao_Paulo'")
    db.engine.dispose()

    upgrade()

    query = "SELECT created_at AT TIME ZONE 'UTC' FROM users WHERE id = 1"
    assert str(scalars(legacy, query)[0]) == "2026-01-05 10:00:00"


def test_legacy_program_can_still_write(adopted: str) -> None:
    run(
        adopted,
        "INSERT INTO users (clerk_id, last_signed_in) VALUES ('user_old', '2026-03-01 10:00')",
        "INSERT INTO mentorados (nome_completo, turma) VALUES ('Antiga', 'neon')",
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2026, 3)",
    )

    written = """
        SELECT (SELECT count(*) FROM users WHERE clerk_id = 'user_old')
             + (SELECT count(*) FROM mentorados WHERE nome_completo = 'Antiga')
             + (SELECT count(*) FROM metricas_mensais WHERE mentorado_id = 11 AND mes = 3)
    """
    assert scalars(adopted, written) == [3]


def test_downgrade_restores_everything(original: str, adopted: str) -> None:
    downgrade(revision="base")

    assert (schema(adopted), rows(adopted)) == (schema(original), rows(original))


def test_downgrade_of_a_newer_installation_keeps_its_index(app: Flask, url: str) -> None:
    install(url, data=False, newer=True)
    before = schema(url)
    upgrade()

    downgrade(revision="base")

    assert schema(url) == before


def test_downgrade_keeps_changes_since_the_adoption(adopted: str) -> None:
    run(
        adopted,
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2026, 3)",
        "DELETE FROM interacoes WHERE id = 3",
        "DELETE FROM users WHERE id = 2",
    )

    downgrade(revision="base")

    assert scalars(adopted, "SELECT mes FROM metricas_mensais WHERE mentorado_id = 11") == [1, 2, 3]
    assert scalars(adopted, "SELECT id FROM mentorados WHERE user_id IS NULL AND id < 15") == [
        13,
        14,
    ]
    assert scalars(adopted, "SELECT count(*) FROM interacoes") == [2]


def test_invalid_month_is_refused_after_the_adoption(adopted: str) -> None:
    with pytest.raises(DBAPIError, match="metricas_mensais_mes_check"):
        run(adopted, "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2025, 14)")


def test_unrelated_users_table_is_refused_and_unchanged(
    app: Flask, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(url, "CREATE TABLE users (id serial PRIMARY KEY, login text)")
    before = schema(url)

    with pytest.raises(SystemExit):
        upgrade()

    assert "users.clerk_id is missing" in caplog.text
    assert "mentorados is missing" in caplog.text
    assert schema(url) == before


@pytest.mark.parametrize(
    ("obstacle", "message"),
    [
        (COMMENTS, "comments refers to rows of metricas_mensais"),
        (
            "CREATE UNIQUE INDEX odd ON interacoes (mentorado_id, lower(notas))",
            "interacoes has a unique index of expressions",
        ),
    ],
    ids=["referenced rows", "index of expressions"],
)
def test_adoption_that_could_lose_a_row_is_refused(
    legacy: str, obstacle: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(legacy, obstacle)
    before = (schema(legacy), rows(legacy))

    with pytest.raises(SystemExit):
        upgrade()

    assert message in caplog.text
    assert (schema(legacy), rows(legacy)) == before


def test_rows_of_unusual_tables_are_moved_and_restored(legacy: str) -> None:
    run(
        legacy,
        'CREATE TABLE "Odd one" ("the mentee" integer PRIMARY KEY REFERENCES mentorados,'
        " note text, doubled text GENERATED ALWAYS AS (note || note) STORED)",
        "CREATE TABLE keyless (mentorado_id integer REFERENCES mentorados, note text)",
        "CREATE TABLE partial (id serial PRIMARY KEY, mentorado_id integer REFERENCES mentorados,"
        " is_main boolean)",
        "CREATE UNIQUE INDEX partial_main ON partial (mentorado_id) WHERE is_main",
        "INSERT INTO \"Odd one\" VALUES (10, 'a'), (11, 'b'), (14, 'c')",
        "INSERT INTO keyless VALUES (10, 'a'), (10, 'a'), (11, 'a')",
        "INSERT INTO partial (mentorado_id, is_main) VALUES"
        " (10, true), (10, false), (11, true), (11, false)",
    )
    queries = (
        'SELECT jsonb_agg(to_jsonb(t) ORDER BY t::text) FROM "Odd one" t',
        "SELECT jsonb_agg(to_jsonb(t) ORDER BY t::text) FROM keyless t",
        "SELECT jsonb_agg(to_jsonb(t) ORDER BY id) FROM partial t",
    )
    before = [scalars(legacy, query) for query in queries]
    upgrade()
    counts = 'SELECT (SELECT count(*) FROM "Odd one") * 100 + (SELECT count(*) FROM partial)'
    live = scalars(legacy, counts)

    downgrade(revision="base")

    assert live == [203]
    assert [scalars(legacy, query) for query in queries] == before


def test_first_sweep_and_logins_after_the_adoption(adopted_app: Flask, adopted: str) -> None:
    service = adopted_app.extensions["services"].provisioning

    Sweeper(service).start("cli")
    shared = me(adopted_app, DevUser("user_eva", "Eva", "eva@example.com"))
    claimed = me(adopted_app, DevUser("user_fabio", "Fabio", "fabio@example.com"))

    without = f"SELECT clerk_id FROM users u WHERE NOT EXISTS ({OWN_PROFILE})"
    assert scalars(adopted, without) == ["user_admin"]
    assert (claimed["id"], shared["id"] > 17) == (17, True)
    assert me(adopted_app, DevUser("user_admin", "Dona", ADMIN_EMAIL)) is None
    assert me(adopted_app, DevUser("user_alice"))["id"] == 11


def me(app: Flask, user: DevUser) -> Any:
    provider = app.extensions["services"].dev_provider
    headers = {"Authorization": f"Bearer {provider.token(user)}"}
    answer = app.test_client().get("/api/auth/me", headers=headers)
    return (answer.json or {})["mentorado"]
