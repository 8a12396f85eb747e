"""Adoption accepts schemas that the app can use, refuses others, and can be undone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from flask_migrate import downgrade, upgrade
from sqlalchemy import Connection, Engine, create_engine, make_url

from benchmarks.databases import connect_to, hold_locks
from core.database import db
from dev.fake_clerk import DevUser
from migrations.comparison import Problem
from migrations.inspection import LaterSchema, find_problems
from tests.support.apps import create_app_on
from tests.support.legacy_installations import NewDatabase, install, rows, scalars, schema
from tests.support.schema_variants import ACCEPTED, REFUSED, REFUSED_IN_TRIAL

SEQUENCES = """
SELECT s.seqrelid::regclass::text || pg_sequence_last_value(s.seqrelid)::text FROM pg_sequence s
 ORDER BY 1
"""
OTHER_OBJECTS = """
SELECT typname || enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
 UNION ALL SELECT tgrelid::regclass::text || tgname FROM pg_trigger WHERE NOT tgisinternal
 UNION ALL SELECT oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
 ORDER BY 1
"""
ROLE = """
CREATE ROLE dono NOLOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO dono;
"""
TRIES = 5  # a busy machine answers 503 at times
LATER = LaterSchema.of(db.metadata)


@pytest.fixture(scope="module")
def engine(new_database: NewDatabase) -> Iterator[Engine]:
    """An engine on a legacy installation that is not adopted."""
    url = new_database("variants")
    install(url)
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A connection whose changes are rolled back."""
    with engine.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    url = new_database(f"variant_{tmp_path.name}"[:60])
    install(url)
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


def fingerprint(url: str) -> list[Any]:
    """Return tables, rows, sequences, types, triggers and functions, for comparison."""
    return [schema(url), rows(url), scalars(url, SEQUENCES), scalars(url, OTHER_OBJECTS)]


def change(url: str, *statements: str) -> None:
    with connect_to(url) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def is_statement(problem: Problem) -> bool:
    return problem.remedy.split()[0] in ("ALTER", "DROP") and "…" not in problem.remedy


@pytest.mark.parametrize("name", REFUSED)
def test_problem_is_reported_and_its_remedy_solves_it(connection: Connection, name: str) -> None:
    statement, word = REFUSED[name]
    connection.exec_driver_sql(statement)

    problems = find_problems(connection, LATER)

    assert word in "\n".join(map(str, problems))
    while todo := [problem for problem in problems if is_statement(problem)]:
        connection.exec_driver_sql(todo[0].remedy)
        problems = find_problems(connection, LATER)
        assert todo[0] not in problems


@pytest.mark.parametrize("group", ACCEPTED)
def test_app_works_on_an_accepted_schema(
    app: Flask, runner: FlaskCliRunner, url: str, group: str
) -> None:
    change(url, *ACCEPTED[group].values())
    before = schema(url)

    done = runner.invoke(args=["adopt"])
    faults = use(app)
    downgrade(revision="base")

    assert (done.exit_code, faults) == (0, []), done.output
    assert schema(url) == before


@dataclass
class RequestLog:
    """Requests of several users, and the list of unexpected answers."""

    app: Flask
    faults: list[str] = field(default_factory=list)

    def send(
        self, user: DevUser, method: str, path: str, expected: int = 200, **options: Any
    ) -> Any:
        headers = {
            "Authorization": f"Bearer {self.app.extensions['services'].dev_provider.token(user)}"
        }
        for _ in range(TRIES):
            answer = self.app.test_client().open(path, method=method, headers=headers, **options)
            if answer.status_code != 503:
                break
        if answer.status_code != expected:
            self.faults.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer.json


def use(app: Flask) -> list[str]:
    """Sign in, save months and use the admin API; return the unexpected answers."""
    requests = RequestLog(app)
    photo = "https://x.example/" + "p" * 480
    for user in (
        DevUser("user_new", "N" * 255, "new@example.com", image_url=photo),
        DevUser("user_bare"),
        DevUser("user_alice", "Alice"),  # exists in the legacy installation
    ):
        requests.send(user, "GET", "/api/auth/me")
        requests.send(user, "GET", "/dashboard")
        for figures in ({"faturamento": 0}, {"faturamento": 2_147_483_647, "observacoes": "o"}):
            requests.send(user, "PUT", "/api/mentorados/me/metricas/2025/12", json=figures)
        requests.send(user, "GET", "/api/mentorados/me/metricas")
        requests.send(user, "GET", "/dashboard")
    administrate(requests)
    return requests.faults


