"""An existing installation that refuses months with a loss accepts them once it is taken over."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy.exc import DBAPIError

from identity.local import Person
from tests.databases import app_on, opened
from tests.system.adopted import NewDatabase, install, rows, scalars, schema

LOSS = "UPDATE metricas_mensais SET lucro = -2147483648 WHERE mentorado_id = 11 AND mes = 1"
NEW_LOSS = "INSERT INTO metricas_mensais (mentorado_id, ano, mes, lucro) VALUES (11, 2025, 1, -1)"
RULES = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint
 WHERE conrelid = 'metricas_mensais'::regclass AND contype = 'c'
   AND conname <> 'metricas_mensais_mes_check'
 ORDER BY conname
"""
# The months that the adoption has moved to another profile of the same person.
MOVED = """
UPDATE metricas_mensais SET lucro = -5 FROM archived_rows AS moved
 WHERE moved.reason = 'adoption: moved' AND moved.table_name = 'metricas_mensais'
   AND moved.content ->> 'id' = metricas_mensais.id::text
"""


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    url = new_database(f"losses_{tmp_path.name}")
    install(url)
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """Our program, pointed at the other program's database."""
    with app_on(tmp_path, url) as app:
        yield app


def run(url: str, *statements: str) -> int:
    """Execute the statements; return how many rows the last one changed."""
    with opened(url) as connection:
        return [connection.exec_driver_sql(statement).rowcount for statement in statements][-1]


def forbid(url: str, *conditions: str) -> None:
    """Add check constraints to the months of the other program."""
    for number, condition in enumerate(conditions):
        run(
            url,
            f"ALTER TABLE metricas_mensais ADD CONSTRAINT rule_{number} CHECK ({condition})",
        )


REFUSING = pytest.mark.parametrize(
    "condition",
    [
        "lucro >= 0",
        "lucro BETWEEN 0 AND 10000000",
        "faturamento >= 0 AND lucro >= 0",
        "lucro >= 0 AND lucro <= faturamento",
        "lucro > -1000",
        "lucro::text !~ '^-' AND observacoes IS DISTINCT FROM ':x'",
    ],
)


@REFUSING
def test_month_with_a_loss_is_saved_after_the_adoption(
    app: Flask, url: str, condition: str
) -> None:
    forbid(url, condition)
    upgrade()

    answer = put(app, {"lucro": -500})

    assert (answer.status_code, answer.json["lucro"]) == (200, -500)


@REFUSING
def test_downgrade_restores_what_the_other_program_had(
    app: Flask, url: str, condition: str
) -> None:
    forbid(url, condition)
    before = (schema(url), rows(url))
    upgrade()

    downgrade(revision="base")

    assert (schema(url), rows(url)) == before


def test_installation_adopted_before_accepts_a_loss_too(app: Flask, url: str) -> None:
    upgrade(revision="0011")
    forbid(url, "lucro >= 0")
    before = scalars(url, RULES)

    upgrade()

    assert put(app, {"lucro": -500}).status_code == 200
    downgrade(revision="base")
    assert scalars(url, RULES) == [f"{before[0]} NOT VALID"]


def test_losses_that_the_other_program_kept_are_moved_and_given_back(app: Flask, url: str) -> None:
    run(url, "UPDATE metricas_mensais SET lucro = -5")
    run(url, "ALTER TABLE metricas_mensais ADD CHECK (lucro >= 0) NOT VALID")
    before = (schema(url), rows(url))
    upgrade()
    moved = scalars(url, "SELECT lucro FROM metricas_mensais WHERE mentorado_id = 13 ORDER BY mes")

    downgrade(revision="base")

    assert moved == [-5, -5]
    assert (schema(url), rows(url)) == before


def test_database_of_our_own_keeps_the_constraints_that_its_operator_added(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    fresh = new_database(f"operated_{tmp_path.name}")
    with app_on(tmp_path / "operated", fresh):
        upgrade(revision="0011")
        forbid(fresh, "lucro >= 0")

        upgrade()

        assert scalars(fresh, RULES) == ["CHECK ((lucro >= 0))"]


@pytest.mark.parametrize("since", [LOSS, MOVED], ids=["a month", "a month that was moved"])
def test_downgrade_keeps_losses_and_checks_new_months_only(
    app: Flask, url: str, since: str
) -> None:
    forbid(url, "lucro >= 0")
    upgrade()
    assert run(url, since) > 0
    losses = scalars(url, "SELECT id FROM metricas_mensais WHERE lucro < 0 ORDER BY id")

    downgrade(revision="base")

    assert scalars(url, "SELECT id FROM metricas_mensais WHERE lucro < 0 ORDER BY id") == losses
    assert scalars(url, RULES) == ["CHECK ((lucro >= 0)) NOT VALID"]
    with pytest.raises(DBAPIError, match="rule_0"):
        run(url, NEW_LOSS)


def test_rules_that_let_a_loss_pass_stay(app: Flask, url: str) -> None:
    forbid(url, "lucro <= 2000000000", "lucro <= faturamento + 5000000", "faturamento >= 0")
    before = scalars(url, RULES)

    upgrade()

    assert scalars(url, RULES) == before
    assert len(before) == 3


def test_losses_of_the_other_program_are_shown_as_they_are(app: Flask, url: str) -> None:
    run(url, "UPDATE metricas_mensais SET lucro = -700 WHERE mentorado_id = 11")
    upgrade()

    shown = ask(app, "GET", "/api/mentorados/me/overview").json
    page = ask(app, "GET", "/dashboard").get_data(as_text=True)

    assert {point["lucro"] for point in shown["financials"]["chartData"]} == {-700}
    assert "prejuízo R$\u00a0700" in page


def put(app: Flask, body: dict[str, int]) -> Any:
    return ask(app, "PUT", "/api/mentorados/me/metricas/2026/1", body)


def ask(app: Flask, method: str, path: str, body: object = None) -> Any:
    token = app.extensions["house"].local.token(Person("user_alice"))
    headers = {"Authorization": f"Bearer {token}"}
    return app.test_client().open(path, method=method, json=body, headers=headers)
