"""An existing installation is taken over without losing a row, and given back as it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy.exc import DBAPIError

from core.database import db
from dev.databases import app_on, connect_to
from dev.fake_clerk import ADMIN_EMAIL, DevUser
from dev.legacy_installations import TABLES, NewDatabase, install, rows, scalars, schema
from sweep.scheduler import build_sweeper

ARCHIVED = "SELECT count(*) FROM archived_rows WHERE reason = 'adoption' AND table_name = '{}'"


NOTHING_REPORTED = """
DELETE FROM metricas_mensais; DELETE FROM feedbacks; DELETE FROM diagnosticos;
DELETE FROM interacoes; DELETE FROM atividade_progress
"""
COMMENTS = """
CREATE TABLE comments (id serial PRIMARY KEY,
                       metrica_id integer REFERENCES metricas_mensais ON DELETE CASCADE);
INSERT INTO comments (metrica_id) SELECT id FROM metricas_mensais
"""
# Live and archived, which together nobody may have changed.
ALL_PROFILES = """(
    SELECT id, user_id FROM mentorados UNION ALL
    SELECT (content ->> 'id')::int, (content ->> 'user_id')::int FROM archived_rows
     WHERE reason = 'adoption' AND table_name = 'mentorados')"""
ALL_MONTHS = """(
    SELECT mentorado_id, faturamento FROM metricas_mensais UNION ALL
    SELECT mentorado_id, (content ->> 'faturamento')::int FROM archived_rows
     WHERE reason = 'adoption' AND table_name = 'metricas_mensais')"""
BY_PERSON = """
SELECT user_id || ': ' || sum(faturamento)
  FROM {profiles} AS p JOIN {months} AS m ON m.mentorado_id = p.id GROUP BY user_id ORDER BY 1
"""
NOBODY = "SELECT 1 FROM mentorados m WHERE m.user_id = u.id"


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    return new_database(f"legacy_{tmp_path.name}")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """Our program, pointed at that database."""
    with app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def legacy(app: Flask, url: str) -> str:
    """A database with the other program's tables and rows."""
    install(url)
    return url


def run(url: str, *statements: str) -> None:
    with connect_to(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def owners(url: str) -> list[Any]:
    return scalars(url, "SELECT id FROM mentorados WHERE user_id IS NOT NULL ORDER BY id")


def ours(_: object, name: str, kind: str, is_reflected: bool, compared: object) -> bool:
    if kind == "table":
        return name in db.metadata.tables
    return not (is_reflected and compared is None and kind in ("column", "index"))


@pytest.mark.parametrize("newer", [False, True], ids=["as it was", "with the newer index"])
def test_taken_over_it_has_the_form_of_our_own(app: Flask, url: str, newer: bool) -> None:
    install(url, data=not newer, newer=newer)

    upgrade()

    with db.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, db.metadata) == []


def test_our_tables_are_the_same_as_in_a_database_of_our_own(
    legacy: str, new_database: NewDatabase, tmp_path: Path
) -> None:
    upgrade()
    fresh = new_database(f"fresh_{tmp_path.name}")
    with app_on(tmp_path / "fresh", fresh):
        upgrade()

    assert set(schema(fresh)) - set(schema(legacy)) == set()


def test_second_upgrade_changes_nothing(legacy: str) -> None:
    upgrade()
    before = (schema(legacy), rows(legacy))

    upgrade()

    assert (schema(legacy), rows(legacy)) == before


def test_each_person_keeps_the_profile_with_their_history(legacy: str) -> None:
    upgrade()

    assert owners(legacy) == [11, 13]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("DELETE FROM metricas_mensais; DELETE FROM feedbacks", [10, 13]),
        ("DELETE FROM metricas_mensais", [11, 13]),
        (NOTHING_REPORTED, [12, 13]),
        ("UPDATE mentorados SET created_at = '2026-01-01'", [11, 13]),
        ("UPDATE mentorados SET created_at = '2025-01-01' WHERE id = 14", [11, 14]),
    ],
    ids=["used and older", "feedback", "older", "history first", "older of two with months"],
)
def test_keeper_is_chosen_by_the_rule(legacy: str, change: str, kept: list[int]) -> None:
    run(legacy, change)

    upgrade()

    assert owners(legacy) == kept


def test_rows_of_all_tables_follow_or_are_archived(legacy: str) -> None:
    before = {table: len(found) for table, found in rows(legacy).items()}

    upgrade()

    live = {table: len(found) for table, found in rows(legacy).items()}
    archived = {table: scalars(legacy, ARCHIVED.format(table))[0] for table in TABLES}
    assert {table: live[table] + archived[table] for table in TABLES} == before
    assert scalars(legacy, "SELECT mentorado_id FROM interacoes ORDER BY id") == [11, 11, 13]


def test_every_person_s_revenue_is_as_before(legacy: str) -> None:
    before = scalars(legacy, BY_PERSON.format(profiles="mentorados", months="metricas_mensais"))

    upgrade()

    assert scalars(legacy, BY_PERSON.format(profiles=ALL_PROFILES, months=ALL_MONTHS)) == before


def test_keeper_s_row_wins_and_the_other_tells_where_it_was(legacy: str) -> None:
    upgrade()

    won = "SELECT faturamento FROM metricas_mensais WHERE mentorado_id = 13 ORDER BY mes"
    lost = """
        SELECT jsonb_build_array(content -> 'faturamento', mentorado_id, kept_mentorado_id)
          FROM archived_rows WHERE table_name = 'metricas_mensais' AND reason = 'adoption'
    """
    assert scalars(legacy, won) == [9000, 9900]
    assert scalars(legacy, lost) == [[9100, 14, 13]]