def administrate(requests: RequestLog) -> None:
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (clerk_id, role) VALUES ('user_admin_new', 'admin')"
        )
    admin = DevUser("user_admin_new")
    requests.send(admin, "GET", "/admin/mentorados")
    requests.send(admin, "GET", "/api/admin/users?limit=200")
    found = requests.send(admin, "GET", "/api/admin/mentorados?limit=200")["items"]
    for profile in found:
        requests.send(admin, "GET", f"/api/mentorados/{profile['id']}/overview")
    body = {"nome_completo": "Outra"}
    other = requests.send(admin, "POST", "/api/admin/mentorados", 201, json=body)["id"]
    into = next(profile["id"] for profile in found if profile["user_id"])
    for options in ({"dry_run": True}, {}):
        path = f"/api/admin/mentorados/{other}/merge"
        requests.send(admin, "POST", path, json={"into": into, **options})
    texts = {"analise_mes": "a", "foco_proximo_mes": "b", "sugestao_mentor": "c"}
    requests.send(admin, "POST", f"/admin/mentorados/{into}/feedback/2025/12", 303, data=texts)
    requests.send(admin, "DELETE", f"/api/admin/mentorados/{into}", 204, json={})


@pytest.mark.parametrize("name", REFUSED_IN_TRIAL)
def test_obstacle_to_writes_is_found_by_a_trial(
    runner: FlaskCliRunner, url: str, name: str
) -> None:
    statement, word = REFUSED_IN_TRIAL[name]
    change(url, statement)
    before = fingerprint(url)

    rehearsed, done = (runner.invoke(args=["adopt", *options]) for options in (["--dry-run"], []))

    assert (rehearsed.exit_code, rehearsed.output) == (1, done.output)
    assert word in rehearsed.output
    assert fingerprint(url) == before


def test_all_problems_are_reported_at_once_and_nothing_is_written(
    runner: FlaskCliRunner, url: str
) -> None:
    names = (
        "users.email is NOT NULL",
        "month 13",
        "plain index with a name of the app",
        "only active",
    )
    change(
        url,
        *(REFUSED[name][0] for name in names),
        ACCEPTED["columns missing"]["mentorados.foto_url missing"],
    )
    before = fingerprint(url)

    rehearsed = runner.invoke(args=["adopt", "--dry-run", "--json"])
    done = runner.invoke(args=["adopt"])

    problems = json.loads(rehearsed.stdout)["problems"]
    assert [(p["table"], p["name"]) for p in problems] == [
        ("users", "email"),
        ("mentorados", "mentorados_user_id_unique_idx"),
        ("mentorados", "so_ativo"),
        ("metricas_mensais", "mes"),
    ]
    assert (rehearsed.exit_code, done.exit_code) == (1, 1)
    assert "nothing was changed: 4 problems to solve first" in done.output
    assert all(f"{p['table']}.{p['name']} {p['what']}" in done.output for p in problems)
    assert fingerprint(url) == before


def test_plain_upgrade_is_refused_too(
    app: Flask, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    change(url, REFUSED["users.email is NOT NULL"][0])
    before = fingerprint(url)

    with pytest.raises(SystemExit):
        upgrade()

    assert "users.email is NOT NULL" in caplog.text
    assert fingerprint(url) == before


def test_unknown_alembic_revision_is_reported(runner: FlaskCliRunner, url: str) -> None:
    change(
        url,
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('ae1027a6acf')",
    )

    done = runner.invoke(args=["adopt"])

    assert done.exit_code == 1
    assert "alembic_version holds a revision that this version does not know" in done.output


def test_installation_in_another_schema_is_adopted(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    url = new_database(f"schema_{tmp_path.name}"[:60])
    change(
        url,
        'CREATE SCHEMA "Escola Nova"',
        f'ALTER DATABASE "{make_url(url).database}" SET search_path = "Escola Nova", public',
    )
    install(url)
    with create_app_on(tmp_path, url) as app:
        done = app.test_cli_runner().invoke(args=["adopt"])

        assert (done.exit_code, use(app)) == (0, []), done.output


def test_database_of_this_program_without_its_revision_is_not_adopted(
    app: Flask, runner: FlaskCliRunner, url: str
) -> None:
    runner.invoke(args=["adopt"])
    change(url, "DROP TABLE alembic_version")

    done = runner.invoke(args=["adopt"])

    assert done.exit_code == 1
    assert "alembic_version is missing or empty" in done.output


def test_trial_restores_the_sequences(runner: FlaskCliRunner, url: str) -> None:
    before = scalars(url, SEQUENCES)

    runner.invoke(args=["adopt"])

    assert set(before) <= set(scalars(url, SEQUENCES))


def test_adoption_does_not_wait_for_a_sequence_in_use(runner: FlaskCliRunner, url: str) -> None:
    change(url, "CREATE SEQUENCE de_outros")
    with hold_locks(url, "SELECT nextval('de_outros')"):
        done = runner.invoke(args=["adopt"])

    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (
            [
                "CREATE SCHEMA velho",
                *(
                    f"ALTER TABLE {t} SET SCHEMA velho"
                    for t in ("users", "mentorados", "metricas_mensais", "feedbacks")
                ),
            ],
            "velho.users",
        ),
        (
            [
                'ALTER TABLE users RENAME TO "Users"',
                'ALTER TABLE mentorados RENAME TO "Mentorados"',
                "DROP TABLE metricas_mensais, feedbacks",
            ],
            'public."Users"',
        ),
    ],
    ids=["schema", "case"],
)
def test_installation_elsewhere_is_mentioned(
    runner: FlaskCliRunner, url: str, names: list[str], hint: str
) -> None:
    change(url, *names)

    done = runner.invoke(args=["adopt"])

    assert done.exit_code == 1
    assert f"there is no other program's installation in this database; there are {hint}" in (
        done.output.replace('public."Mentorados", ', "").replace("velho.mentorados, ", "")
    )


