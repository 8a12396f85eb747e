"""Months with a loss in an adopted installation, also in one whose constraints refused them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy.exc import DBAPIError

from benchmarks.databases import connect_to
from dev.fake_clerk import DevUser
from tests.support.apps import create_app_on
from tests.support.legacy_installations import NewDatabase, install, rows, scalars, schema

BEFORE = "0013"
LOSS = "UPDATE metricas_mensais SET lucro = -2147483648 WHERE mentorado_id = 11 AND mes = 1"
NEW_LOSS = "INSERT INTO metricas_mensais (mentorado_id, ano, mes, lucro) VALUES (11, 2025, 1, -1)"
RULES = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint
 WHERE conrelid = 'metricas_mensais'::regclass AND contype = 'c'
   AND conname <> 'metricas_mensais_mes_check'
 ORDER BY conname
"""
# The month of profile 14 that the adoption moves to profile 13 of the same user.
MOVED = "UPDATE metricas_mensais SET lucro = -5 WHERE faturamento = 9900 AND mentorado_id = 13"


@pytest.fixture
def url(new_database: NewDatabase, tmp_path: Path) -> str:
    url = new_database(f"losses_{tmp_path.name}")
    install(url)
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """The app on the legacy database."""
    with create_app_on(tmp_path, url) as app:
        yield app


def run(url: str, *statements: str) -> int:
    """Execute the statements and return the row count of the last one."""
    with connect_to(url) as connection:
        return [connection.exec_driver_sql(statement).rowcount for statement in statements][-1]


def adopt_earlier(url: str, *conditions: str) -> None:
    """Adopt up to the revision before 0014, with these check constraints on the months."""
    upgrade(revision=BEFORE)
    add_checks(url, *conditions)


def add_checks(url: str, *conditions: str) -> None:
    """Add check constraints to `metricas_mensais`."""
    for number, condition in enumerate(conditions):
        rule = f"CONSTRAINT rule_{number} CHECK ({condition})"
        run(url, f"ALTER TABLE metricas_mensais ADD {rule}")


conditions_against_losses = pytest.mark.parametrize(
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


@conditions_against_losses
def test_installation_adopted_earlier_accepts_a_month_with_a_loss(
    app: Flask, url: str, condition: str
) -> None:
    adopt_earlier(url, condition)
    upgrade()

    answer = put(app, {"lucro": -500})

    assert (answer.status_code, answer.json["lucro"]) == (200, -500)


@conditions_against_losses
def test_downgrade_restores_the_constraints_of_the_legacy_program(
    app: Flask, url: str, condition: str
) -> None:
    before = rows(url)
    adopt_earlier(url, condition)
    rules = scalars(url, RULES)
    upgrade()
    assert scalars(url, RULES) == []

    downgrade(revision="base")

    assert (scalars(url, RULES), rows(url)) == (rules, before)


def test_losses_of_the_legacy_program_are_moved_and_restored(app: Flask, url: str) -> None:
    run(url, "UPDATE metricas_mensais SET lucro = -5")
    before = (schema(url), rows(url))
    upgrade()
    moved = scalars(url, "SELECT lucro FROM metricas_mensais WHERE mentorado_id = 13 ORDER BY mes")

    downgrade(revision="base")

    assert moved == [-5, -5]
    assert (schema(url), rows(url)) == before


def test_new_database_keeps_constraints_added_by_its_operator(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    fresh = new_database(f"operated_{tmp_path.name}")
    with create_app_on(tmp_path / "operated", fresh):
        adopt_earlier(fresh, "lucro >= 0")

        upgrade()

        assert scalars(fresh, RULES) == ["CHECK ((lucro >= 0))"]


@pytest.mark.parametrize("change", [LOSS, MOVED], ids=["a month", "a month that was moved"])
def test_downgrade_keeps_losses_and_checks_new_months_only(
    app: Flask, url: str, change: str
) -> None:
    adopt_earlier(url, "lucro >= 0")
    upgrade()
    assert run(url, change) > 0
    losses = scalars(url, "SELECT id FROM metricas_mensais WHERE lucro < 0 ORDER BY id")

    downgrade(revision="base")

    assert scalars(url, "SELECT id FROM metricas_mensais WHERE lucro < 0 ORDER BY id") == losses
    assert scalars(url, RULES) == ["CHECK ((lucro >= 0)) NOT VALID"]
    with pytest.raises(DBAPIError, match="rule_0"):
        run(url, NEW_LOSS)


def test_constraints_that_allow_a_loss_are_kept(app: Flask, url: str) -> None:
    adopt_earlier(url, "lucro <= 2000000000", "lucro <= faturamento + 5000", "faturamento >= 0")
    before = scalars(url, RULES)

    upgrade()

    assert scalars(url, RULES) == before
    assert len(before) == 3


def test_losses_of_the_legacy_program_are_shown(app: Flask, url: str) -> None:
    run(url, "UPDATE metricas_mensais SET lucro = -700 WHERE mentorado_id = 11")
    upgrade()

    overview = send(app, "GET", "/api/mentorados/me/overview").json
    page = send(app, "GET", "/dashboard").get_data(as_text=True)

    assert {point["lucro"] for point in overview["financials"]["chartData"]} == {-700}
    assert "prejuízo R$\u00a0700" in page


def put(app: Flask, body: dict[str, int]) -> Any:
    return send(app, "PUT", "/api/mentorados/me/metricas/2026/1", body)


def send(app: Flask, method: str, path: str, body: object = None) -> Any:
    token = app.extensions["services"].dev_provider.token(DevUser("user_alice"))
    headers = {"Authorization": f"Bearer {token}"}
    return app.test_client().open(path, method=method, json=body, headers=headers)