def test_tables_of_the_other_program_keep_their_form(legacy: str) -> None:
    unknown = ("diagnosticos", "interacoes", "atividade_progress")
    before = [line for line in schema(legacy) if line[0] in unknown]

    upgrade()

    assert [line for line in schema(legacy) if line[0] in unknown] == before


def test_naive_times_are_read_as_utc_wherever_the_server_is(legacy: str, url: str) -> None:
    name = url.partition("?")[0].rsplit("/", 1)[1]
    run(legacy, f"ALTER DATABASE \"{name}\" SET timezone = 'America/Sao_Paulo'")
    db.engine.dispose()

    upgrade()

    asked = "SELECT created_at AT TIME ZONE 'UTC' FROM users WHERE id = 1"
    assert str(scalars(legacy, asked)[0]) == "2026-01-05 10:00:00"


def test_old_program_can_go_on_writing(legacy: str) -> None:
    upgrade()

    run(
        legacy,
        "INSERT INTO users (clerk_id, last_signed_in) VALUES ('user_old', '2026-03-01 10:00')",
        "INSERT INTO mentorados (nome_completo, turma) VALUES ('Antiga', 'neon')",
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2026, 3)",
    )


def test_downgrade_gives_everything_back(legacy: str) -> None:
    before = (schema(legacy), rows(legacy))
    upgrade()

    downgrade(revision="base")

    assert (schema(legacy), rows(legacy)) == before


def test_downgrade_of_the_newer_one_keeps_its_index(app: Flask, url: str) -> None:
    install(url, data=False, newer=True)
    before = schema(url)
    upgrade()

    downgrade(revision="base")

    assert schema(url) == before


def test_downgrade_keeps_what_has_happened_since(legacy: str) -> None:
    upgrade()
    run(
        legacy,
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2026, 3)",
        "DELETE FROM interacoes WHERE id = 3",
        "DELETE FROM users WHERE id = 2",
    )

    downgrade(revision="base")

    assert scalars(legacy, "SELECT mes FROM metricas_mensais WHERE mentorado_id = 11") == [1, 2, 3]
    assert scalars(legacy, "SELECT id FROM mentorados WHERE user_id IS NULL AND id < 15") == [
        13,
        14,
    ]
    assert scalars(legacy, "SELECT count(*) FROM interacoes") == [2]


def test_month_that_there_is_not_is_refused_afterwards(legacy: str) -> None:
    upgrade()

    with pytest.raises(DBAPIError, match="metricas_mensais_mes_check"):
        run(legacy, "INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (11, 2025, 14)")


def test_foreign_users_table_is_refused_and_left_alone(
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
    ("obstacle", "complaint"),
    [
        (COMMENTS, "comments refers to rows of metricas_mensais"),
        (
            "CREATE UNIQUE INDEX odd ON interacoes (mentorado_id, lower(notas))",
            "interacoes has a unique index of expressions",
        ),
    ],
    ids=["rows that hang on a row", "index of expressions"],
)
def test_what_could_lose_a_row_is_refused_as_a_whole(
    legacy: str, obstacle: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(legacy, obstacle)
    before = (schema(legacy), rows(legacy))

    with pytest.raises(SystemExit):
        upgrade()

    assert complaint in caplog.text
    assert (schema(legacy), rows(legacy)) == before


def test_odd_tables_follow_and_come_back(legacy: str) -> None:
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
    asked = (
        'SELECT jsonb_agg(to_jsonb(t) ORDER BY t::text) FROM "Odd one" t',
        "SELECT jsonb_agg(to_jsonb(t) ORDER BY t::text) FROM keyless t",
        "SELECT jsonb_agg(to_jsonb(t) ORDER BY id) FROM partial t",
    )
    before = [scalars(legacy, query) for query in asked]
    upgrade()
    numbers = 'SELECT (SELECT count(*) FROM "Odd one") * 100 + (SELECT count(*) FROM partial)'
    live = scalars(legacy, numbers)

    downgrade(revision="base")

    assert live == [203]
    assert [scalars(legacy, query) for query in asked] == before


def test_first_sweep_and_next_logins_behave(app: Flask, legacy: str) -> None:
    upgrade()
    guarantee = app.extensions["services"].provisioning

    build_sweeper(guarantee).start("cli")
    shared = me(app, DevUser("user_eva", "Eva", "eva@example.com"))
    claimed = me(app, DevUser("user_fabio", "Fabio", "fabio@example.com"))

    without = f"SELECT clerk_id FROM users u WHERE NOT EXISTS ({NOBODY})"
    assert scalars(legacy, without) == ["user_admin"]
    assert (claimed["id"], shared["id"] > 17) == (17, True)
    assert me(app, DevUser("user_admin", "Dona", ADMIN_EMAIL)) is None
    assert me(app, DevUser("user_alice"))["id"] == 11


def me(app: Flask, person: DevUser) -> Any:
    provider = app.extensions["services"].dev_provider
    headers = {"Authorization": f"Bearer {provider.token(person)}"}
    answer = app.test_client().get("/api/auth/me", headers=headers)
    return (answer.json or {})["mentorado"]