def act_as_owner(connection: Connection, *others: str) -> None:
    """Continue as a role that owns the app's tables and these."""
    tables = ("users", "mentorados", "metricas_mensais", "feedbacks", *others)
    owned = "".join(f"ALTER TABLE {table} OWNER TO dono;" for table in tables)
    connection.exec_driver_sql(f"{ROLE} {owned} SET LOCAL ROLE dono")


def problems_of(connection: Connection) -> list[str]:
    """Return the problems without their remedies."""
    return [str(problem).partition(";")[0] for problem in find_problems(connection, LATER)]


def test_tables_of_another_role_are_refused(connection: Connection) -> None:
    connection.exec_driver_sql(f"{ROLE} SET LOCAL ROLE dono")

    problems = find_problems(connection, LATER)

    assert "users belongs to another role" in "\n".join(map(str, problems))


def test_referencing_table_must_be_readable(connection: Connection) -> None:
    act_as_owner(connection, "diagnosticos")

    assert problems_of(connection) == [
        f"{table} refers to our tables, but we may not read it"
        for table in ("atividade_progress", "interacoes")
    ]


def test_rows_hidden_by_row_level_security_are_a_problem(connection: Connection) -> None:
    for table in ("mentorados", "interacoes"):
        connection.exec_driver_sql(
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
    act_as_owner(connection, "diagnosticos", "atividade_progress", "interacoes")

    assert problems_of(connection) == [
        "mentorados hides rows from us by row-level security",
        "interacoes refers to our tables, but hides rows from us by row-level security",
    ]


def test_sequence_of_another_role_is_a_problem(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER SEQUENCE users_id_seq OWNED BY NONE")
    act_as_owner(connection, "diagnosticos", "atividade_progress", "interacoes")

    assert problems_of(connection) == ["users.id draws from a sequence that we may not use"]


def test_sequence_of_another_role_with_used_values_is_a_problem(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER SEQUENCE users_id_seq OWNED BY NONE RESTART WITH 2")
    connection.exec_driver_sql("GRANT ALL ON SEQUENCE users_id_seq TO PUBLIC")
    act_as_owner(connection, "diagnosticos", "atividade_progress", "interacoes")

    assert problems_of(connection) == [
        "users.id draws numbers that are taken from users_id_seq, which is another role's"
    ]


def test_schema_without_create_privilege_is_a_problem(connection: Connection) -> None:
    act_as_owner(connection, "diagnosticos", "atividade_progress", "interacoes")
    connection.exec_driver_sql("RESET ROLE; REVOKE CREATE ON SCHEMA public FROM dono, PUBLIC")
    connection.exec_driver_sql("SET LOCAL ROLE dono")

    assert problems_of(connection) == ["the schema.public takes no tables of ours"]


def test_database_of_another_encoding_is_a_problem(server_url: str) -> None:
    with connect_to(server_url) as server:
        server.exec_driver_sql(
            "CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        )
    engine = create_engine(make_url(server_url).set(database="latin1"))
    install(engine.url.render_as_string(hide_password=False), data=False)

    with engine.connect() as connection:
        assert problems_of(connection) == [
            "the database has the encoding LATIN1, which lacks letters that people write"
        ]
    engine.dispose()
